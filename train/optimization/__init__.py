"""DeepSpeed, AdamW behind a gate, and the full training state inside them."""
