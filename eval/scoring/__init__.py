"""Class names scored exactly: a tree of names behind one prompt."""
