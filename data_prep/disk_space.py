"""Free space of the disk that a folder is on, or will be on once it is made."""

import shutil
from pathlib import Path


def free_space(folder: Path) -> tuple[int, Path]:
    """Free bytes, and the folder they were asked of: `folder`, or its nearest ancestor that exists."""
    here = folder.absolute()
    existing = next(path for path in (here, *here.parents) if path.exists())
    return shutil.disk_usage(existing).free, existing
