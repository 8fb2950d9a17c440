"""Settings of DeepSpeed: the ZeRO stage and offloads."""

from dataclasses import dataclass

from configs.errors import ConfigError
from configs.section import Section, setting


@dataclass(frozen=True, kw_only=True)
class DeepSpeedConfig(Section):
    """Settings of the generated DeepSpeed configuration besides batch sizes and precision."""

    zero_stage: int = setting(
        0,
        doc="ZeRO stage, what is sharded over ranks: 0 nothing, 1 optimizer state, 2 + gradients, 3 + weights.",
        choices=(0, 1, 2, 3),
        changes_result=False,
    )
    base: str | None = setting(
        None,
        doc="Your own DeepSpeed JSON file. `auto` leaves a value to this config; one that contradicts it is an error.",
        changes_result=False,
    )
    offload_optimizer: str = setting(
        "none", doc="Where the optimizer state is stored.", choices=("none", "cpu", "nvme"), changes_result=False
    )
    offload_param: str = setting(
        "none", doc="Device of the weights (ZeRO-3 only).", choices=("none", "cpu", "nvme"), changes_result=False
    )
    nvme_path: str | None = setting(None, doc="Folder on a local disk for nvme offload.", changes_result=False)

    def __post_init__(self) -> None:
        """Raise `ConfigError` for offloads that the stage does not have."""
        super().__post_init__()
        if self.offload_param != "none" and self.zero_stage != 3:
            raise ConfigError(
                f"offload_param is {self.offload_param} with zero_stage {self.zero_stage}; it needs zero_stage: 3"
            )
        if self.offload_optimizer != "none" and self.zero_stage == 0:
            raise ConfigError(
                f"offload_optimizer is {self.offload_optimizer} with zero_stage 0; it needs zero_stage 1, 2 or 3"
            )
        if "nvme" in (self.offload_optimizer, self.offload_param) and not self.nvme_path:
            raise ConfigError("nvme offload needs nvme_path: a folder on a local disk")
