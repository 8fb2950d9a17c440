"""What was evaluated: model, data, protocol, time and versions at the head of a report, and all settings at its end."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from configs.protocol import ProtocolConfig
from data_prep.page import Block, Definitions, Folded, Heading, Table, Text
from eval.reports.formatting import merged_onto, protocol_tag
from eval.reports.protocol_words import protocol_words
from eval.reports.provenance import facts, period

ALWAYS = ("task", "template", "system_prompt", "image_mode", "dtype")
OF_TASK = {
    "open_world": ("prompt", "match", "max_new_tokens"),
    "closed_world": ("prompt", "match", "classes", "candidates", "order", "max_new_tokens"),
    "class_likelihood": ("prompt", "rule", "token_scores", "classes", "candidates"),
    "zero_shot": ("class_sentence", "classes", "candidates"),
    "trained_probe": ("classes", "candidates"),
    "multiple_choice": ("choice_prompt", "choice_parser", "show_image", "max_new_tokens"),
}
"""Settings of the protocol that are always shown, by task; others only where they are not the default."""
RECORDED = ("model", "data", "name", "hash")  # shown elsewhere
VERSIONS = ("torch", "transformers")


def identity_block(report: Mapping[str, Any]) -> Definitions:
    """Model, data, protocol, and when and with which versions the answers were made (as far as that is recorded)."""
    items = report["items"]
    number = f"{items['expected']:,} items" + (
        "" if items["expected"] == items["source"] else f" of {items['source']:,}"
    )
    data = (report["protocol"].get("data") or "")[:12]
    known = [
        ("model", f"{report['model']} ({report['label']}{merged_onto(report)})"),
        ("trained from", _trained(report.get("evaluated_model") or {})),
        ("data", f"{report['source']}, {number}" + (f", fingerprint {data}" if data else "")),
        ("protocol", protocol_words(report)),
    ]
    starts = (report.get("provenance") or {}).get("evaluation", ())
    if starts:
        last, found = starts[-1], facts(starts)
        packages = last.get("packages") or {}
        versions = [f"{name} {packages[name]}" for name in VERSIONS if name in packages]
        known += [
            ("evaluated", period(last.get("start"), last.get("end"))),
            ("versions", ", ".join([*found.get("code", ())[-1:], *versions])),
            ("on", "; ".join(found.get("devices", ()))),
        ]
    known.append(("protocol hash", report["protocol"].get("hash") or ""))
    return Definitions([(term, text) for term, text in known if text])


def _trained(model: Mapping[str, Any]) -> str:
    if not model.get("finetuned"):
        return ""
    return f"{model.get('base')}, {model.get('mode')}, on {', '.join(model.get('sources') or ()) or 'unknown data'}"


def protocol_blocks(report: Mapping[str, Any]) -> list[Block]:
    """The settings that matter, and all of them folded."""
    protocol = report["protocol"]
    rows = [[key, str(value)] for key, value in protocol.items() if key != "hash"]
    return [
        Heading("Protocol"),
        Text(f"Protocol {protocol_tag(report)}: two reports with this hash have the same prompts and scoring."),
        Definitions(settings_that_matter(protocol)),
        Folded(f"All {len(rows)} settings", [Table(("setting", "value"), rows, code=frozenset({1}))]),
    ]


def settings_that_matter(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings that belong to the task, and those that are not the default."""
    shown = (*ALWAYS, *OF_TASK.get(protocol["task"], ()))
    defaults = {field.name: field.default for field in fields(ProtocolConfig) if field.default is not MISSING}
    changed = [
        key
        for key, value in protocol.items()
        if key not in RECORDED and key not in shown and key in defaults and value != _plain(defaults[key])
    ]
    return [(key, str(protocol[key])) for key in (*shown, *changed) if protocol.get(key) not in (None, "")]


def _plain(value: Any) -> Any:
    """A default as JSON has it."""
    return list(value) if isinstance(value, tuple) else value
