"""The article of each class, from a folder of texts or from a dump, and why a class has none."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from configs.errors import DataError
from data_prep.class_names import folded_name
from data_prep.readers.file_content import read_text
from data_prep.wikiqa.classes import WikiClass
from data_prep.wikiqa.dump import Page, canonical, folded, pages
from data_prep.wikiqa.wikitext import shortened

HOPS = 3  # redirects that are followed one after the other
NO_PAGE, NO_TEXT, AMBIGUOUS = "no page", "no text", "disambiguation page"
NOWHERE, SHARED = "redirect to a missing page", "name of several classes"
WNID_FILE = re.compile(r"(n\d{8})(?:[ _-].*)?")


@dataclass(frozen=True, slots=True)
class Article:
    """The text about a class, from the pages or files `sources`; or, without a text, the reason `missing`."""

    text: str = ""
    sources: tuple[str, ...] = ()
    redirects: tuple[str, ...] = ()
    cut: bool = False
    missing: str | None = None


@dataclass(slots=True)
class _Pages:
    """Pages found so far, by their exact title and by the title without case."""

    exact: dict[str, Page] = field(default_factory=dict)
    spellings: dict[str, set[str]] = field(default_factory=dict)

    def add(self, page: Page) -> None:
        self.exact.setdefault(page.title, page)
        self.spellings.setdefault(folded(page.title), set()).add(page.title)

    def find(self, title: str) -> Page | None:
        """The page of that title; else the only one whose title differs in case alone."""
        exact = self.exact.get(canonical(title))
        others = self.spellings.get(folded(title), set())
        return exact if exact is not None or len(others) != 1 else self.exact[next(iter(others))]


def read_titles(path: Path, classes: Sequence[WikiClass]) -> dict[str, tuple[str, ...]]:
    """Class id to titles, from a JSON object with class ids or names as keys.

    Raises `DataError` for a key that is no class, or the name of several.
    """
    try:
        values = json.loads(read_text(path))
        titles = {key: (value,) if isinstance(value, str) else tuple(value) for key, value in values.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path} is no JSON object of class to title or list of titles ({error})") from error
    names = Counter(folded_name(one.name) for one in classes)
    by_name = {folded_name(one.name): one.id for one in classes if names[folded_name(one.name)] == 1}
    ids = {one.id for one in classes}
    found = {}
    for key, wanted in titles.items():
        one = key if key in ids else by_name.get(folded_name(key))
        if one is None or not all(isinstance(title, str) and title.strip() for title in wanted):
            shared = "the name of several classes; use their keys" if names[folded_name(key)] > 1 else "no class"
            raise DataError(f"{path}: {key!r} is {shared if one is None else 'without titles that are texts'}")
        found[one] = wanted
    return found


def articles_of_dump(
    path: Path, form: str, classes: Sequence[WikiClass], titles: Mapping[str, tuple[str, ...]], limit: int
) -> dict[str, Article]:
    """Class id to article. The dump is read again for the targets of redirects, at most `HOPS` times."""
    found = _Pages()
    wanted = {folded(title) for one in classes for title in titles.get(one.id, one.titles)}
    looked_for: set[str] = set()
    for _ in range(HOPS + 1):
        if not wanted:
            break
        for page in pages(path, form, frozenset(wanted)):
            found.add(page)
        looked_for |= wanted
        wanted = {folded(page.redirect) for page in found.exact.values() if page.redirect is not None} - looked_for
    articles = {}
    for one in classes:
        explicit = titles.get(one.id)
        tries = [explicit] if explicit is not None else [(title,) for title in one.titles]
        outcomes = [_joined(names, found, limit) for names in tries]
        nothing = Article(missing=SHARED if not one.titles and explicit is None else NO_PAGE)
        told = [outcome for outcome in outcomes if outcome.missing not in (None, NO_PAGE)]
        usable = [outcome for outcome in outcomes if outcome.missing is None]
        articles[one.id] = next(iter((*usable, *told)), nothing)
    return articles


def _joined(titles: Iterable[str], found: _Pages, limit: int) -> Article:
    """The article made of all pages of `titles`, or the first reason why one of them is missing."""
    texts, sources, redirects = [], [], []
    for title in titles:
        page, hops = found.find(title), 0
        if page is None:
            return Article(missing=NO_PAGE)
        while page.redirect is not None:
            target = found.find(page.redirect)
            hops += 1
            if target is None or hops > HOPS:
                return Article(missing=NOWHERE, redirects=(f"{page.title} → {page.redirect}",))
            redirects.append(f"{page.title} → {target.title}")
            page = target
        if page.disambiguation or not page.text:
            return Article(missing=AMBIGUOUS if page.disambiguation else NO_TEXT, sources=(page.title,))
        if page.title not in sources:
            sources.append(page.title)
            texts.append(page.text)
    text = "\n\n".join(texts)
    short = shortened(text, limit)
    return Article(short, tuple(sources), tuple(redirects), cut=short != text)


def articles_of_folder(path: Path, classes: Sequence[WikiClass], limit: int) -> tuple[dict[str, Article], list[str]]:
    """Class id to article, and the files that belong to no class.

    A class has one file, or a folder of files that are joined, named by its id or name: `n01440764.txt`,
    `n01440764_tench.txt`, `guinea_pig.txt`, `tench/article.txt`. Raises `DataError` for a text that is not UTF-8.
    """
    by_key = {one.id: one.id for one in classes}
    times = Counter(folded_name(one.name) for one in classes)
    by_name = {_file_name(one.name): one.id for one in classes if times[folded_name(one.name)] == 1}
    files: dict[str, list[Path]] = {}
    unused = []
    for entry in sorted(path.iterdir()):
        if entry.name.startswith("."):
            continue
        stem = entry.name if entry.is_dir() else entry.stem
        wnid = WNID_FILE.fullmatch(stem)
        one = by_key.get(stem) or by_name.get(_file_name(stem)) or (by_key.get(wnid[1]) if wnid else None)
        inside = sorted(file for file in entry.rglob("*") if file.is_file()) if entry.is_dir() else [entry]
        if one is None:
            unused.append(entry.name)
        else:
            files.setdefault(one, []).extend(inside)
    shared = {one.id for one in classes if times[folded_name(one.name)] > 1}
    articles = {}
    for known in classes:
        own = files.get(known.id, [])
        articles[known.id] = _of_files(own, path, limit) if own else Article(missing=_why(known, shared))
    return articles, unused


def _why(one: WikiClass, shared: set[str]) -> str:
    return SHARED if one.id in shared else NO_PAGE


def _of_files(files: Sequence[Path], root: Path, limit: int) -> Article:
    names = tuple(file.relative_to(root).as_posix() for file in files)
    texts = [_page_of(file) for file in files if file.stat().st_size]
    usable = [page.text for page in texts if page.text]
    if not usable:
        redirected = next((page for page in texts if page.redirect is not None), None)
        if redirected is not None:
            return Article(missing=NOWHERE, sources=names)
        ambiguous = any(page.disambiguation for page in texts)
        return Article(missing=AMBIGUOUS if ambiguous else NO_TEXT, sources=names)
    text = "\n\n".join(usable)
    short = shortened(text, limit)
    return Article(short, names, cut=short != text)


def _page_of(file: Path) -> Page:
    """A file as a page; one with nothing but blanks has no text."""
    if not file.read_bytes().strip(b"\xef\xbb\xbf \t\r\n"):
        return Page(file.stem, "")
    page = Page.of(file.stem, read_text(file), markup=False)
    return Page(page.title, "", None, disambiguation=True) if page.disambiguation else page


def _file_name(name: str) -> str:
    """A class name as a file may be called: without case, and with spaces for signs that file names lack."""
    return " ".join(re.sub(r"[/\\:*?\"<>|_]", " ", folded_name(name)).split())
