"""Commands are lists in which every value is exactly one argument."""

import shlex
from pathlib import Path

import pytest

from configs.errors import ConfigError
from launch import commands

CONFIG = Path("configs/run.yaml")


def test_a_local_training_on_a_cpu_names_its_number_of_ranks() -> None:
    argv = commands.finetune_local("deepspeed", CONFIG, ["train.epochs=2"], ranks=2)
    typed = (
        "deepspeed --quiet --num_gpus 2 train/finetune.py --config configs/run.yaml --set train.epochs=2 --resume auto"
    )
    assert commands.as_typed(argv) == typed


def test_on_gpus_deepspeed_counts_the_ranks_itself() -> None:
    assert "--num_gpus" not in commands.finetune_local("deepspeed", CONFIG)


def test_under_srun_a_rank_is_plain_python() -> None:
    expected = ["python", "train/finetune.py", "--config", "configs/run.yaml", "--resume", "auto"]
    assert commands.finetune_rank("python", CONFIG) == expected


def test_one_worker_is_not_mentioned_and_several_are() -> None:
    assert "--workers" not in commands.data_prep("python", CONFIG)
    assert commands.data_prep("python", CONFIG, workers=3)[-2:] == ["--workers", "3"]
    assert commands.evaluate("python", CONFIG, ["model=runs/a"], workers=2)[-2:] == ["--workers", "2"]


def test_a_build_can_be_of_some_sources_and_in_several_processes() -> None:
    argv = commands.data_prep("python", CONFIG, ["cars", "birds"], processes=8)
    assert argv[-4:] == ["--sources", "cars,birds", "--processes", "8"]


def test_a_report_asks_no_question() -> None:
    assert commands.report("python", CONFIG)[-1] == "--report-only"


def test_a_comparison_names_each_model_with_its_folder() -> None:
    argv = commands.compare("python", Path("out"), {"base": Path("a"), "mix": Path("b c")})
    assert argv[2:] == ["eval.compare", "--output", "out", "base=a", "mix=b c"]


@pytest.mark.parametrize("value", ["name=$(touch x)", "name=`id`", "name='; id", 'name="', "name=a b", "name=*"])
def test_shell_characters_stay_one_argument(value: str) -> None:
    argv = commands.evaluate("python", CONFIG, [value])
    assert argv[-1] == value
    assert shlex.split(commands.as_typed(argv)) == argv


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\x00b", "a\x1b[31mb", "a\x7fb", "a\u2028b", "a\u202eb"])
def test_unprintable_characters_are_refused_with_their_position(value: str) -> None:
    with pytest.raises(ConfigError, match="position 6"):
        commands.evaluate("python", CONFIG, [f"name={value}"])


def test_programs_are_shown_by_their_short_names() -> None:
    assert commands.as_typed(["/opt/venv/bin/python", "x"], python="/opt/venv/bin/python") == "python x"
