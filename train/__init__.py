"""Shards to batches to a fine-tuned model: DeepSpeed training, checkpoints, the loss-spike monitor, export."""

import configs.interpreter  # noqa: F401 - before the first import of a package
