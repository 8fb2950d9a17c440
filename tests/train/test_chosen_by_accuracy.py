"""From a training to the export of its most accurate checkpoint, by the commands as a user types them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from configs.eval_dir import EvalDir
from configs.run_dir import RunDir, step_name
from train.checkpoints.reading import steps_present

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
EVALUATION = """
name: unseen_open_world
model: {run}
source: unseen
dtype: fp32
protocol: {{task: open_world, prompt: paper, match: contains, max_new_tokens: 4}}
"""


def command(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def test_the_most_accurate_checkpoint_is_exported_and_reports_say_on_what_it_was_chosen(training_setup, tmp_path):
    command("train/finetune.py", *training_setup.arguments("accurate"))
    run = RunDir(training_setup.root / "runs" / "accurate")
    file = tmp_path / "evaluation.yaml"
    file.write_text(EVALUATION.format(run=run.root))
    shown = command("-m", "eval.choose", "--config", str(file), "--set", "limit=8")
    reports = {}
    for step in steps_present(run):
        folder = EvalDir(run.evaluation("unseen_open_world") / step_name(step))
        reports[step] = json.loads(folder.report("json").read_text())["accuracy"]
    assert set(reports) == {4, 8, 12} and all(accuracy["n"] == 8 for accuracy in reports.values())
    best = max(reports, key=lambda step: reports[step]["value"])
    record = json.loads((run.export / "export.json").read_text())
    assert record["step"] == best and f"exported {step_name(best)}" in shown
    assert record["chosen"]["items"] == {"unseen": 8} and record["chosen"]["value"] == reports[best]["value"]
    command("-m", "eval.run", "--config", str(file))
    report = json.loads(EvalDir(run.evaluation("unseen_open_world") / "export").report("json").read_text())
    (note,) = [note for note in report["data_notes"] if re.search("is the (best|earliest) of .*3 measurements", note)]
    assert "on 8 items of unseen, which this evaluation asks about too" in note
