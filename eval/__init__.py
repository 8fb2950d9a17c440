"""Model weights to predictions, scores and reports."""
