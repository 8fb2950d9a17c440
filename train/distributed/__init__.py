"""Ranks: how they find each other, what they exchange, deterministic kernels."""
