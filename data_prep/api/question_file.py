"""Many questions to a model behind an API, with the replies in one JSONL file: a restart asks nothing twice.

    model = AskedModel("gpt-4o", config.api, max_tokens=64)
    images = {key: ImagePart.of_reader(path.read_bytes) for key, path in ...}
    questions = [Question(key, (Message("user", "What is this?", (image,)),)) for key, image in images.items()]
    found = ask_questions(folder / "replies.jsonl", questions, model, name="captions")
    found.replies["img_7"].text        # a Reply: text, finish_reason, cut, refused, tokens_in, tokens_out
    found.failures["img_9"]            # the reason why it has no reply; asked again by the next start

    {"id": "img_7", "request": "5d41402abc4b2a76", "text": "a fish", "finish_reason": "stop", "cut": false, ...}
    {"id": "img_9", "request": "7d793037a0760186", "failed": "status 400: flagged by the filter"}

A line is keyed by the question's id and a hash of its request: the model, the messages with the keys of their images,
the limit of tokens, and the settings of `api` that change answers. A changed question is asked again; older lines stay
in the file. Each reply is on the disk before the next question is sent; a torn last line is removed. To ask a question
a second time on purpose, give it another id (`img_7#2`).
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from configs.api import ApiConfig
from configs.errors import DataError
from configs.words import counted
from data_prep.api.asking import Asker
from data_prep.api.client import Endpoint
from data_prep.api.interrupts import stopped_by_signals
from data_prep.api.messages import Message, image_is_first, request_body
from data_prep.api.reply import NoReply, Reply
from data_prep.api.spending import Spending, largest_spending, missing_settings, used
from data_prep.line_file import LineAppender, complete_lines, json_line
from data_prep.progress import Progress, log_line

SHOWN_FAILURES = 5
SHOWN_REASONS = 3


@dataclass(frozen=True, slots=True)
class Question:
    """A question with an id that is unique in its file."""

    id: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class AskedModel:
    """The server's `name` of a model, how it is asked, and the longest answer in tokens (None: no limit)."""

    name: str
    api: ApiConfig
    max_tokens: int | None = None

    def request_hash(self, question: Question) -> str:
        """Identifies a request by what its answer depends on."""
        shows_images = any(m.images for m in question.messages)
        values = {
            "model": self.name,
            "messages": [(m.role, m.text, [image.key for image in m.images]) for m in question.messages],
            "max_tokens": None if self.api.length_field == "none" else self.max_tokens,
            "temperature": self.api.temperature,
            "image_first": image_is_first(self.name, self.api) and shows_images,
            "image_detail": self.api.image_detail if shows_images else None,
        }
        has_system = any(m.role == "system" for m in question.messages)
        others = {
            "image_side": self.api.image_side if shows_images else None,
            "system_role": self.api.system_role if has_system and self.api.system_role != "system" else None,
            "reasoning_effort": self.api.reasoning_effort,
        }
        values |= {key: value for key, value in others.items() if value is not None}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Replies:
    """Replies, and reasons of failures, by the id of the question; a question that was never asked is in neither.

    `planned` is the largest spending on the questions that have no reply, as it is printed before they are asked.
    """

    replies: dict[str, Reply] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    planned: Spending | None = None

    def keep(self, key: str, reply: Reply | NoReply) -> None:
        """Remember a reply or a failure of the question `key`; a reply replaces a failure."""
        if isinstance(reply, NoReply):
            self.failures[key] = reply.reason
            return
        self.failures.pop(key, None)
        self.replies.setdefault(key, reply)


FollowUp = Callable[[Question, Reply | None], Question | None]
"""The question that may have to be asked after one with this reply (None: not known yet); None if there is none."""


def ask_questions(
    path: Path,
    questions: Sequence[Question],
    model: AskedModel,
    *,
    name: str,
    again: FollowUp | None = None,
    dry_run: bool = False,
) -> Replies:
    """Ask all questions that have no reply in the file `path` yet, and return those of all questions.

    `name` begins every line that is printed. `dry_run` sends and writes nothing. The largest possible spending is
    printed (stderr) before the first request, including that on the questions of `again`, which the caller may have to
    ask later; at the end the counts. The first Ctrl-C or SIGTERM stores the replies to requests already sent before it
    ends the program.

    Raises `DataError` for two questions with one id or a line that is no reply, `ConfigError` without a valid address,
    `RunError` if the server refuses all questions, if stopped by a signal, or if another process writes the file.
    """
    requests = _requests(questions, model)
    found = read_replies(path, requests)
    if dry_run or len(found.replies) == len(questions):
        following = _following(path, questions, found, model, again)
        return replace(found, planned=_announce(_waiting(questions, found), following, found, model, name))
    asker = Asker(model.name, model.api, Endpoint.of(model.api))
    with LineAppender(path, "wait until it ends, then run the same command") as appender:
        found = read_replies(path, requests)  # again, since nobody else writes now
        waiting = _waiting(questions, found)
        _announce(waiting, _following(path, questions, found, model, again), found, model, name)
        try:
            for key, reply in _asked(asker, waiting, model, name):
                appender.write([_line(key, requests[key], reply)])
                found.keep(key, reply)
        finally:
            _summarize(questions, found, model, name)
    return found


