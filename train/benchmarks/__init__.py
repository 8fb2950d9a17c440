"""Programs that measure training and its parts."""
