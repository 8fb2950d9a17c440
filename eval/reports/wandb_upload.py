"""Evaluations in Weights & Biases: those of a run's model in the W&B run of its training.

The step of a checkpoint is the `step` of its numbers, so several checkpoints are a curve next to the training's. Tables
are those of the last checkpoint. Evaluations that end at the same time take turns, as two processes that write one
W&B run would overwrite each other; while the training still writes it, an evaluation is kept offline. W&B never makes
an evaluation fail.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from configs.errors import DataError, UserError, kind_and_line
from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.question import TRAINED
from configs.run import RunConfig
from configs.run_dir import run_of
from configs.saving import LoggingConfig
from data_prep.file_lock import is_held, locked
from data_prep.images import decode_rgb
from data_prep.shard_index import id_hash
from eval.reports import tracked_values as tracked
from eval.runner.batching import open_source
from eval.runner.evaluated_model import exported_step
from eval.runner.output_paths import output_paths_of
from eval.tasks.registry import make_task
from eval.types import ItemIndex
from train.loggers.run_description import describe_run
from train.loggers.wandb_session import WandbRun, WandbSession

SIDE = 224  # pixels of the longer side of an image in a table
MATRIX_CHART = "wandb/confusion_matrix/v1"


@dataclass(frozen=True)
class Target:
    """The W&B run that receives an evaluation; `step` is that of the run's export, None without."""

    logging: LoggingConfig
    folder: Path
    about: WandbRun
    step: int | None
    lock: Path | None

    def turn(self) -> AbstractContextManager[None]:
        """Held by one evaluation at a time."""
        return nullcontext() if self.lock is None else locked(self.lock, required=False)


def upload(config: EvalConfig, reports: Sequence[Mapping[str, Any]]) -> None:
    """Log `reports`, those of one evaluation, to the W&B run that `config` says; nothing where W&B is off."""
    try:
        target = target_of(config)
        if target is not None:
            with target.turn():
                _log(config, target, reports)
    except Exception as error:  # the answers are evaluated and reported: nothing of W&B may end that as an error
        print(f"W&B has not received this evaluation: {kind_and_line(error)}", file=sys.stderr, flush=True)


def target_of(config: EvalConfig) -> Target | None:
    """The W&B run of `config`'s evaluation, None if it is not logged. Raises `UserError` for a damaged run folder."""
    run = run_of(config.model)
    trained = None if run is None else load_config(RunConfig, run.config)[0].logging
    logging = trained or LoggingConfig()
    logging = replace(
        logging,
        wandb=logging.wandb if config.logging.wandb == TRAINED else config.logging.wandb,
        project=config.logging.project or logging.project,
        entity=config.logging.entity or logging.entity,
    )
    if logging.wandb == "off":
        return None
    if run is None:
        root = output_paths_of(config).root
        identity = hashlib.sha256(f"{root.resolve()} {config.name} {config.model}".encode()).hexdigest()[:12]
        model = Path(config.model).name if Path(config.model).exists() else config.model  # not a path of this machine
        about = WandbRun(f"{config.name} {model}", identity, {"evaluation": config.name, "model": model})
        return Target(logging, root, about, None, None)
    identity = json.loads(run.identity.read_text(encoding="utf-8")).get("wandb_id")
    if not isinstance(identity, str):
        raise DataError(f"{run.identity} has no wandb_id")
    if logging.wandb == "online" and is_held(run.lock):
        print(f"W&B: {run.root} is being trained, so the evaluation is kept offline", file=sys.stderr, flush=True)
        logging = replace(logging, wandb="offline")
    name = load_config(RunConfig, run.config)[0].name
    step = exported_step(run.export)
    return Target(logging, run.root, WandbRun(name, identity, describe_run(run)), step, run.wandb_lock)


def _log(config: EvalConfig, target: Target, reports: Sequence[Mapping[str, Any]]) -> None:
    session = WandbSession(target.logging, target.folder, target.about, lambda *_: None)
    ordered = tracked.in_step_order(reports, target.step)
    for report in ordered:
        step = tracked.step_of_report(report, target.step)
        values = tracked.numbers(report) | ({} if step is None else {"step": step})
        session.submit(lambda _, run, values=values: run.log(values))  # type: ignore[misc]
    step = tracked.step_of_report(ordered[-1], target.step)
    axis = {} if step is None else {"step": step}
    session.submit(lambda wandb, run: run.log(_tables(wandb, config, ordered[-1]) | axis))
    session.close()


def _tables(wandb: Any, config: EvalConfig, report: Mapping[str, Any]) -> dict[str, Any]:
    """Key to table; called in W&B's thread."""

    def table(columns: Sequence[str], rows: list[list[Any]]) -> Any:
        return wandb.Table(columns=list(columns), data=rows)

    seen = {key: (wandb.Image(image), question) for key, (image, question) in _seen(config, report).items()}
    tables = {
        "predictions": (tracked.SAMPLE_COLUMNS, tracked.sample_rows(report, seen)),
        "classes": (tracked.CLASS_COLUMNS, tracked.class_rows(report)),
        "confusions": (tracked.CONFUSION_COLUMNS, tracked.confusion_rows(report)),
    }
    found = {what: table(columns, rows) for what, (columns, rows) in tables.items() if rows}
    if matrix := tracked.matrix_rows(report):
        found["confusion_matrix"] = wandb.plot_table(
            MATRIX_CHART,
            table(tracked.MATRIX_COLUMNS, matrix),
            {column: column for column in tracked.MATRIX_COLUMNS},
            {"title": f"{report['name']}: confusion matrix"},
        )
    return {tracked.metric(report["name"], what): value for what, value in found.items()}


def _seen(config: EvalConfig, report: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Item id to (image of at most `SIDE` pixels, question) of the report's examples, those that can be read here."""
    found: dict[str, tuple[Any, str]] = {}
    try:
        shards = open_source(config)
    except UserError:  # the answers alone may be on this machine
        return found
    task, numbers = make_task(config.protocol), shards.numbers_by_hash()
    for example in report["examples"]:
        number = numbers.get(id_hash(example["id"]))
        try:
            if number is None or not isinstance((sample := shards.sample(number)).image, bytes):
                continue
            image = decode_rgb(sample.image)
            image.thumbnail((SIDE, SIDE))
            question = task.question(sample, ItemIndex(number, len(shards))).text
        except (UserError, OSError):
            continue
        found[example["id"]] = (image, question)
    return found
