"""Protocol presets: `configs/eval/protocols/NAME.yaml` holds settings of a protocol, laid over an evaluation's own.

    python -m eval.run --config configs/eval/imagenet_open_world.yaml --protocol official

What is asked about (kind, wording, class list, candidates) stays the evaluation's; how it is asked and judged becomes
the preset's; `dtype:` beside `protocol:` sets the precision, where that is part of it. `--set protocol.KEY=VALUE`
still refines both, and the hash beside every number says what was used.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from omegaconf import OmegaConf

from configs.errors import ConfigError

PRESETS = Path(__file__).resolve().parents[1] / "configs" / "eval" / "protocols"


def preset_names() -> list[str]:
    """The presets that are shipped."""
    return sorted(file.stem for file in PRESETS.glob("*.yaml"))


def preset_overrides(name: str | None) -> list[str]:
    """The settings of preset `name` (or of a YAML file) as `protocol.KEY=VALUE`, and `dtype=VALUE`; none for None.

    Raises `ConfigError` for an unknown preset or another form.
    """
    if name is None:
        return []
    shipped = PRESETS / f"{name}.yaml"
    file = shipped if shipped.is_file() else Path(name)
    if not file.is_file():
        raise ConfigError(f"--protocol is {name!r}; choose one of {', '.join(preset_names())}, or give a YAML file")
    values = OmegaConf.to_container(OmegaConf.load(file))
    if not isinstance(values, Mapping) or not isinstance(values.get("protocol"), Mapping):
        raise ConfigError(f"{file} holds no section `protocol:`; see {PRESETS.name}/paper.yaml")
    if unknown := [key for key in values if key not in ("protocol", "dtype")]:
        raise ConfigError(
            f"{file} sets {unknown[0]!r}; a protocol holds the section `protocol:`, and `dtype:` beside it"
        )
    settings = [f"protocol.{key}={json.dumps(value)}" for key, value in values["protocol"].items()]  # JSON is YAML
    return settings + ([f"dtype={values['dtype']}"] if "dtype" in values else [])
