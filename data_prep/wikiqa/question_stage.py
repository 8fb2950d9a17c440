"""Stage 2: questions about each class from its article (Figure 8); an unusable reply is asked for once more."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.errors import RunError
from configs.wikiqa import WikiqaConfig
from data_prep.api.messages import Message
from data_prep.api.question_file import AskedModel, Question, Replies, ask_questions
from data_prep.api.reply import Reply
from data_prep.wikiqa.classes import WikiClass
from data_prep.wikiqa.file_statistics import names_its_class
from data_prep.wikiqa.generated import GeneratedQuestion, ParsedReply, parse_reply
from data_prep.wikiqa.prompts import again_prompt, generation_prompt
from data_prep.wikiqa.stage_file import StageFile, hash_of

QUESTIONS = "questions"
AGAIN = "#2"


@dataclass(frozen=True, slots=True)
class ClassQuestion:
    """A question about a class; `number` counts those of the class from 0."""

    class_id: str
    class_name: str
    number: int
    question: GeneratedQuestion

    @property
    def id(self) -> str:
        """Unique over all classes."""
        return f"{self.class_id}/{self.number}"

    def names_its_class(self) -> bool:
        """Whether the question or a choice has the class name."""
        return names_its_class(self.question.question, self.question.choices, self.class_name)

    def line(self) -> dict[str, Any]:
        """The question in the stage's file."""
        return {"id": self.id, "name": self.class_name, **asdict(self.question), "names_class": self.names_its_class()}


def question_model(config: WikiqaConfig) -> AskedModel:
    """The model that writes questions."""
    return AskedModel(config.model.removeprefix("api:"), config.api, config.max_tokens)


def first_questions(config: WikiqaConfig, classes: Sequence[WikiClass], texts: Mapping[str, str]) -> list[Question]:
    """The prompt of Figure 8 for each class."""
    return [
        Question(one.id, (Message("user", generation_prompt(one.name, texts[one.id], config.questions_per_class)),))
        for one in classes
    ]


def ask_for_questions(
    config: WikiqaConfig,
    classes: Sequence[WikiClass],
    texts: Mapping[str, str],
    file: Path,
    *,
    skip_failed: bool = False,
) -> tuple[StageFile, list[ClassQuestion]]:
    """The usable questions of `classes`, all of which have a text; replies are in `file`.

    Raises `RunError` where classes have no reply at all, unless `skip_failed`.
    """
    model = question_model(config)
    prompts = first_questions(config, classes, texts)
    first = ask_questions(file, prompts, model, name="questions")
    refuse_failures(first.failures, "classes", skip_failed)
    again = questions_again(config, prompts, first)
    second = ask_questions(file, again, model, name="questions again") if again else Replies()
    refuse_failures(second.failures, "classes", skip_failed)
    return read_questions(config, classes, texts, first, second)


def refuse_failures(failures: Mapping[str, str], what: str, skip: bool) -> None:
    """Raise `RunError` that names the first question without a reply, unless they are to be skipped.

    The result would lack them, so the construction stops.
    """
    if not failures or skip:
        return
    first, reason = next(iter(sorted(failures.items())))
    raise RunError(
        f"{what} without a reply: {len(failures):,} (the first: {first}: {reason}); the same command asks them again, "
        "--skip-failed leaves them out of the result"
    )


def questions_again(config: WikiqaConfig, prompts: Sequence[Question], first: Replies) -> list[Question]:
    """The second prompt of each class whose first reply has too few usable questions."""
    wanted = config.questions_per_class
    found = []
    for prompt in prompts:
        parsed = _parsed(first.replies.get(prompt.id), wanted)
        if parsed is not None and len(parsed.questions) < wanted:
            text = again_prompt(prompt.messages[0].text, parsed.faults, wanted)
            found.append(Question(f"{prompt.id}{AGAIN}", (Message("user", text),)))
    return found


def read_questions(
    config: WikiqaConfig, classes: Sequence[WikiClass], texts: Mapping[str, str], first: Replies, second: Replies
) -> tuple[StageFile, list[ClassQuestion]]:
    """The usable questions in both replies of each class, of which the one with more counts, and the stage's file."""
    questions: list[ClassQuestion] = []
    faults: Counter[str] = Counter()
    named: dict[str, list[str]] = {}
    for one in classes:
        replies = (first.replies.get(one.id), second.replies.get(f"{one.id}{AGAIN}"))
        parsed = [found for found in (_parsed(reply, config.questions_per_class) for reply in replies) if found]
        label = f"{one.name} ({one.id})"
        if not parsed:
            named.setdefault("classes without a reply", []).append(label)
            continue
        better = max(parsed, key=lambda found: len(found.questions))  # the first of two that have as many
        faults.update({fault.partition(":")[0] for fault in better.faults})
        if len(better.questions) < config.questions_per_class:
            named.setdefault("classes with fewer questions", []).append(f"{label}: {'; '.join(better.faults)}")
        questions += [ClassQuestion(one.id, one.name, number, found) for number, found in enumerate(better.questions)]
    kept = [one for one in questions if not (config.refuse_leaks and one.names_its_class())]
    unfound = [one for one in questions if not _is_in(one.question.reference, texts[one.class_id])]
    counts = {
        "classes asked": len(classes),
        "asked again": len(second.replies),
        "questions": len(questions),
        "that name their class": sum(one.names_its_class() for one in questions),
        "left out for that": len(questions) - len(kept),
        "whose reference is not in the article": len(unfound),
    }
    counts |= {what: len(names) for what, names in named.items()}
    named["unusable parts of the replies"] = [f"{fault} ({count:,} classes)" for fault, count in faults.most_common()]
    inputs = hash_of(question_model(config).request_hash(prompt) for prompt in first_questions(config, classes, texts))
    return StageFile(QUESTIONS, inputs, counts, named, [one.line() for one in questions]), kept


def _parsed(reply: Reply | None, wanted: int) -> ParsedReply | None:
    if reply is None:
        return None
    parsed = parse_reply(reply.text, wanted)
    short = len(parsed.questions) < wanted
    marks = [("refusal", reply.refused), ("reply cut off at max_tokens", reply.cut)]
    return ParsedReply(parsed.questions, tuple(name for name, found in marks if found and short) + parsed.faults)


def _is_in(reference: str, article: str) -> bool:
    """Whether a reference is in the article, but for case and spaces."""
    return bool(reference) and _blank(reference) in _blank(article)


def _blank(text: str) -> str:
    return " ".join(text.split()).casefold()
