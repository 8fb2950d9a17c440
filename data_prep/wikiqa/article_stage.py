"""Stage 1: the article of each class, with counts of cut, redirected, ambiguous and missing ones, all named."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from configs.errors import DataError
from configs.wikiqa import ArticlesConfig
from data_prep.wikiqa.articles import Article, articles_of_dump, articles_of_folder, read_titles
from data_prep.wikiqa.classes import WikiClass
from data_prep.wikiqa.dump import FOLDER, form_of
from data_prep.wikiqa.stage_file import StageFile, hash_of, read_stage

ARTICLES = "articles"


def article_stage(config: ArticlesConfig, classes: Sequence[WikiClass], file: Path, *, write: bool = True) -> StageFile:
    """The stage's file, made if it is missing or its inputs have changed. Raises `DataError` if no class has a text.

    Without `write`, as in a dry run, nothing is stored.
    """
    inputs = _inputs(config, classes)
    stored = read_stage(file, ARTICLES)
    if stored is not None and stored.inputs == inputs:
        return stored
    made = _made(config, classes, inputs)
    if not made.counts["with an article"]:
        reasons = ", ".join(f"{len(names):,} {reason}" for reason, names in made.named.items() if names)
        raise DataError(f"{config.path} has no article of any of the {len(classes):,} classes: {reasons}")
    if write:
        made.write(file)
    return made


def texts_of(stage: StageFile) -> dict[str, str]:
    """Class id to article, of the classes that have one."""
    return {line["id"]: line["text"] for line in stage.lines if line["missing"] is None}


def _made(config: ArticlesConfig, classes: Sequence[WikiClass], inputs: str) -> StageFile:
    path = Path(config.path).expanduser()
    form = form_of(path) if config.form == "auto" else config.form
    unused: list[str] = []
    if form == FOLDER:
        if not path.is_dir():
            raise DataError(f"{path} is no folder, and articles.form is folder")
        if config.titles is not None:
            raise DataError("articles.titles are titles of pages of a dump; name the files of a folder by class")
        articles, unused = articles_of_folder(path, classes, config.characters)
    else:
        titles = {} if config.titles is None else read_titles(Path(config.titles).expanduser(), classes)
        articles = articles_of_dump(path, form, classes, titles, config.characters)
    return StageFile(ARTICLES, inputs, *_counts(classes, articles, unused), _lines(classes, articles))


def _lines(classes: Sequence[WikiClass], articles: Mapping[str, Article]) -> list[dict[str, object]]:
    found = []
    for one in classes:
        article = articles[one.id]
        kept = {"sources": article.sources, "redirects": article.redirects, "cut": article.cut}
        found.append({"id": one.id, "name": one.name, "missing": article.missing, **kept, "text": article.text})
    return found


def _counts(
    classes: Sequence[WikiClass], articles: Mapping[str, Article], unused: Sequence[str]
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """How many classes have an article, and which have none or one that is not what it seems."""
    named: dict[str, list[str]] = {}
    pages: dict[tuple[str, ...], list[str]] = {}
    for one in classes:
        article, label = articles[one.id], f"{one.name} ({one.id})"
        if article.missing is not None:
            named.setdefault(article.missing, []).append(label)
            continue
        pages.setdefault(article.sources, []).append(label)
        if article.redirects:
            named.setdefault("redirected", []).append(f"{label}: {'; '.join(article.redirects)}")
        if article.cut:
            named.setdefault("cut to articles.characters", []).append(label)
    shared = [label for labels in pages.values() if len(labels) > 1 for label in labels]
    named |= {"the same article": shared} if shared else {}
    named |= {"files of no class": list(unused)} if unused else {}
    with_text = sum(map(len, pages.values()))
    counts = {"classes": len(classes), "with an article": with_text, "without": len(classes) - with_text}
    return counts | {reason: len(names) for reason, names in named.items()}, named


def _inputs(config: ArticlesConfig, classes: Sequence[WikiClass]) -> str:
    """A hash of the classes, the settings, and the names, sizes and times of all files."""
    path = Path(config.path).expanduser()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    titles = [] if config.titles is None else [Path(config.titles).expanduser()]
    known = [
        (file.as_posix(), file.stat().st_size, file.stat().st_mtime_ns) for file in files + titles if file.is_file()
    ]
    return hash_of([config.form, config.characters, [(one.id, one.name, one.titles) for one in classes], known])
