"""Linear probing: states of a frozen model, stored once, and the heads that are trained on them."""
