r"""Turns to tokens: one renderer makes the ids and says which are supervised, so the two cannot disagree.

The Vicuna-v1 template, as LLaVA-1.5 was trained (shown on one question; `_` are spaces):

    <s>SYSTEM USER:_<image>\nWhat is it? ASSISTANT:_a cat</s>USER:_And here? ASSISTANT:_a dog</s>
                                                  ~~~~~~~~~~                         ~~~~~~~~~~   supervised

Two ways to turn that text into ids, both in use and not equal:

- `llava`: what LLaVA's own code gives. The text is cut at `<image>`, and each piece is tokenized by itself, for LLaMA
  tokenizers as the slow tokenizer of transformers 4.37 does it (`train.chat.llama_ids`): its flag `legacy` decides
  whether the text after `</s>` begins with a word mark of its own. Supervision is LLaVA's too, its miscounts included.
- `hf`: the whole text in one call, with `<image>` as a special token, as transformers' `LlavaProcessor` does it (the
  paper's zero-shot rows used this).

Evaluation has more chat templates: `train.chat.templates`.

`python -m train.chat.render --tokenizer DIR --conversations IN.json --output OUT.json --show` renders LLaVA JSON.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from configs.command_line import command_parser, exit_on_user_error
from configs.errors import ConfigError, DataError, UserError
from data_prep.sample import IMAGE_PLACEHOLDER, Turn, parse_turns
from train.chat.conversation import IMAGE_INDEX, TokenizedConversation, highlight_targets
from train.chat.llama_ids import LlamaIds, llava_targets
from train.chat.templates import CHAT_TEMPLATES, END, SYSTEM_PROMPTS, ChatTemplate
from train.chat.tokenizer import load_tokenizer


class ChatRenderer:
    """Renders conversations for one tokenizer.

    Raises `ConfigError` if the tokenizer lacks what the template needs, or the template has no system prompt.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str = "llava",
        system_prompt: str = "vicuna_v1",
        end: int | None = None,
    ):
        """Keep the tokenizer and spell out the system prompt (a name of `SYSTEM_PROMPTS`, or the text itself).

        `end` is the token that ends an answer, if it is not the tokenizer's own.
        """
        if template not in CHAT_TEMPLATES:
            raise ConfigError(f"template is {template!r}; choose one of {', '.join(CHAT_TEMPLATES)}")
        self.tokenizer = tokenizer
        self.template_name, self.template = template, CHAT_TEMPLATES[template]
        self.system = SYSTEM_PROMPTS.get(system_prompt, system_prompt)
        if self.system and not self.template.system:
            raise ConfigError(f"template {template} has no place for a system prompt; set system_prompt to none")
        self.bos, self.eos = _special_ids(tokenizer, self.template)
        self.eos = self.eos if end is None else end
        self.llama = LlamaIds.of(tokenizer) if self.template.tokenize_per_segment and end is None else None
        whole = not self.template.tokenize_per_segment and not self.template.image_first
        if whole and IMAGE_PLACEHOLDER not in tokenizer.get_vocab():
            raise ConfigError(
                f"template {template} needs a tokenizer that knows {IMAGE_PLACEHOLDER}; this one does not: use llava"
            )

    def render(self, turns: Sequence[Turn], max_length: int | None = None) -> TokenizedConversation:
        """A whole conversation, each answer and its `</s>` supervised.

        `max_length` cuts conversations without an image; those with one are cut after the image is expanded
        (`train.data.collate`), exactly as LLaVA does it. Raises `DataError` for turns that do not alternate.
        """
        rendered, exchanges = TokenizedConversation(), _exchanges(turns)
        if len(exchanges) > 1 and not self.template.multi_turn:
            raise DataError(
                f"template {self.template_name} allows one question; this conversation has {len(exchanges)}"
            )
        if self.llama is not None:
            return self._as_llava(exchanges, max_length)
        if self.template.image_first:
            images = sum(question.count(IMAGE_PLACEHOLDER) for question, _ in exchanges)
            rendered.add([IMAGE_INDEX] * images, [False] * images)
        rendered.add([self.bos], [False])
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
        """The same conversation up to the answer to be generated: ids that end in `ASSISTANT:` and the answer prefix.

        The last turn is the human's; what a model continues with is what `render` would supervise.
        """
        if not turns or turns[-1].speaker != "human":
            raise DataError("a question must end with a turn from 'human'")
        if self.llama is not None:
            text = self._text(_exchanges((*turns, Turn("gpt", answer_prefix))))
            return [self.bos, *self._llava_ids(text if answer_prefix else text.removesuffix(" "))]
        rendered = self.render((*turns, Turn("gpt", answer_prefix)))
        last_answer = rendered.input_ids[:-1]  # without </s>
        if answer_prefix:
            return last_answer
        while rendered.supervised[len(last_answer) - 1]:  # the lone word mark that an empty answer leaves behind
            last_answer.pop()
        return last_answer

    def question_text(self, turns: Sequence[Turn], answer_prefix: str = "") -> str:
        """The text of a single question up to its answer, the image left out: what a Q-Former reads of it."""
        question = (
            self._head(turns[-1].text.replace(IMAGE_PLACEHOLDER, "").strip(), first=True) + self.template.assistant
        )
        return f"{question} {answer_prefix}" if answer_prefix else question

    def _head(self, question: str, *, first: bool) -> str:
        """The text before the assistant's: the system prompt opens the first question."""
        if self.template.image_first:
            question = question.replace(IMAGE_PLACEHOLDER, "").strip() if IMAGE_PLACEHOLDER in question else question
        opening = f"{self.system} {self.template.human}" if self.system and first else self.template.human
        return f"{opening}{_image_first(question)}{self.template.human_end}"

    def _as_llava(self, exchanges: Sequence[tuple[str, str | None]], max_length: int | None) -> TokenizedConversation:
        """Ids and supervision of LLaVA's own code for a LLaMA tokenizer (`train.chat.llama_ids`)."""
        assert self.llama is not None
        text = self._text(exchanges, end=END)
        ids = [self.bos, *self._llava_ids(text)]
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
        on = llava_targets(ids, lengths, legacy=self.llama.legacy, max_length=limit, unknown=unknown)
        rendered = TokenizedConversation()
        rendered.add(ids, on)
        return rendered

    def _text(self, exchanges: Sequence[tuple[str, str | None]], end: str = "") -> str:
        """The whole conversation as one text; a last question without an answer ends it."""
        text = ""
        for number, (question, answer) in enumerate(exchanges):
            text += self._head(question, first=number == 0)
            if answer is not None:
                text += f"{self.template.assistant} {answer}{end}"
            self._refuse_end(question if answer is None else f"{question} {answer}")
        return text

    def _llava_ids(self, text: str) -> list[int]:
        """Ids of a text with image placeholders; each part between two placeholders is tokenized separately."""
        assert self.llama is not None
        ids: list[int] = []
        for number, part in enumerate(text.split(IMAGE_PLACEHOLDER)):
            ids += [IMAGE_INDEX] * (number > 0) + self.llama.ids(part)
        return ids

    @staticmethod
    def _refuse_end(text: str) -> None:
        if END in text:
            raise DataError(f"the text {text[:80]!r}… contains {END}, which would end the conversation: remove it")

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
        """Tokenize a piece, whose characters from `answer_from` on are the assistant's.

        Not `first` means it continues a text after a special token (not `tokenize_per_segment`).
        """
        skip = 0
        if not first:  # let the tokenizer see the `</s>` it follows, then take the ids after it
            text, answer_from, skip = END + text, answer_from + len(END), 1
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids, offsets = encoded["input_ids"][skip:], encoded["offset_mapping"][skip:]
        if not self.template.tokenize_per_segment and not self.template.image_first:
            image_id = self.tokenizer.convert_tokens_to_ids(IMAGE_PLACEHOLDER)
            ids = [IMAGE_INDEX if token == image_id else token for token in ids]
        rendered.add(ids, [start >= answer_from for start, _ in offsets])


