"""Programs that measure data preparation."""
