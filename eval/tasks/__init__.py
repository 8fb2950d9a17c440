"""What is asked about an item and how its answer is scored; one module per task."""
