"""Raw datasets to samples to tar shards with a manifest and an index."""
