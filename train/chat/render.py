r"""Converts turns to tokens: one renderer makes the ids and their supervision, so the two always agree.

The Vicuna-v1 template, as LLaVA-1.5 was trained (shown on one question; `_` are spaces):

    <s>SYSTEM USER:_<image>\nWhat is it? ASSISTANT:_a cat</s>USER:_And here? ASSISTANT:_a dog</s>
                                                  ~~~~~~~~~~                         ~~~~~~~~~~   supervised

There are two ways to convert that text to ids. They give different ids, and both are needed:

- `llava`: the ids of LLaVA's own code. The text is split at `<image>` and each piece is tokenized separately; for LLaMA
  tokenizers as in the slow tokenizer of transformers 4.37 (`train.chat.llama_ids`), whose flag `legacy` decides whether
  the text after `</s>` begins with a space marker. Supervision is LLaVA's too, including its counting errors.
- `hf`: the whole text in one call, with `<image>` as a special token, as in transformers' `LlavaProcessor` (used for
  the paper's zero-shot rows).

`train.chat.templates` has more chat templates for evaluation. `python -m train.tools.render_conversations` renders
LLaVA JSON.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from configs.errors import ConfigError, DataError
from data_prep.sample import IMAGE_PLACEHOLDER, Turn
from train.chat.conversation import IMAGE_INDEX, TokenizedConversation
from train.chat.llama_ids import LlamaIds, llava_targets
from train.chat.renderer import Renderer, begin_ids, end_id, exchanges_of, image_on_own_line, require_question
from train.chat.templates import BEGIN, CHAT_TEMPLATES, END, system_text


class ChatRenderer(Renderer):
    """Renders conversations with a template of `CHAT_TEMPLATES`.

    Raises `ConfigError` if the tokenizer lacks what the template needs, or the template has no system prompt.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str = "llava",
        system_prompt: str = "vicuna_v1",
        end: int | None = None,
    ):
        """`system_prompt` is `template`, a name of `SYSTEM_PROMPTS` or the text itself.

        `end` is the id of the token that ends an answer; None for the tokenizer's end token.
        """
        if template not in CHAT_TEMPLATES:
            raise ConfigError(f"template is {template!r}; choose one of {', '.join(CHAT_TEMPLATES)}")
        self.tokenizer = tokenizer
        self.template_name, self.template = template, CHAT_TEMPLATES[template]
        self.system = system_text(template, system_prompt)
        if self.system and not self.template.system:
            raise ConfigError(f"template {template} has no system prompt; set system_prompt to none")
        self.images_first = self.template.image_before_bos
        self.marks = Marks.of(tokenizer, template)
        self.eos = self.marks.end if end is None else end
        self.llama_tokenizer = LlamaIds.of(tokenizer) if self.template.tokenize_per_segment and end is None else None
        whole = not self.template.tokenize_per_segment and not self.images_first
        if whole and IMAGE_PLACEHOLDER not in tokenizer.get_vocab():
            raise ConfigError(
                f"template {template} needs a tokenizer with the token {IMAGE_PLACEHOLDER}; use template llava"
            )

    def render(self, turns: Sequence[Turn], max_length: int | None = None) -> TokenizedConversation:
        """As `Renderer.render`. Raises `DataError` also for a second question where the template allows one."""
        rendered, exchanges = TokenizedConversation(), exchanges_of(turns)
        if len(exchanges) > 1 and not self.template.multi_turn:
            raise DataError(
                f"template {self.template_name} allows one question; this conversation has {len(exchanges)}"
            )
        if self.llama_tokenizer is not None:
            return self._as_llava(exchanges, max_length)
        if self.images_first:
            images = sum(question.count(IMAGE_PLACEHOLDER) for question, _ in exchanges)
            rendered.add([IMAGE_INDEX] * images, [False] * images)
        rendered.add(self.marks.begin, [False] * len(self.marks.begin))
        for number, (question, answer) in enumerate(exchanges):
            head = self._head(question, first=number == 0)
            if answer is None:
                self._add_text(rendered, head, len(head), first=number == 0)
                continue
            head += self.template.assistant
            self._add_text(rendered, f"{head} {answer}", len(head), first=number == 0)
            rendered.add([self.eos], [True])
        if max_length is not None and not rendered.images:
            del rendered.input_ids[max_length:], rendered.supervised[max_length:]
        return rendered

    def render_question(self, turns: Sequence[Turn], answer_prefix: str = "") -> list[int]:
        """As `Renderer.render_question`: ids that end with `ASSISTANT:` and the answer prefix."""
        require_question(turns)
        if self.llama_tokenizer is not None:
            text = self._text(exchanges_of((*turns, Turn("gpt", answer_prefix))))
            return [*self.marks.begin, *self._llava_ids(text if answer_prefix else text.removesuffix(" "))]
        rendered = self.render((*turns, Turn("gpt", answer_prefix)))
        last_answer = rendered.input_ids[:-1]  # without </s>
        if answer_prefix:
            return last_answer
        while rendered.supervised[len(last_answer) - 1]:  # the space marker of an empty answer
            last_answer.pop()
        return last_answer

    def answered(self, turns: Sequence[Turn], answer: str) -> list[int]:
        """As `Renderer.answered`."""
        return self.render((*turns, Turn("gpt", answer))).input_ids[:-1]

    def question_text(self, turns: Sequence[Turn], answer_prefix: str = "") -> str:
        """As `Renderer.question_text`."""
        question = self._head(turns[-1].words, first=True) + self.template.assistant
        return f"{question} {answer_prefix}" if answer_prefix else question

    def place_image_last(self) -> None:
        """As `Renderer.place_image_last`."""
        if self.images_first:
            super().place_image_last()
        self.image_last = True

    def _head(self, question: str, *, first: bool) -> str:
        """The text before the assistant's; the first question begins with the system prompt."""
        if self.images_first:
            question = question.replace(IMAGE_PLACEHOLDER, "").strip() if IMAGE_PLACEHOLDER in question else question
        opening = f"{self.system} {self.template.human}" if self.system and first else self.template.human
        return f"{opening}{image_on_own_line(question, last=self.image_last)}{self.template.human_end}"

    def _as_llava(self, exchanges: Sequence[tuple[str, str | None]], max_length: int | None) -> TokenizedConversation:
        """Ids and supervision as in LLaVA's code for a LLaMA tokenizer (`train.chat.llama_ids`)."""
        assert self.llama_tokenizer is not None
        text = self._text(exchanges, end=END)
        ids = [*self.marks.begin, *self._llava_ids(text)]
        limit = max_length or sys.maxsize
        if IMAGE_PLACEHOLDER not in text:
            del ids[limit:]
        separator = f"{self.template.human_end}{self.template.assistant} "
        lengths: list[tuple[int, int] | None] = []
        for part in text.split(END):
            if not part:
                break
            if part.count(separator) != 1:
                lengths.append(None)
                break
            instruction = part.split(separator)[0] + separator
            lengths.append((1 + len(self._llava_ids(part)), 1 + len(self._llava_ids(instruction))))
        unknown = self.tokenizer.convert_tokens_to_ids("<unk>")
        on = llava_targets(ids, lengths, legacy=self.llama_tokenizer.legacy, max_length=limit, unknown=unknown)
        rendered = TokenizedConversation()
        rendered.add(ids, on)
        return rendered

    def _text(self, exchanges: Sequence[tuple[str, str | None]], end: str = "") -> str:
        """The whole conversation as one text; it may end with a question without an answer."""
        text = ""
        for number, (question, answer) in enumerate(exchanges):
            text += self._head(question, first=number == 0)
            if answer is not None:
                text += f"{self.template.assistant} {answer}{end}"
            self._refuse_end(question if answer is None else f"{question} {answer}")
        return text

    def _llava_ids(self, text: str) -> list[int]:
        """Ids of a text with image placeholders; each part between two placeholders is tokenized separately."""
        assert self.llama_tokenizer is not None
        ids: list[int] = []
        for number, part in enumerate(text.split(IMAGE_PLACEHOLDER)):
            ids += [IMAGE_INDEX] * (number > 0) + self.llama_tokenizer.ids(part)
        return ids

    def _refuse_end(self, text: str) -> None:
        for token in self.marks.texts:
            if token in text:
                place = text.index(token)
                shown = text[max(0, place - 40) : place + 40]
                raise DataError(f"{token} in a text, which would begin or end a conversation: …{shown!r}…; remove it")

    def _add_text(self, rendered: TokenizedConversation, text: str, answer_from: int, *, first: bool) -> None:
        self._refuse_end(text)
        if not self.template.tokenize_per_segment:
            self._add_piece(rendered, text, answer_from, first=first)
            return
        start = 0
        for number, part in enumerate(text.split(IMAGE_PLACEHOLDER)):
            if number:
                rendered.add([IMAGE_INDEX], [False])
            self._add_piece(rendered, part, answer_from - start, first=True)
            start += len(part) + len(IMAGE_PLACEHOLDER)

    def _add_piece(self, rendered: TokenizedConversation, text: str, answer_from: int, *, first: bool) -> None:
        """Tokenize a piece of text; its characters from `answer_from` on are the assistant's.

        `first` is False if the piece follows a special token in the same text (not `tokenize_per_segment`).
        """
        skip = 0
        if not first:  # tokenized together with the end token before it, whose id is then dropped
            end = self.marks.end_text
            text, answer_from, skip = end + text, answer_from + len(end), 1
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids, offsets = encoded["input_ids"][skip:], encoded["offset_mapping"][skip:]
        if not self.template.tokenize_per_segment and not self.images_first:
            image_id = self.tokenizer.convert_tokens_to_ids(IMAGE_PLACEHOLDER)
            ids = [IMAGE_INDEX if token == image_id else token for token in ids]
        rendered.add(ids, [start >= answer_from for start, _ in offsets])


