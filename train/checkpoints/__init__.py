"""Checkpoints: whole or absent, written beside training, verified when read."""
