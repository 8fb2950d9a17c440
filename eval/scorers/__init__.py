"""Answer and reference to a score that says what was extracted and why. Pure functions."""
