"""Tasks: the question about an item and the scoring of its answer; one module per task."""
