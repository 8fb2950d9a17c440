"""Whether a text names a path, a URL, or a repository of the model hub."""

import difflib
import re
from pathlib import Path

from configs.errors import ConfigError, DataError

SCHEMES = ("http", "https", "s3", "gs", "file")  # of the URLs that are opened
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")


def as_url(location: Path | str) -> str | None:
    """The URL that `location` names, or None for a path. Raises `DataError` for a URL that is not opened.

    Joining with `Path` turns the two slashes of a URL into one; they are restored. A `pipe:` URL, which other loaders
    pass to a shell, is refused, and so is a URL that holds a password or a key.

    >>> as_url(Path("https://data.example/shards") / "imagenet")
    'https://data.example/shards/imagenet'
    """
    match = _URL.fullmatch(str(location))
    if match is None or Path(location).exists():
        return None
    scheme, rest = match[1].lower(), match[2].lstrip("/").rstrip("/")
    if scheme not in SCHEMES:
        why = "it would run a program" if scheme == "pipe" else "the scheme is not supported"
        raise DataError(f"{scheme}: URLs are not opened ({why}); use a folder or one of {', '.join(SCHEMES)}")
    if "@" in rest.partition("/")[0] or "?" in rest:
        raise DataError(
            f"the {scheme} URL of the shards holds credentials or a query, which would end up in logs; put them into"
            f" the environment or the store's configuration and give the bare address"
        )
    return f"{scheme}:///{rest}" if scheme == "file" else f"{scheme}://{rest}"


def is_hub_id(model: str) -> bool:
    """Whether `model` can be a repository of the model hub: `owner/name`, with no local folder `owner`.

    >>> is_hub_id("llava-hf/llava-1.5-7b-hf"), is_hub_id("/models/llava"), is_hub_id("llava")
    (True, False, False)
    """
    return _HUB_ID.fullmatch(model) is not None and not Path(model).parent.is_dir()


def check_model_location(model: str) -> None:
    """Raise `ConfigError` unless `model` is a folder here or can be a repository of the model hub."""
    folder = Path(model)
    if not folder.is_dir() and len(folder.parts) == 2 and folder.parts[0] == "runs":  # could be a hub id, but is not
        raise ConfigError(
            f"no run {model}: train it first with `python train/finetune.py --config FILE --set name={folder.name}`, "
            "or give a folder with a config.json, or a hub id such as owner/name"
        )
    if not folder.is_dir() and not is_hub_id(model):
        raise ConfigError(f"no model folder {model}; give a folder with a config.json, or a hub id such as owner/name")


def near_folders(path: Path) -> str:
    """A hint at folders next to a missing one that have a similar name; empty without."""
    try:
        names = [folder.name for folder in path.parent.iterdir() if folder.is_dir()]
    except OSError:
        return ""
    near = [str(path.parent / name) for name in difflib.get_close_matches(path.name, names, n=3)]
    return f"; did you mean {' or '.join(near)}?" if near else ""
