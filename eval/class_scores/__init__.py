"""Class scores from token log-probabilities: the prefix tree of names, the scoring rules, the stored table."""
