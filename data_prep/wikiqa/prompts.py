"""The prompts by which ImageWikiQA is made: data files in `prompts/`, named by the paper's figure.

`again.txt` is in no figure: it asks once more where a reply could not be used.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

GENERATE, AGAIN = "figure_8_generate", "again"
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
    return filled(GENERATE, {"count": _in_words(questions), "classname": class_name, "article": article})


def again_prompt(prompt: str, faults: Sequence[str], questions: int) -> str:
    """The prompt of Figure 8 with what was wrong with a former reply."""
    return filled(AGAIN, {"prompt": prompt, "faults": "; ".join(faults), "count": _in_words(questions)})


def _in_words(number: int) -> str:
    return NUMBERS[number] if number < len(NUMBERS) else str(number)


@cache
def template(name: str) -> str:
    """The text of the prompt `name`, without the line end of its file."""
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")
