"""Settings of a protocol that have no effect on the answers of its task, whatever their values.

Two protocols that differ in these alone ask the same: `paper` and `clean` ask the same open question, though they
guide class scores differently. For `hidden_states`, and for tasks that are added, every setting counts.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from configs.scoring import ClassScoring

_SCORED = ("class_likelihood", "zero_shot", "trained_probe")
_FREE_TEXT = ("vqa", "yes_no", "graded")
_TASKS = ("open_world", "closed_world", "multiple_choice", *_FREE_TEXT, *_SCORED)
_USED_BY: Mapping[str, tuple[str, ...]] = {
    **{spec.name: _SCORED for spec in fields(ClassScoring)},
    "class_sentence": ("zero_shot",),
    "class_prefix": ("class_likelihood",),
    "class_token_ids": ("class_likelihood",),
    "score_eos": ("class_likelihood",),
    "class_quotes": ("closed_world",),
    "refuse_leaks": ("multiple_choice",),
    "reveal_class": ("multiple_choice",),
    "reveal_class_style": ("multiple_choice",),
    "choice_prompt": ("multiple_choice",),
    "filter_indent": ("multiple_choice",),
    "show_image": ("multiple_choice",),
    "question_suffix": _FREE_TEXT,
    "ocr_tokens": _FREE_TEXT,
}


def unused_settings(settings: Mapping[str, Any]) -> set[str]:
    """Names of the settings of `settings`, of one protocol, on which no answer of its task depends."""
    task = settings.get("task")
    if task not in _TASKS:
        return set()
    unused = {name for name in settings if task not in _USED_BY.get(name, _TASKS)}
    if not settings.get("answer_prefix"):
        unused.add("prefix_position")
    if not settings.get("reveal_class"):
        unused.add("reveal_class_style")
    return unused & set(settings)
