"""The prompts by which ImageWikiQA is made: data files in `prompts/`, named by the paper's figure."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

GENERATE = "figure_8_generate"
WITH_CLASS, WITHOUT_CLASS = "figure_9_with_class", "figure_9_without_class"
FOLDER = Path(__file__).with_name("prompts")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def filled(name: str, values: Mapping[str, str], margin: str = "") -> str:
    r"""The prompt `name` with its fields replaced; braces inside a value stay as they are.

    `margin` is put before each line of the prompt but the first.

    >>> filled("figure_9_with_class", {"question": "Where?", "options": "A. {x}\nB. y", "letters": "A/B"}).splitlines()
    ['Answer the multiple-choice question below.', 'Where?', 'A. {x}', 'B. y', 'Output only one character A/B.']
    """
    return re.sub(r"\{(\w+)\}", lambda field: values[field[1]], template(name).replace("\n", f"\n{margin}"))


def generation_prompt(class_name: str, article: str, questions: int) -> str:
    """The prompt of Figure 8 for `questions` questions about a class from its article."""
    count = NUMBERS[questions] if questions < len(NUMBERS) else str(questions)
    return filled(GENERATE, {"count": count, "classname": class_name, "article": article})


@cache
def template(name: str) -> str:
    """The text of the prompt `name`, without the line end of its file."""
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")
