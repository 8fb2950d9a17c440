"""Predictions to numbers with their uncertainty: accuracy, frequency, confusion."""
