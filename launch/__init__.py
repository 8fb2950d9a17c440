"""Starts any stage: locally, by DeepSpeed or by SLURM."""

import configs.interpreter  # noqa: F401 - before the first import of a package
