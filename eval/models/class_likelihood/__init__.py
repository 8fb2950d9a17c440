"""Log-likelihoods of all class names by one forward over their prefix tree."""