def _asked(
    asker: Asker, waiting: list[Question], model: AskedModel, name: str
) -> Iterator[tuple[str, Reply | NoReply]]:
    """(id, reply) of each question, with progress; the first failures are logged at once."""
    bodies = (
        (number, partial(request_body, model.name, question.messages, model.api, model.max_tokens))
        for number, question in enumerate(waiting)
    )
    failed = 0
    with stopped_by_signals(asker), Progress(name, len(waiting), "questions", "failed") as progress:
        for number, reply in asker.ask(bodies):
            if isinstance(reply, NoReply):
                failed += 1
                if failed <= SHOWN_FAILURES:
                    log_line(f"{name}: failed: {waiting[number].id}: {reply.reason}")
            yield waiting[number].id, reply
            progress.add(1, drops=int(isinstance(reply, NoReply)))


def _requests(questions: Sequence[Question], model: AskedModel) -> dict[str, str]:
    """Request hash by id. Raises `DataError` for an id that two questions have."""
    requests: dict[str, str] = {}
    for question in questions:
        if question.id in requests:
            raise DataError(f"two questions have the id {question.id!r}; each needs its own")
        requests[question.id] = model.request_hash(question)
    return requests


def _waiting(questions: Sequence[Question], found: Replies) -> list[Question]:
    return [question for question in questions if question.id not in found.replies]


def _following(
    path: Path, questions: Sequence[Question], found: Replies, model: AskedModel, again: FollowUp | None
) -> list[Question]:
    """The questions without a reply that may have to be asked after `questions`."""
    if again is None:
        return []
    may_follow = [one for q in questions if (one := again(q, found.replies.get(q.id))) is not None]
    stored = read_replies(path, {question.id: model.request_hash(question) for question in may_follow})
    return _waiting(may_follow, stored)


def _announce(
    waiting: Sequence[Question], following: Sequence[Question], found: Replies, model: AskedModel, name: str
) -> Spending:
    """Print how many questions are asked, and return what they and those that may follow may cost at most."""
    messages = [question.messages for question in (*waiting, *following)]
    spending = largest_spending(messages, model.api, model.max_tokens)
    notes = [f"{len(found.replies):,} have replies"] if found.replies else []
    notes += [f"{len(found.failures):,} failed before"] if found.failures else []
    line = f"{name}: {counted(len(waiting), 'question')} to ask" + (f" ({', '.join(notes)})" if notes else "")
    if waiting or following:
        line += f" and up to {len(following):,} a second time" if following else ""
        line += f" of {model.name}: {spending.words()}"
        if missing := missing_settings(messages, model.api, model.max_tokens):
            line += f" (needs {', '.join(missing)})"
        line += f", if each takes all {model.api.attempts} attempts"
    print(line, file=sys.stderr, flush=True)
    return spending


def _summarize(questions: Sequence[Question], found: Replies, model: AskedModel, name: str) -> None:
    """Print how many questions have replies, the most frequent reasons of failures, and the tokens used in all."""
    left = len(questions) - len(found.replies) - len(found.failures)
    counts = f"{len(found.replies):,} of {len(questions):,} questions answered, {len(found.failures):,} failed"
    counts += f", {left:,} not asked" if left else ""
    log_line(f"{name}: {counts}; {used(found.replies.values(), model.api)}")
    for reason, count in Counter(found.failures.values()).most_common(SHOWN_REASONS):
        log_line(f"{name}: {count:,} failed: {reason}; the same command asks them again")


def _line(key: str, request: str, reply: Reply | NoReply) -> str:
    values = {"failed": reply.reason} if isinstance(reply, NoReply) else asdict(reply)
    return json_line({"id": key, "request": request, **values})


def read_replies(path: Path, requests: dict[str, str]) -> Replies:
    """The stored replies to `requests` (request hash by id), and the failures of those without one.

    Raises `DataError` that names file and line if a complete line is not a reply.
    """
    found = Replies()
    if not path.exists():
        return found
    for number, line in complete_lines(path):
        try:
            values = json.loads(line)
            key, request = values.pop("id"), values.pop("request")
            reply = None if "failed" in values else Reply(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number} is not a stored reply ({error}); delete the line to ask its question again"
            ) from error
        if requests.get(key) != request:
            continue
        if reply is not None:
            found.keep(key, reply)
        elif key not in found.replies:
            found.failures[key] = str(values["failed"])
    return found
