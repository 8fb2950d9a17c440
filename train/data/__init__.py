"""Shards to micro-batches: sources, their order, which rank reads what, and how samples are joined."""
