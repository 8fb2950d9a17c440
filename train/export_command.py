"""What `python -m train.export` does: writes an export, or takes the one that is there, and writes its card.

An export that an evaluation chose (`python -m eval.choose`) is replaced only where the step is named.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

from configs.command_line import exit_on_user_error
from configs.errors import RunError, UserError
from configs.run_dir import ExportDir, RunDir
from train.checkpoints.reading import steps_present
from train.exported_model import checkpoint_to_export, export_checkpoint, is_export_of
from train.model_card import write_model_card
from train.models.export_choice import evaluation_choice
from train.models.loading import resolve_folder
from train.push import check_repository, push


def export_and_print(arguments: argparse.Namespace) -> None:
    """Export one checkpoint of a run, or take the export there is for its card and upload."""
    run = RunDir(arguments.run)
    try:
        if arguments.push:
            check_repository(arguments.push)
        output = _present(run, arguments) or _export(run, arguments)
        if arguments.model_card or arguments.push:
            print(f"model card: {write_model_card(run, output, arguments.push)}", flush=True)
        if arguments.push:
            print(f"uploaded to {push(output, arguments.push)}")
    except UserError as error:
        exit_on_user_error(error)


def _present(run: RunDir, arguments: argparse.Namespace) -> Path | None:
    """The export that a card or an upload is about, where it needs no new one; None to export.

    Raises `RunError` if a new export would replace one that an evaluation chose.
    """
    step, wants_card = arguments.step, bool(arguments.model_card or arguments.push)
    other = arguments.base or any(_how(arguments).values())
    output = _output(run, arguments)
    if step is None and output.resolve() == run.export.resolve() and (chosen := evaluation_choice(run.export)):
        if other or not wants_card:
            raise RunError(
                f"{run.export} is {chosen}, and was not replaced. For a card of it use --model-card; to replace it, "
                f"name the step: --step N --output {run.export}"
            )
        print(f"{run.export} is {chosen}; nothing was exported", flush=True)
        return run.export
    if not wants_card or other or arguments.output or not run.config.is_file():
        return None
    if step is None and steps_present(run):
        step = checkpoint_to_export(run, None).step
    there = ExportDir(output).record.is_file() if step is None else is_export_of(output, run.checkpoint(step))
    if there:
        print(f"{output} is the export of that checkpoint already; nothing was exported", flush=True)
    return output if there else None


def _export(run: RunDir, arguments: argparse.Namespace) -> Path:
    checkpoint = checkpoint_to_export(run, arguments.step)
    output = export_checkpoint(run, checkpoint, _output(run, arguments), arguments.base, **_how(arguments))
    print(f"exported step {checkpoint.step} to {output}", flush=True)
    return output


def _output(run: RunDir, arguments: argparse.Namespace) -> Path:
    output: Path = arguments.output or default_output(run, arguments.step, **_how(arguments))
    return output


def _how(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"keep_adapter": arguments.keep_adapter, "lora_onto": arguments.lora_onto}


def default_output(run: RunDir, step: int | None, keep_adapter: bool = False, lora_onto: str | None = None) -> Path:
    """Default output: the run's export folder, or a separate one for each step, form and other model."""
    output = run.export if step is None else run.export_of(step)
    if keep_adapter:  # evaluations take the other folders, which hold the full model
        output = output.with_name(f"{output.name}-adapter")
    if lora_onto is not None:  # folders of one name, such as two exports, are different models
        digest = hashlib.sha256(str(resolve_folder(lora_onto).resolve()).encode()).hexdigest()[:8]
        output = output.with_name(f"{output.name}-onto-{Path(lora_onto).name}-{digest}")
    return output