@dataclass(frozen=True, slots=True)
class Marks:
    """The ids before every text, and the token that ends an answer, as id and as text; `texts` may not be in a turn."""

    begin: tuple[int, ...]
    end: int
    end_text: str
    texts: tuple[str, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, template: str) -> "Marks":
        """LLaMA's `<s>` and `</s>` where the tokenizer has both, else what it puts before a text and its end token.

        BLIP's templates always take the latter. Raises `ConfigError` if the tokenizer names no end token.
        """
        images_first, vocabulary = CHAT_TEMPLATES[template].image_before_bos, tokenizer.get_vocab()
        if not images_first and BEGIN in vocabulary and END in vocabulary:
            return cls((vocabulary[BEGIN],), vocabulary[END], END, (BEGIN, END))
        end = end_id(tokenizer)
        begin = begin_ids(tokenizer)  # not always bos_token: InstructBLIP's differ
        if images_first and not begin and tokenizer.bos_token_id is not None:
            begin = [tokenizer.bos_token_id]
        if end is None or (images_first and not begin):
            lacking, named = ("eos_token", tokenizer.eos_token) if end is None else ("bos_token", tokenizer.bos_token)
            raise ConfigError(
                f"the tokenizer's {lacking} is {named!r}, which is none of its tokens; name the right one in "
                "tokenizer_config.json, or copy the tokenizer from where the model came from"
            )
        end_text = END if END in vocabulary else str(tokenizer.eos_token)
        texts = (BEGIN, END) if images_first else tuple(map(str, {tokenizer.bos_token, tokenizer.eos_token} - {None}))
        return cls(tuple(begin), end, end_text, texts)
