"""Shards to batches to model to weights, with monitors, checkpoints and export."""
