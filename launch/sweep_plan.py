"""The runs of a sweep: every combination of settings with every seed, their configs, names and evaluations.

Nothing is started here. A run's name follows from its settings alone, so a sweep that gets further values or seeds
finds the runs that it has.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from configs.layers import file_layers
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir, SweepDir
from configs.section import NAME_PATTERN, check_name, result_fields
from configs.trained import load_evaluation_of
from launch.preflight import run_folder
from launch.sweep_grid import GRID, Setting

LONGEST_NAME = 64
DIGEST_LETTERS = 8  # of the part of a name that stands for its settings


@dataclass(frozen=True)
class SweepRun:
    """One training: its combination of settings (key to value), its seed, and its complete config."""

    settings: Mapping[str, Any]
    seed: int
    config: RunConfig
    evaluations: Sequence[EvalConfig]

    @property
    def run(self) -> RunDir:
        """Its folder."""
        return run_folder(self.config)


@dataclass(frozen=True)
class Sweep:
    """All runs, those of one combination next to each other, and the sweep's own folder."""

    name: str
    runs: Sequence[SweepRun]
    notes: Sequence[str]

    @property
    def folder(self) -> SweepDir:
        """Where the table lies."""
        return SweepDir(Path(self.runs[0].config.runs_dir) / self.name)

    @property
    def combinations(self) -> list[list[SweepRun]]:
        """The runs of each combination."""
        found: dict[str, list[SweepRun]] = {}
        for one in self.runs:
            found.setdefault(json.dumps(one.settings, sort_keys=True), []).append(one)
        return list(found.values())


@dataclass(frozen=True)
class SweepRequest:
    """What was asked for: config file, settings of all runs, combinations, seeds, evaluations and a name."""

    config: Path
    overrides: Sequence[str]
    combinations: Sequence[Sequence[Setting]]
    seeds: int
    evaluations: Sequence[str]
    name: str | None


def plan_sweep(request: SweepRequest) -> Sweep:
    """All runs. Raises `ConfigError` for a setting that does not exist, values that are equal, or unusable names."""
    if request.seeds < 1:
        raise ConfigError(f"--seeds is {request.seeds}; give 1 or more")
    cells = [_cell(request, typed) for typed in request.combinations]
    _refuse_equal(cells)
    keys = sorted(cells[0].settings)
    runs: list[SweepRun] = []
    for cell in cells:
        of_cell = list(_runs(request, cell, keys))
        evaluations = _evaluations(of_cell[0].config)
        for one in of_cell:
            own = [replace(evaluation, model=str(one.run.root)) for evaluation in evaluations]
            runs.append(replace(one, evaluations=own))
    name = request.name or _sweep_name(cells[0].config.name, keys)
    check_name(name, "the sweep's name (--name)")
    _refuse_equal_names(name, runs)
    return Sweep(name, runs, [*_same_result(runs), *_evaluation_notes(runs[0].config)])


@dataclass(frozen=True)
class Cell:
    """A combination: typed values by key, as typed, all overrides, and the config with its first seed and no name."""

    settings: Mapping[str, Any]
    typed: Sequence[Setting]
    overrides: Sequence[str]
    config: RunConfig


def _cell(request: SweepRequest, typed: Sequence[Setting]) -> Cell:
    overrides = [*request.overrides, *(f"{key}={value}" for key, value in typed)]
    try:
        config, _ = load_config(RunConfig, request.config, overrides)
    except ConfigError as error:
        message = str(error)
        for key, value in typed:
            message = message.replace(f"--set {key}={value}", f"{GRID} {key}={value}")
        raise ConfigError(message) from error
    values = OmegaConf.structured(config)
    return Cell({key: _plain(OmegaConf.select(values, key)) for key, _ in typed}, typed, overrides, config)


