"""Runs a model on the items of an evaluation: batches, worker processes, stored predictions."""
