"""Base models by name: `--base tiny` sets the model and the settings that fit it, from `configs/base_models/NAME.yaml`.

They override the config's files, and `--set` overrides them.
"""

import json
from pathlib import Path

from configs.errors import ConfigError
from configs.layers import flatten, read_yaml
from configs.locations import check_model_location

BASE_MODELS = Path(__file__).resolve().parent / "base_models"
TINY = "tiny"


def base_model_names() -> list[str]:
    """The names that `--base` knows."""
    return sorted(file.stem for file in BASE_MODELS.glob("*.yaml"))


def base_model_overrides(name: str | None) -> list[str]:
    """The settings of the base model `name` as KEY=VALUE; of a folder or a hub id only `model.base`; none for None.

    Raises `ConfigError` for a name that is none of these.
    """
    if name is None:
        return []
    file = BASE_MODELS / f"{name}.yaml"
    if file.is_file():
        return [f"{key}={json.dumps(value)}" for key, value in flatten(read_yaml(file)).items()]  # JSON is YAML
    if "/" not in name and not Path(name).is_dir():
        raise ConfigError(f"--base is {name!r}; choose one of {', '.join(base_model_names())}, a folder, or a hub id")
    check_model_location(name)
    return [f"model.base={json.dumps(name)}"]