def _special_ids(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> tuple[int, int]:
    """Ids of `<s>` and `</s>`; for BLIP's templates, the id the tokenizer puts before a text, and its end token."""
    if template.image_first:
        begin = [*tokenizer("", verbose=False)["input_ids"], tokenizer.bos_token_id][0]  # InstructBLIP's differ
        if begin is None or tokenizer.eos_token_id is None:
            raise ConfigError("the tokenizer names no bos_token or eos_token; name both in tokenizer_config.json")
        return int(begin), int(tokenizer.eos_token_id)
    vocabulary = tokenizer.get_vocab()
    for token in ("<s>", END):
        if token not in vocabulary:
            raise ConfigError(f"the tokenizer has no {token}; this template needs one of the LLaMA family")
    return vocabulary["<s>"], vocabulary[END]


def _exchanges(turns: Sequence[Turn]) -> list[tuple[str, str | None]]:
    """(question, answer) pairs; a leading answer is skipped as LLaVA does, a trailing question has answer None."""
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


def _image_first(question: str) -> str:
    """Move `<image>` to the front on a line of its own, wherever the record has it (LLaVA's preprocessing)."""
    if IMAGE_PLACEHOLDER not in question:
        return question
    images = question.count(IMAGE_PLACEHOLDER)
    words = question.replace(IMAGE_PLACEHOLDER, "").strip()
    return f"{(IMAGE_PLACEHOLDER + chr(10)) * images}{words}".strip()


def _records(file: Path) -> list[Any]:
    try:
        records = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(records, list):
        raise DataError(f"{file} contains a {type(records).__name__}; it must be a list of records")
    return records


def _rendered(renderer: ChatRenderer, record: Any, number: int, arguments: argparse.Namespace) -> TokenizedConversation:
    try:
        return renderer.render(_conversation(record, number), arguments.max_length)
    except DataError as error:
        raise DataError(f"record {number}: {error}") from error


def _conversation(record: Any, number: int) -> tuple[Turn, ...]:
    try:
        return parse_turns(record["conversations"])
    except (KeyError, TypeError) as error:
        raise DataError(f"record {number} has no list 'conversations' of {{from, value}}") from error


def _arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--tokenizer", required=True, help="model folder, tokenizer.json or tokenizer.model")
    parser.add_argument("--conversations", required=True, type=Path, help='JSON list of {"conversations": [...]}')
    parser.add_argument("--output", type=Path, help="where to write the list of {input_ids, labels}")
    parser.add_argument("--max-length", type=int, default=2048, help="cut text-only conversations here (default 2048)")
    parser.add_argument("--template", choices=tuple(CHAT_TEMPLATES), default="llava")
    parser.add_argument("--system-prompt", default="vicuna_v1", help="vicuna_v1 (default), none, or the text itself")
    parser.add_argument("--show", action="store_true", help="print each conversation, target tokens in green")
    return parser.parse_args()


def main() -> None:
    """Render LLaVA JSON to ids and labels: one output for every record, in order."""
    arguments = _arguments()
    try:
        renderer = ChatRenderer(load_tokenizer(arguments.tokenizer), arguments.template, arguments.system_prompt)
        if arguments.max_length < 1:
            raise ConfigError(f"--max-length is {arguments.max_length}; it must be at least 1")
        records = _records(arguments.conversations)
        rendered = [_rendered(renderer, record, number, arguments) for number, record in enumerate(records)]
    except UserError as error:
        exit_on_user_error(error)
    if arguments.show:
        for conversation in rendered:
            print(highlight_targets(conversation, renderer.tokenizer), end="\n\n")
    if arguments.output:
        outputs = [{"input_ids": r.input_ids, "labels": r.labels} for r in rendered]
        arguments.output.write_text(json.dumps(outputs), encoding="utf-8")
    silent = sum(not any(r.supervised) for r in rendered)
    print(f"{len(rendered)} conversations rendered, {silent} without a target token", file=sys.stderr)


if __name__ == "__main__":
    main()
