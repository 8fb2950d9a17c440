"""A model behind an API: sends a protocol's turns as chat messages and returns answers in the order they arrive.

No chat template is applied: the protocol's text is sent unchanged, then the image as a data URI, as in the authors'
calls of GPT-4 (main_results/main_api.py; before the text for a Claude: `api.image_position`). An API cannot continue a
given beginning of an answer, so `answer_prefix` is appended to the question (imagewikiqa/main_api.py: "... Let's think
step by step."). `system_prompt` is sent only if it is a text; the named prompts belong to LLaVA.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from configs.errors import ConfigError, DataError, RunError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from data_prep.api.asking import Asker
from data_prep.api.client import Endpoint
from data_prep.api.messages import ImagePart, Message, is_claude, request_body, sendable
from data_prep.api.reply import NoReply, Reply
from data_prep.sample import IMAGE_PLACEHOLDER, Turn
from eval.tasks.registry import TASKS, task_output
from eval.types import Answer, Failure

NAMED_SYSTEMS = ("family", "official", "template", "vicuna_v1", "vicuna_human", "none")
ROLES = {"human": "user", "gpt": "assistant"}
OFFICIAL_CLAUDE = 1024  # max_tokens of the authors' calls of Claude; those of GPT-4 and Gemini set none


@dataclass(frozen=True, slots=True)
class ApiPrompt:
    """A question: (role, text, whether the image follows) of each message, and the image as (media type, bytes)."""

    messages: tuple[tuple[str, str, bool], ...]
    image: tuple[str, bytes] | None
    prompt_hash: str


class ApiEvalModel:
    """The model NAME of `model: api:NAME`."""

    answer_delimiter = ""
    pads_right = False

    def __init__(self, config: EvalConfig):
        """Raises `ConfigError` if the name is empty or the environment has no valid address."""
        self.identity = config.model
        self.name = config.model.removeprefix("api:")
        if not self.name:
            raise ConfigError("model is 'api:'; write api:NAME, with the server's name of the model")
        self.endpoint = Endpoint.of(config.api)

    @classmethod
    def load(cls, config: EvalConfig, folder: Path, device: str) -> "ApiEvalModel":  # noqa: ARG003
        """Read the API's address and key; nothing runs on this machine."""
        return cls(config)

    def predictor(self, config: EvalConfig, folder: EvalDir) -> "ApiPredictor":  # noqa: ARG002
        """Raises `ConfigError` for a task that needs more than the text of an answer."""
        if task_output(config.protocol.task) != "text":
            texts = [name for name in TASKS if task_output(name) == "text"]
            raise ConfigError(
                f"protocol.task {config.protocol.task} needs more than text, and {config.model} returns text only; "
                f"choose one of: {', '.join(texts)}"
            )
        return ApiPredictor(self.name, config, self.endpoint)


class ApiPredictor:
    """Sends the questions of one evaluation, several at the same time."""

    def __init__(self, name: str, config: EvalConfig, endpoint: Endpoint):
        """Nothing is sent yet."""
        self.name, self.config, self.endpoint = name, config, endpoint
        self.protocol = config.protocol
        self.asker = Asker(name, config.api, endpoint)

    def begin(self, questions: int) -> None:
        """Print the largest possible number of requests before the first is sent."""
        if questions:
            api = self.config.api
            limit = None if api.length_field == "none" else self._limit()
            length = "any length" if limit is None else f"up to {limit:,} tokens"
            print(
                f"{self.config.name}: {questions:,} questions to {self.name} at {self.endpoint.host}, up to "
                f"{questions * api.attempts:,} requests if each took all {api.attempts} attempts, answers of "
                f"{length}; --set limit=N asks fewer",
                file=sys.stderr,
                flush=True,
            )

    def prompt(self, turns: Sequence[Turn], image: bytes | None) -> ApiPrompt:
        """The messages. Raises `DataError` (or `ImageError`) if the image is missing or does not decode."""
        system = self.protocol.system_prompt
        messages = [("system", system, False)] if system not in NAMED_SYSTEMS else []
        for number, turn in enumerate(turns):
            text = turn.words
            if number == len(turns) - 1 and self.protocol.answer_prefix:
                text = f"{text} {self.protocol.answer_prefix}"
            messages.append((ROLES[turn.speaker], text, IMAGE_PLACEHOLDER in turn.text))
        shown = sum(with_image for _, _, with_image in messages)
        if shown > 1 or (shown and image is None):
            raise DataError(f"the question shows {shown} images and the item has {0 if image is None else 1}")
        prompt_hash = hashlib.sha256(json.dumps(messages).encode()).hexdigest()[:16]
        return ApiPrompt(tuple(messages), sendable(image) if shown and image is not None else None, prompt_hash)

    def body(self, prompt: ApiPrompt) -> bytes:
        """The request's JSON."""
        image = prompt.image
        sent = () if image is None else (ImagePart(prompt.prompt_hash, lambda: image),)
        messages = [Message(role, text, sent if shown else ()) for role, text, shown in prompt.messages]
        return request_body(self.name, messages, self.config.api, self._limit())

    def _limit(self) -> int | None:
        """Longest answer in tokens that is requested; None for no limit."""
        if self.config.api.answer_limit == "protocol":
            return self.protocol.max_new_tokens
        return OFFICIAL_CLAUDE if is_claude(self.name) else None

    def predict(self, prompts: Sequence[ApiPrompt]) -> Sequence[Answer]:
        """All answers in order. Raises `RunError` at a question that has none."""
        found = dict(self.stream(prompts))
        unanswered = [answer.reason for answer in found.values() if isinstance(answer, Failure)]
        if unanswered:
            raise RunError(f"{self.name} did not answer: {unanswered[0]}")
        return [answer for _, answer in sorted(found.items()) if isinstance(answer, Answer)]

    def stream(self, prompts: Sequence[ApiPrompt]) -> Iterator[tuple[int, Answer | Failure]]:
        """(number of the prompt, its answer), in the order in which answers arrive.

        Raises `RunError` if no further question can be answered, after yielding the answers of requests already sent.
        """
        bodies = ((number, partial(self.body, prompt)) for number, prompt in enumerate(prompts))
        for number, reply in self.asker.ask(bodies):
            yield number, Failure(reply.reason) if isinstance(reply, NoReply) else answer_of(reply)


def answer_of(reply: Reply) -> Answer:
    """A reply as an answer; a refusal counts as the answer."""
    ids = [-1] * reply.tokens_out  # an API reports the number of tokens but not their ids
    return Answer(reply.text, ids, not reply.cut, reply.seconds)
