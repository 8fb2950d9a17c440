"""The paper's experiments as rows: what runs a model, what rescores stored answers, what cannot be run.

Kinds of rows: `run` runs the model. `rescore` scores the answers of another row with other settings (synonyms, a rule
over stored class scores, a candidate set). `guidance` sweeps classifier-free guidance on stored scores, `probe` trains
linear heads on the language model's hidden states and `linear` one on the image encoder. `included` is a number that is
part of another row's report.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

THINK = "Let's think step by step."
COUNTS = (2, 5, 20, 100)  # Table 9's numbers of candidates


@dataclass(frozen=True, slots=True)
class Row:
    """One experiment: the `tables` of the paper, the protocol's `settings`, and the row whose `answers` it uses.

    `by` is the kind of model it needs: one that generates `text`, one that compares image and text (`clip`), or one
    with a separate image `encoder`.
    """

    key: str
    title: str
    tables: str
    kind: str = "run"
    settings: Mapping[str, object] = field(default_factory=dict)
    answers: str | None = None
    by: str = "text"

    @property
    def long_answer(self) -> bool:
        """Whether the prompt asks for chain-of-thought reasoning."""
        return self.settings.get("answer_prefix") == THINK


def _closed(key: str, title: str, tables: str, **settings: object) -> Row:
    return Row(key, title, tables, settings={"task": "closed_world", "candidates": None, **settings})


def _scored(key: str, title: str, tables: str, **settings: object) -> Row:
    return Row(key, title, tables, "rescore", {"task": "class_likelihood", "candidates": None, **settings}, "scores")


def _compared(key: str, title: str, kind: str = "rescore", **settings: object) -> Row:
    answers = "zero_shot" if kind == "rescore" else None
    return Row(key, title, "Tables 1, 9", kind, {"task": "zero_shot", "candidates": None, **settings}, answers, "clip")


CLASSIFICATION = (
    Row("open", "open world", "Tables 1, 2, 4, 8", settings={"task": "open_world", "prompt": "paper"}),
    Row("identify", "second wording", "Table 2", settings={"task": "open_world", "prompt": "identify"}),
    Row("main_object", "third wording", "Table 2", settings={"task": "open_world", "prompt": "main_object"}),
    Row("synonyms", "synonyms accepted", "Table 8", "rescore", {"task": "open_world", "prompt": "paper"}, "open"),
    Row("frequency", "class frequency against accuracy", "Figure 3, Table 11", "included", answers="open"),
    _compared("zero_shot", "CLIP zero-shot", "run"),
    *(_compared(f"zero_shot_{count}", f"CLIP, {count} candidates", candidates=count) for count in COUNTS),
    Row("frequency_clip", "frequency, CLIP", "Table 11", "included", answers="zero_shot", by="clip"),
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
        _scored(f"scores_{count}", f"{count} candidates by score", "compare Table 9", rule="sum", candidates=count)
        for count in COUNTS
    ),
    Row("caption", "a caption that names the class", "Table 4", settings={"task": "open_world", "prompt": "caption"}),
    Row("probe", "linear probing, last and mean token", "Table 3, Figure 7", "probe"),
    Row("positions", "linear probing of token positions", "Table 10", "probe", {"system_prompt": "vicuna_v1"}),
    Row("linear", "linear head on the image encoder", "Tables 3, 4", "linear", by="encoder"),
)

QUESTIONS = (
    Row("questions", "with the image", "Table 5", settings={"task": "multiple_choice"}),
    Row("random", "a random letter", "Table 5", "included", answers="questions"),
    Row("max_frequency", "always the most frequent letter", "Table 5", "included", answers="questions"),
    Row("with_class", "with the class name", "Table 5", settings={"task": "multiple_choice", "reveal_class": True}),
    Row(
        "without_image",
        "without the image",
        "Table 5",
        settings={"task": "multiple_choice", "show_image": False},
    ),
)

GENERAL = {
    "vqa": Row("vqa", "short answers", "Table 13", settings={"task": "vqa"}),
    "yes_no": Row("yes_no", "is it there", "Table 13", settings={"task": "yes_no"}),
    "graded": Row("graded", "free answers, graded", "Table 13", settings={"task": "graded"}),
}
"""Task to the row of a data set of general abilities."""

NOT_OURS = {
    "GPT4 and others": "models behind an API: a call each with --model api:NAME",
    "people in Table 5": "needs people",
    "Figure 5": "loss curves: drawn on the scoreboard from the metrics.jsonl of the runs it is given",
}
"""Experiments of the paper that are not evaluations of one model, and what to do instead."""


def rows_of(kind: str) -> tuple[Row, ...]:
    """The rows of a data set whose evaluation is of `kind`: questions of some form, or images with a class."""
    if kind in GENERAL:
        return (GENERAL[kind],)
    return QUESTIONS if kind == "multiple_choice" else CLASSIFICATION
