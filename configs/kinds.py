"""Does a file describe a run or an evaluation? Each program takes one kind and names the other for what it is."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from configs.layers import Layer
from configs.run import RunConfig
from configs.section import Section

_RUN = {spec.name for spec in fields(RunConfig)}
_EVALUATION = {spec.name for spec in fields(EvalConfig)}
SECTIONS_OF_RUNS = ("model", "checkpoint")  # in an evaluation each is one value


def kind_of(layers: Sequence[Layer]) -> type[RunConfig] | type[EvalConfig] | None:
    """The kind that a file and its bases describe, by settings that only one kind has; None if there are none."""
    run, evaluation = _hints(layers, RunConfig), _hints(layers, EvalConfig)
    if bool(run) == bool(evaluation):
        return None
    return RunConfig if run else EvalConfig


def check_kind(schema: type[Section], path: Path, layers: Sequence[Layer]) -> None:
    """Raise `ConfigError` if a program for `schema`, a run or an evaluation, gets a file of the other kind."""
    found = kind_of(layers)
    if found is None or schema is found or schema not in (RunConfig, EvalConfig):
        return
    settings = ", ".join(_hints(layers, found)[:3])
    if found is RunConfig:
        listed = [name for _, values in layers for name in values.get("evaluate") or () if isinstance(name, str)]
        which = ", ".join(listed[-2:]) or "configs/eval/open_world.yaml"
        raise ConfigError(
            f"{path} is the config of a training run (it sets {settings}), and this program takes that of an "
            f"evaluation, such as {which}; the run itself is given with --set model=runs/NAME"
        )
    raise ConfigError(
        f"{path} is the config of an evaluation (it sets {settings}), and this program takes that of a training run, "
        "such as configs/demo.yaml"
    )


def _hints(layers: Sequence[Layer], kind: type[Section]) -> list[str]:
    """The settings in `layers` that only `kind` has."""
    own = _RUN - _EVALUATION if kind is RunConfig else _EVALUATION - _RUN
    found: dict[str, None] = {}
    for _, values in layers:
        for key, value in values.items():
            section = key in SECTIONS_OF_RUNS and value is not None
            if key in own or (section and isinstance(value, Mapping) == (kind is RunConfig)):
                found[key] = None
    return list(found)
