"""One table of all figures: met, missed, or why there is none."""

import json
import subprocess
from pathlib import Path

import pytest

from eval.benchmarks import cpu, cpu_checks
from eval.benchmarks.cpu import main
from eval.benchmarks.cpu_checks import PROGRAMS, rows_of

TRAINING = {
    "flops / transformers with activation checkpointing": 0.6,
    "seconds / transformers with activation checkpointing": 0.7,
    "flops / transformers": 0.88,
    "sides": {"ours": {"gradient_error": 1e-7}},
}


def fake(monkeypatch, results):
    """Programs that write `results` of their module, or fail."""

    def run(command, **options):
        assert options["env"]["OMP_NUM_THREADS"] == "1"
        module, output = command[2], command[command.index("--json") + 1]
        if module in results:
            Path(output).write_text(json.dumps(results[module]), encoding="utf-8")
            return subprocess.CompletedProcess(command, 1, "", "")
        return subprocess.CompletedProcess(command, 2, "", "usage\nerror: no tokenizer\n")

    monkeypatch.setattr(cpu_checks.subprocess, "run", run)


def test_the_programs_in_the_help_are_those_that_run():
    assert tuple(PROGRAMS) == cpu.PROGRAM_NAMES


def test_a_figure_at_its_goal_meets_it_and_one_beyond_misses_it():
    met = [row["met"] for row in rows_of(PROGRAMS["training"], TRAINING)]
    assert met == [True, False, True, True]


def test_the_table_has_all_rows_and_the_exit_code_says_that_a_goal_is_missed(monkeypatch, capsys):
    fake(monkeypatch, {"train.benchmarks.training": TRAINING})
    with pytest.raises(SystemExit) as stopped:
        main(["--only", "training,class-scoring"])
    assert stopped.value.code == 1
    text = capsys.readouterr().out
    assert "0.7     <= 0.68  MISSED" in text
    assert "0.88     <= 0.88  met" in text
    assert "FAILED with exit code 2: error: no tokenizer" in text
    assert "3 of 5 goals met" in text


def test_goals_that_are_all_met_end_with_code_0(monkeypatch, capsys):
    key = "seconds / transformers with activation checkpointing"
    fake(monkeypatch, {"train.benchmarks.training": TRAINING | {key: 0.5}})
    with pytest.raises(SystemExit) as stopped:
        main(["--only", "training", "--json"])
    assert stopped.value.code == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["program"] for row in result["rows"]] == ["training"] * 4


def test_an_unknown_program_is_one_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--only", "speed"])
    assert stopped.value.code == 2
    assert "--only has speed; programs are training, class-scoring," in capsys.readouterr().err
