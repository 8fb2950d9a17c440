r"""The chat template of the model's own folder: `chat_template.jinja`, or `chat_template` in tokenizer_config.json.

    renderer = FolderRenderer(tokenizer)
    renderer.render((Turn("human", "<image>\nWhat is it?"), Turn("gpt", "a cat")))

    <|im_start|>user\n<image>\nWhat is it?<|im_end|>\n<|im_start|>assistant\na cat<|im_end|>\n
                                                                            ~~~~~~~~~~~~~~~    supervised

transformers renders the template, and the whole text is tokenized in one call, as its processors do: with what the
tokenizer puts before a text, unless the template writes the start token. Supervised is what the template marks by
`{% generation %}`, or else what follows the text that the model is prompted with; each with the end token behind it. A
template that renders an earlier turn in another way once the conversation continues is refused; where only the blanks
before an answer are others than in the prompt, they are the prompt's, as an answer is generated behind it.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from transformers import PreTrainedTokenizerBase

from configs.errors import ConfigError, DataError
from data_prep.sample import IMAGE_PLACEHOLDER, Turn
from train.chat.conversation import IMAGE_INDEX, TokenizedConversation
from train.chat.jinja_text import Message, TemplateText
from train.chat.renderer import Renderer, begin_ids, end_id, exchanges_of, require_question
from train.chat.templates import FOLDER, system_text

ASKED, REPLIED = "Question 7", "Reply 8"  # of a trial conversation


class FolderRenderer(Renderer):
    """Renders conversations with the folder's template, which `tokenizer` carries.

    Raises `ConfigError` if there is none, or it has no place for an image, an answer or the system prompt.
    """

    template_name = FOLDER

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        system_prompt: str = "template",
        end: int | None = None,
        image_token: str = IMAGE_PLACEHOLDER,
    ):
        """`system_prompt` as for `ChatRenderer`; `image_token` is what the template writes where an image is shown.

        `end` is the id of the token that ends an answer, where it is not the one that the template writes behind it.
        """
        self.tokenizer, self.text = tokenizer, TemplateText.of(tokenizer, image_token)
        self.system = self.text.system_messages(system_text(FOLDER, system_prompt))
        self._image = tokenizer.convert_tokens_to_ids(image_token)
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        special = {*added, *map(str, tokenizer.all_special_tokens), image_token}
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))))
        self._begin, self._bos = begin_ids(tokenizer), tokenizer.bos_token
        messages = self._messages((Turn("human", ASKED), Turn("gpt", REPLIED)))
        trial = self.text.render(messages, prompt=False)[0]
        self._other_blanks = _led(trial, self.text.render(messages[:-1], prompt=True)[0]) != trial
        self._end = end_token(tokenizer, trial.rpartition(REPLIED)[2])
        written = None if self._end is None else int(tokenizer.get_vocab()[self._end])
        eos = next((token for token in (end, written, end_id(tokenizer)) if token is not None), None)
        if eos is None:
            raise ConfigError(
                "the folder's chat template writes no end token and the tokenizer names no eos_token; name it in "
                "tokenizer_config.json"
            )
        self.eos = eos

    def check_trainable(self) -> None:
        """Raise `ConfigError` if no end token follows an answer: a model trained with it would never stop."""
        if self._end is None:
            raise ConfigError(
                "chat.template is folder, and the folder's chat template writes no end token behind an answer, so a "
                "model trained with it would never end one; set chat.template to hf or llava, or write {{ eos_token }} "
                "behind the assistant's message into chat_template.jinja"
            )

    def render(self, turns: Sequence[Turn], max_length: int | None = None) -> TokenizedConversation:
        """As `Renderer.render`. Raises `DataError` also where it cannot be told which tokens are the assistant's."""
        messages = self._messages(turns)
        whole, marked = self._rendered(messages)
        ids = self._ids(whole)
        supervised = [False] * len(ids)
        for start, end in self._answers(messages, whole, marked):
            first, last = self._tokens_before(whole[:start], ids), self._tokens_before(whole[:end], ids)
            supervised[first:last] = [True] * (last - first)
        rendered = TokenizedConversation()
        rendered.add(ids, supervised)
        if max_length is not None and not rendered.images:
            del rendered.input_ids[max_length:], rendered.supervised[max_length:]
        return rendered

    def render_question(self, turns: Sequence[Turn], answer_prefix: str = "") -> list[int]:
        """As `Renderer.render_question`: what the template writes with `add_generation_prompt`, and the prefix."""
        require_question(turns)
        if answer_prefix:
            return self.answered(turns, answer_prefix)
        return self._ids(self._prompt(self._messages(turns)))

    def answered(self, turns: Sequence[Turn], answer: str) -> list[int]:
        """As `Renderer.answered`. Raises `DataError` if the template changes the answer."""
        messages = self._messages((*turns, Turn("gpt", answer)))
        whole, _ = self._rendered(messages)
        start = len(self._prompt_within(messages[:-1], whole))
        return self._ids(whole[: _after(answer.strip(), whole, start)])

    def question_text(self, turns: Sequence[Turn], answer_prefix: str = "") -> str:
        """As `Renderer.question_text`."""
        text = self._prompt(self._messages(tuple(Turn(t.speaker, _without_image(t.text)) for t in turns)))
        return f"{text}{answer_prefix}"

    def place_image_last(self) -> None:
        """As `Renderer.place_image_last`; some templates write the image first wherever it is in the message."""
        text = replace(self.text, image_last=True)
        written, _ = text.render([text.message("user", f"{IMAGE_PLACEHOLDER}\n{ASKED}")], prompt=True)
        if written.find(text.image_token) < written.find(ASKED):
            super().place_image_last()
        self.text, self.image_last = text, True

    def _messages(self, turns: Sequence[Turn]) -> list[Message]:
        messages = list(self.system)
        for question, answer in exchanges_of(turns):
            self._refuse_special(question.replace(IMAGE_PLACEHOLDER, ""))
            messages.append(self.text.message("user", question))
            if answer is not None:
                self._refuse_special(answer)
                messages.append(self.text.message("assistant", answer))
        return messages

    def _refuse_special(self, text: str) -> None:
        if found := self._special.search(text):
            shown = text[max(0, found.start() - 40) : found.end() + 40]
            raise DataError(
                f"{found[0]} in a text, which the tokenizer takes for a special token: …{shown!r}…; remove it"
            )

    def _rendered(self, messages: list[Message]) -> tuple[str, list[tuple[int, int]] | None]:
        """What the template writes, and the answers that it marks; None where it marks none, or blanks changed."""
        written, marked = self.text.render(messages, prompt=False)
        text = self._as_prompted(written, messages)
        return text, marked if self.text.marks_answers and text == written else None

    def _prompt(self, messages: list[Message]) -> str:
        return self._as_prompted(self.text.render(messages, prompt=True)[0], messages)

    def _as_prompted(self, text: str, messages: list[Message]) -> str:
        """`text` with the blanks before each answer that the prompt has."""
        if not self._other_blanks:
            return text
        prompts: list[str] = []
        for number, message in enumerate(messages):
            if message["role"] == "assistant":
                prompt = self.text.render(messages[:number], prompt=True)[0]
                prompts.append(reduce(_led, prompts, prompt))
        return reduce(_led, prompts, text)

    def _prompt_within(self, messages: list[Message], whole: str) -> str:
        """The prompt of `messages`, with which `whole` begins. Raises `DataError` if it does not."""
        prompt = self._prompt(messages)
        if not whole.startswith(prompt):
            number = sum(message["role"] == "user" for message in messages)
            raise DataError(
                f"the folder's chat template renders the conversation up to answer {number} differently once it "
                "continues, so it cannot be told which tokens are the assistant's; mark them by {% generation %} in "
                "chat_template.jinja, or train on conversations of one question"
            )
        return prompt

    def _answers(
        self, messages: list[Message], whole: str, marked: list[tuple[int, int]] | None
    ) -> list[tuple[int, int]]:
        """Where in `whole` each answer begins and where its end token ends, in characters."""
        replies = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        if replies:
            self.check_trainable()
        if marked is not None:
            if len(marked) != len(replies):
                raise DataError(
                    f"the folder's chat template marks {len(marked)} answers by generation, not {len(replies)}"
                )
            starts = [start for start, _ in marked]
        else:
            starts = [len(self._prompt_within(messages[:number], whole)) for number in replies]
        found = []
        for number, start in zip(replies, starts, strict=True):
            text = self.text.words(messages[number])
            end = whole.find(str(self._end), _after(text, whole, start))
            if end < 0:
                raise DataError(f"the folder's chat template writes no {self._end} behind the answer {text!r}")
            found.append((start, end + len(str(self._end))))
        return found

    def _ids(self, text: str) -> list[int]:
        """Ids of a text, `IMAGE_INDEX` where an image is shown."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        begin = [] if self._bos is not None and text.startswith(str(self._bos)) else self._begin
        return [IMAGE_INDEX if token == self._image else token for token in (*begin, *ids)]

    def _tokens_before(self, text: str, ids: list[int]) -> int:
        """How many of `ids`, those of a longer text, lie within its beginning `text`, without one across its end."""
        own = self._ids(text)
        return next((at for at, pair in enumerate(zip(own, ids, strict=False)) if pair[0] != pair[1]), len(own))


def end_token(tokenizer: PreTrainedTokenizerBase, text: str) -> str | None:
    """The special token that `text`, what a template writes behind an answer, begins with behind blanks, or None."""
    text = text.lstrip()
    known = {str(token) for token in tokenizer.added_tokens_decoder.values()} | {str(tokenizer.eos_token)}
    return max((token for token in known if token and text.startswith(token)), key=len, default=None)


def _after(text: str, whole: str, start: int) -> int:
    """The end of `text` in `whole` from `start` on. Raises `DataError` if it is not there."""
    at = whole.find(text, start)
    if at < 0:
        raise DataError(
            f"the folder's chat template changes the answer {text!r}, so it cannot be found in what it writes"
        )
    return at + len(text)


def _led(text: str, prompt: str) -> str:
    """`text` that begins with `prompt`, where it does so but for blanks at the prompt's end."""
    begin = prompt.rstrip()
    if text.startswith(prompt) or not text.startswith(begin):
        return text
    return prompt + text[len(begin) :].lstrip()


def _without_image(text: str) -> str:
    return text.replace(IMAGE_PLACEHOLDER, "").strip()
