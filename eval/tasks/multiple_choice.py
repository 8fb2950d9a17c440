"""Multiple choice: questions with lettered options, as they are stored with the items (ImageWikiQA)."""

import random
import re
from collections.abc import Sequence

from configs.errors import DataError
from configs.protocol import ProtocolConfig
from data_prep.choice_prompts import filter_question, with_class
from data_prep.lettered_options import LETTERS, answer_letter, find_options, unreadable_options, with_letters
from data_prep.sample import IMAGE_PLACEHOLDER, Sample, Turn, without_image
from eval.scorers.registry import find_scorer
from eval.tasks.stored_question import StoredQuestionTask
from eval.types import ItemIndex, Prediction, Question, Reference, Score


class MultipleChoice(StoredQuestionTask):
    """The last stored turn is the correct letter.

    With `show_image: false` the image is left out; `reveal_class` names the class in the question, as in the paper's
    "w/ GT Class" rows.
    """

    def __init__(self, config: ProtocolConfig):
        """Look up the scorer. Raises `ConfigError` if it is unknown."""
        super().__init__(config)
        self.scorer = find_scorer(config.choice_parser, "protocol.choice_parser")

    def question(self, sample: Sample, item_index: ItemIndex | None = None) -> Question:  # noqa: ARG002
        """The stored turns without the last, which is the expected letter."""
        if len(sample.turns) < 2 or sample.turns[-1].speaker != "gpt" or sample.turns[-2].speaker != "human":
            raise DataError("its turns do not end with a question and a letter; multiple_choice needs both")
        turns, options = sample.turns[:-1], find_options(sample.turns[-2].text)
        if options is None:
            raise DataError(unreadable_options(turns[-1].text))
        target = answer_letter(sample.turns[-1].text, options)
        if target is None:
            raise DataError(
                f"its answer {sample.turns[-1].text[:40]!r} is none of its {len(options.texts)} options' letters"
            )
        choices, turns = options.texts, (*turns[:-1], Turn("human", with_letters(turns[-1].text, options)))
        if self.config.refuse_leaks and sample.label_name and _names(turns, sample.label_name):
            raise DataError(f"its question names its class {sample.label_name!r} (protocol.refuse_leaks)")
        if self.config.reveal_class:
            named = with_class(turns[-1].text, sample.label_name, self.config.reveal_class_style)
            turns = (*turns[:-1], Turn("human", named))
        if self.config.choice_prompt == "filter":
            text = filter_question(turns[-1].text, named=self.config.reveal_class, indent=self.config.filter_indent)
            turns = (*turns[:-1], Turn("human", text))
        if not self.config.show_image:
            turns = without_image(turns)
        elif sample.image is None and any(IMAGE_PLACEHOLDER in turn.text for turn in turns):
            raise DataError("its question shows an image and it has none")
        return Question(turns, target, choices)

    def score(self, prediction: Prediction) -> Score:
        """By the letter, or the option's text, that is found in the answer."""
        score = super().score(prediction)
        if score.value is None and self.config.unparsed == "random":
            seed = f"{self.config.seed}:" if self.config.seed else ""
            letter = random.Random(f"{seed}unparsed:{prediction.id}").choice(LETTERS[: len(prediction.choices)])
            return Score(letter == prediction.target, letter, f"drawn at random: {score.reason}")
        return score

    def reference(self, prediction: Prediction) -> Reference:
        """The correct letter and the texts of all options."""
        return Reference(prediction.target, choices=prediction.choices)


def _names(turns: Sequence[Turn], name: str) -> bool:
    pattern = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
    return any(pattern.search(turn.text) for turn in turns)
