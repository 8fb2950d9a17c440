"""The words of a multiple-choice question: its options, its class named in it, and the wording of Figure 9."""

import re
from collections.abc import Sequence

from configs.errors import DataError
from data_prep.lettered_options import LETTERS, find_options
from data_prep.sample import IMAGE_PLACEHOLDER
from data_prep.wikiqa.prompts import WITH_CLASS, WITHOUT_CLASS, filled

OPTION = re.compile(r"^\(?A[.):]\s*\S", re.MULTILINE)


def with_class(question: str, name: str | None, form: str = "official") -> str:
    r"""The question with its class named, as `protocol.reveal_class_style` says.

    >>> with_class("<image>\nWhere does this object live?\nA. On this object", "guinea pig")
    '<image>\nWhere does guinea pig live?\nA. On this object'

    One without such words gets a sentence before it. Raises `DataError` if the item has no class.
    """
    if not name:
        raise DataError("it has no label_name, and protocol.reveal_class needs it")
    options, first = find_options(question), OPTION.search(question)
    start = options.start if options else first.start() if first else len(question)
    asked, rest = question[:start], question[start:]
    named = _named_everywhere(question, name) if form == "everywhere" else f"{_named_officially(asked, name)}{rest}"
    if named != question:
        return named
    _, placeholder, text = question.rpartition(f"{IMAGE_PLACEHOLDER}\n")
    return f"{placeholder}The object in this image is {name}. {text}"


def _named_everywhere(question: str, name: str) -> str:
    return re.sub(r"\bthis object\b", lambda _: name, question, flags=re.IGNORECASE)


def _named_officially(asked: str, name: str) -> str:
    """The first of the three that occurs is replaced, as in the authors' imagewikiqa/gen_data.ipynb."""
    forms = (("this object", name), ("This object", name.capitalize()), ("these objects", f"{name}s"))
    words, by = next(((words, by) for words, by in forms if words in asked), ("", ""))
    return asked.replace(words, by) if words else asked


def filter_question(question: str, *, named: bool, indent: bool) -> str:
    r"""The question in the wording by which GPT-4 filtered ImageWikiQA (Figure 9), its class `named` or not.

    >>> print(filter_question("Where does this object live?\nA. Africa\nB. Asia\nPick one.", named=True, indent=False))
    Answer the multiple-choice question below.
    Where does this object live?
    A. Africa
    B. Asia
    Output only one character A/B.

    `indent` puts four spaces before every line but the first. Raises `DataError` for a question without options.
    """
    found = find_options(question)
    if found is None:
        raise DataError("its question has no lettered options, and protocol.choice_prompt filter lists them")
    before, placeholder, asked = question[: found.start].rpartition(f"{IMAGE_PLACEHOLDER}\n")
    return before + placeholder + filter_text(asked.strip(), found.texts, named=named, indent=indent)


def filter_text(asked: str, options: Sequence[str], *, named: bool, indent: bool = False) -> str:
    """The wording of Figure 9 for a question without its options, which follow as `options`."""
    lines = option_lines(options)
    values = {"question": asked, "options": lines, "letters": "/".join(LETTERS[: len(options)])}
    if not indent:
        return filled(WITH_CLASS if named else WITHOUT_CLASS, values)
    values["options"] = lines.replace("\n", "\n    ")
    return filled(WITH_CLASS if named else WITHOUT_CLASS, values, margin="    ")


def option_lines(options: Sequence[str]) -> str:
    r"""One option a line, with its letter.

    >>> option_lines(["Africa", "Asia"])
    'A. Africa\nB. Asia'
    """
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
