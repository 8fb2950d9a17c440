"""Stage 3: the filter of Figure 9. Only questions that are answered right with the class are asked without it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from configs.wikiqa import WikiqaConfig
from data_prep.api.messages import Message
from data_prep.api.question_file import AskedModel, Question, ask_questions
from data_prep.wikiqa.failed import refuse_failures
from data_prep.wikiqa.filtering import GUESSED, KEPT, UNKNOWN, UNREADABLE, Outcome, filter_prompts, outcome_of
from data_prep.wikiqa.question_stage import ClassQuestion
from data_prep.wikiqa.stage_file import StageFile, hash_of

FILTER = "filter"
WITH, WITHOUT = "with class", "without class"
NO_REPLY = "no reply"


def filter_model(config: WikiqaConfig) -> AskedModel:
    """The model that answers the questions."""
    return AskedModel(config.answering_model.removeprefix("api:"), config.api, config.filter_max_tokens)


def filter_questions(
    config: WikiqaConfig, questions: Sequence[ClassQuestion], file: Path, *, skip_failed: bool = False
) -> tuple[StageFile, list[ClassQuestion]]:
    """The questions that are kept; replies are in `file`.

    Raises `RunError` where questions have no reply, unless `skip_failed`.
    """
    model = filter_model(config)
    named = ask_questions(file, [filter_question(one, 0) for one in questions], model, name=f"filter, {WITH}")
    refuse_failures(named.failures, "questions", skip_failed)
    answers = {one.id: reply.text for one in questions if (reply := named.replies.get(f"{one.id} {WITH}"))}
    right = [one for one in questions if one.id in answers and is_right(one, answers[one.id])]
    asked = [filter_question(one, 1) for one in right]
    unnamed = ask_questions(file, asked, model, name=f"filter, {WITHOUT}")
    refuse_failures(unnamed.failures, "questions", skip_failed)
    guesses = {one.id: reply.text for one in right if (reply := unnamed.replies.get(f"{one.id} {WITHOUT}"))}
    unasked = {one.id for one in right} - guesses.keys()
    outcomes = {
        one.id: outcome_of(one.question, answers[one.id], guesses.get(one.id, ""))
        for one in questions
        if one.id in answers and one.id not in unasked
    }
    inputs = hash_of(model.request_hash(question) for question in asked)
    return _stage_file(questions, outcomes, inputs), [one for one in questions if _kept(outcomes.get(one.id))]


def filter_question(one: ClassQuestion, number: int) -> Question:
    """The request with the class (`number` 0) or without it (1)."""
    prompt = filter_prompts(one.question, one.class_name)[number]
    return Question(f"{one.id} {(WITH, WITHOUT)[number]}", (Message("user", prompt),))


def is_right(one: ClassQuestion, answer: str) -> bool:
    """Whether an answer with the class chooses the right letter."""
    return outcome_of(one.question, answer, "").reason == KEPT


def _kept(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.reason == KEPT


def _stage_file(questions: Sequence[ClassQuestion], outcomes: dict[str, Outcome], inputs: str) -> StageFile:
    lines: list[dict[str, str | None]] = []
    for one in questions:
        outcome = outcomes.get(one.id)
        letters = {WITH: outcome.named, WITHOUT: outcome.unnamed} if outcome else {}
        lines.append(
            {"id": one.id, "name": one.class_name, "outcome": outcome.reason if outcome else NO_REPLY, **letters}
        )
    times = Counter(line["outcome"] for line in lines)
    counts = {"questions": len(questions)}
    counts |= {reason: times[reason] for reason in (KEPT, GUESSED, UNKNOWN, UNREADABLE, NO_REPLY) if times[reason]}
    counts["kept without a letter"] = sum(_kept(outcome) and outcome.unnamed is None for outcome in outcomes.values())
    kept = {one.class_id for one in questions if _kept(outcomes.get(one.id))}
    none = [f"{one.class_name} ({one.class_id})" for one in questions if one.class_id not in kept]
    unread = [one.id for one, line in zip(questions, lines, strict=True) if line["outcome"] == UNREADABLE]
    named = {"classes without a kept question": list(dict.fromkeys(none)), UNREADABLE: unread}
    return StageFile(FILTER, inputs, counts, named, lines)
