"""Programs that measure evaluation and its parts."""
