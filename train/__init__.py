"""Shards to batches to a fine-tuned model: DeepSpeed training, checkpoints, the loss-spike monitor, export."""
