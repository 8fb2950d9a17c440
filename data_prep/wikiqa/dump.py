"""Pages of a Wikipedia dump: MediaWiki's XML, or JSON lines as WikiExtractor and others write them.

Both may be packed with gzip or bzip2. JSON lines are one file, or a folder with files such as `AA/wiki_00`; a line has
`title` and `text`. A dump is read from its beginning to its end and never held in memory.
"""

import bz2
import gzip
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from configs.errors import DataError
from data_prep.progress import Progress
from data_prep.wikiqa.wikitext import is_disambiguation, plain_text, redirect_target

EXTRACTED = re.compile(r"wiki_\d+(\.(bz2|gz))?|.*\.(jsonl|ndjson)(\.(bz2|gz))?")
XML, JSON_LINES, FOLDER = "xml", "jsonl", "folder"


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its text without markup, or the title that it redirects to."""

    title: str
    text: str
    redirect: str | None = None
    disambiguation: bool = False

    @classmethod
    def of(cls, title: str, text: str, *, markup: bool, redirect: str | None = None) -> "Page":
        """A page from its stored text, with `markup` in wikitext."""
        redirect = redirect or redirect_target(text)
        if redirect is not None:
            return cls(title, "", canonical(redirect))
        ambiguous = is_disambiguation(title, text)
        return cls(title, plain_text(text) if markup and not ambiguous else text.strip(), None, ambiguous)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A page as the dump holds it."""

    title: str
    text: str
    markup: bool
    redirect: str | None

    def page(self) -> Page:
        return Page.of(canonical(self.title), self.text, markup=self.markup, redirect=self.redirect)


def canonical(title: str) -> str:
    """A title in the form in which MediaWiki stores it: spaces for `_`, the first letter capital, Unicode NFC.

    >>> canonical("guinea_pig ")
    'Guinea pig'
    """
    words = " ".join(unicodedata.normalize("NFC", title).replace("_", " ").split())
    return words[:1].upper() + words[1:]


def form_of(path: Path) -> str:
    """`xml`, `jsonl` or `folder` (of texts), by names and the first bytes. Raises `DataError` for anything else."""
    if path.is_dir():
        extracted = any(file.is_file() and EXTRACTED.fullmatch(file.name) for file in path.rglob("*"))
        return JSON_LINES if extracted else FOLDER
    if not path.is_file():
        raise DataError(f"no file or folder {path}; set articles.path to a folder of texts or to a dump")
    with opened(path) as file:
        begin = file.read(200).lstrip(b"\xef\xbb\xbf \t\r\n")
    if begin.startswith((b"<mediawiki", b"<?xml", b"<page")):
        return XML
    if begin.startswith(b"{"):
        return JSON_LINES
    if begin.startswith(b"<doc "):
        raise DataError(f"{path} is WikiExtractor's text form; run it again with --json")
    raise DataError(
        f"{path} begins with {begin[:20]!r}: neither MediaWiki's XML nor JSON lines with title and text; "
        "set articles.path to a dump, or to a folder with one text a class"
    )


def pages(path: Path, form: str, wanted: frozenset[str] | None = None) -> Iterator[Page]:
    """The pages of a dump in its order; those whose `folded` title is not `wanted` are left out.

    Raises `DataError` with the position where a dump is damaged or ends too early.
    """
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and EXTRACTED.fullmatch(file.name))
    with Progress(path.name, None, "pages", "missing") as progress:
        for file in files:
            for page in _xml_pages(file) if form == XML else _json_pages(file):
                if wanted is None or folded(page.title) in wanted:
                    yield page.page()
                progress.add(1, 0)


def folded(title: str) -> str:
    """A title for comparing without case."""
    return canonical(title).casefold()


def opened(path: Path) -> BinaryIO:
    """A file open for reading, unpacked if its first bytes are those of gzip or bzip2."""
    with path.open("rb") as file:
        begin = file.read(3)
    if begin.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.open(path))
    return cast(BinaryIO, bz2.open(path)) if begin == b"BZh" else path.open("rb")


def _json_pages(path: Path) -> Iterator[_Stored]:
    number = 0
    try:
        with opened(path) as file:
            for number, line in enumerate(file, start=1):  # noqa: B007 - errors name the line
                if not line.strip():
                    continue
                values = json.loads(line.decode("utf-8-sig"))
                title, text, target = values["title"], values["text"], values.get("redirect")
                if not isinstance(title, str) or not isinstance(text, str):
                    raise TypeError("title and text must be texts")
                yield _Stored(title, text, False, target if isinstance(target, str) and target.strip() else None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}, line {number} is no JSON object with title and text ({type(error).__name__}: {error}); "
            "is the file complete?"
        ) from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path} is damaged or ends too early after line {number}: {error}") from error


def _xml_pages(path: Path) -> Iterator[_Stored]:
    read = 0
    title, namespace, text, target = "", "0", "", None
    try:
        with opened(path) as file:
            events = ET.iterparse(file, events=("start", "end"))
            _, root = next(events)
            for event, element in events:
                if event == "start":
                    continue
                name = element.tag.rpartition("}")[2]
                if name == "title":
                    title = element.text or ""
                elif name == "ns":
                    namespace = (element.text or "0").strip()
                elif name == "redirect":
                    target = element.get("title")
                elif name == "text":
                    text = element.text or ""
                elif name == "page":
                    read += 1
                    if namespace == "0":
                        yield _Stored(title, text, True, target)
                    title, namespace, text, target = "", "0", "", None
                    root.clear()
    except (ET.ParseError, StopIteration) as error:
        raise DataError(f"{path} is damaged or ends too early after {read:,} pages: {error}") from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path} is damaged or ends too early after {read:,} pages: {error}") from error
