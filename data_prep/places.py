"""Where the files of a source lie: paths and URLs, by name, by pattern, or listed.

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
class Places:
    """What a source's `path` says, and the cache that files behind URLs are read through."""

    text: str
    cache: ShardCache = field(default_factory=lambda: ShardCache.of(DataConfig()))

    def check(self) -> None:
        """Raise `DataError` for a file that is not there or a URL that is not opened; asks no server."""
        for place in _expanded(self.text):
            _checked(place)

    def files(self) -> list[Path | str]:
        """Paths, and URLs as text, in the order given. Raises `DataError` if there is none, or one stands twice."""
        files = [file for place in _expanded(self.text) for file in _files(_checked(place))]
        if not files:
            raise DataError(f"{self.text} has no *.tar; compressed tars must be unpacked first (gunzip)")
        if len(set(files)) < len(files):
            twice = next(file for file in files if files.count(file) > 1)
            raise DataError(f"{twice} stands {files.count(twice)} times in {self.text}; name every file once")
        return files


def distinct_names(files: list[Path | str]) -> list[str]:
    """A name for each file: its stem, with as many of its folders as tell all of them apart.

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
        return [place for part in text.split("::") for place in braceexpand(part)]
    except ValueError as error:
        raise DataError(f"{text} is not a pattern: {error}") from error


def _checked(place: str) -> Path | str:
    url = as_url(place)
    path = Path(place).expanduser()
    if url is None and not path.exists():
        raise DataError(f"the path {place} does not exist; set it to where the tars lie")
    return url or path


def _files(place: Path | str) -> list[Path | str]:
    """The files that one place stands for."""
    if isinstance(place, Path) and place.is_dir():
        return [*sorted(place.glob("*.tar"))]
    if not str(place).endswith(".txt"):
        return [place]
    if isinstance(place, Path):
        data = place.read_bytes()
    else:
        folder, _, name = place.rpartition("/")
        data = Remote(folder).read(name)
    lines = [line.strip() for line in data.decode(errors="replace").splitlines() if line.strip()]
    listed = [_checked(found) for line in lines for found in _expanded(line)]
    if isinstance(place, str) and any(isinstance(found, Path) for found in listed):
        raise DataError(f"{place} lists {lines[0]!r}, a path of another machine; list URLs")
    return listed
