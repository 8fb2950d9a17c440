"""A model behind an API: sends a protocol's turns as chat messages and returns answers in the order they arrive.

No chat template is applied: the protocol's text is sent unchanged, then the image as a data URI, as in the authors'
calls of GPT-4 (main_results/main_api.py; before the text for a Claude: `api.image_position`). An API cannot continue a
given beginning of an answer, so `answer_prefix` is appended to the question (imagewikiqa/main_api.py: "... Let's think
step by step."). `system_prompt` is sent only if it is a text; the named prompts belong to LLaVA.
"""

import base64
import hashlib
import io
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, DataError, RunError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from data_prep.images import decode_rgb, opened_image, true_extension
from data_prep.orientation import NORMAL, orientation_of
from data_prep.sample import IMAGE_PLACEHOLDER, Turn
from eval.models.api_client import ApiClient, Endpoint
from eval.models.api_replies import QuestionError, setting_to_change, text_of
from eval.tasks.registry import TASKS, task_output
from eval.types import Answer, Failure

MEDIA = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}
NAMED_SYSTEMS = ("family", "official", "template", "vicuna_v1", "vicuna_human", "none")
ROLES = {"human": "user", "gpt": "assistant"}
OFFICIAL_CLAUDE = 1024  # max_tokens of the authors' calls of Claude; those of GPT-4 and Gemini set none
CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})  # finish_reason at the limit
CONTINUES = "the same command continues where this one stopped"
MOST_TOKENS = 1_000_000  # upper limit for a server's count of tokens


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
        self.failed_in_a_row = 0

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
            text = turn.text.replace(IMAGE_PLACEHOLDER, "").strip()
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
        api = self.config.api
        values: dict[str, Any] = {"model": self.name, "messages": [self._message(prompt, *m) for m in prompt.messages]}
        if api.length_field != "none" and (limit := self._limit()) is not None:
            values[api.length_field] = limit
        if api.temperature is not None:
            values["temperature"] = api.temperature
        return json.dumps(values).encode()

    def _message(self, prompt: ApiPrompt, role: str, text: str, with_image: bool) -> dict[str, Any]:
        if not with_image or prompt.image is None:
            return {"role": role, "content": text}
        media, data = prompt.image
        image = {"url": f"data:{media};base64,{base64.b64encode(data).decode()}"}
        if self.config.api.image_detail is not None:
            image["detail"] = self.config.api.image_detail
        parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": image}]
        position = self.config.api.image_position
        first = position == "before" or (position == "official" and self._is_claude())
        return {"role": role, "content": parts[::-1] if first else parts}

    def _limit(self) -> int | None:
        """Longest answer in tokens that is requested; None for no limit."""
        if self.config.api.answer_limit == "protocol":
            return self.protocol.max_new_tokens
        return OFFICIAL_CLAUDE if self._is_claude() else None

    def _is_claude(self) -> bool:
        return "claude" in self.name.lower()

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
        client = ApiClient(self.config.api, self.endpoint)
        limit = self.config.api.concurrency
        rest = iter(enumerate(prompts))
        running: dict[Future[Answer | Failure], int] = {}
        stop: RunError | None = None
        pool = ThreadPoolExecutor(max_workers=limit)
        try:
            while True:
                while stop is None and len(running) < limit and (following := next(rest, None)) is not None:
                    running[pool.submit(self._ask, client, following[1])] = following[0]
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda future: running[future]):
                    number = running.pop(future)
                    try:
                        answer = future.result()
                    except RunError as error:
                        stop = stop or error
                        continue
                    if stop is None or isinstance(answer, Answer):  # a request cancelled by the stop has not failed
                        yield number, answer  # stored before the next question is sent
                    stop = stop or self._exhausted(answer)
                if stop is not None:
                    client.stopped.set()
            if stop is not None:
                raise stop
        finally:
            client.stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _exhausted(self, answer: Answer | Failure) -> RunError | None:
        """The error if too many questions in a row had no answer."""
        self.failed_in_a_row = self.failed_in_a_row + 1 if isinstance(answer, Failure) else 0
        if not isinstance(answer, Failure) or self.failed_in_a_row < self.config.api.give_up_after:
            return None
        change = setting_to_change(answer.reason)
        step = f"the server refuses a field of the request: add {change}" if change else CONTINUES
        return RunError(
            f"{self.failed_in_a_row} questions in a row had no answer from {self.name} (the last: {answer.reason}); "
            f"{step}"
        )

    def _ask(self, client: ApiClient, prompt: ApiPrompt) -> Answer | Failure:
        start = time.monotonic()
        try:
            values = client.ask(self.body(prompt))
        except QuestionError as error:
            return Failure(str(error))
        return answer_of(values, time.monotonic() - start)


def answer_of(values: dict[str, Any], seconds: float) -> Answer:
    """The first choice of a chat completion; a refusal counts as the answer, and no text as an empty answer."""
    choice = values["choices"][0]
    usage = values.get("usage")
    reported = usage.get("completion_tokens") if isinstance(usage, dict) else None
    count = min(max(reported, 0), MOST_TOKENS) if isinstance(reported, int) else 0
    ids = [-1] * count  # an API reports the number of tokens but not their ids
    cut = str(choice.get("finish_reason") or "").lower() in CUT
    return Answer(text_of(choice), ids, not cut, seconds)


def sendable(image: bytes) -> tuple[str, bytes]:
    """(media type, bytes): the file unchanged, or converted to PNG if its format is not one of `MEDIA`.

    A photograph with an EXIF orientation is encoded again without it, turned or not as `data.exif` says, since servers
    differ in whether they apply it. Raises `ImageError` if the image does not decode, before a paid request is sent.
    """
    decoded = decode_rgb(image)
    extension = true_extension(image)
    with opened_image(image) as header:
        oriented = orientation_of(header) != NORMAL
    buffer = io.BytesIO()
    if oriented and extension == "jpg":
        decoded.save(buffer, format="JPEG", quality=95, subsampling=0)
        return MEDIA["jpg"], buffer.getvalue()
    if extension in MEDIA and not oriented:
        return MEDIA[extension], image
    decoded.save(buffer, format="PNG")
    return MEDIA["png"], buffer.getvalue()
