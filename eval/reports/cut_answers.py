"""Answers that reached the length limit before they answered: what a report and a program's last line say of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.final_answer import final_answer
from eval.types import Prediction


def cut_before_answer(predictions: Sequence[Prediction]) -> int:
    """How many answers reached the limit with no text, or inside their reasoning."""
    return sum(not p.stopped and not final_answer(p.answer) for p in predictions if p.scores is None)


def cut_note(report: Mapping[str, Any]) -> str | None:
    """How many there are and the setting that gives them room; None without any."""
    count, total = report["answers"].get("cut_before_answer", 0), report["items"]["answered"]
    if not count:
        return None
    protocol = report["protocol"]
    sent = protocol.get("api.length_field", "max_tokens") != "none"
    settings = f"protocol.max_new_tokens above {protocol['max_new_tokens']:,}"
    if protocol.get("api.answer_limit") == "official":
        settings = f"api.answer_limit=protocol and {settings}"
    if not sent:
        settings = f"api.length_field=max_tokens (or max_completion_tokens) and {settings}"
    return (
        f"{count:,} of {total:,} answers reached the length limit before they answered (empty, or still reasoning) and "
        f"count as no answer: set {settings}, and output to another folder"
    )
