"""What will be run: every row of every data set with its evaluation, or with the reason why it cannot be run.

A data set is an evaluation config: `configs/eval/reproduce/NAME.yaml` or any other file. The protocol's name, its own
and the row's make the name of an evaluation (`paper_flowers102_closed`), so that protocols never share a folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from configs.command_line import build_command
from configs.errors import BUILD_SHARDS, ConfigError, DataError
from configs.evaluation import EvalConfig, is_api
from configs.load import load_config
from configs.probe import TABLE_3
from configs.protocol import PUBLISHED_DEFAULTS, ProtocolConfig
from configs.run_dir import MODEL_CONFIG, RunDir
from configs.shard_dir import ShardDir
from data_prep.class_names import load_class_list
from data_prep.shards import ShardSet
from eval.models.model_type import ENCODERS
from eval.paper.experiments import GENERAL, Row, rows_of
from eval.paper.finetuned_rows import paper_model
from eval.runner.batching import items_of, open_source
from eval.runner.evaluated_model import identify_model
from eval.runner.output_paths import present_answers
from eval.runner.predictions import read_records
from eval.tasks.presets import preset_overrides
from eval.tasks.synonyms import load_synonyms
from train.models.model_folder import read_object

DATASETS = Path(__file__).resolve().parents[2] / "configs" / "eval" / "reproduce"
LONG_ANSWER = 512  # tokens of a chain-of-thought answer


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for: a model, a protocol, settings over everything, and perhaps a part of the rows."""

    model: str
    protocol: str = "paper"
    overrides: Sequence[str] = ()
    rows: Sequence[str] = ()
    limit: int | None = None
    checkpoint: str = "export"


@dataclass(frozen=True, slots=True)
class Planned:
    """A row of a data set: its evaluation, or the `reason` why it cannot be run. `items` is how many there are."""

    dataset: str
    row: Row
    config: EvalConfig
    items: int
    reason: str | None = None

    @property
    def runs_model(self) -> bool:
        """Whether questions are put to the model for it."""
        return self.row.kind == "run" and self.reason is None


@dataclass(frozen=True)
class Dataset:
    """A data set under a request: its config, and its shard set, or the `problem` why there is none."""

    name: str
    config: EvalConfig
    shards: ShardSet | None = field(repr=False)
    problem: str | None = None

    def items(self, config: EvalConfig) -> int:
        """The number of items that `config` evaluates."""
        return 0 if self.shards is None else len(items_of(config, self.shards))


def dataset_names() -> list[str]:
    """The data sets that are shipped."""
    return sorted(file.stem for file in DATASETS.glob("*.yaml"))


def open_dataset(name: str, request: Request) -> Dataset:
    """The data set called `name`, or the one that the YAML file `name` describes.

    One whose shards are not built has a problem. Raises `ConfigError` for an unknown one, and for `output`.
    """
    shipped = DATASETS / f"{name}.yaml"
    file = shipped if shipped.is_file() else Path(name)
    if not file.is_file():
        raise ConfigError(f"no data set {name!r}; choose among {', '.join(dataset_names())}, or give a YAML file")
    settings = [f"model={request.model}", f"checkpoint={request.checkpoint}", "paper_row=null"]
    settings += [f"limit={request.limit}"] if request.limit is not None else []
    config, _ = load_config(EvalConfig, file, [*settings, *preset_overrides(request.protocol), *request.overrides])
    if config.output is not None:
        raise ConfigError(
            f"output is {config.output}, but every row of a reproduction has its own folder; leave output out. "
            "--output is the scoreboard's folder"
        )
    try:
        shards = open_source(config)
    except DataError as error:
        return Dataset(
            config.name, config, None, str(error).replace(BUILD_SHARDS, build_command(file, None, request.overrides))
        )
    protocol = config.protocol
    if (
        protocol.task not in ("multiple_choice", *GENERAL)
        and protocol.classes is None
        and any(shards.manifest.class_names)
    ):
        protocol = replace(protocol, classes=str(Path(config.data.shards) / config.source))
    return Dataset(config.name, replace(config, protocol=protocol), shards)


