"""A protocol in words: its name, or the named protocol that it is nearest to, and what differs from that."""

from collections.abc import Mapping
from typing import Any

from eval.tasks.presets import preset_names, preset_settings

CHOSEN_BY_MODEL = ("trained", "official", "family", "auto", "processor")  # a report has what they became
OF_OTHER_TASKS = {
    "cfg_": ("class_likelihood",),
    "class_": ("closed_world", "class_likelihood", "zero_shot", "trained_probe"),
    "class_quotes": ("closed_world",),
    "class_sentence": ("zero_shot",),
    "class_match": ("class_likelihood",),
    "candidate": ("closed_world", "class_likelihood", "zero_shot", "trained_probe"),
    "score_eos": ("class_likelihood",),
    "likelihood_items": ("class_likelihood",),
    "choice_": ("multiple_choice",),
    "unparsed": ("multiple_choice",),
    "filter_indent": ("multiple_choice",),
    "reveal_class": ("multiple_choice",),
    "vqa_": ("vqa",),
    "yes_no_": ("yes_no",),
}
"""Beginnings of settings, and the tasks that they matter to."""
SHOWN = 4  # differences; of more their number


def protocol_words(report: Mapping[str, Any]) -> str:
    """`open world, protocol paper`; of settings without a name: `open world, as protocol paper but match: word`."""
    protocol = report["protocol"]
    name, task = protocol.get("name", "custom"), str(protocol["task"]).replace("_", " ")
    if name != "custom":
        return f"{task}, protocol {name}"
    found = {preset: _differences(protocol, preset) for preset in preset_names()}
    nearest = min(found, key=lambda preset: (len(found[preset]), preset != "paper", preset))
    if not found[nearest]:
        return f"{task}, as protocol {nearest}"
    if len(found[nearest]) > SHOWN:
        return f"{task}, own settings: {len(found[nearest])} differ from protocol {nearest}"
    changed = ", ".join(f"{key}: {protocol[key]} (there {value})" for key, value in found[nearest].items())
    return f"{task}, as protocol {nearest} but {changed}"


def _differences(protocol: Mapping[str, Any], preset: str) -> dict[str, Any]:
    """The settings of `preset` that matter to the task and are others in `protocol`, with the preset's value."""
    settings = {key.removeprefix("protocol."): value for key, value in preset_settings(preset).items()}
    return {
        key: value
        for key, value in settings.items()
        if key in protocol
        and key != "name"
        and protocol[key] != value
        and value not in CHOSEN_BY_MODEL
        and protocol[key] not in CHOSEN_BY_MODEL
        and not (key == "image_mode" and protocol[key] == "export")
        and _matters(key, protocol)
    }


def _matters(key: str, protocol: Mapping[str, Any]) -> bool:
    if key.startswith("frequency_"):
        return False  # of numbers in addition to the accuracy
    if key.startswith("cfg_") and protocol.get("rule") != "cfg":
        return False
    if key == "prefix_position" and not protocol.get("answer_prefix"):
        return False
    return all(protocol["task"] in tasks for start, tasks in OF_OTHER_TASKS.items() if key.startswith(start))
