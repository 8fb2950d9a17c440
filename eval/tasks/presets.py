"""Protocol presets: `configs/eval/protocols/NAME.yaml` holds settings of a protocol that override an evaluation's own.

    python -m eval.run --config configs/eval/imagenet_open_world.yaml --protocol official

Task, prompt, class list and candidates stay the evaluation's; all other settings of prompts and scoring come from the
preset. In addition to `protocol:`, a preset may set the precision (`dtype:`), the training of linear heads (`probe:`)
and the requests to an API (`api:`). `--set protocol.KEY=VALUE` overrides them, and the hash printed with every number
identifies the result.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from configs.api import ApiConfig
from configs.errors import ConfigError
from configs.layers import read_yaml
from configs.probe import ProbeConfig
from configs.protocol import ProtocolConfig
from configs.section import Section

PRESETS = Path(__file__).resolve().parents[2] / "configs" / "eval" / "protocols"
SECTIONS: Mapping[str, type[Section]] = {"protocol": ProtocolConfig, "probe": ProbeConfig, "api": ApiConfig}


def preset_names() -> list[str]:
    """The presets that are shipped."""
    return sorted(file.stem for file in PRESETS.glob("*.yaml"))


def preset_overrides(name: str | None) -> list[str]:
    """The settings of preset `name` (or of a YAML file) as `protocol.KEY=VALUE`, and `dtype=VALUE`; none for None.

    Raises as `preset_settings`.
    """
    settings = {} if name is None else preset_settings(name)
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]  # JSON is YAML


def preset_settings(name: str) -> dict[str, Any]:
    """The settings of preset `name`, or of a YAML file, by name: protocol.KEY, and dtype.

    Raises `ConfigError` for an unknown preset or setting, and for another form.
    """
    shipped = PRESETS / f"{name}.yaml"
    file = shipped if shipped.is_file() else Path(name)
    if not file.is_file():
        raise ConfigError(f"--protocol is {name!r}; choose one of {', '.join(preset_names())}, or give a YAML file")
    values = read_yaml(file)
    if not isinstance(values.get("protocol"), Mapping):
        raise ConfigError(f"{file} holds no section `protocol:`; see {PRESETS.name}/paper.yaml")
    if unknown := [key for key in values if key not in (*SECTIONS, "dtype")]:
        raise ConfigError(
            f"{file} sets {unknown[0]!r}; a protocol holds the section `protocol:`, optionally probe, api, dtype"
        )
    settings: dict[str, Any] = {}
    for section, schema in SECTIONS.items():
        known, chosen = {spec.name for spec in fields(schema)}, values.get(section) or {}
        if unknown := [key for key in chosen if key not in known]:
            raise ConfigError(f"{file} sets {section}.{unknown[0]}, which is none of: {', '.join(sorted(known))}")
        settings |= {f"{section}.{key}": value for key, value in chosen.items()}
    return settings | ({"dtype": values["dtype"]} if "dtype" in values else {})
