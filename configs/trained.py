"""What the training of a model decides for its evaluation: the value `trained` of settings, and the run's data.

    trained = training_record_of_model("runs/flowers102_projector")  # also of its export alone, wherever it is copied
    trained.system_prompt                                            # as chat.system_prompt of the run
    trained.data.sources["test"].path                                # as data.sources of the run

A run keeps this in its config.yaml and identity.json, an export in export.json.
"""

import json
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from configs.data import DataConfig, SourceConfig
from configs.errors import ConfigError
from configs.evaluation import PUBLISHED_DTYPE, EvalConfig
from configs.kinds import check_kind
from configs.layers import Layer, file_layers, last_value, mapping_at, override_layer, read_yaml
from configs.merge import config_of_layers
from configs.protocol import LISTED, PUBLISHED_DEFAULTS, ProtocolConfig
from configs.question import TRAINED
from configs.recipe import with_recipe
from configs.run import RunConfig
from configs.run_dir import ExportDir, RunDir, run_of
from configs.written_numbers import for_layers

IMAGE_SIZES = ("image_size", "min_pixels", "max_pixels")
"""Settings of a run's chat, and of a protocol, for how large images are; an export stores those of its training."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """How a model was trained; `where` is the file that says so.

    `images`: each of `IMAGE_SIZES` to its value. `questions`: source of classification data to its question, a prompt's
    name or its text. `class_names`: the classes of these sources. `contents`: what an export held when it was written
    (`train.models.folder_contents`).
    """

    where: str
    template: str
    system_prompt: str
    image_mode: str
    dtype: str
    images: Mapping[str, int | None] = field(default_factory=dict)
    questions: Mapping[str, str] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    data: DataConfig = field(default_factory=DataConfig)
    train_sources: tuple[str, ...] = ()
    contents: str | None = None

    @property
    def prompt(self) -> str | None:
        """The first classification source's question; None if training had no question of its own."""
        return next(iter(self.questions.values()), None)

    def settings(self) -> dict[str, str | None]:
        """The values of protocol settings that are `trained`."""
        return {
            "prompt": self.prompt,
            "template": self.template,
            "system_prompt": self.system_prompt,
            "image_mode": "export",  # an export stores the mode of its training
        }


def training_record_of_model(model: str) -> TrainingRecord | None:
    """The training behind a run folder, a checkpoint or an export; None for a model as published.

    Raises `ConfigError` for a damaged record.
    """
    record, run = ExportDir(Path(model)).record, run_of(model)
    if not record.is_file():
        return None if run is None else training_record_of_run(run)
    try:
        return _from_record(record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{record} is damaged ({error}); export the run again with python -m train.export") from error


def training_record_of_run(run: RunDir) -> TrainingRecord:
    """The training that a run's folder describes. Raises `ConfigError` for a damaged record."""
    trained = training_record_of_config(_run_config(run.config), str(run.config))
    try:
        found = json.loads(run.identity.read_text(encoding="utf-8")) if run.identity.is_file() else {}
        names = tuple(found.get("class_names", ()))
        return replace(trained, questions=found.get("questions", {}), class_names=names)
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{run.identity} is damaged ({error}); restore it from where the run's folder was copied, or continue the "
            "training with --resume auto, which writes it"
        ) from error


def training_record_of_config(config: RunConfig, where: str) -> TrainingRecord:
    """The training that `config` describes, without the parts that only its shards have."""
    return TrainingRecord(
        where=where,
        template=config.chat.template,
        system_prompt=config.chat.system_prompt,
        image_mode=config.chat.image_mode,
        dtype=config.model.dtype,
        images={name: getattr(config.chat, name) for name in IMAGE_SIZES},
        data=config.data,
        train_sources=config.train.sources,
    )


def config_of_run(run: RunDir) -> Path | None:
    """The file in the folder `configs` that describes `run`, which is not trained yet; None if there is none."""
    for file in sorted(Path("configs").glob("*.yaml")):
        with suppress(ConfigError):
            values = read_yaml(file)
            if values.get("name") == run.root.name and Path(values.get("runs_dir", "runs")) == run.root.parent:
                return file
    return None


