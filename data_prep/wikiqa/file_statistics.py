"""Statistics of files of ImageWikiQA's form: what a built file has in common with the released one."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from configs.errors import DataError
from data_prep.lettered_options import LETTERS, answer_letter, find_options
from data_prep.readers.file_content import read_text
from data_prep.readers.imagewikiqa import KEYS
from data_prep.readers.json_text import lines_of, text_in
from data_prep.wikiqa.selection import folded

WORDS = "this object"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of such a file, read: `letter` is that of the right option."""

    image: str
    question: str
    options: tuple[str, ...]
    letter: str
    wiki: str
    classname: str


def read_rows(path: Path) -> tuple[list[Row], int]:
    """The lines of a file, and how many could not be read. Raises `DataError` for a file without a readable line."""
    rows: list[Row] = []
    unreadable = 0
    for line in lines_of(read_text(path)):
        row = _row(line)
        if row is not None:
            rows.append(row)
        elif line.strip():
            unreadable += 1
    if not rows:
        raise DataError(f"{path} has no question in ImageWikiQA's form: lines with {', '.join(KEYS)}")
    return rows, unreadable


def _row(line: str) -> Row | None:
    try:
        values = json.loads(line)
        text, label, classname, wiki, image = (text_in(values[key]) for key in KEYS)
    except (ValueError, KeyError, TypeError):
        return None
    options = find_options(text)
    letter = answer_letter(label, options) if options is not None else None
    if options is None or letter is None:
        return None
    return Row(image, " ".join(text[: options.start].split()), options.texts, letter, wiki, classname)


def statistics(rows: Sequence[Row], unreadable: int = 0) -> dict[str, Any]:
    """Counts, shares (0 to 1) and lengths (characters) of at least one question.

    `by_random_guess` is the expected accuracy of a random letter, `by_most_frequent_letter` and `by_longest_option`
    those of two rules that need no image.
    """
    total = len(rows)
    wordings = Counter(folded(row.question) for row in rows)
    in_class = Counter((row.classname, folded(row.question)) for row in rows)
    images: dict[str, set[str]] = {}
    for row in rows:
        images.setdefault(row.classname, set()).add(row.image)
    letters = Counter(row.letter for row in rows)
    of_images = Counter(row.image for row in rows)
    return {
        "questions": total,
        "unreadable_lines": unreadable,
        "classes": len(images),
        "images": len(of_images),
        "images_per_class": mean(map(len, images.values())),
        "most_images_of_a_class": max(map(len, images.values())),
        "most_questions_of_an_image": max(of_images.values()),
        "distinct_questions": len(wordings),
        "distinct_questions_of_a_class": len(in_class),
        "most_repeats_of_a_question": max(wordings.values()),
        "most_repeats_within_a_class": max(in_class.values()),
        "questions_repeated_over_3_times": sum(times > 3 for times in wordings.values()),
        "letters": {letter: letters[letter] for letter in LETTERS[: max(len(row.options) for row in rows)]},
        "options": dict(sorted(Counter(len(row.options) for row in rows).items())),
        "by_random_guess": mean(1 / len(row.options) for row in rows),
        "by_most_frequent_letter": max(letters.values()) / total,
        "by_longest_option": mean(map(_by_longest, rows)),
        "names_its_class": mean(names_its_class(row.question, row.options, row.classname) for row in rows),
        "says_this_object": sum(WORDS in row.question.lower() for row in rows) / total,
        "repeated_options": sum(len(set(map(folded, row.options))) < len(row.options) for row in rows),
        "without_reference": sum(not row.wiki.strip() for row in rows),
        "question_length": mean(len(row.question) for row in rows),
        "median_question_length": median(len(row.question) for row in rows),
        "option_length": mean(len(option) for row in rows for option in row.options),
        "reference_length": mean(len(row.wiki) for row in rows),
    }


def names_its_class(question: str, options: Sequence[str], class_name: str) -> bool:
    """Whether a question or one of its options has the class name, in whole words.

    >>> names_its_class("Where does a Guinea-pig live?", ["Peru"], "guinea pig")
    True
    """
    name = _words(class_name)
    return bool(name) and f" {name} " in f" {_words(' '.join((question, *options)))} "


def _words(text: str) -> str:
    return " ".join("".join(sign if sign.isalnum() else " " for sign in text.casefold()).split())


def _by_longest(row: Row) -> float:
    """The chance that one of the longest options is the right one, chosen among them at random."""
    longest = max(map(len, row.options))
    among = [letter for letter, option in zip(LETTERS, row.options, strict=False) if len(option) == longest]
    return (row.letter in among) / len(among)


LABELS = {
    "questions": "questions",
    "unreadable_lines": "lines that cannot be read",
    "classes": "classes",
    "images": "images",
    "images_per_class": "images of a class, mean",
    "most_images_of_a_class": "images of a class, most",
    "most_questions_of_an_image": "questions about an image, most",
    "distinct_questions": "distinct questions",
    "distinct_questions_of_a_class": "distinct questions, each class its own",
    "most_repeats_of_a_question": "repeats of a question, most",
    "most_repeats_within_a_class": "repeats within a class, most",
    "questions_repeated_over_3_times": "questions with over 3 repeats",
    "letters": "right letters",
    "options": "questions by number of options",
    "by_random_guess": "right by random guess",
    "by_most_frequent_letter": "right by the most frequent letter",
    "by_longest_option": "right by the longest option",
    "names_its_class": "questions that name their class",
    "says_this_object": 'questions with "this object"',
    "repeated_options": "questions with a repeated option",
    "without_reference": "questions without a reference",
    "question_length": "characters of a question, mean",
    "median_question_length": "characters of a question, median",
    "option_length": "characters of an option, mean",
    "reference_length": "characters of a reference, mean",
}
SHARES = frozenset({
    "by_random_guess", "by_most_frequent_letter", "by_longest_option", "names_its_class", "says_this_object",
})  # fmt: skip


def table(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """The statistics of several files side by side, by the name of each column."""
    lines = [("", *columns)]
    lines += [(label, *(_cell(key, values[key]) for values in columns.values())) for key, label in LABELS.items()]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(_aligned(line, widths) for line in lines)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    cells: Iterator[str] = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
    return "  ".join((line[0].ljust(widths[0]), *cells)).rstrip()


def _cell(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count:,}" for name, count in value.items())
    if key in SHARES:
        return f"{100 * value:.1f} %"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
