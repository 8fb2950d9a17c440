"""What a run is: the typed schema, the loader, and the names of a run's files."""

import configs.interpreter  # noqa: F401 - before the first import of a package
