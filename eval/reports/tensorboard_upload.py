"""Accuracies of a run's checkpoints as TensorBoard's event files, where the run's training writes such files too.

    runs/NAME/tensorboard/                  the training's curves
    runs/NAME/tensorboard/eval/EVALUATION/  accuracy with its interval over the steps, all checkpoints with a report

The folder of an evaluation is written again from its reports, so a report that is made twice is one point. Nothing of
TensorBoard makes an evaluation fail.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from typing import Any

from configs.errors import kind_and_line
from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir, run_of
from eval.reports import tracked_values as tracked
from eval.runner.evaluated_model import exported_step
from eval.runner.output_paths import output_paths_of


def write_tensorboard(config: EvalConfig) -> None:
    """Write all reports of `config`'s evaluation; nothing without a run, or where it does not use TensorBoard."""
    try:
        run = run_of(config.model)
        if run is None or not load_config(RunConfig, run.config)[0].logging.tensorboard:
            return
        from torch.utils.tensorboard import SummaryWriter

        folder = run.tensorboard / tracked.PREFIX / config.name
        shutil.rmtree(folder, ignore_errors=True)
        writer = SummaryWriter(str(folder))
        for step, report in sorted(_reports(config, run), key=lambda found: found[0]):
            for name, value in tracked.numbers(report).items():
                writer.add_scalar(name, value, step)
        writer.close()
    except Exception as error:  # the answers are reported: nothing of TensorBoard may end that as an error
        print(f"TensorBoard has not received this evaluation: {kind_and_line(error)}", file=sys.stderr)


def _reports(config: EvalConfig, run: RunDir) -> Iterator[tuple[int, dict[str, Any]]]:
    """(step, report) of every checkpoint of known step."""
    exported = exported_step(run.export)
    for folder in output_paths_of(config).existing():
        try:
            report = json.loads(folder.report("json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # not reported yet
        step = tracked.step_of_report(report, exported)
        if step is not None:
            yield step, report
