"""Log-likelihoods of all class names by one forward pass over their prefix tree."""
