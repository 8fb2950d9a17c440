"""The first thing that a program does: does the Python that runs it have the project's packages?

Each top-level folder's `__init__.py` imports this module, before any import of a package that another Python lacks.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

REQUIRED = ("omegaconf", "yaml")  # torch is absent on a login node, which only submits
OLDEST = (3, 11)


def reason_against(
    executable: str, root: Path, version: "tuple[int, int]", missing: "list[str]"
) -> "str | None":  # quoted: Python 3.6 reads this file to be named by it
    """Why this Python cannot run the project, with the command that helps; None if it can.

    `executable` is the Python's path, `root` the repository, `missing` the packages of `REQUIRED` that it lacks.
    """
    if version < OLDEST:
        problem = f"is Python {version[0]}.{version[1]}, and vlm-classify needs {OLDEST[0]}.{OLDEST[1]} or newer"
    elif missing:
        problem = f"has no package {missing[0]}"
    else:
        return None
    activate = root / ".venv/bin/activate"
    if activate.is_file():
        return f"{executable} {problem}; activate the environment first: source {activate}"
    if (root / "Makefile").is_file():
        return f"{executable} {problem}; create the environment and activate it: make setup && source {activate}"
    return f"{executable} {problem}; install vlm-classify into it: {executable} -m pip install vlm-classify"


def check() -> None:
    """Print the reason and exit with code 2 if a program is being started; else raise `ModuleNotFoundError` with it."""
    root = Path(__file__).resolve().parents[1]
    missing = [name for name in REQUIRED if find_spec(name) is None]
    reason = reason_against(sys.executable, root, sys.version_info[:2], missing)
    if reason is None:
        return
    if sys.argv[:1] == ["-m"] or sys.argv[0].endswith(("finetune.py", "vlm-classify")):  # "-m": before the module runs
        print(f"error: {reason}", file=sys.stderr)
        raise SystemExit(2)
    raise ModuleNotFoundError(reason)


check()
