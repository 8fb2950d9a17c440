"""Runs every model of an evaluation, one after another, in one process or in several independent processes."""

import errno
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from configs.command_line import exit_on_user_error
from configs.errors import RunError, UserError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from data_prep.atomic import write_bytes
from data_prep.processes import ProcessExit, Send, WorkerProcesses
from data_prep.source_match import absent_paths
from eval.models.factory import evaluated_folders, load_eval_model
from eval.models.generative import precision_and_attention
from eval.models.registry import backend_name
from eval.runner.batching import Share, open_source
from eval.runner.checked_folder import CheckedFolder
from eval.runner.class_check import check_classes
from eval.runner.evaluate import run_evaluation
from eval.runner.output_paths import output_paths_of
from eval.runner.training_data import training_notes
from eval.types import EvalModel

Models = list[tuple[str, Path]]
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def evaluate_models(config: EvalConfig, share: Share, processes: int = 1) -> list[EvalDir]:
    """Run this share of the questions on all models of `config` in `processes` processes; returns the answers' folders.

    Raises `UserError` for mistakes that a user can fix; `RunError` if a process ended badly.
    """
    shards = open_source(config)  # a missing shard set is reported before checkpoints are exported
    notes = (*absent_paths(config.data, (config.source,)), *check_classes(config, shards), *training_notes(config))
    for note in notes:
        print(f"{config.name}: {note}", file=sys.stderr, flush=True)
    models = evaluated_folders(config)
    _start([config], models, share.split(processes), keep_going=False)
    paths = output_paths_of(config)
    return [paths.folder(label, model) for label, model in models]


def run_evaluations(configs: Sequence[EvalConfig], share: Share, processes: int = 1) -> Models:
    """Run several evaluations of one model, which is loaded once; returns the models. All configs name the same model.

    An evaluation that this model cannot run is skipped (`EvalDir.refusal` gives the reason), and the next one is run.
    Raises `RunError` if a process failed.
    """
    first = configs[0]
    models = evaluated_folders(first)
    _start(configs, models, share.split(processes), keep_going=True)
    return models


def _start(configs: Sequence[EvalConfig], models: Models, shares: Sequence[Share], keep_going: bool) -> None:
    if len(shares) == 1:
        run_share(configs, models, shares[0], keep_going)
        return
    tasks = [(part, (number, len(shares))) for number, part in enumerate(shares)]
    failed = []
    with WorkerProcesses(partial(_process, configs, models, keep_going), tasks, "spawn") as workers:
        for number, message in workers.messages():
            if isinstance(message, ProcessExit) and message.code:
                failed.append(f"process {number} exited with code {message.code}")
    if failed:
        raise RunError(f"{'; '.join(failed)}; see the error above. The same command continues where they stopped")


def run_share(configs: Sequence[EvalConfig], models: Models, share: Share, keep_going: bool = False) -> None:
    """Run every model in this process; with `keep_going` a refused evaluation's reason goes to its folder."""
    for label, model in models:
        opened: dict[tuple[str, str], EvalModel] = {}
        for config in configs:
            folder = output_paths_of(config).folder(label, model)
            try:
                key = precision_and_attention(config)
                if key not in opened:
                    opened = {}  # one model at a time in memory
                    opened[key] = load_eval_model(config, model)
                run_evaluation(config, opened[key], (label, model), folder, share)
                _clear_refusals(folder, share)
                if backend_name(config.model) is None:
                    CheckedFolder(config, model).remember()
            except UserError as error:
                if not keep_going:
                    raise
                print(f"{config.name} {label}: {error}", file=sys.stderr, flush=True)
                folder.root.mkdir(parents=True, exist_ok=True)
                write_bytes(folder.refusal(share.worker), f"{error}\n".encode())
            except OSError as error:  # no evaluation can continue if nothing can be written
                if error.errno not in DISK:
                    raise
                raise RunError(
                    f"{folder.root} cannot be written ({error.strerror}); make room: the same command continues, "
                    "and no answer is lost"
                ) from error


def _clear_refusals(folder: EvalDir, share: Share) -> None:
    """Delete this share's refusal, and the refusals of worker numbers that no longer exist."""
    for worker, file in folder.refusals().items():
        if worker == share.worker or worker >= share.workers:
            file.unlink(missing_ok=True)


def _process(
    configs: Sequence[EvalConfig],
    models: Models,
    keep_going: bool,
    task: tuple[Share, tuple[int, int]],
    _send: Send,
) -> None:
    """Process i of n with its share, (share, (i, n)): its own GPU if there are several, else its part of the cores."""
    share, process = task
    devices = torch.cuda.device_count()
    if devices > 1:
        torch.cuda.set_device(process[0] % devices)
    if not devices:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // process[1]))
    try:
        run_share(configs, models, share, keep_going)
    except UserError as error:
        exit_on_user_error(error)
