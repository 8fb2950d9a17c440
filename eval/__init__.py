"""Weights to predictions to scores to report."""
