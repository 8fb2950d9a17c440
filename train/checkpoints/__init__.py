"""Checkpoints: complete or absent, written in the background, verified when read."""
