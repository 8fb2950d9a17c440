"""Starts any stage: locally, by DeepSpeed or by SLURM."""
