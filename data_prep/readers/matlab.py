"""MATLAB files, which hold the labels and splits of several data sets."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import DataError


def load_mat(path: Path, *names: str) -> tuple[NDArray[Any], ...]:
    """The arrays `names` of a .mat file, flattened. Raises `DataError` if file or array is missing or unreadable."""
    from scipy.io import loadmat  # slow to import, needed by these readers only
    from scipy.io.matlab import MatReadError

    damaged = (KeyError, ValueError, NotImplementedError, MatReadError, OSError, IndexError, TypeError, zlib.error)

    if not path.is_file():
        raise DataError(f"{path} is missing; it is part of the data set's download")
    try:
        content = loadmat(path, squeeze_me=True)
        return tuple(np.atleast_1d(content[name]) for name in names)
    except damaged as error:  # scipy lets through whatever its parser meets in a cut or foreign file
        raise DataError(
            f"{path} is not the expected MATLAB file ({error}); it should hold {', '.join(names)}: download it again"
        ) from error
