"""Where metrics and events go: a JSONL file, the console, Weights & Biases, TensorBoard."""