def record_of(trained: TrainingRecord) -> dict[str, Any]:
    """The part of export.json that `training_record_of_model` reads."""
    return {
        "chat": {"template": trained.template, "system_prompt": trained.system_prompt},
        "image_mode": trained.image_mode,
        "dtype": trained.dtype,
        "images": dict(trained.images),
        "questions": dict(trained.questions),
        "sources": list(trained.train_sources),
        "data": asdict(trained.data),
    }


def _from_record(record: Path) -> TrainingRecord | None:
    values = json.loads(record.read_text(encoding="utf-8"))
    if not isinstance(values, dict) or ("mode" in values and not {"base", "sources"} <= values.keys()):
        raise ValueError("it is not the record of an export")
    if "chat" not in values:
        return None
    data = dict(values.get("data", {}))
    sources = {name: SourceConfig(**source) for name, source in data.pop("sources", {}).items()}
    return TrainingRecord(
        where=str(record),
        template=values["chat"]["template"],
        system_prompt=values["chat"]["system_prompt"],
        image_mode=values["image_mode"],
        dtype=values.get("dtype", "bf16"),
        images=dict(values.get("images", {})),
        questions=values.get("questions", {}),
        class_names=_names(ExportDir(record.parent).class_names),
        data=DataConfig(**data, sources=sources),
        train_sources=tuple(values.get("sources", ())),
        contents=values.get("contents"),
    )


def merge_evaluation(path: Path, layers: Sequence[Layer]) -> tuple[EvalConfig, dict[str, str]]:
    """The evaluation of `layers` with what the training of its model decides, and the origin of each value.

    Raises `ConfigError` as `config_of_layers`, and for a damaged record of the training.
    """
    model = last_value(layers, "model")
    trained = training_record_of_model(model) if isinstance(model, str) else None
    config, origins = config_of_layers(EvalConfig, path, [*data_layers(trained, layers), *layers])
    protocol = protocol_as_trained(config.protocol, trained)
    dtype = config.dtype if config.dtype != TRAINED else trained.dtype if trained else PUBLISHED_DTYPE
    where = f"as trained: {trained.where}" if trained else "default: the model has no record of a training"
    for key in PUBLISHED_DEFAULTS:
        if getattr(config.protocol, key) == TRAINED:
            unknown = trained is not None and trained.settings()[key] is None
            origins[f"protocol.{key}"] = f"{where}, which asks no single question" if unknown else where
    origins |= {"dtype": where} if config.dtype == TRAINED else {}
    return replace(config, protocol=protocol, dtype=dtype), origins


def load_evaluation_of(path: Path, config: RunConfig) -> tuple[EvalConfig, list[str]]:
    """The evaluation at `path` of the run that `config` describes, which need not be trained, and notes about its data.

    Sources that the run describes are the run's, also where the file describes one of the same name: what differs is
    in the notes. Settings that are `trained` stay so, until there is a training.

    Raises `ConfigError` as `config_of_layers`, and for the config of a run.
    """
    run = RunDir(Path(config.runs_dir) / config.name)
    trained = training_record_of_config(config, str(run.config))
    check_kind(EvalConfig, path, file_layers(path))
    files = for_layers(EvalConfig, file_layers(path))
    layers = [*files, override_layer("model=run")]  # a value for now: a path need not be valid YAML
    own, notes = [], []
    for origin, values in layers:
        data = mapping_at(values, "data")
        sources = mapping_at(data, "sources")
        kept = {name: source for name, source in sources.items() if name not in trained.data.sources}
        notes += _differing(origin, sources, trained.data)
        shards = last_value(layers, "source") in trained.data.sources
        rest = {key: value for key, value in data.items() if key != "sources" and not (shards and key == "shards")}
        if shards and data.get("shards", trained.data.shards) != trained.data.shards:
            notes.append(f"{origin}: data.shards is {trained.data.shards} as in the run, not {data['shards']}")
        own.append((origin, {**values, "data": {**rest, "sources": kept}} if "data" in values else values))
    evaluation, _ = config_of_layers(EvalConfig, path, [*data_layers(trained, own), *own])
    return replace(evaluation, model=str(run.root)), notes


