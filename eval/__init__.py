"""Model weights to predictions, scores and reports."""

import configs.interpreter  # noqa: F401 - before the first import of a package