def plan(datasets: Sequence[Dataset], request: Request) -> list[Planned]:
    """Every row of every data set, in the order of the paper; `positions` where it is asked for (`_left_out`).

    Raises `ConfigError` for a row that is not there.
    """
    every = [(dataset, row) for dataset in datasets for row in rows_of(dataset.config.protocol.task)]
    known = list(dict.fromkeys(row.key for _, row in every))
    if unknown := [key for key in request.rows if key not in known]:
        raise ConfigError(f"no row {unknown[0]!r}; choose among {', '.join(known)}")
    wanted = set(request.rows or known)
    wanted |= {row.answers for _, row in every if row.key in wanted and row.answers}  # what they take answers from
    rows = [(dataset, row) for dataset, row in every if row.key in request.rows or not _left_out(dataset, row)]
    return [_planned(dataset, row, request) for dataset, row in rows if row.key in wanted]


def _left_out(dataset: Dataset, row: Row) -> bool:
    """Table 10 is about one data set: its row is there where `probe.token_positions` has more than Table 3's."""
    return row.key == "positions" and set(dataset.config.probe.token_positions) <= set(TABLE_3)


def _planned(dataset: Dataset, row: Row, request: Request) -> Planned:
    settings: dict[str, Any] = dict(row.settings)
    if settings.get("prompt") == PUBLISHED_DEFAULTS["prompt"]:  # a fine-tuned model is prompted as in training
        settings["prompt"] = dataset.config.protocol.prompt
    if row.long_answer or settings.get("task") == "multiple_choice":
        settings["max_new_tokens"] = _answer_length(dataset.config, row, request)
    if is_api(request.model) and (row.settings.get("reveal_class") or row.settings.get("show_image") is False):
        settings |= _as_filter(dataset.config.protocol)
    if any(text.startswith("protocol.system_prompt=") for text in request.overrides):
        settings.pop("system_prompt", None)
    if row.key == "synonyms":
        settings["synonyms"] = dataset.config.protocol.classes
    name = f"{_protocol_name(request.protocol)}_{dataset.name}_{row.key}"
    base = dataset.config.protocol
    config = replace(dataset.config, name=name)
    reason = _impossible(dataset, row)
    if reason is None:
        config = replace(config, protocol=replace(base, **settings))
    if row.key == "probe":
        named = tuple(position for position in config.probe.token_positions if position in TABLE_3)
        config = replace(config, probe=replace(config.probe, token_positions=named or config.probe.token_positions))
    if _no_frequency(config) is not None:  # the other rows do without
        config = replace(config, frequency_file=None, frequency_sources=())
    return Planned(dataset.name, row, config, dataset.items(config), reason)


def _as_filter(protocol: ProtocolConfig) -> dict[str, Any]:
    """How the authors asked GPT-4 with the class, and without the image: by text alone, to filter ImageWikiQA."""
    settings = {"show_image": False, "choice_prompt": "filter", "answer_prefix": ""}
    authors = {"choice_parser": "first_character", "unparsed": "no_answer"}
    return settings | (authors if protocol.choice_parser == "mmmu" else {})


def _protocol_name(protocol: str) -> str:
    return Path(protocol).stem


def _impossible(dataset: Dataset, row: Row) -> str | None:
    """Why the row cannot be run on this data set, None if it can."""
    config = dataset.config
    if dataset.problem is not None:
        return dataset.problem
    if (unable := _unable(config.model, row)) is not None:
        return unable
    classes = config.protocol.classes
    kind = row.settings.get("task")
    listed = kind in ("closed_world", "class_likelihood", "zero_shot") or row.answers in ("scores", "zero_shot")
    if listed and classes is None:
        return "no class list: the shard set has no classes, set protocol.classes"
    count = row.settings.get("candidates")
    if isinstance(count, int) and classes is not None and count > len(set(load_class_list(classes).names)):
        return f"there are only {len(set(load_class_list(classes).names))} classes"
    if row.key == "synonyms" and (classes is None or not load_synonyms("auto", classes)):
        return "the class list has no synonyms"
    if row.kind in ("probe", "linear") and config.probe_source is None:
        return "no training items: set probe_source"
    if row.key == "positions":
        return _no_positions(config)
    if row.tables.endswith("Table 11"):
        return _no_frequency(config)
    return None


