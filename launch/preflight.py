"""Finds what would make a job chain fail hours later, before it is submitted; reports all problems at once.

    python -m launch.preflight --config configs/imagenet_llava_mix.yaml --nodes 2 --gpus-per-node 8

Runs on a login node, without torch, and reads nothing large. What cannot be known there (whether a hub id exists,
whether images decode) is checked by the stages. Exits with code 2 if there is a problem.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from configs.batch_plan import split_batch
from configs.command_line import add_base_model, config_of, config_parser, exit_on_user_error
from configs.data import DataConfig
from configs.deepspeed_settings import deepspeed_settings
from configs.errors import ConfigError, DataError, UserError
from configs.evaluation import EvalConfig
from configs.locations import as_url, is_hub_id
from configs.model import ATTENTION
from configs.run import RunConfig
from configs.run_dir import MODEL_CONFIG, TOKENIZER_FILES, RunDir
from configs.shard_dir import ShardDir
from configs.trained import load_evaluation_of
from data_prep.byte_size import size
from data_prep.class_matching import ClassDifference, named_histogram
from data_prep.class_names import load_class_list
from data_prep.disk_space import free_space
from data_prep.manifest import read_manifest
from data_prep.registry import check_source
from data_prep.run_start import start_problem
from data_prep.source_match import check_source_of
from launch.cluster import Cluster, add_cluster_arguments, cluster_of
from launch.commands import working_directory_problem
from launch.job_environment import missing_model
from launch.slurm_problems import slurm_problems

UNKNOWN_BASE_BYTES = 14 * 10**9  # of a hub id: assumed to be a 7B model in 16 bits
TRAINED_FRACTION = {"projector": 0.003, "lora": 0.05, "selective": 0.31, "full": 1.0}
"""Of LLaVA-1.5-7B's weights, at LoRA rank 128; selective: its attention projections."""
PROJECTOR_FRACTIONS = {"blip": 0.03, "qwen2.5-vl": 0.01, "qwen3-vl": 0.05, "smolvlm": 0.03}
"""Of the weights of the smallest published model whose name has this in it: a Q-Former; mergers; a connector."""


def problems(config: RunConfig, cluster: Cluster, start: str = "data_prep") -> list[str]:
    """Every problem of the chain from stage `start` on; empty if there is none."""
    found = [*filter(None, [working_directory_problem()]), *slurm_problems(config.slurm), *_batches(config, cluster)]
    names = config.train.sources + config.train.heldout
    if start == "eval":
        if not run_folder(config).config.is_file():
            found.append(f"{run_folder(config).root} holds no trained run; start from data_prep or train")
    else:
        found += [*_data(config.data, names, start), *_base(config), *_disk(config)]
        found += filter(None, [start_problem(config)])
    return found + list(_evaluations(config, start))


def run_folder(config: RunConfig) -> RunDir:
    """The folder of this run."""
    return RunDir(Path(config.runs_dir) / config.name)


def missing_shards(data: DataConfig, names: tuple[str, ...]) -> list[str]:
    """Those of `names` whose shard set is incomplete; sets behind a URL are never built here."""
    if as_url(data.shards) is not None:
        return []
    return [name for name in dict.fromkeys(names) if not ShardDir(Path(data.shards) / name).manifest.is_file()]


def load_evaluation(path: str, config: RunConfig) -> EvalConfig:
    """The evaluation config at `path`, of this run's model and data; raises `ConfigError`."""
    return load_evaluation_of(Path(path), config)[0]


def evaluation_sources(evaluation: EvalConfig) -> tuple[str, ...]:
    """The sources whose shards an evaluation reads."""
    return (evaluation.source, *evaluation.frequency_sources)


def _batches(config: RunConfig, cluster: Cluster) -> Iterator[str]:
    try:
        split = split_batch(config.train, cluster.world)
    except ConfigError as error:
        yield f"{error} ({cluster.nodes} nodes x {cluster.ranks_per_node} ranks = {cluster.world})"
        return
    try:
        deepspeed_settings(config, split)
    except ConfigError as error:
        yield str(error)


def _data(data: DataConfig, names: tuple[str, ...], start: str, evaluated: bool = False) -> Iterator[str]:
    missing = missing_shards(data, names)
    for name in dict.fromkeys(names):
        folder = Path(data.shards) / name
        if name not in missing:
            yield from _manifest(data, name, evaluated)
        elif start != "data_prep":
            yield f"source {name!r} has no shards in {folder}; start from data_prep"
        else:
            yield from _raw(name, data)


def _raw(name: str, data: DataConfig) -> Iterator[str]:
    try:
        check_source(data, name)
    except UserError as error:
        yield f"no shards in {Path(data.shards) / name}, and they cannot be built: {error}"


def _manifest(data: DataConfig, name: str, evaluated: bool) -> Iterator[str]:
    try:
        check_source_of(read_manifest(Path(data.shards) / name), data, name, evaluated=evaluated)
    except DataError as error:
        yield str(error)


