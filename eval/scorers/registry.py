"""The scorers: pure functions from an answer's text and its reference to a score.

To add a scorer, write one function in a file and add one line here:

    def score(answer: str, reference: Reference) -> Score: ...

`protocol.match` names the scorer of open questions, `protocol.choice_parser` that of multiple choice,
`protocol.vqa_scorer` that of short answers and `protocol.yes_no_scorer` that of yes-or-no questions.
"""

from collections.abc import Callable
from importlib import import_module

from configs.errors import ConfigError
from eval.types import Reference, Score

Scorer = Callable[[str, Reference], Score]

SCORERS = {
    "contains": "eval.scorers.match:score_contains",
    "word": "eval.scorers.match:score_word",
    "exact": "eval.scorers.match:score_exact",
    "name": "eval.scorers.class_name:score_name",
    "vqa": "eval.scorers.vqa:score_vqa",
    "vqa_llava": "eval.scorers.vqa:score_vqa_llava",
    "pope": "eval.scorers.yes_no:score_pope",
    "yes_no": "eval.scorers.yes_no:score_yes_no",
    "careful": "eval.scorers.choice:score_choice",
    "mmmu": "eval.scorers.choice:score_mmmu",
    "first_character": "eval.scorers.choice:score_first_character",
}


def find_scorer(name: str, setting: str) -> Scorer:
    """The scorer `name`, chosen by the setting `setting`. Raises `ConfigError` that lists the known ones."""
    if name not in SCORERS:
        raise ConfigError(f"{setting} is {name!r}; choose one of: {', '.join(SCORERS)}")
    module, _, function = SCORERS[name].partition(":")
    scorer: Scorer = getattr(import_module(module), function)
    return scorer
