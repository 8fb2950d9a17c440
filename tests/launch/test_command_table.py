"""The table of `vlm-classify`: it has every program, and knows the options of each."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from launch.command_table import COMMANDS, STAGES, TRAIN, arguments_after, find, suggestions
from launch.program_options import options_of

ROOT = Path(__file__).resolve().parents[2]

# Each program runs up to the point where it would parse its arguments.
OPTIONS = """
import argparse, importlib, json, sys

class Reached(BaseException):
    pass

def parse_args(parser, arguments=None, namespace=None):
    raise Reached(parser)

argparse.ArgumentParser.parse_args = parse_args
found = {}
for module in json.load(sys.stdin):
    heavy = {"torch", "transformers", "scipy", "matplotlib", "deepspeed", "wandb"} - sys.modules.keys()
    try:
        importlib.import_module(module).main()
    except Reached as reached:
        parser = reached.args[0]
        actions = [action for action in parser._actions if action.help != argparse.SUPPRESS]
        choices = {
            option: [str(value) for value in action.choices or ()]
            for action in actions for option in action.option_strings if option.startswith("--")
        }
        found[module] = choices, parser.format_help(), sorted(heavy & sys.modules.keys())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def parsers() -> dict[str, tuple[dict[str, list[str]], str, list[str]]]:
    """Options, help and slow imports of every program in the table, by its module; all in one process."""
    asked = json.dumps([command.module for command in COMMANDS])
    done = subprocess.run([sys.executable, "-c", OPTIONS], cwd=ROOT, input=asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_has_a_program_with_help_and_completion_knows_its_options(command, parsers):
    options, help_text, _ = parsers[command.module]
    assert help_text.startswith("usage: ")
    read = options_of(command.module).values
    assert set(read) == set(options)
    for option, values in read.items():
        assert not values or values == options[option], option


@pytest.mark.slow
def test_no_program_imports_a_slow_package_for_its_help(parsers):
    slow = {module: packages for module, (_, _, packages) in parsers.items() if packages}
    assert slow == {}, "import it after parsing; see `train.tools.order`"


def test_every_program_is_in_the_table():
    programs = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for folder in ("data_prep", "train", "eval", "launch")
        for file in (ROOT / folder).rglob("*.py")
        if re.search(r"(command|config)_parser\(__doc__", file.read_text(encoding="utf-8"))
    }
    assert programs == {command.module for command in COMMANDS}


def test_names_are_different_and_belong_to_a_stage_that_is_described():
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)
    assert {command.stage for command in COMMANDS} == set(STAGES)
    for command in COMMANDS:
        assert len(command.name.split()) == 2
        assert len(command.about) <= 70


def test_the_settings_of_a_program_are_those_of_a_run_or_of_an_evaluation():
    assert options_of("train.finetune").schema == "RunConfig"
    assert options_of("eval.run").schema == "EvalConfig"
    assert options_of("launch.watch").schema is None


@pytest.mark.parametrize(
    ("typed", "module", "rest"),
    [
        ("eval run --config a.yaml", "eval.run", "--config a.yaml"),
        ("train --config a.yaml", "train.finetune", "--config a.yaml"),
        ("train run --config a.yaml", "train.finetune", "--config a.yaml"),
        ("train export runs/a", "train.export", "runs/a"),
    ],
)
def test_words_name_a_program(typed, module, rest):
    command = find(typed.split())
    assert command.module == module
    assert arguments_after(command, typed.split()) == rest.split()


@pytest.mark.parametrize("typed", ["train", "train --help", "train -h", "eval", "eval nothing", "nothing", "run"])
def test_words_that_name_no_program(typed):
    assert find(typed.split()) is None


def test_near_names_are_suggested():
    assert suggestions(["eval", "rnu"]) == ["eval run"]
    assert suggestions(["evl", "run"]) == ["eval"]
    assert suggestions(["reproduce"]) == ["eval reproduce", "launch reproduce"]
    assert suggestions(["xyzzy"]) == []
    assert TRAIN.name == "train run"