def _runs(request: SweepRequest, cell: Cell, keys: Sequence[str]) -> Iterator[SweepRun]:
    """The runs of a combination, without their evaluations."""
    base = cell.config
    ending = f"-seed{max(999, base.seed + request.seeds - 1)}"
    room = LONGEST_NAME - len(f"{base.name}-{ending}")
    if room < DIGEST_LETTERS:
        raise ConfigError(
            f"the config's name {base.name} has {len(base.name)} characters, and its runs add setting and seed to it; "
            f"give one of at most {len(base.name) + room - DIGEST_LETTERS}: --set name=SHORTER"
        )
    text = label(cell.settings, keys, room)
    written = f"{file_layers(request.config)} {cell.overrides}"
    refers = "${name" in written or "${seed" in written
    for seed in range(base.seed, base.seed + request.seeds):
        name = f"{base.name}-{text}-seed{seed}"
        config = replace(base, seed=seed, name=name)
        if refers:
            config, _ = load_config(RunConfig, request.config, [*cell.overrides, f"seed={seed}", f"name={name}"])
        files = tuple(request.evaluations or base.evaluate)
        yield SweepRun(cell.settings, seed, replace(config, evaluate=files), [])


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _refuse_equal(cells: Sequence[Cell]) -> None:
    """Raise `ConfigError` for two combinations with the same values, such as 1e-5 and 0.00001."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        text = json.dumps(cell.settings, sort_keys=True)
        if text in seen:
            first, second = (" ".join(map("=".join, one.typed)) for one in (seen[text], cell))
            raise ConfigError(f"{first} and {second} are the same setting; give each value once")
        seen[text] = cell


def _refuse_equal_names(name: str, runs: Sequence[SweepRun]) -> None:
    """Raise `ConfigError` if two runs, or the sweep and a run, would share a folder."""
    seen: set[str] = set()
    for one in runs:
        if one.config.name.lower() in seen:  # some file systems do not tell A from a
            raise ConfigError(f"two runs of the sweep would be named {one.config.name}; sweep such values apart")
        seen.add(one.config.name.lower())
    folder = RunDir(Path(runs[0].config.runs_dir) / name)
    if name.lower() in seen or folder.config.is_file():
        raise ConfigError(f"the sweep's name {name} is that of a run; give another --name")


def label(settings: Mapping[str, Any], keys: Sequence[str], longest: int) -> str:
    """The part of a name that tells the combination; a digest if a value cannot be part of a name, or it is too long.

    >>> label({"optim.lr_projector": 1e-5, "train.epochs": 3}, ["optim.lr_projector", "train.epochs"], 40)
    'lr_projector_1e-05-epochs_3'
    """
    parts = []
    for key, short in zip(keys, _short(keys), strict=True):
        value = settings[key]
        text = value if isinstance(value, str) else json.dumps(value)
        if not NAME_PATTERN.fullmatch(text) or (isinstance(value, str) and _is_json(value)):
            return _digest(settings)
        parts.append(f"{short}_{text}")
    joined = "-".join(parts)
    return joined if len(joined) <= longest else _digest(settings)


def _is_json(text: str) -> bool:
    """Whether a text reads like a value that is none, such as `null`, whose label would be the same."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _short(keys: Sequence[str]) -> list[str]:
    """The last word of every key, or the whole key where two have the same."""
    last = [key.rpartition(".")[2] for key in keys]
    return [word if last.count(word) == 1 else key for word, key in zip(last, keys, strict=True)]


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:DIGEST_LETTERS]


def _sweep_name(base: str, keys: Sequence[str]) -> str:
    name = f"{base}-sweep-{'-'.join(_short(keys))}"
    return name if len(name) <= LONGEST_NAME else f"{base[: LONGEST_NAME - 15]}-sweep-{_digest(list(keys))}"


def _evaluations(config: RunConfig) -> list[EvalConfig]:
    """The evaluations of a run, each in the run's folder. Raises `ConfigError` for one that has several results."""
    found: list[EvalConfig] = []
    for path in config.evaluate:
        evaluation = replace(load_evaluation_of(Path(path), config)[0], output=None)
        if evaluation.checkpoint == "all":
            raise ConfigError(f"{path}: checkpoint is all; a sweep compares one checkpoint of each run: export or last")
        if evaluation.name in (one.name for one in found):
            raise ConfigError(
                f"two evaluations are named {evaluation.name!r}; rename one of {', '.join(config.evaluate)}"
            )
        found.append(evaluation)
    if not found and not config.train.heldout:
        raise ConfigError(
            "nothing is measured: there is no evaluation and no train.heldout; give --evaluate FILE, or `evaluate:` in "
            "the config"
        )
    return found


def _evaluation_notes(config: RunConfig) -> list[str]:
    """What differs between the files of the evaluations and how they are run."""
    notes = []
    for path in config.evaluate:
        evaluation, found = load_evaluation_of(Path(path), config)
        notes += found
        if evaluation.output:
            notes.append(f"{path}: output {evaluation.output} is not used; each run's results lie in the run's folder")
    return notes


def _same_result(runs: Sequence[SweepRun]) -> list[str]:
    """A note for combinations that differ in nothing that changes a result."""
    seen: dict[str, SweepRun] = {}
    for one in (one for one in runs if one.seed == runs[0].seed):
        fields = result_fields(one.config) | {"base": one.config.model.base, "data": repr(one.config.data)}
        key = json.dumps(fields, sort_keys=True, default=repr)
        if key in seen:
            return [f"{seen[key].config.name} and {one.config.name} differ in no setting that changes the result"]
        seen[key] = one
    return []
