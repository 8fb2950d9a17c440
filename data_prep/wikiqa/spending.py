"""The most that a construction may still ask and cost: for a dry run, before anything is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.wikiqa import WikiqaConfig
from configs.wikiqa_dir import WikiqaDir
from configs.words import counted
from data_prep.api.messages import Message
from data_prep.api.question_file import AskedModel, Question, Replies, read_replies
from data_prep.api.reply import Reply
from data_prep.api.spending import Spending, largest_spending, missing_settings
from data_prep.wikiqa.classes import WikiClass
from data_prep.wikiqa.filter_stage import WITH, WITHOUT, filter_again, filter_model, filter_question, is_right
from data_prep.wikiqa.prompts import WITH_CLASS, WITHOUT_CLASS, again_prompt, template
from data_prep.wikiqa.question_stage import (
    AGAIN,
    ClassQuestion,
    first_questions,
    question_model,
    questions_again,
    read_questions,
)

FAULTS = 400  # bytes of what a second prompt says of the first reply, in practice at most
NAMES = 200  # bytes by which class names lengthen a question


@dataclass(frozen=True, slots=True)
class Planned:
    """One step: how many replies are stored, the largest spending on the rest, and settings that would tell more."""

    step: str
    stored: int
    largest: Spending
    missing: tuple[str, ...]


def planned(
    config: WikiqaConfig, folder: WikiqaDir, classes: Sequence[WikiClass], texts: Mapping[str, str]
) -> list[Planned]:
    """The steps with a limit for each.

    A class whose replies are stored is counted exactly. Of any other, all replies may be unusable, and all questions
    are in a reply of `max_tokens` tokens at most.
    """
    prompts = first_questions(config, classes, texts)
    model = question_model(config)
    first = _stored(folder.question_replies, prompts, model)
    again = questions_again(config, prompts, first)
    second = _stored(folder.question_replies, again, model)
    waiting = [prompt for prompt in prompts if prompt.id not in first.replies]
    waiting_again = [prompt for prompt in again if prompt.id not in second.replies]
    lost = ("x" * FAULTS,)
    possible = [_user(again_prompt(prompt.messages[0].text, lost, config.questions_per_class)) for prompt in waiting]
    open_ids = {prompt.id.removesuffix(AGAIN) for prompt in (*waiting, *waiting_again)}
    complete = [one for one in classes if one.id not in open_ids]
    _, questions = read_questions(config, complete, texts, first, second)
    steps = [
        _step(config, "questions", len(first.replies), [prompt.messages for prompt in waiting], config.max_tokens),
        _step(
            config,
            "questions again",
            len(second.replies),
            [*(prompt.messages for prompt in waiting_again), *possible],
            config.max_tokens,
        ),
    ]
    frame = max(len(template(name).encode()) for name in (WITH_CLASS, WITHOUT_CLASS))
    each = _user("x" * (frame + NAMES + -(-config.max_tokens // config.questions_per_class)))
    unknown = [each] * (len(open_ids) * config.questions_per_class)
    for number, step in enumerate((WITH, WITHOUT)):
        asked = [filter_question(one, number) for one in questions]
        stored = _stored(folder.filter_replies, asked, filter_model(config))
        repeated = filter_again(questions, number, stored)
        more = _stored(folder.filter_replies, repeated, filter_model(config)).replies
        left = [*(prompt.messages for prompt in asked if prompt.id not in stored.replies), *unknown]
        left_again = [*(prompt.messages for prompt in repeated if prompt.id not in more), *left]
        limit = config.filter_max_tokens
        steps.append(_step(config, f"filter, {step}", len(stored.replies), left, limit))
        steps.append(_step(config, f"filter, {step}, again", len(more), left_again, limit))
        answers = {key.removesuffix(AGAIN): reply for key, reply in (stored.replies | more).items()}
        for prompt in repeated:
            if prompt.id not in more:  # its second answer may be right
                del answers[prompt.id.removesuffix(AGAIN)]
        questions = [
            one for one, prompt in zip(questions, asked, strict=True) if _may_go_on(one, answers.get(prompt.id))
        ]
    return steps


def _stored(file: Path, questions: Sequence[Question], model: AskedModel) -> Replies:
    return read_replies(file, {question.id: model.request_hash(question) for question in questions})


def _user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def _may_go_on(one: ClassQuestion, reply: Reply | None) -> bool:
    """Whether a question is, or may be, answered right with its class, and asked without it."""
    return reply is None or is_right(one, reply.text)


def _step(config: WikiqaConfig, name: str, stored: int, messages: Sequence[Sequence[Message]], limit: int) -> Planned:
    return Planned(name, stored, largest_spending(messages, config.api, limit), _missing(messages, config, limit))


def _missing(messages: Sequence[Sequence[Message]], config: WikiqaConfig, limit: int) -> tuple[str, ...]:
    return tuple(missing_settings(messages, config.api, limit))


def total(steps: Sequence[Planned]) -> Spending:
    """All steps together; None where a step is unknown."""
    spendings = [step.largest for step in steps]
    return Spending(
        sum(spending.questions for spending in spendings),
        sum(spending.requests for spending in spendings),
        _sum([spending.tokens_in for spending in spendings]),
        _sum([spending.tokens_out for spending in spendings]),
        _sum([spending.money for spending in spendings]),
    )


def in_words(steps: Sequence[Planned]) -> list[str]:
    """A line a step, and the total."""
    lines = []
    for step in steps:
        stored = f" ({counted(step.stored, 'reply')} stored)" if step.stored else ""
        lines.append(f"{step.step}: up to {step.largest.questions:,} questions{stored}, {step.largest.words()}")
    missing = list(dict.fromkeys(name for step in steps for name in step.missing))
    needs = f" (needs {', '.join(missing)})" if missing else ""
    return [*lines, f"in all: {total(steps).words()}{needs}, if each took all attempts"]


def as_json(steps: Sequence[Planned]) -> dict[str, Any]:
    """The limits for `--json`."""
    return {"steps": [asdict(step) for step in steps], "total": asdict(total(steps))}


def _sum(values: Sequence[float | int | None]) -> Any:
    return None if any(value is None for value in values) else sum(value for value in values if value is not None)
