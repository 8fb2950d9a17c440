"""Where the numbers of a report come from, from the provenance files of its evaluation (`data_prep.provenance`).

A stage is `evaluation`, `export` or `training`; its starts may have had other packages, code or machines.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from configs.eval_dir import EvalDir
from data_prep.page import Block, Folded, Heading, Table, Text
from data_prep.provenance import read_starts

STAGES = ("evaluation", "export", "training")
Provenance = Mapping[str, Sequence[Mapping[str, Any]]]  # stage to its starts, oldest first


def provenance_of(folder: EvalDir) -> dict[str, list[dict[str, Any]]]:
    """Stage to its starts: those of all workers of the evaluation, and those of the export that it read last."""
    evaluation = [start for file in folder.all_provenance() for start in read_starts(file)]
    evaluation.sort(key=lambda start: str(start.get("start")))
    exports: list[dict[str, Any]] = next(
        (start["exports"] for start in reversed(evaluation) if start.get("exports")), []
    )
    return {
        "evaluation": [{key: value for key, value in start.items() if key != "exports"} for start in evaluation],
        "export": [{key: value for key, value in start.items() if key != "training"} for start in exports],
        "training": exports[-1].get("training", []) if exports else [],
    }


def provenance_blocks(provenance: Provenance) -> list[Block]:
    """A heading and a folded table with a row for each stage and fact; nothing without a recorded start."""
    rows = [
        [stage, fact, "; ".join(values)]
        for stage in STAGES
        for fact, values in facts(provenance.get(stage, ())).items()
        if values
    ]
    table = Table(("stage", "", ""), rows, code=frozenset({2}))
    text = "Commands, code, packages, machines, data and times of each stage"
    return [Heading("Provenance"), Folded(text, [table])] if rows else []


def facts(starts: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What is known of `starts`: fact to its different values, in the order in which they first occur."""
    found: dict[str, dict[str, None]] = {}
    for start in starts:
        for fact, value in _facts_of(start).items():
            if value is not None:
                found.setdefault(fact, {})[value] = None
    return {fact: list(values) for fact, values in found.items()}


def period(start: str | None, end: str | None) -> str:
    """Two times of a provenance file for people, the second without a date that is the first's.

    >>> period("2026-03-01T14:39:00Z", "2026-03-01T14:45:10Z"), period("2026-03-01T14:39:00Z", None)
    ('2026-03-01 14:39:00 to 14:45:10 UTC', '2026-03-01 14:39:00 UTC to unknown (killed, or still running)')
    """
    first, last = _moment(start), _moment(end)
    day = first[: len("2026-03-01 ")]
    if last.startswith(day) and last.endswith(" UTC"):
        return f"{first.removesuffix(' UTC')} to {last.removeprefix(day)}"
    return f"{first} to {last}"


def _moment(text: str | None) -> str:
    return "unknown (killed, or still running)" if text is None else text.replace("T", " ").replace("Z", " UTC")


def _facts_of(start: Mapping[str, Any]) -> dict[str, str | None]:
    gpus, hosts = list(start.get("gpus") or ()), start.get("hosts") or {str(start.get("host")): None}
    world = start.get("world_size") or start.get("workers")
    return {
        "command": start.get("command"),
        "code": _code(start.get("code")),
        "packages": ", ".join(f"{name} {version}" for name, version in (start.get("packages") or {}).items()) or None,
        "python": start.get("python"),
        "devices": _counted(gpus) if gpus else f"CPU, {start.get('cpus')} cores",
        "processes": None if world is None else str(world),
        "machines": ", ".join(hosts),
        "data": _data(start.get("data")),
        "time": period(start.get("start"), start.get("end")),
        "outcome": start.get("outcome"),
    }


def _code(code: Mapping[str, Any] | None) -> str | None:
    if not code:
        return None
    return f"commit {code['commit'][:12]}{'' if code.get('clean') else ', with uncommitted changes'}"


def _counted(names: Sequence[str]) -> str:
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))


def _data(data: Any) -> str | None:
    if isinstance(data, Mapping):
        return ", ".join(f"{name} {str(fingerprint)[:12]}" for name, fingerprint in data.items())
    return None if data is None else str(data)[:12]


COMPARED = ("code", "packages", "python", "devices")
"""Facts that may explain a difference between two models' numbers."""


def provenance_differences(models: Mapping[str, Sequence[Provenance]]) -> list[Block]:
    """The facts in which models differ, for each stage; `models`: name to the provenance of each of its evaluations."""
    rows: list[list[str]] = []
    for stage in STAGES:
        known = {
            name: facts([start for provenance in found for start in provenance.get(stage, ())])
            for name, found in models.items()
        }
        known = {name: found for name, found in known.items() if found}
        for fact in COMPARED:
            values = {name: _value(fact, found.get(fact, []), known) for name, found in known.items()}
            if len(set(values.values())) > 1:
                rows.append([stage, fact, "; ".join(f"{name}: {value}" for name, value in values.items())])
    if not rows:
        return []
    text = "The models were not trained or evaluated under the same conditions; small differences may come from that."
    return [Heading("Different conditions"), Text(text), Table(("stage", "differs in", "values"), rows)]


def _value(fact: str, values: Sequence[str], known: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """The values of one model; of packages only those whose version is not the same everywhere."""
    if fact != "packages":
        return " and ".join(values) or "unknown"
    everywhere = [set(text.split(", ")) for found in known.values() for text in found.get(fact, [])]
    common = set.intersection(*everywhere) if everywhere else set()
    return " and ".join(", ".join(p for p in text.split(", ") if p not in common) for text in values) or "unknown"
