"""What a dashboard of trainings shows: sections of panels over the metrics that the loggers write.

A key such as `grad_norm` is a metric of every step; a pattern such as `loss_by_source/` stands for all metrics of that
prefix, as their number depends on the run. docs/metrics.md says what each means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

X_AXIS = "step"
"""The metric on the horizontal axis of every curve: optimizer steps, for an evaluation those of its checkpoint."""


@dataclass(frozen=True)
class Panel:
    """Curves of `metrics`, or of all metrics that the regular expression `pattern` matches; or the table `table`.

    `matrix` is the table of a confusion matrix, which is drawn as one.
    """

    title: str
    metrics: tuple[str, ...] = ()
    pattern: str | None = None
    table: str | None = None
    matrix: str | None = None
    log_y: bool = False


@dataclass(frozen=True)
class Section:
    """Panels under a heading; `about` is the report's text above them."""

    name: str
    about: str
    panels: tuple[Panel, ...]


TRAINING = (
    Section(
        "Loss",
        "Cross entropy of the global batch, for each data source, and of sources that are never trained on.",
        (
            Panel("Loss", ("loss",)),
            Panel("Loss by source", pattern="^loss_by_source/.*$"),
            Panel("Held-out loss by source", pattern="^heldout_loss/.*$"),
        ),
    ),
    Section(
        "Gradient norm and alerts",
        "The norm is measured before clipping. The count of alerts rises where the loss-spike monitor finds something; "
        "the samples of those steps are in the table.",
        (
            Panel("Gradient norm", ("grad_norm",), log_y=True),
            Panel("Alerts so far", ("alerts",)),
            Panel("Size of the update", ("update_rms",), log_y=True),
            Panel("Samples of flagged steps", table="flagged_samples"),
        ),
    ),
    Section("Learning rates", "Of each part of the model.", (Panel("Learning rate", pattern="^lr/.*$"),)),
    Section(
        "Throughput",
        "Over all ranks. MFU is there where the device's peak is known.",
        (
            Panel("Samples per second", ("samples_per_s",)),
            Panel("Tokens per second", ("tokens_per_s",)),
            Panel("MFU", ("mfu",)),
            Panel("Seconds of a step, and those that it waited for data", ("step_s", "data_wait_s")),
        ),
    ),
    Section(
        "Memory and data",
        "Most memory used so far; samples that could not be read, or have no target.",
        (
            Panel("Peak memory in bytes", ("peak_memory_bytes",)),
            Panel("Samples that were not used", ("unreadable_samples", "samples_without_targets")),
            Panel("Supervised tokens of a step", ("supervised_tokens",)),
        ),
    ),
)
ACCURACY = Section(
    "Accuracy",
    "Of the evaluated checkpoints, by their steps, with 95 % intervals.",
    (
        Panel("Accuracy", pattern="^eval/.*/accuracy$"),
        Panel("Accuracy and its interval", pattern="^eval/.*/accuracy(_low|_high)?$"),
        Panel("Answers that name nothing", pattern="^eval/.*/no_answer$"),
    ),
)
EVALUATION_TABLES = {
    "predictions": "sample predictions",
    "classes": "accuracy of each class",
    "confusions": "confused classes",
}

MATRIX_CHART = "wandb/confusion_matrix/v1"
MATRIX_COLUMNS = ("Actual", "Predicted", "nPredictions")
"""W&B's own chart, and the columns of its table."""


def sections(evaluations: Sequence[str]) -> list[Section]:
    """All sections; with the tables of each of `evaluations`, whose names only the caller knows."""
    tables = tuple(
        Panel(f"{name}: {what}", table=f"eval/{name}/{key}")
        for name in evaluations
        for key, what in EVALUATION_TABLES.items()
    )
    matrices = tuple(
        Panel(f"{name}: confusion matrix", matrix=f"eval/{name}/confusion_matrix_table") for name in evaluations
    )
    return [*TRAINING, Section(ACCURACY.name, ACCURACY.about, (*ACCURACY.panels, *tables, *matrices))]


def specification(project: str, entity: str | None, chosen: Sequence[Section]) -> dict[str, Any]:
    """The dashboard as JSON; fields without a value are left out of panels."""
    shown: list[Mapping[str, Any]] = [
        asdict(section)
        | {"panels": [{key: value for key, value in asdict(panel).items() if value} for panel in section.panels]}
        for section in chosen
    ]
    return {"project": project, "entity": entity, "x_axis": X_AXIS, "sections": shown}
