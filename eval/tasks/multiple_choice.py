"""Multiple choice: questions with lettered options, as they are stored with the items (ImageWikiQA)."""

import random
import re
from collections.abc import Iterable, Sequence

from configs.errors import DataError
from configs.protocol import ProtocolConfig
from configs.run_dir import EvalDir
from data_prep.sample import IMAGE_PLACEHOLDER, Sample, Turn
from eval.scorers.choice_letters import LETTERS
from eval.scorers.registry import find_scorer
from eval.tasks.scored_text import scored_text
from eval.types import Prediction, Question, Reference, Score, SourceIndex

OPTION = re.compile(r"^\(?([A-J])[.):]\s*(\S.*?)\s*$", re.MULTILINE)


class MultipleChoice:
    """The last stored turn is the right letter.

    With `show_image: false` the image is left out; `name_class` names the class in the question, as in the paper's
    "w/ GT Class" rows.
    """

    output = "text"

    def __init__(self, config: ProtocolConfig):
        """Look up the scorer. Raises `ConfigError` if it is unknown."""
        self.config = config
        self.scorer = find_scorer(config.choice_parser, "protocol.choice_parser")

    def question(self, sample: Sample, source_index: SourceIndex | None = None) -> Question:  # noqa: ARG002
        """The stored turns without the last, which is the expected letter."""
        if len(sample.turns) < 2 or sample.turns[-1].speaker != "gpt" or sample.turns[-2].speaker != "human":
            raise DataError("its turns do not end with a question and a letter; multiple_choice needs both")
        turns, target = sample.turns[:-1], sample.turns[-1].text.strip().strip("().").upper()
        choices = read_options(turns[-1].text)
        if target not in tuple(LETTERS[: len(choices)]):
            raise DataError(f"its answer {sample.turns[-1].text[:40]!r} is none of its {len(choices)} options' letters")
        if self.config.refuse_leaks and sample.label_name and _names(turns, sample.label_name):
            raise DataError(f"its question names its class {sample.label_name!r} (protocol.refuse_leaks)")
        if self.config.name_class:
            turns = (*turns[:-1], Turn("human", with_class(turns[-1].text, sample.label_name)))
        if not self.config.show_image:
            turns = tuple(Turn(turn.speaker, turn.text.replace(IMAGE_PLACEHOLDER, "").strip()) for turn in turns)
        elif sample.image is None and any(IMAGE_PLACEHOLDER in turn.text for turn in turns):
            raise DataError("its question shows an image and it has none")
        return Question(turns, target, choices)

    def prepare(self, folder: EvalDir, predictions: Iterable[Prediction]) -> None:
        """Nothing: no score depends on other answers."""

    def score(self, prediction: Prediction) -> Score:
        """By the letter, or the option's text, that is found in the answer."""
        text = scored_text(prediction.answer, self.config)
        score = self.scorer(text, Reference(prediction.target, choices=prediction.choices))
        if score.value is None and self.config.unparsed == "random":
            letter = random.Random(f"unparsed:{prediction.id}").choice(LETTERS[: len(prediction.choices)])
            return Score(letter == prediction.target, letter, f"drawn at random: {score.reason}")
        return score


def _names(turns: Sequence[Turn], name: str) -> bool:
    pattern = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
    return any(pattern.search(turn.text) for turn in turns)


def with_class(question: str, name: str | None) -> str:
    r"""The question with the class name in place of "this object", or in a sentence before the question.

    >>> with_class("<image>\nWhere does this object live?", "guinea pig")
    '<image>\nWhere does guinea pig live?'

    Raises `DataError` if the item has no class.
    """
    if not name:
        raise DataError("it has no label_name, and protocol.name_class needs it")
    named = re.sub(r"\bthis object\b", lambda _: name, question, flags=re.IGNORECASE)
    if named != question:
        return named
    _, placeholder, text = question.rpartition(f"{IMAGE_PLACEHOLDER}\n")
    return f"{placeholder}The object in this image is {name}. {text}"


def read_options(question: str) -> tuple[str, ...]:
    r"""The texts of options A, B, C, ... on lines of their own; the last run that begins with A counts.

    >>> read_options("Where does it live?\nA. Africa\nB. Asia\nChoose A or B.")
    ('Africa', 'Asia')
    """
    options: list[str] = []
    for letter, text in OPTION.findall(question):
        if letter == "A":
            options = []
        if letter == LETTERS[len(options)]:
            options.append(text)
    return tuple(options)
