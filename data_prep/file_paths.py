"""What the `path` of a source of tars names: files and URLs, by name, by pattern, or in a list.

/data/tars                               a folder: its *.tar in sorted order
https://host/cc3m/{00000..00331}.tar     braces, and `A::B` for several: what they mean in the webdataset package
s3://bucket/cc3m.txt, lists/cc3m.txt     a text file: one path, URL or pattern a line
"""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from braceexpand import braceexpand

from configs.data import DataConfig
from configs.errors import DataError
from configs.locations import as_url
from data_prep.remote import Remote
from data_prep.shard_cache import ShardCache

SEVERAL = ("{", "::")


@dataclass(frozen=True, slots=True)
class FilePaths:
    """The `path` of a source as written in the config, and the cache through which files behind URLs are read."""

    text: str
    cache: ShardCache = field(default_factory=lambda: ShardCache.of(DataConfig()))

    def check(self) -> None:
        """Raise `DataError` for a missing file or a URL that is not opened; sends no request."""
        for item in _expanded(self.text):
            _checked(item)

    def files(self) -> list[Path | str]:
        """Paths, and URLs as text, in the order given. Raises `DataError` if there is none, or one occurs twice."""
        files = [file for item in _expanded(self.text) for file in _files(_checked(item))]
        if not files:
            raise DataError(f"{self.text} has no *.tar; compressed tars must be unpacked first (gunzip)")
        if len(set(files)) < len(files):
            twice = next(file for file in files if files.count(file) > 1)
            raise DataError(f"{twice} occurs {files.count(twice)} times in {self.text}; name every file once")
        return files


def distinct_names(files: list[Path | str]) -> list[str]:
    """A name for each file: its stem, with as many of its folders as are needed to make all names different.

    >>> distinct_names([Path("a/0.tar"), "https://host/b/0.tar"])
    ['a/0', 'b/0']
    """
    parts = [PurePosixPath(str(file)).with_suffix("").parts for file in files]
    longest = max(map(len, parts), default=1)
    names = [["/".join(part[-count:]) for part in parts] for count in range(1, longest + 1)]
    return next((found for found in names if len(set(found)) == len(files)), names[-1])


def _expanded(text: str) -> list[str]:
    if Path(text).expanduser().exists() or not any(mark in text for mark in SEVERAL):
        return [text]
    try:
        return [item for part in text.split("::") for item in braceexpand(part)]
    except ValueError as error:
        raise DataError(f"{text} is not a pattern: {error}") from error


def _checked(item: str) -> Path | str:
    url = as_url(item)
    path = Path(item).expanduser()
    if url is None and not path.exists():
        raise DataError(f"the path {item} does not exist; set it to the folder of the tars")
    return url or path


def _files(item: Path | str) -> list[Path | str]:
    """The tars of a folder, the files that a list names, or the file itself."""
    if isinstance(item, Path) and item.is_dir():
        return [*sorted(item.glob("*.tar"))]
    if not str(item).endswith(".txt"):
        return [item]
    if isinstance(item, Path):
        data = item.read_bytes()
    else:
        folder, _, name = item.rpartition("/")
        data = Remote(folder).read(name)
    lines = [line.strip() for line in data.decode(errors="replace").splitlines() if line.strip()]
    listed = [_checked(found) for line in lines for found in _expanded(line)]
    if isinstance(item, str) and any(isinstance(found, Path) for found in listed):
        raise DataError(f"{item} lists {lines[0]!r}, a path of another machine; list URLs")
    return listed