def _differing(origin: str, sources: Mapping[str, Any], data: DataConfig) -> list[str]:
    """One sentence for each source that a file describes in another way than the run."""
    notes = []
    for name, source in sources.items():
        ours = data.sources.get(name)
        if ours is None or not isinstance(source, Mapping):
            continue
        values = asdict(ours)
        differing = [
            f"{key} {values.get(key)!r} and not {value!r}"
            for key, value in source.items()
            if key in ("reader", "path") and values.get(key) != value
        ]
        if differing:
            notes.append(f"{origin}: source {name} is the run's: {', '.join(differing)}; other data need another name")
    return notes


def _data_source(reference: Any) -> TrainingRecord | None:
    """The training whose data `data_from` names. Raises `ConfigError` if it is neither a run nor a run's config."""
    if not isinstance(reference, str):
        return None
    shipped = Path(__file__).resolve().parents[1] / reference  # also where the current folder is another
    path = Path(reference) if Path(reference).exists() else shipped
    if path.is_file():
        return training_record_of_config(_run_config(path), reference)
    found = training_record_of_model(reference)
    if found is None:
        raise ConfigError(f"data_from is {reference!r}; give the folder or the YAML file of a run")
    return found


def protocol_as_trained(protocol: ProtocolConfig, trained: TrainingRecord | None) -> ProtocolConfig:
    """`protocol` with the value of the training, or that of a model as published, for each setting `trained`."""
    known = trained.settings() if trained else {}
    values: dict[str, Any] = {
        key: known.get(key) or usual for key, usual in PUBLISHED_DEFAULTS.items() if getattr(protocol, key) == TRAINED
    }
    return replace(protocol, **values) if values else protocol


def data_layers(trained: TrainingRecord | None, layers: Sequence[Layer]) -> list[Layer]:
    """What `data_from` and the training say of data and class list, below the evaluation's own `layers`.

    A source that the evaluation's file describes is the evaluation's; else it is that of the training. The folder of
    shards belongs to the evaluated source. Raises `ConfigError` if `data_from` is neither a run nor a run's config.
    """
    files = [values for origin, values in layers if not origin.startswith("--set ")]
    described = {name for values in files for name in mapping_at(values, "data", "sources")}
    other = _data_source(last_value(layers, "data_from"))
    theirs = set(trained.data.sources) if trained else set()
    found = [("data_from", other, described | theirs), ("as trained", trained, described)]
    return [(f"{how}: {one.where}", _layer(one, taken, layers)) for how, one, taken in found if one is not None]


def _layer(trained: TrainingRecord, taken: Set[str], layers: Sequence[Layer]) -> dict[str, Any]:
    """The sources of `trained` that the evaluation reads and that are not `taken`; the folder of the evaluated one."""
    source = last_value(layers, "source")
    stages = last_value(layers, "frequency_sources")
    wanted = [source, last_value(layers, "probe_source"), *(stages if isinstance(stages, list) else ())]
    read = {name for name in wanted if isinstance(name, str)}
    sources = {name: asdict(one) for name, one in trained.data.sources.items() if name in read - taken}
    layer: dict[str, Any] = {"data": {"sources": sources}}
    if isinstance(source, str) and source in trained.data.sources:
        kept = ("shards", "cache_dir", "cache_gib", "samples_per_shard", "exif")
        layer["data"] |= {key: getattr(trained.data, key) for key in kept}
    task = last_value(layers, "protocol", "task")
    if task in LISTED and last_value(layers, "protocol", "classes") is None and (classes := class_list_of(trained)):
        layer["protocol"] = {"classes": classes}
    return layer


def class_list_of(trained: TrainingRecord) -> str | None:
    """Where the class list of the training is: the list in the export, else the shards of a training source."""
    exported = ExportDir(Path(trained.where).parent).class_names
    if exported.is_file():
        return str(exported)
    source = next(iter((*trained.questions, *trained.train_sources)), None)
    return None if source is None else str(Path(trained.data.shards) / source)


def _run_config(path: Path) -> RunConfig:
    return config_of_layers(RunConfig, path, with_recipe(RunConfig, file_layers(path), []))[0]


def _names(file: Path) -> tuple[str, ...]:
    return tuple(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else ()
