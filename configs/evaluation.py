"""Settings of an evaluation: a model, a source of test items, a protocol."""

from dataclasses import dataclass
from pathlib import Path

from configs.api import ApiConfig
from configs.data import DataConfig, check_sources_exist
from configs.errors import ConfigError
from configs.grading import GradingConfig
from configs.knn import KnnConfig
from configs.probe import ProbeConfig
from configs.protocol import ProtocolConfig
from configs.question import TRAINED
from configs.saving import check_project
from configs.section import Section, check_name, setting

PUBLISHED_DTYPE = "bf16"
"""What dtype `trained` means for a model as published."""


@dataclass(frozen=True, kw_only=True)
class EvalLoggingConfig(Section):
    """Where an evaluation is logged besides its report: in the W&B run of the training of its model."""

    wandb: str = setting(
        TRAINED,
        doc="Weights & Biases mode; `trained`: logging.wandb of the run that trained the model (published models: "
        "off).",
        choices=(TRAINED, "off", "offline", "online"),
        changes_result=False,
    )
    project: str | None = setting(
        None, doc="W&B project; default: that of the training, else vlm-classify.", changes_result=False
    )
    entity: str | None = setting(None, doc="W&B team or user; default: that of the training.", changes_result=False)

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a project that W&B refuses."""
        super().__post_init__()
        if self.project is not None:
            check_project(self.project)


@dataclass(frozen=True, kw_only=True)
class EvalConfig(Section):
    """One evaluation: a model, a source of test items, a protocol."""

    name: str = setting(doc="Name of the evaluation; its files live in a folder of that name.", changes_result=False)
    model: str = setting(
        doc="Run, checkpoint, export or model folder, or hub id; api:NAME; open_clip:ARCHITECTURE/WEIGHTS; or "
        "BACKEND:NAME of a backend in eval/models/registry.py.",
        changes_result=False,
    )
    revision: str | None = setting(None, doc="Revision of a hub id.")
    checkpoint: str = setting("export", doc="Checkpoint of a run folder: `export`, `all`, `last`, or a step number.")
    data: DataConfig = setting(DataConfig, doc="Raw sources and shards.")
    source: str = setting(doc="The source of data.sources that is evaluated.")
    protocol: ProtocolConfig = setting(ProtocolConfig, doc="The protocol.")
    api: ApiConfig = setting(ApiConfig, doc="Requests to a model served by an API.")
    probe: ProbeConfig = setting(ProbeConfig, doc="Linear heads, for eval.probing.")
    grading: GradingConfig = setting(GradingConfig, doc="Graders of the stored answers, for eval.grade.")
    knn: KnnConfig = setting(KnnConfig, doc="Nearest neighbours, for eval.knn.")
    limit: int | None = setting(
        None, doc="Evaluate only this many items, chosen by a seeded hash of their ids.", at_least=1
    )
    dtype: str = setting(
        TRAINED,
        doc="Precision of the model; `trained`: model.dtype of the run that trained it (published models: bf16).",
        choices=(TRAINED, "bf16", "fp16", "fp32"),
    )
    data_from: str | None = setting(
        None,
        doc="Run (folder or YAML file) whose `data.sources` are used for a model that was not trained here.",
        changes_result=False,
    )
    attention: str = setting(
        "auto",
        doc="As model.attention.",
        choices=("auto", "sdpa", "flash_attention_2", "flex_attention", "eager"),
        changes_result=False,
    )
    kernels: str = setting(
        "auto",
        doc="How the small operations of decoder layers run, as model.kernels. Answers and scores are equal up to "
        "rounding. LLaMA- and Mistral-type decoders.",
        choices=("auto", "none", "compile", "liger"),
        changes_result=False,
    )
    batch_size: int = setting(16, doc="Questions per forward.", at_least=1, changes_result=False)
    output: str | None = setting(
        None,
        doc="Folder of the results; default: eval/NAME in the run folder, else runs/eval/NAME.",
        changes_result=False,
    )
    frequency_sources: tuple[str, ...] = setting(
        tuple,
        doc="Training stages that a class's frequency is counted over: sources with class histograms, or stages of "
        "frequency_file.",
        changes_result=False,
    )
    frequency_file: str | None = setting(
        None, doc="Counts of class names by stage, as data_prep.frequency --output writes them.", changes_result=False
    )
    probe_source: str | None = setting(
        None, doc="Source of data.sources on which linear probes are trained.", changes_result=False
    )
    logging: EvalLoggingConfig = setting(EvalLoggingConfig, doc="Weights & Biases.")
    paper_row: str | None = setting(
        None, doc="Row of eval/paper/numbers.json printed next to our number.", changes_result=False
    )

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an unknown source or an impossible checkpoint."""
        super().__post_init__()
        check_name(self.name, "name")
        stages = () if self.frequency_file else self.frequency_sources
        probed = (self.probe_source,) if self.probe_source else ()
        hint = ". Describe it there, evaluate a run that was trained with it, or name such a run in data_from"
        if not self.data.sources and ":" not in self.model and not Path(self.model).exists():
            hint += f" (there is no folder {self.model} here)"
        check_sources_exist((self.source, *stages, *probed), self.data.sources, hint)
        if self.checkpoint not in ("export", "all", "last") and not self.checkpoint.isdigit():
            raise ConfigError(f"checkpoint is {self.checkpoint!r}; give export, all, last or a step number")


def precision(config: EvalConfig) -> str:
    """The precision in which the model runs: `bf16`, `fp16` or `fp32`."""
    return PUBLISHED_DTYPE if config.dtype == TRAINED else config.dtype


def is_api(model: str) -> bool:
    """Whether `model` names a model behind an API."""
    return model.startswith("api:")
