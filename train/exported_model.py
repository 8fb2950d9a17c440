"""Exports: one is written from a checkpoint, and the model folder of a run is found."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from configs.errors import ConfigError, RunError
from configs.load import load_config
from configs.model import ModelConfig
from configs.run import RunConfig
from configs.run_dir import CheckpointDir, ExportDir, RunDir, step_name, step_of
from configs.trained import TrainingRecord, record_of, training_record_of_run
from data_prep.atomic import atomic_folder, write_bytes
from data_prep.checksum import sha256_of
from data_prep.file_lock import locked
from data_prep.provenance import StartLog, read_starts
from train.checkpoints.best import best_of, choice_record
from train.checkpoints.reading import (
    MANIFEST,
    Checkpoint,
    OtherFormat,
    newest_checkpoint,
    open_checkpoint,
    steps_present,
)
from train.exported_files import write_text_files
from train.models.checked_loading import load_checked, quiet_transformers
from train.models.fingerprint import model_identity
from train.models.folder_contents import contents
from train.models.language_weights import take_language
from train.models.linear_probe import StoredProbe, is_probe
from train.models.loading import DTYPES, resolve_folder
from train.models.lora import adapter_key, is_lora, merge_lora, peft_config
from train.models.pissa import read_initial, subtract
from train.models.registry import trainable_family_of

RECORD = ExportDir(Path()).record.name
ADAPTER = "adapter"


def export_checkpoint(
    run: RunDir,
    checkpoint: Checkpoint,
    output: Path,
    base: str | None = None,
    keep_adapter: bool = False,
    lora_onto: str | None = None,
) -> Path:
    """Write the model of `checkpoint` to `output` and return it, replacing an older export when complete.

    `lora_onto` names a model whose language weights the LoRA is merged onto, in place of the base's. Raises `RunError`
    if `base` (or the run's own) is not the model the run was trained from, or `lora_onto` has nothing to take.
    """
    output = output.resolve()
    config, _ = load_config(RunConfig, run.config)
    trained = training_record_of_run(run)
    _check_output(output)
    folder = resolve_folder(base or config.model.base, config.model.revision)
    _check_base(folder, run, checkpoint.state["base_identity"])
    family = trainable_family_of(folder).with_pixels(config.chat.min_pixels, config.chat.max_pixels)
    model = load_checked(family.model_class, folder, dtype="auto")
    weights = checkpoint.weights()
    lora = {name: weights.pop(name) for name in list(weights) if is_lora(name)}
    probe = {name: weights.pop(name) for name in list(weights) if is_probe(name)}
    record = _record(run, config, checkpoint, trained) | {"adapter": bool(lora) and keep_adapter}
    if lora_onto is not None:
        _check_lora_onto(run, config.model, lora)
        identity = take_language(model, family, resolve_folder(lora_onto))
        record["lora_onto"] = {"model": lora_onto, "identity": identity}
    _set_weights(model, weights)
    if lora and config.model.lora.variant == "pissa":
        subtract(model, read_initial(run), config.model.lora)
    if lora and not keep_adapter:
        merge_lora(model, lora, config.model.lora)
    family = family.take_image_size(model, config.chat.image_size, DTYPES[config.model.dtype])
    with atomic_folder(output) as temporary:
        with quiet_transformers():
            model.save_pretrained(temporary)
        write_text_files(family, folder, temporary, config.chat)
        if lora and keep_adapter:
            _write_adapter(temporary / ADAPTER, lora, peft_config(model, family, config.model.lora), output)
        if probe:
            described = {"weight": config.loss.probe, "position": "behind the image"}
            StoredProbe.of(probe, checkpoint.state["probe"]["classes"]).write(temporary, described)
        if trained.class_names:
            names = json.dumps(list(trained.class_names), indent=1, ensure_ascii=False)
            write_bytes(ExportDir(temporary).class_names, names.encode())
        record["contents"] = contents(temporary)
        _write_provenance(run, ExportDir(temporary))
        write_bytes(temporary / RECORD, json.dumps(record, indent=1).encode())
    return output


def _record(run: RunDir, config: RunConfig, checkpoint: Checkpoint, trained: TrainingRecord) -> dict[str, Any]:
    """What an export says of its training."""
    return {
        "run": config.name,
        "step": checkpoint.step,
        "checkpoint_sha256": _checkpoint_sha256(checkpoint.folder),
        "recipe": checkpoint.state.get("recipe"),
        "mode": config.model.trained_as,
        "base": config.model.base,
        "base_identity": checkpoint.state["base_identity"],
        "chosen": choice_record(run, checkpoint.step) if config.checkpoint.keep == "best" else None,
        **record_of(trained),
    }


def _check_lora_onto(run: RunDir, model: ModelConfig, lora: dict[str, torch.Tensor]) -> None:
    """Raise `RunError` where no LoRA can be merged onto another language model."""
    why = None
    if not lora:
        why = f"trained no LoRA (model.mode is {model.mode})"
    elif "language" not in model.lora.scope:
        why = f"trained no LoRA on the language model (model.lora.scope is {', '.join(model.lora.scope)})"
    elif model.lora.variant == "dora":
        why = "trained DoRA, whose magnitudes are those of the base's weights"
    if why:
        raise RunError(f"{run.root} {why}; leave --lora-onto out")


def _write_provenance(run: RunDir, export: ExportDir) -> None:
    """The export's own start, and all starts of its training, which may be deleted before the export."""
    with StartLog(export.provenance).recorded(training=read_starts(run.provenance)):
        pass


def _check_base(folder: Path, run: RunDir, expected: str) -> None:
    """Raise `RunError` if the weights in `folder` are not those that the run was trained from."""
    identity = model_identity(folder)
    if identity != expected:
        raise RunError(
            f"{folder} is not the base of {run.root}: its weights have identity {identity[:12]}, "
            f"the run was trained from {expected[:12]}; pass the right one with --base"
        )


def _check_output(output: Path) -> None:
    """Never replace a folder that is not an export."""
    if output.exists() and not _is_export(output) and (output.is_file() or any(output.iterdir())):
        raise RunError(f"{output} exists and is no export (it has no {RECORD}); choose another --output")


def _is_export(folder: Path) -> bool:
    """Whether the record in `folder` is that of an export; a base may have one with its chat settings alone."""
    record = _stored_record(folder)
    return record is not None and ("mode" in record or "chat" not in record)


def _stored_record(folder: Path) -> dict[str, Any] | None:
    """The record in `folder`, None without one; a damaged one is empty, so that the export is made anew."""
    file = folder / RECORD
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _set_weights(model: Any, weights: dict[str, torch.Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for name, tensor in weights.items():
        if name not in parameters:
            raise RunError(f"the base model has no weight {name}, which the checkpoint trains")
        if tensor.shape != parameters[name].shape:
            raise RunError(
                f"the checkpoint has {tuple(tensor.shape)} for {name}, the base model {tuple(parameters[name].shape)}"
            )
        parameters[name].data.copy_(tensor)


def _write_adapter(folder: Path, lora: dict[str, torch.Tensor], adapter: Any, exported: Path) -> None:
    """The LoRA as a peft adapter for the exported folder, whose projector is the trained one."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    adapter.base_model_name_or_path = str(exported)
    adapter.save_pretrained(str(folder))
    tensors = {adapter_key(name): tensor.contiguous() for name, tensor in lora.items()}
    save_file(tensors, ExportDir(folder.parent).adapter_weights)


def model_folders(reference: str, checkpoint: str = "export", revision: str | None = None) -> list[tuple[str, Path]]:
    """(label, model folder) for a run folder, a checkpoint folder, an export, any model folder or a hub id.

    For a run, `checkpoint` is `export`, `last`, `all` or a step; checkpoints are exported where they are not yet.
    Raises `RunError` if the run has none, `ConfigError` if `reference` is nothing of these.
    """
    path = Path(reference)
    if (path / MANIFEST).is_file() and CheckpointDir(path).state.is_file():
        step = step_of(path.name)
        if step is None:
            raise RunError(
                f"{path} is a checkpoint under another name; give it back {step_name(500)}, with its own step"
            )
        return [_exported(RunDir(path.parent.parent), step)]
    if not RunDir(path).config.is_file():
        return [("model", resolve_folder(reference, revision))]
    run = RunDir(path)
    if checkpoint == "export" and (run.export / RECORD).is_file():
        return [("export", run.export)]
    return [_exported(run, step) for step in _steps(run, checkpoint)]


def _steps(run: RunDir, checkpoint: str) -> list[int]:
    """The steps of a run that `checkpoint` means: `export` (without one), `last`, `all` or a step."""
    steps = steps_present(run)
    if not steps:
        raise RunError(f"{run.root} has no export and no checkpoint yet; train it first")
    if checkpoint == "all":
        return steps
    if checkpoint.isdigit():
        return [int(checkpoint)]
    if checkpoint not in ("export", "last"):
        raise ConfigError(f"checkpoint is {checkpoint!r}; give export, all, last or a step number")
    return [checkpoint_to_export(run, None, best=checkpoint == "export").step]


def check_checkpoints(reference: str, checkpoint: str) -> None:
    """Raise `RunError` where `model_folders` would find a damaged checkpoint. Nothing is exported.

    A run without checkpoints is none: it may be about to train.
    """
    path = Path(reference)
    run, step = RunDir(path.parent.parent), step_of(path.name)
    if CheckpointDir(path).manifest.is_file() and step is not None:
        steps = [step]
    else:
        run = RunDir(path)
        if not run.config.is_file() or not steps_present(run):
            return
        steps = _steps(run, checkpoint)
    for one in steps:
        if not is_export_of(run.export_of(one), run.checkpoint(one)):
            _opened(run, one)


def _exported(run: RunDir, step: int) -> tuple[str, Path]:
    """The export of one checkpoint, made now if it is not there."""
    output = run.export_of(step)
    with locked(run.export_lock):  # another worker may be exporting it: wait, then find it done
        if not is_export_of(output, run.checkpoint(step)):
            export_checkpoint(run, _opened(run, step), output)
    return step_name(step), output


def checkpoint_to_export(run: RunDir, step: int | None, best: bool = True) -> Checkpoint:
    """That of `step`; without, the best one if the run keeps it and `best`, else the newest."""
    if not run.config.is_file():
        raise RunError(f"{run.root} is no run folder: it has no config.yaml")
    if step is not None:
        return _opened(run, step)
    keeps = best and load_config(RunConfig, run.config)[0].checkpoint.keep == "best"
    if keeps and (chosen := best_of(run)):
        return _opened(run, chosen["step"])
    newest, problems = newest_checkpoint(run)
    if newest is None:
        raise RunError(f"{run.root} has no checkpoint yet")
    for problem in problems:
        print(f"skipped {problem}; step {newest.step} is taken", file=sys.stderr, flush=True)
    return newest


def _opened(run: RunDir, step: int) -> Checkpoint:
    """`open_checkpoint`; its errors name the steps that can be taken instead."""
    try:
        return open_checkpoint(run, step)
    except OtherFormat:
        raise
    except RunError as error:
        others = [other for other in run.steps() if other != step and (run.checkpoint(other) / MANIFEST).is_file()]
        if not others or step not in run.steps():
            raise
        listed = ", ".join(map(str, others))
        raise RunError(
            f"{error}. Restore it, or take another step (--step of train.export, checkpoint of an evaluation): {listed}"
        ) from error


def _checkpoint_sha256(folder: Path) -> str:
    """Identifies a checkpoint among others of the same step, as after a rollback: the hash of its manifest."""
    return sha256_of(folder / MANIFEST)


def is_export_of(output: Path, checkpoint: Path) -> bool:
    """Whether `output` is complete and was made from this checkpoint."""
    record = _stored_record(output)
    if not record:
        return False
    return not checkpoint.is_dir() or record.get("checkpoint_sha256") == _checkpoint_sha256(checkpoint)