def _no_positions(config: EvalConfig) -> str | None:
    """Why Table 10 is not made: its positions count LLaVA-1.5's 576 image tokens behind a system prompt."""
    if set(config.probe.token_positions) <= set(TABLE_3):
        return "probe.token_positions has those of Table 3 alone; set further ones, as Table 10 has for Flowers102"
    kind = (_model_config(config.model) or {}).get("model_type", "llava")
    known = paper_model(identify_model(config.model).base) or "LLaVA1.5"
    return None if kind == "llava" and known.startswith("LLaVA1.5") else "Table 10 is about LLaVA-1.5"


def _unable(model: str, row: Row) -> str | None:
    """Why this kind of model cannot run the row; None if it can."""
    if is_api(model) and (row.kind in ("probe", "linear") or row.key == "scores" or row.answers == "scores"):
        return "an API gives neither the scores of class names nor a model's states"
    compares = _compares(model)
    if row.by == "clip" and not compares:
        return "needs a CLIP model: set --model to one"
    if row.by == "text" and compares:
        return "a CLIP model does not generate text"
    if row.by == "encoder" and not compares and not _has_encoder(model):
        return f"it has no separate image encoder; model types that have one: {', '.join(ENCODERS)}"
    return None


def _compares(model: str) -> bool:
    """Whether the model is a CLIP, by its config.json or a well-known name."""
    config = _model_config(model)
    if config is not None:
        return bool(config.get("model_type") == "clip")
    return model.startswith("open_clip:") or paper_model(model) in ("CLIP-L", "EVA-G")


def _has_encoder(model: str) -> bool:
    """Whether the model has a separate image encoder, by config.json or name; True for unknown names."""
    config = _model_config(model)
    if config is not None:
        return config.get("model_type") in ENCODERS
    return paper_model(identify_model(model).base) in (None, "BLIP2-2.7B")


def _no_frequency(config: EvalConfig) -> str | None:
    if config.frequency_file is not None and not Path(config.frequency_file).is_file():
        return f"no counts {config.frequency_file}; make them with python -m data_prep.frequency --output"
    if config.frequency_file is None and not config.frequency_sources:
        return "no class frequencies: set frequency_file or frequency_sources"
    if config.frequency_file is None:
        folders = [ShardDir(Path(config.data.shards) / source) for source in config.frequency_sources]
        missing = next((folder.root for folder in folders if not folder.manifest.is_file()), None)
        return None if missing is None else f"no shard set {missing}, which frequency_sources names"
    return None


def _answer_length(config: EvalConfig, row: Row, request: Request) -> int:
    """Tokens of a reasoned answer, with room left for the question in the model's positions.

    A question that lists all classes gets three quarters of them, one with four options half.
    """
    if any(text.startswith("protocol.max_new_tokens=") for text in request.overrides):
        return config.protocol.max_new_tokens
    wanted = LONG_ANSWER if row.long_answer else config.protocol.max_new_tokens
    positions = _positions(request.model)
    share = 4 if row.long_answer else 2
    return wanted if positions is None else min(wanted, max(1, positions // share))


def _positions(model: str) -> int | None:
    """Maximum positions of the language model; None if its config does not give them."""
    found = (_model_config(model) or {}).get("text_config", {}).get("max_position_embeddings")
    return None if found is None else int(found)


def _model_config(model: str) -> dict[str, Any] | None:
    """The config.json of a model, a run's export or its base; None where none is on this machine."""
    own = [folder / MODEL_CONFIG for folder in (Path(model), RunDir(Path(model)).export)]
    file = next(filter(Path.is_file, own), None) or Path(identify_model(model).base) / MODEL_CONFIG
    return read_object(file) if file.is_file() else None


def answered(planned: Planned) -> int:
    """The number of the row's questions that are stored as answered or failed."""
    folder = present_answers(planned.config)
    if folder is None:
        return 0
    records = read_records(folder)
    return min(len(records.predictions) + len(records.failures), planned.items)
