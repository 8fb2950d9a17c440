"""Starts the work: every model of an evaluation in a row, by one process or by several that share nothing."""

import multiprocessing
import os
from pathlib import Path

import torch

from configs.errors import RunError, UserError
from configs.load import exit_on_user_error
from configs.run_dir import EvalDir
from configs.schema import EvalConfig
from eval.items import Share, open_source
from eval.places import Place, place_of
from eval.runner import ask_all
from eval.scoring.tree_forward import scoring_attention
from train.export import model_folders
from train.model import load_model

Models = list[tuple[str, Path]]


def ask_every_model(config: EvalConfig, share: Share, processes: int = 1) -> list[EvalDir]:
    """Ask all models of `config` this share of the questions, in `processes` processes; returns the answers' folders.

    Raises `UserError` for whatever a user can mend; `RunError` if a process ended badly.
    """
    shares = share.split(processes)
    open_source(config)  # a missing shard set is told before checkpoints are exported
    models = model_folders(config.model, config.checkpoint, config.revision)
    place = place_of(config)
    folders = [place.folder(label, model) for label, model in models]
    if processes == 1:
        ask_share(config, models, place, share)
        return folders
    context = multiprocessing.get_context("spawn")
    started = [
        context.Process(target=_process, args=(config, models, place, part, number, processes), daemon=True)
        for number, part in enumerate(shares)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    failed = [f"process {number} left with code {p.exitcode}" for number, p in enumerate(started) if p.exitcode]
    if failed:
        raise RunError(f"{'; '.join(failed)}; the reason stands above. The same command goes on where they stopped")
    return folders


def ask_share(config: EvalConfig, models: Models, place: Place, share: Share) -> None:
    """Ask every model in this process."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    attention = config.attention
    if config.protocol.kind == "class_scoring":
        attention = scoring_attention(attention, device, config.dtype)
    for label, model in models:
        loaded = load_model(str(model), None, config.dtype, attention, device)
        ask_all(config, loaded, label, place.folder(label, model), share)


def _process(config: EvalConfig, models: Models, place: Place, share: Share, number: int, processes: int) -> None:
    """One of several processes: its own GPU if there are more than one, else its part of the CPU's cores."""
    devices = torch.cuda.device_count()
    if devices > 1:
        torch.cuda.set_device(number % devices)
    if not devices:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes))
    try:
        ask_share(config, models, place, share)
    except UserError as error:
        exit_on_user_error(error)