def _base(config: RunConfig) -> Iterator[str]:
    base, folder = config.model.base, Path(config.model.base)
    if is_hub_id(base):
        yield from missing_model(config.slurm.setup, base)
        return
    if not folder.is_dir():
        yield f"model.base is {base!r}, and there is no such folder; give a model's folder or a hub id (owner/name)"
    elif not (folder / MODEL_CONFIG).is_file():
        yield f"model.base is {base!r}, a folder without {MODEL_CONFIG}; give a model's folder or a hub id (owner/name)"
    elif not any((folder / name).is_file() for name in TOKENIZER_FILES):
        names = " or ".join(TOKENIZER_FILES[:2])
        yield f"model.base is {base!r}, a folder without a tokenizer ({names}); copy tokenizer* from the model's origin"


def needed_bytes(config: RunConfig) -> tuple[float, str]:
    """What the export and the kept checkpoints take (fp32 master and two moments: 12 bytes a trained weight).

    Also what was assumed for it, in parentheses; empty where nothing was.
    """
    base = Path(config.model.base)
    weights = [*base.glob("*.safetensors"), *base.glob("*.bin")] if base.is_dir() else []
    export_bytes = sum(file.stat().st_size for file in weights)
    assumed = ""
    if is_hub_id(config.model.base):
        export_bytes = UNKNOWN_BASE_BYTES
        assumed = f" (assuming that {config.model.base} has {size(int(UNKNOWN_BASE_BYTES))})"
    fraction = TRAINED_FRACTION[config.model.mode]
    if config.model.mode == "selective" and config.model.selective != ATTENTION:
        fraction = 0.0  # which parameters a pattern finds is known when the run starts
    fraction = max(
        fraction, *(part for name, part in PROJECTOR_FRACTIONS.items() if name in config.model.base.lower()), 0
    )
    trained = export_bytes / 2 * fraction  # at most this many: 16 bits or more each
    return export_bytes * config.checkpoint.export + 12 * trained * (config.checkpoint.keep_last + 1), assumed


def _disk(config: RunConfig) -> Iterator[str]:
    """Room for the export and the kept checkpoints."""
    needed, assumed = needed_bytes(config)
    free, folder = free_space(Path(config.runs_dir))
    if free < needed:
        yield (
            f"runs_dir {config.runs_dir} has {size(free)} free, about {size(int(needed))} are needed for "
            f"{config.checkpoint.keep_last + 1} checkpoints and the export{assumed}; free some, or lower "
            "checkpoint.keep_last"
        )
    if not os.access(folder, os.W_OK):
        yield f"runs_dir {config.runs_dir} cannot be written to ({folder}); set runs_dir"


def _evaluations(config: RunConfig, start: str) -> Iterator[str]:
    seen: dict[str, str] = {}
    for path in config.evaluate:
        try:
            evaluation = load_evaluation(path, config)
        except ConfigError as error:
            yield f"evaluate: {error}"
            continue
        if evaluation.name in seen:
            yield f"evaluate: {path} and {seen[evaluation.name]} are both named {evaluation.name!r}; rename one"
        seen[evaluation.name] = path
        if evaluation.checkpoint == "export" and not config.checkpoint.export and start != "eval":
            yield f"evaluate: {path} needs the export, but checkpoint.export is false; set it, or checkpoint: last"
        yield from (f"{path}: {text}" for text in _classes(evaluation))
        # An evaluation's own data may be built at any time, so also when the chain starts behind data_prep.
        yield from (
            f"{path}: {text}" for text in _data(evaluation.data, evaluation_sources(evaluation), "data_prep", True)
        )


def _classes(evaluation: EvalConfig) -> Iterator[str]:
    """Classes of the test items that protocol.classes lacks, where the shards and the list exist already."""
    protocol = evaluation.protocol
    unused = protocol.classes is None or protocol.task == "multiple_choice" or protocol.unknown_classes != "refuse"
    if unused or missing_shards(evaluation.data, (evaluation.source,)) or as_url(evaluation.data.shards) is not None:
        return
    try:
        manifest = read_manifest(Path(evaluation.data.shards) / evaluation.source)
        names = load_class_list(protocol.classes or "").names
    except DataError:  # a list may be the shards of a source that the chain builds
        return
    found = ClassDifference.of(named_histogram(manifest), names)
    if found.unknown:
        text = found.describe(evaluation.source, f"protocol.classes {protocol.classes}")
        yield f"{text}; name the list that the source was built with"


def main() -> None:
    """Print every problem on a separate line, or that there is none."""
    parser = config_parser(__doc__, RunConfig)
    add_base_model(parser)
    add_cluster_arguments(parser)
    arguments = parser.parse_args()
    try:
        config = config_of(arguments, RunConfig)
        exit_with_problems(problems(config, cluster_of(arguments, config.slurm), arguments.start))
    except UserError as error:
        exit_on_user_error(error)
    print(f"no problem found with {arguments.config}")


def exit_with_problems(found: list[str]) -> None:
    """Print the problems and exit with code 2, if there are any."""
    if found:
        print("\n".join(f"problem: {text}" for text in found), file=sys.stderr)
        raise SystemExit(2)


if __name__ == "__main__":
    main()
