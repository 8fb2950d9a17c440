"""What every renderer of conversations offers; `train.chat.render` and `train.chat.folder_template` have one each."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from configs.errors import ConfigError, DataError
from data_prep.sample import IMAGE_PLACEHOLDER, Turn
from train.chat.conversation import TokenizedConversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Renderer(ABC):
    """Turns to token ids and their supervision, for one tokenizer and one chat template."""

    tokenizer: "PreTrainedTokenizerBase"
    template_name: str
    eos: int
    """Id of the token that ends an answer."""
    images_first: bool = False
    """Whether image tokens come before all text, the start token included."""
    image_last: bool = False
    """Whether the image follows the words of its question, on a last line; see `place_image_last`."""

    @abstractmethod
    def render(self, turns: Sequence[Turn], max_length: int | None = None) -> TokenizedConversation:
        """A whole conversation, with each answer and its end token supervised.

        `max_length` cuts conversations without an image; those with one are cut after the image is expanded
        (`train.data.collate`), as in LLaVA. Raises `DataError` for turns that do not alternate or cannot be rendered.
        """

    @abstractmethod
    def render_question(self, turns: Sequence[Turn], answer_prefix: str = "") -> list[int]:
        """The conversation up to the answer to be generated, the answer prefix included.

        The last turn must be the human's. A model continues with the tokens that `render` supervises.
        """

    @abstractmethod
    def answered(self, turns: Sequence[Turn], answer: str) -> list[int]:
        """The ids of a question and its `answer`, without the end token."""

    @abstractmethod
    def question_text(self, turns: Sequence[Turn], answer_prefix: str = "") -> str:
        """The text of a single question up to its answer, without the image: the input of a Q-Former."""

    def place_image_last(self) -> None:
        """From now on, put an image behind the words of its question. Raises `ConfigError` if the template cannot."""
        raise ConfigError(
            f"protocol.image_order is after, and chat template {self.template_name} puts the image first; set it "
            "to before"
        )

    def check_trainable(self) -> None:  # noqa: B027 - most templates can
        """Raise `ConfigError` if the template writes conversations that cannot be trained on."""


def exchanges_of(turns: Sequence[Turn]) -> list[tuple[str, str | None]]:
    """(question, answer) pairs; a leading answer is skipped as LLaVA does, a trailing question has answer None.

    Raises `DataError` for turns that do not alternate.
    """
    if turns and turns[0].speaker == "gpt":
        turns = turns[1:]
    for number, turn in enumerate(turns):
        expected = ("human", "gpt")[number % 2]
        if turn.speaker != expected:
            raise DataError(
                f"turn {number}: expected a turn from {expected!r}, not {turn.speaker!r}; turns must alternate"
            )
    texts: list[str | None] = [turn.text for turn in turns]
    if len(texts) % 2:
        texts.append(None)
    return [(str(question), answer) for question, answer in zip(texts[::2], texts[1::2], strict=True)]


def require_question(turns: Sequence[Turn]) -> None:
    """Raise `DataError` unless the last turn is the human's."""
    if not turns or turns[-1].speaker != "human":
        raise DataError("a question must end with a turn from 'human'")


def image_on_own_line(question: str, *, last: bool = False) -> str:
    r"""Move `<image>` to a separate first line, as in LLaVA's preprocessing, or to the last one.

    >>> image_on_own_line("<image>\nWhat is it?", last=True)
    'What is it?\n<image>'
    """
    if IMAGE_PLACEHOLDER not in question:
        return question
    images = question.count(IMAGE_PLACEHOLDER)
    words = question.replace(IMAGE_PLACEHOLDER, "").strip()
    if last:
        return f"{words}{(chr(10) + IMAGE_PLACEHOLDER) * images}".strip()
    return f"{(IMAGE_PLACEHOLDER + chr(10)) * images}{words}".strip()


def begin_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The ids that the tokenizer puts before a text; it may put none."""
    whole, own = (tokenizer("a", add_special_tokens=on, verbose=False)["input_ids"] for on in (True, False))
    return list(whole[: whole.index(own[0])]) if own and own[0] in whole else []


def end_id(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The id of the tokenizer's end token; None if it names none, or one that it does not have."""
    found = tokenizer.get_vocab().get(str(tokenizer.eos_token))
    return None if found is None else int(found)
