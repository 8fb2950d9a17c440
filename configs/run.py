"""Settings of a run."""

from dataclasses import dataclass

from configs.data import DataConfig, check_sources_exist
from configs.errors import ConfigError
from configs.model import ChatConfig, ModelConfig
from configs.saving import CheckpointConfig, LoggingConfig
from configs.section import Section, check_name, setting
from configs.slurm import SlurmConfig
from configs.training import (
    LossConfig,
    MonitorConfig,
    OptimConfig,
    TrainConfig,
)
from configs.zero import DeepSpeedConfig


@dataclass(frozen=True, kw_only=True)
class RunConfig(Section):
    """One training run: data, model, recipe, and the evaluations that follow it."""

    name: str = setting(doc="Name of the run; its files live in runs_dir/name.", changes_result=False)
    recipe: str | None = setting(
        None,
        doc="Training recipe: `paper`, `paper_blip2`, `official`, `clean` (configs/recipes; "
        "`python -m train.recipes` compares them), or a YAML file; settings of this file and --set override it. null: "
        "none.",
        changes_result=False,  # its settings do
    )
    seed: int = setting(0, doc="Seeds all randomness.", at_least=0)
    runs_dir: str = setting("runs", doc="Folder of all runs.", changes_result=False)
    data: DataConfig = setting(
        DataConfig,
        doc="Raw sources and shards.",
        changes_result=False,  # the shards' fingerprints decide, not how the shards were made
    )
    model: ModelConfig = setting(doc="The model.")
    chat: ChatConfig = setting(ChatConfig, doc="Tokens and pixels.")
    optim: OptimConfig = setting(OptimConfig, doc="Optimizer and schedule.")
    loss: LossConfig = setting(LossConfig, doc="Loss.")
    train: TrainConfig = setting(TrainConfig, doc="Length and batches.")
    deepspeed: DeepSpeedConfig = setting(DeepSpeedConfig, doc="DeepSpeed.")
    monitor: MonitorConfig = setting(MonitorConfig, doc="Loss-spike monitor.")
    checkpoint: CheckpointConfig = setting(CheckpointConfig, doc="Checkpoints.")
    logging: LoggingConfig = setting(LoggingConfig, doc="Metric sinks.")
    slurm: SlurmConfig = setting(SlurmConfig, doc="Cluster.")
    evaluate: tuple[str, ...] = setting(
        tuple, doc="Evaluation configs run on the export by launch.submit.", changes_result=False
    )

    def __post_init__(self) -> None:
        """Raise `ConfigError` for impossible combinations."""
        super().__post_init__()
        check_name(self.name, "name")
        if not self.train.sources:
            raise ConfigError("train.sources is empty; name at least one source of data.sources")
        check_sources_exist(self.train.sources + self.train.heldout, self.data.sources)
        both = sorted(set(self.train.sources) & set(self.train.heldout))
        if both:
            raise ConfigError(f"{both[0]!r} is in train.sources and in train.heldout; keep it in one of them")
        self._check_choice()
        if self.model.mode == "full" and self.optim.lr_vision == self.optim.lr_language == self.optim.lr_projector == 0:
            raise ConfigError("mode full with every learning rate 0 trains nothing; set one above 0")
        if self.model.mode == "lora":
            self._check_lora()

    def _check_lora(self) -> None:
        """Raise `ConfigError` for a part in LoRA's scope whose rate is 0, and for DoRA where weights are split."""
        rates = {part: getattr(self.optim, f"lr_{part}") for part in self.model.lora.scope}
        for part in (part for part, rate in rates.items() if rate == 0):
            raise ConfigError(
                f"model.lora.scope has {part} and optim.lr_{part} is 0, so its LoRA would not train; set it above 0, or"
                f" take {part} out of the scope"
            )
        if self.model.lora.variant == "dora" and self.deepspeed.zero_stage == 3:
            raise ConfigError(
                "model.lora.variant is dora and deepspeed.zero_stage 3: DoRA computes the norm of whole weights, which"
                " ZeRO 3 splits among the ranks; set deepspeed.zero_stage to 2 or less, or another variant"
            )

    def _check_choice(self) -> None:
        """Raise `ConfigError` if the best checkpoint is asked for and nothing is measured to choose by."""
        wanted = "keep is best" if self.checkpoint.keep == "best" else f"patience is {self.checkpoint.patience}"
        if self.checkpoint.keep != "best" and not self.checkpoint.patience:
            return
        if not self.train.heldout:
            raise ConfigError(f"checkpoint.{wanted} and train.heldout is empty; name a source to choose by")
        if not self.train.heldout_every:
            raise ConfigError(f"checkpoint.{wanted} and train.heldout_every is 0, so only one step is measured; set it")
