"""What a run is: the typed schema, the loader, and the names of a run's files."""
