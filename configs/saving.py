"""Settings of what a run writes: checkpoints, the export, metrics."""

from dataclasses import dataclass

from configs.errors import ConfigError
from configs.section import Section, setting

MOST_PROJECT, MOST_GROUP, MOST_TAG = 128, 128, 64  # characters that W&B accepts
NOT_IN_PROJECT = "/\\#?%:"


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Section):
    """When the training state is saved and how many copies are kept."""

    every: int = setting(
        500, doc="Optimizer steps between checkpoints; the last step is always saved.", at_least=1, changes_result=False
    )
    keep_last: int = setting(3, doc="Number of newest checkpoints to keep.", at_least=1, changes_result=False)
    keep_every: int = setting(
        0, doc="Also keep checkpoints at multiples of this step count; 0: none.", at_least=0, changes_result=False
    )
    keep: str = setting(
        "last",
        doc="The checkpoint that is exported: the `last`, or the `best`, with the lowest held-out loss (mean over "
        "train.heldout). A checkpoint is then saved at every new best, and kept.",
        choices=("last", "best"),
        changes_result=False,
    )
    patience: int = setting(
        0,
        doc="Held-out measurements without a new best after which training ends early; 0: never.",
        at_least=0,
        changes_result=False,
    )
    asynchronous: bool = setting(
        True,
        doc="Write in the background; training waits while the state is copied to the main rank's memory (12 bytes "
        "per trained weight).",
        changes_result=False,
    )
    export: bool = setting(True, doc="Write the exported model when training ends.", changes_result=False)


@dataclass(frozen=True, kw_only=True)
class LoggingConfig(Section):
    """Where metrics go besides metrics.jsonl. API keys are read from the environment only."""

    wandb: str = setting(
        "off", doc="Weights & Biases mode.", choices=("off", "offline", "online"), changes_result=False
    )
    project: str = setting("vlm-classify", doc="W&B project.", changes_result=False)
    entity: str | None = setting(None, doc="W&B team or user.", changes_result=False)
    group: str | None = setting(
        None, doc="Group of the W&B run: runs of one experiment are shown together.", changes_result=False
    )
    tags: tuple[str, ...] = setting(tuple, doc="Tags of the W&B run, each of 1 to 64 characters.", changes_result=False)
    notes: str | None = setting(None, doc="Notes of the W&B run: what it is for.", changes_result=False)
    tensorboard: bool = setting(
        False, doc="Also write TensorBoard's event files, into `tensorboard` in the run folder.", changes_result=False
    )
    every: int = setting(1, doc="Steps between lines in metrics.jsonl.", at_least=1, changes_result=False)

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a project, group or tag that W&B refuses."""
        super().__post_init__()
        check_project(self.project)
        if self.group is not None and not 1 <= len(self.group) <= MOST_GROUP:
            raise ConfigError(f"group has {len(self.group)} characters; W&B takes 1 to {MOST_GROUP}")
        for tag in self.tags:
            if not 1 <= len(tag) <= MOST_TAG:
                raise ConfigError(f"tags: {tag[:20]!r} has {len(tag)} characters; W&B takes 1 to {MOST_TAG}")


def check_project(name: str) -> None:
    """Raise `ConfigError` for the name of a project that W&B refuses."""
    wrong = sorted(set(name) & set(NOT_IN_PROJECT))
    if wrong or not 1 <= len(name) <= MOST_PROJECT:
        problem = f"has {' '.join(wrong)}" if wrong else f"has {len(name)} characters"
        raise ConfigError(
            f"project is {name[:140]!r}, which {problem}; W&B takes 1 to {MOST_PROJECT} characters without "
            f"{NOT_IN_PROJECT}"
        )
