"""Linear probing: stored hidden states, the heads trained on them, their accuracy."""
