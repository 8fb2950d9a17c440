"""Questions to text: greedy answers of any supported model."""
