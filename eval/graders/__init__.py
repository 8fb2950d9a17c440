"""Graders: score the stored answers of an evaluation a second time, next to the protocol's own score."""
