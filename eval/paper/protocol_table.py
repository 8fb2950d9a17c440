"""Protocols side by side: a line a setting, marked where they differ, with the audit's number of what it chooses in."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from configs.evaluation import EvalConfig
from eval.paper.audit import AUDIT, numbers_of
from eval.tasks.presets import SECTIONS, preset_settings

OWN = "-"  # left to the evaluation
WIDTH = 20  # of a protocol's column


@dataclass(frozen=True, slots=True)
class Line:
    """One setting: by protocol its value, `OWN` where the protocol leaves it to the evaluation."""

    setting: str
    audit: str
    doc: str
    values: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        """Whether two of the protocols choose otherwise."""
        return any(value != self.values[0] for value in self.values)


def protocol_lines(names: Sequence[str]) -> list[Line]:
    """Every setting that a protocol may make. Raises `ConfigError` for an unknown protocol or setting."""
    protocols = [preset_settings(name) for name in names]
    known = {
        f"{section}.{spec.name}": spec for section, schema in SECTIONS.items() for spec in dataclasses.fields(schema)
    }
    known.pop("protocol.name")
    chosen = {name for made in protocols for name in made}
    specs = {name: spec for name, spec in known.items() if name.startswith("protocol.") or name in chosen}
    specs["dtype"] = next(spec for spec in dataclasses.fields(EvalConfig) if spec.name == "dtype")
    return [
        Line(setting, numbers_of(setting), spec.metadata["doc"], tuple(made.get(setting, OWN) for made in protocols))
        for setting, spec in specs.items()
    ]


def as_json(names: Sequence[str], lines: Sequence[Line]) -> dict[str, Any]:
    """The content of --json."""
    return {
        "protocols": list(names),
        "settings": [
            {
                "setting": line.setting,
                "differs": line.differs,
                "audit": line.audit.split(),
                "doc": line.doc,
                "values": dict(zip(names, line.values, strict=True)),
            }
            for line in lines
        ],
        "audit": [dataclasses.asdict(difference) for difference in AUDIT],
    }


def as_text(names: Sequence[str], lines: Sequence[Line]) -> str:
    """The table and the list of differences that its numbers refer to."""
    titles = [name.rsplit("/", 1)[-1] for name in names]
    columns = [max(len(title), *(len(_value_text(line.values[i])) for line in lines)) for i, title in enumerate(titles)]
    longest = max(len(line.setting.removeprefix("protocol.")) for line in lines)
    rows = [_row("", "setting", longest, "audit", titles, columns)]
    for line in lines:
        name, values = line.setting.removeprefix("protocol."), [_value_text(value) for value in line.values]
        rows.append(_row("*" if line.differs else "", name, longest, line.audit, values, columns))
    rows.append(f"\n* the protocols differ; {OWN} the evaluation's own; audit: what it decides, of the list below\n")
    for difference in AUDIT:
        settings = ", ".join(difference.settings)
        details = (
            settings,
            f"paper: {difference.paper}" if difference.paper else "",
            f"default: {difference.default}" if difference.default else "",
            difference.reason,
        )
        chosen = "; ".join(part for part in details if part)
        rows.append(f"{difference.number:<4} {difference.description}\n     {chosen}")
    return "\n".join(rows)


def _row(mark: str, name: str, longest: int, audit: str, values: Sequence[str], columns: Sequence[int]) -> str:
    cells = "  ".join(value.ljust(width) for value, width in zip(values, columns, strict=True))
    return f"{mark:<2}{name:<{longest}}  {audit:<12}  {cells}".rstrip()


def _value_text(value: object) -> str:
    text = '""' if value == "" else "null" if value is None else str(value)
    text = text.lower() if isinstance(value, bool) else text
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."
