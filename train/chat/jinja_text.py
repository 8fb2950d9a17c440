"""A folder's chat template as text: which form of messages it takes, and what it writes for them.

Templates of language models take a message's content as a text; those of vision-language models take a list of parts,
and write the image token for a part of type `image`. Which of the two is tried on a short conversation.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from configs.errors import ConfigError, DataError, first_line
from data_prep.sample import IMAGE_PLACEHOLDER
from train.chat.renderer import image_on_own_line

Message = dict[str, Any]
"""`role`, and `content` as a text or a list of parts, as transformers takes it."""

FIXED_DATE = "26 Jul 2024"  # for templates that write the date: what Llama 3.2's takes where there is no clock
FAILURES = (TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError)
ASKED, REPLIED, TOLD = "Question 7", "Reply 8", "Rule 9"


@dataclass(frozen=True)
class TemplateText:
    """One template, bound to the special tokens of its tokenizer."""

    source: str
    special_tokens: dict[str, Any]
    image_token: str
    parts: bool = True
    """Whether content is a list of parts."""
    image_last: bool = False
    """Whether an image follows the words of its message."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, image_token: str) -> "TemplateText":
        """That of `tokenizer`. Raises `ConfigError` if there is none, or it shows no image or no answer."""
        if image_token not in tokenizer.get_vocab():
            raise ConfigError(f"chat.template is folder, and the tokenizer has no image token {image_token}")
        try:
            source = str(tokenizer.get_chat_template())
        except ValueError as error:
            raise ConfigError(
                "chat.template is folder, and the model's folder has no chat template (chat_template.jinja, or "
                "chat_template in tokenizer_config.json); copy it from where the model came from, or, for a LLaVA with "
                "Vicuna, set chat.template to llava"
            ) from error
        if "strftime_now" in source and "date_string" not in source:
            raise ConfigError(
                "the folder's chat template writes today's date (strftime_now), so that an evaluation would prompt "
                "otherwise than training did; write a fixed date into chat_template.jinja"
            )
        problem: Exception | None = None
        for parts in (True, False):
            text = cls(source, dict(tokenizer.special_tokens_map), image_token, parts)
            try:
                if text._shows_all():
                    return text
            except DataError as error:
                problem = error
        raise ConfigError(
            "chat.template is folder, and the folder's chat template does not write a question with an image and its "
            f"answer{f' ({problem})' if problem else ''}; set chat.template to llava or hf, or correct "
            "chat_template.jinja"
        )

    def _shows_all(self) -> bool:
        """Whether it writes image, question and answer once each."""
        asked = self.message("user", f"{IMAGE_PLACEHOLDER}\n{ASKED}")
        written, _ = self.render([asked, self.message("assistant", REPLIED)], prompt=False)
        return [written.count(text) for text in (self.image_token, ASKED, REPLIED)] == [
            1,
            1,
            1,
        ] and "'type'" not in written

    @cached_property
    def marks_answers(self) -> bool:
        """Whether it marks the assistant's text by `{% generation %}`."""
        return re.search(r"\{%-?\s*generation\s*-?%\}", self.source) is not None

    def message(self, role: str, text: str) -> Message:
        """A message with an image for each `<image>` in `text`, before its words (after them with `image_last`)."""
        if not self.parts:
            line = image_on_own_line(text, last=self.image_last)
            return {"role": role, "content": line.replace(IMAGE_PLACEHOLDER, self.image_token)}
        words = text if IMAGE_PLACEHOLDER not in text else text.replace(IMAGE_PLACEHOLDER, "").strip()
        images: list[dict[str, str]] = [{"type": "image"}] * text.count(IMAGE_PLACEHOLDER)
        spoken = {"type": "text", "text": words}
        return {"role": role, "content": [spoken, *images] if self.image_last else [*images, spoken]}

    def words(self, message: Message) -> str:
        """The text of a message of the assistant's, without blanks around it."""
        content = message["content"]
        return str(content if isinstance(content, str) else content[-1]["text"]).strip()

    def system_messages(self, system: str) -> list[Message]:
        """The message that opens a conversation with this text, if any.

        Raises `ConfigError` if the template does not write it.
        """
        if not system:
            return []
        asked = self.message("user", ASKED)
        for message in (self.message("system", TOLD), {"role": "system", "content": TOLD}):
            try:
                if self.render([message, asked], prompt=True)[0].count(TOLD) == 1:
                    content = [{"type": "text", "text": system}] if isinstance(message["content"], list) else system
                    return [{"role": "system", "content": content}]
            except DataError:
                continue
        raise ConfigError("the folder's chat template has no system prompt; set system_prompt to none")

    def render(self, messages: list[Message], *, prompt: bool) -> tuple[str, list[tuple[int, int]]]:
        """What the template writes, with `prompt` up to the assistant's answer, and the characters that it marks.

        Raises `DataError` with the template's own words if it refuses the conversation.
        """
        dated = {"date_string": FIXED_DATE} if "date_string" in self.source else {}
        try:
            texts, marked = render_jinja_template(
                [messages],
                chat_template=self.source,
                return_assistant_tokens_mask=self.marks_answers and not prompt,
                add_generation_prompt=prompt,
                **self.special_tokens,
                **dated,
            )
        except FAILURES as error:
            raise DataError(f"the folder's chat template refuses the conversation: {first_line(error)}") from error
        return str(texts[0]), list(marked[0]) if marked else []
