"""Stage 3: the filter of Figure 9. Only questions that are answered right with the class are asked without it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from configs.wikiqa import WikiqaConfig
from data_prep.api.messages import Message
from data_prep.api.question_file import AskedModel, Question, Replies, ask_questions
from data_prep.chosen_option import choose_option
from data_prep.final_answer import final_answer
from data_prep.lettered_options import LETTERS
from data_prep.wikiqa.filtering import GUESSED, KEPT, NO_GUESS, UNKNOWN, UNREADABLE, Outcome, filter_prompts, outcome_of
from data_prep.wikiqa.question_stage import AGAIN, ClassQuestion, refuse_failures
from data_prep.wikiqa.stage_file import StageFile, hash_of

FILTER = "filter"
WITH, WITHOUT = "with class", "without class"
NO_REPLY = "no reply"
REASONS = (KEPT, GUESSED, UNKNOWN, UNREADABLE, NO_GUESS, NO_REPLY)


def filter_model(config: WikiqaConfig) -> AskedModel:
    """The model that answers the questions."""
    return AskedModel(config.answering_model.removeprefix("api:"), config.api, config.filter_max_tokens)


def filter_questions(
    config: WikiqaConfig, questions: Sequence[ClassQuestion], file: Path, *, skip_failed: bool = False
) -> tuple[StageFile, list[ClassQuestion]]:
    """The questions that are kept; replies are in `file`.

    Raises `RunError` where questions have no reply, unless `skip_failed`.
    """
    answers = _ask(config, questions, 0, file, skip_failed=skip_failed)
    right = [one for one in questions if one.id in answers and is_right(one, answers[one.id])]
    guesses = _ask(config, right, 1, file, skip_failed=skip_failed)
    unasked = {one.id for one in right} - guesses.keys()
    outcomes = {
        one.id: outcome_of(one.question, answers[one.id], guesses.get(one.id, ""))
        for one in questions
        if one.id in answers and one.id not in unasked
    }
    inputs = hash_of(filter_model(config).request_hash(filter_question(one, 0)) for one in questions)
    return _stage_file(questions, outcomes, inputs), [one for one in questions if _kept(outcomes.get(one.id))]


def _ask(
    config: WikiqaConfig, questions: Sequence[ClassQuestion], number: int, file: Path, *, skip_failed: bool
) -> dict[str, str]:
    """Question id to answer, with the class (`number` 0) or without it (1); one without a letter is asked for again.

    Of two answers without a letter the first that is not empty counts.
    """
    model, name = filter_model(config), f"filter, {(WITH, WITHOUT)[number]}"
    first = ask_questions(file, [filter_question(one, number) for one in questions], model, name=name)
    refuse_failures(first.failures, "questions", skip_failed)
    again = filter_again(questions, number, first)
    second = ask_questions(file, again, model, name=f"{name}, again") if again else Replies()
    refuse_failures(second.failures, "questions", skip_failed)
    answers = {}
    for one in questions:
        key = filter_question(one, number).id
        texts = [
            found.replies[name].text for found, name in ((first, key), (second, key + AGAIN)) if name in found.replies
        ]
        if texts:
            read = (text for text in texts if choose_option(text, one.question.choices)[0] is not None)
            answers[one.id] = next(read, next((text for text in texts if final_answer(text)), ""))
    return answers


def filter_question(one: ClassQuestion, number: int) -> Question:
    """The request with the class (`number` 0) or without it (1)."""
    prompt = filter_prompts(one.question, one.class_name)[number]
    return Question(f"{one.id} {(WITH, WITHOUT)[number]}", (Message("user", prompt),))


def filter_again(questions: Sequence[ClassQuestion], number: int, first: Replies) -> list[Question]:
    """The same requests once more, of questions whose first answer chooses no letter."""
    found = []
    for one in questions:
        asked = filter_question(one, number)
        reply = first.replies.get(asked.id)
        if reply is not None and choose_option(reply.text, one.question.choices)[0] is None:
            found.append(Question(asked.id + AGAIN, asked.messages))
    return found


def is_right(one: ClassQuestion, answer: str) -> bool:
    """Whether an answer chooses the right letter."""
    return choose_option(answer, one.question.choices)[0] == LETTERS[one.question.answer]


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
    counts |= {reason: times[reason] for reason in REASONS if times[reason]}
    counts["kept without a letter"] = sum(_kept(outcome) and outcome.unnamed is None for outcome in outcomes.values())
    kept = {one.class_id for one in questions if _kept(outcomes.get(one.id))}
    none = [f"{one.class_name} ({one.class_id})" for one in questions if one.class_id not in kept]
    unread = [one.id for one, line in zip(questions, lines, strict=True) if line["outcome"] == UNREADABLE]
    named = {"classes without a kept question": list(dict.fromkeys(none)), UNREADABLE: unread}
    return StageFile(FILTER, inputs, counts, named, lines)
