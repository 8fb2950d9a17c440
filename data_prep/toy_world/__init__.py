"""The demo world: a data set rendered from a seed, in which the paper's finding shows."""
