"""The paper's experiments as rows: what runs a model, what rescores stored answers, what cannot be run.

A row of kind `ask` puts questions to the model. A `view` judges answers of another row in another way (synonyms, a rule
over stored class scores, a candidate set). `guidance` sweeps classifier-free guidance on stored scores, `probe` trains
linear heads on the language model's states and `linear` one on the image encoder, `part` is a number that stands in
another row's report.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

THINK = "Let's think step by step."
COUNTS = (2, 5, 20, 100)  # Table 9's numbers of candidates


@dataclass(frozen=True, slots=True)
class Row:
    """One experiment: `tables` of the paper it belongs to, `settings` of the protocol, and whose answers it takes.

    `by` says which models can do it: those that generate `text`, those that compare (`clip`), or those whose image
    `encoder` stands by itself.
    """

    key: str
    title: str
    tables: str
    kind: str = "ask"
    settings: Mapping[str, object] = field(default_factory=dict)
    answers: str | None = None
    by: str = "text"

    @property
    def long_answer(self) -> bool:
        """Whether the model thinks before it answers."""
        return self.settings.get("answer_prefix") == THINK


def _closed(key: str, title: str, tables: str, **settings: object) -> Row:
    return Row(key, title, tables, settings={"task": "closed_world", "candidates": None, **settings})


def _scored(key: str, title: str, tables: str, **settings: object) -> Row:
    return Row(key, title, tables, "view", {"task": "class_likelihood", "candidates": None, **settings}, "scores")


def _compared(key: str, title: str, kind: str = "view", **settings: object) -> Row:
    answers = "zero_shot" if kind == "view" else None
    return Row(key, title, "Tables 1, 9", kind, {"task": "zero_shot", "candidates": None, **settings}, answers, "clip")


CLASSIFICATION = (
    Row("open", "open world", "Tables 1, 2, 4, 8", settings={"task": "open_world", "prompt": "paper"}),
    Row("identify", "second wording", "Table 2", settings={"task": "open_world", "prompt": "identify"}),
    Row("main_object", "third wording", "Table 2", settings={"task": "open_world", "prompt": "main_object"}),
    Row("synonyms", "synonyms accepted", "Table 8", "view", {"task": "open_world", "prompt": "paper"}, "open"),
    Row("frequency", "class frequency against accuracy", "Figure 3, Table 11", "part", answers="open"),
    _compared("zero_shot", "CLIP zero-shot", "ask"),
    *(_compared(f"zero_shot_{count}", f"CLIP, {count} candidates", candidates=count) for count in COUNTS),
    Row("frequency_clip", "frequency, CLIP", "Table 11", "part", answers="zero_shot", by="clip"),
    _closed("closed", "closed world, random order", "Tables 1, 2, 12", order="random"),
    _closed("closed_fixed", "closed world, fixed order", "Tables 2, 12", order="fixed"),
    _closed("closed_cot", "closed world, step by step", "Tables 2, 12", order="random", answer_prefix=THINK),
    *(
        _closed(f"candidates_{count}", f"{count} candidates in the question", "Table 9, Figure 2", candidates=count)
        for count in COUNTS
    ),
    Row("scores", "class names scored, sum of tokens", "Table 2", settings={"task": "class_likelihood", "rule": "sum"}),
    _scored("scores_mean", "class names scored, mean of tokens", "Table 2", rule="mean"),
    Row("guidance", "classifier-free guidance, t swept", "Table 2", "guidance", answers="scores"),
    *(
        _scored(f"scores_{count}", f"{count} candidates by score", "beside Table 9", rule="sum", candidates=count)
        for count in COUNTS
    ),
    Row("caption", "a caption that names the class", "Table 4", settings={"task": "open_world", "prompt": "caption"}),
    Row("probe", "linear probing of all places", "Tables 3, 10, Figure 7", "probe"),
    Row("linear", "linear head on the image encoder", "Tables 3, 4", "linear", by="encoder"),
)

QUESTIONS = (
    Row("questions", "with the image", "Table 5", settings={"task": "multiple_choice"}),
    Row("random", "a random letter", "Table 5", "part", answers="questions"),
    Row("max_frequency", "always the most frequent letter", "Table 5", "part", answers="questions"),
    Row("with_class", "the class told", "Table 5", settings={"task": "multiple_choice", "name_class": True}),
    Row(
        "without_image",
        "without the image",
        "Table 5",
        settings={"task": "multiple_choice", "show_image": False},
    ),
)

NOT_OURS = {
    "GPT4 and others": "models behind an API: a call each with --model api:NAME",
    "table5/human": "needs people",
    "table13": "TextVQA, POPE and MM-Vet have their own graders; run lmms-eval on the export",
    "figure5": "loss curves: drawn on the scoreboard from the metrics.jsonl of the runs it is given",
}
"""Experiments of the paper that are no evaluation of one model, and what to do instead."""


def rows_of(kind: str) -> tuple[Row, ...]:
    """The rows of a data set whose evaluation is of `kind`: questions with options, or images with a class."""
    return QUESTIONS if kind == "multiple_choice" else CLASSIFICATION
