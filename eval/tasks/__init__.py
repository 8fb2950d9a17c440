"""What is asked of an item and how its answer is judged, one module a task."""
