"""Raw datasets to samples to tar shards with a manifest and an index."""

import configs.interpreter  # noqa: F401 - before the first import of a package
