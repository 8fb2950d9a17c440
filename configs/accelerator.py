"""DeepSpeed is told where a machine has no GPU; otherwise each process that imports it looks for one, and warns."""

import os
from collections.abc import MutableMapping, Sequence
from pathlib import Path

GPU_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
"""Device files of NVIDIA's driver, of AMD's, and of GPUs under WSL. Containers that use a GPU have them too."""


def name_accelerator(environment: MutableMapping[str, str] = os.environ, files: Sequence[str] = GPU_FILES) -> None:
    """Set DS_ACCELERATOR to cpu in `environment` if no GPU's device file exists; a value that is set is kept."""
    if not any(Path(file).exists() for file in files):
        environment.setdefault("DS_ACCELERATOR", "cpu")
