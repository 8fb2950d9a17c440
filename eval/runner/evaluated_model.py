"""What was measured: a model as published, or one that a run of ours trained, and on what.

A fine-tuned model belongs to other rows of the paper than its base, also if `paper_row` names one of the base's. An
export has its training in export.json, a run's folder has its configuration.
"""

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import ExportDir, run_of
from eval.runner.changed_settings import short
from train.models.export_choice import choice_phrase
from train.models.fingerprint import model_identity
from train.models.model_folder import read_object


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """`base` is the model as it was published; `mode` and `sources` are those of its training, None and () without.

    `lora_onto` is the model whose language weights its LoRA was merged onto, if not the base's (`train.export`).
    """

    base: str
    mode: str | None = None
    sources: tuple[str, ...] = ()
    lora_onto: str | None = None

    @property
    def finetuned(self) -> bool:
        """Whether a run of ours changed it."""
        return self.mode is not None


def identify_model(model: str) -> EvaluatedModel:
    """The model behind a run folder, a checkpoint, an export, or a model as published (folder or hub id)."""
    record = ExportDir(Path(model)).record
    try:
        values = export_record(Path(model))
        if "mode" in values:  # not the record of a model that was published with its chat settings
            onto = (values.get("lora_onto") or {}).get("model")
            return EvaluatedModel(str(values["base"]), str(values["mode"]), tuple(values["sources"]), onto)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{record} is damaged ({error}); export the run again with python -m train.export") from error
    run = run_of(model)
    if run is None:
        return EvaluatedModel(model)
    config, _ = load_config(RunConfig, run.config)
    return EvaluatedModel(config.model.base, config.model.trained_as, config.train.sources)


def export_record(folder: Path) -> dict[str, Any]:
    """The content of export.json in `folder`, empty without one. Raises `ConfigError` if it is damaged."""
    record = ExportDir(folder).record
    return read_object(record) if record.is_file() else {}


def exported_step(folder: Path) -> int | None:
    """The training step of the export in `folder`, if it says one. Raises `ConfigError` if its record is damaged."""
    step = export_record(folder).get("step")
    return step if isinstance(step, int) else None


def described_weights(model: str, identity: str) -> str:
    """The first digits of a weights' identity, and the step where an export of `model` (a run, or one export) has them.

    >>> described_weights("runs/flowers", "6da28a5989...")
    '6da28a598993... (step 28)'
    """
    run = run_of(model)
    folders = [Path(model)] if run is None else [run.export, *run.exported_steps()]
    for folder in folders:
        with suppress(ConfigError):  # a damaged export is another one's problem
            if model_identity(folder) == identity and (step := exported_step(folder)) is not None:
                return f"{short(identity)} (step {step})"
    return short(identity)


def describe_model(model: str) -> dict[str, Any]:
    """The description of `model` for report.json."""
    evaluated = identify_model(model)
    return {**asdict(evaluated), "finetuned": evaluated.finetuned}


def checkpoint_selection_notes(config: EvalConfig) -> list[str]:
    """One sentence on which items the exported checkpoint was chosen on, if it was; a list for all notes."""
    run = run_of(config.model)
    values = export_record(Path(config.model))
    if not values and run is not None and config.checkpoint == "export":
        values = export_record(run.export)
    if not (chosen := values.get("chosen")):
        return []
    items = " and ".join(f"{count:,} items of {source}" for source, count in chosen["items"].items())
    text = f"step {values['step']} is {choice_phrase(chosen)} on {items}"
    return (
        [f"{text}, which this evaluation asks about too: the accuracy is optimistic"]
        if config.source in chosen["items"]
        else [text]
    )
