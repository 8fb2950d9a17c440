"""Chooses a run's best checkpoint by accuracy, and exports it.

    python -m eval.choose --config configs/eval/flowers102_open_world.yaml --set model=runs/flowers102_projector

All checkpoints that the run keeps are evaluated, as with `checkpoint: all` in `python -m eval.run`; stored answers are
reused. The checkpoint with the highest accuracy replaces `RUN/export`, and export.json records the evaluation and the
items it was chosen on. Choose on other items than those you report: `--set source=…`, or `--set limit=256`.

    --stored      evaluate nothing: choose among the reports there are (`python -m launch.follow` makes them)
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from configs.command_line import config_parser, exit_on_user_error
from configs.errors import ConfigError, RunError, UserError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.run_dir import ExportDir, RunDir, run_of, step_name, step_of
from data_prep.atomic import atomic_folder, write_bytes
from data_prep.run_index import listed, read_result
from eval.run import report
from eval.runner.arguments import add_processes, add_protocol_argument, eval_config_of
from eval.runner.batching import Share
from eval.runner.evaluated_model import export_record


def best_report(reports: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The report with the highest accuracy, of equal ones the first.

    Raises `RunError` if there is none, or their numbers of items differ: the accuracies cannot be compared then.
    """
    if not reports:
        raise RunError("no checkpoint was evaluated; train the run first")
    counts = {report["label"]: report["accuracy"]["n"] for report in reports}
    if len(set(counts.values())) > 1:
        different = ", ".join(f"{label} {count:,}" for label, count in counts.items())
        raise RunError(
            f"the checkpoints have different numbers of answered items: {different}; evaluate the rest first"
        )
    if not all(counts.values()):
        raise RunError("the checkpoints have no accuracy to choose by; choose by an evaluation that a rule scores")
    return max(reports, key=lambda report: float(report["accuracy"]["value"]))


def as_good(reports: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> list[str]:
    """The labels of the other `reports` with the accuracy of `best`."""
    equal = [report["label"] for report in reports if report["accuracy"]["value"] == best["accuracy"]["value"]]
    return [label for label in equal if label != best["label"]]


def export_choice(run: RunDir, best: Mapping[str, Any], measured: int, equal: int = 1) -> dict[str, Any]:
    """Copy the export of the checkpoint of `best` to the run's export; returns its record.

    `equal` of the `measured` checkpoints have its accuracy.

    Raises `RunError` if `best` is not about a checkpoint, or the checkpoint's export is gone.
    """
    step = step_of(str(best["label"]))
    if step is None:
        raise RunError(f"{best['label']} is no checkpoint of {run.root}")
    chosen = {
        "by": f"accuracy in {best['name']}",
        "value": best["accuracy"]["value"],
        "items": {best["source"]: best["accuracy"]["n"]},
        "measured": measured,
        "equal": equal,
    }
    source = run.export_of(step)
    if not ExportDir(source).record.is_file():
        raise RunError(f"{best['label']} has the highest accuracy and its weights are gone: there is no {source}")
    record = export_record(source) | {"chosen": chosen}
    with atomic_folder(run.export) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
        write_bytes(ExportDir(temporary).record, json.dumps(record, indent=1).encode())
    return record


def stored_reports(run: RunDir, name: str) -> list[EvalDir]:
    """The folders of the checkpoints whose evaluation `name` is complete, by step."""
    found = []
    for step in run.evaluated_steps(name):
        folder = EvalDir(run.evaluation(name) / step_name(step))
        file = folder.report("json")
        if file.is_file() and not read_result(file)["items"]["missing"]:
            found.append(folder)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate, choose, export. Exits with code 2 on a mistake in configuration or data."""
    parser = config_parser(__doc__, EvalConfig)
    add_processes(parser)
    add_protocol_argument(parser)
    parser.add_argument("--stored", action="store_true", help="choose among the reports that exist; evaluate nothing")
    arguments = parser.parse_args(argv)
    try:
        config = replace(eval_config_of(arguments), checkpoint="all")
        run = run_of(config.model)
        if run is None or not (run.steps() or arguments.stored):
            raise ConfigError(f"model is {config.model!r}, which has no checkpoints; give the folder of a run")
        if arguments.stored:
            folders = stored_reports(run, config.name)
        else:
            from eval.runner.workers import evaluate_models  # loads torch

            folders = evaluate_models(config, Share(), arguments.processes)
            report(config, folders)
        reports = [read_result(folder.report("json")) for folder in folders]
        best = best_report(reports)
        others = as_good(reports, best)
        export_choice(run, best, len(reports), 1 + len(others))
    except UserError as error:
        exit_on_user_error(error)
    tie = (
        f"; {listed(others)} {'is' if len(others) == 1 else 'are'} as good, and the earliest was taken"
        if others
        else ""
    )
    number = f"{best['accuracy']['n']:,} items of {best['source']}"
    print(f"exported {best['label']} to {run.export}: chosen on {number}{tie}")


if __name__ == "__main__":
    main()
