"""The help of every program."""

import ast
import os
import re
import signal
import subprocess
import sys
from contextvars import Context
from pathlib import Path

import pytest

from configs.command_line import (
    add_base_model,
    add_json,
    add_output_folder,
    at_least,
    command_parser,
    config_of,
    config_parser,
    emit_json,
    output_file,
    settings_help,
    tell_user_error,
)
from configs.errors import BUILD_SHARDS, DataError
from configs.evaluation import EvalConfig
from configs.run import RunConfig

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("data_prep", "train", "eval", "launch")
    for path in (ROOT / folder).rglob("*.py")
    if re.search(r"(command|config)_parser\(", path.read_text(encoding="utf-8"))
)


def test_help_begins_with_what_the_module_says_of_itself_line_for_line() -> None:
    doc = "Does a thing, 95 % of the time.\n\n    python -m a.thing   # first\n    python -m a.other   # second\n"
    assert doc.strip() in command_parser(doc).format_help()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_programs_docstring_has_a_command_to_copy(program: str) -> None:
    doc = ast.get_docstring(ast.parse((ROOT / program).read_text(encoding="utf-8"))) or ""
    module = program.removesuffix(".py").replace("/", ".")
    assert f"python -m {module}" in doc or f"deepspeed {program}" in doc


@pytest.mark.parametrize("schema", [RunConfig, EvalConfig])
def test_settings_are_shown_as_they_are_written_percent_signs_too(schema: type) -> None:
    shown = settings_help(schema)
    assert "%%" not in shown
    assert "data.shards = " in shown


def test_the_help_has_the_choices_and_limits_of_settings_and_the_fields_of_named_sections() -> None:
    lines = settings_help(RunConfig).splitlines()
    meaning = {line.split(" = ")[0].strip(): after.strip() for line, after in zip(lines[::2], lines[1::2], strict=True)}
    assert meaning["model.mode"].endswith("One of projector, lora, selective, full.")
    assert meaning["data.max_drop_fraction"].endswith("At least 0. At most 1.")
    assert {"data.sources", "data.sources.NAME.reader", "data.sources.NAME.path", "data.sources.NAME.options"} <= set(
        meaning
    )
    assert "  data.sources.NAME.path = null" in lines
    assert "  data.decode_check = true" in lines


def refusal(argument: list[str], capsys: pytest.CaptureFixture[str], **options: object) -> str:
    parser = command_parser("Does a thing.")
    parser.add_argument("--it", **options)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(argument)
    return capsys.readouterr().err.splitlines()[-1]


def test_where_results_go_is_prepared_or_refused_before_the_work(tmp_path: Path, capsys) -> None:
    assert output_file(str(tmp_path / "a" / "b" / "c.json")) == tmp_path / "a" / "b" / "c.json"
    assert (tmp_path / "a" / "b").is_dir()
    told = refusal(["--it", str(tmp_path / "a")], capsys, type=output_file)
    assert told.endswith(f"argument --it: {tmp_path}/a is a folder; name a file in it")
    (tmp_path / "file").touch()
    told = refusal(["--it", str(tmp_path / "file" / "c.json")], capsys, type=output_file)
    assert f"cannot make the folder {tmp_path}/file" in told


@pytest.mark.parametrize(("text", "told"), [("0", "0 is below 1"), ("-3", "-3 is below 1"), ("x", "invalid")])
def test_a_number_below_its_limit_is_refused_with_both(text: str, told: str, capsys) -> None:
    assert told in refusal([f"--it={text}"], capsys, type=at_least(1))


def test_a_real_program_calls_itself_what_one_types() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "launch.watch", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert shown.startswith("usage: python -m launch.watch")


@pytest.mark.parametrize("program", [p for p in PROGRAMS if "config_parser(" in (ROOT / p).read_text()])
def test_a_program_that_takes_a_config_heeds_every_argument_that_comes_with_it(program: str) -> None:
    text = (ROOT / program).read_text()
    assert re.search(r"\b(?:eval_)?config_of\(|\bprepare_states\(", text), "or --print-config is offered and ignored"


def test_json_is_printed_or_written_to_a_file(tmp_path: Path, capsys) -> None:
    parser = command_parser("Does a thing.")
    add_json(parser)
    assert not emit_json(parser.parse_args([]).json, {"a": 1})
    assert capsys.readouterr().out == ""
    assert emit_json(parser.parse_args(["--json"]).json, {"a": 1})
    assert capsys.readouterr().out == '{\n "a": 1\n}\n'
    assert not emit_json(parser.parse_args(["--json", str(tmp_path / "x" / "a.json")]).json, {"a": "ä"})
    assert (tmp_path / "x" / "a.json").read_text(encoding="utf-8") == '{\n "a": "ä"\n}\n'


def test_an_output_folder_is_required_unless_there_is_a_default(capsys) -> None:
    parser = command_parser("Does a thing.")
    add_output_folder(parser, "the report")
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([])
    parser = command_parser("Does a thing.")
    add_output_folder(parser, "the report", Path("runs"))
    assert parser.parse_args([]).output == Path("runs")
    assert "write the report to FOLDER (default: runs)" in parser.format_help()


PRINTS = "from configs.command_line import command_parser; command_parser('').parse_args(); print('x' * {})"


def without_reader(*words: str) -> "subprocess.CompletedProcess[str]":
    """The program with a pipe as its output whose reader is gone, as after `... | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [sys.executable, *words], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=300
        )
    finally:
        os.close(writing)


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_program_whose_reader_is_gone_ends_without_a_word(size):
    """Ten characters are written at the end of the process only, many at once."""
    assert without_reader("-c", PRINTS.format(size)).stderr == ""


def test_ctrl_c_ends_a_program_with_one_line():
    done = subprocess.run(
        [sys.executable, "-c", "from configs.command_line import command_parser; command_parser(''); "
         "raise KeyboardInterrupt"], cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stderr == "interrupted; stored results are kept: the same command continues\n"
    assert done.returncode == -signal.SIGINT


def test_another_broken_pipe_is_still_an_error():
    done = subprocess.run(
        [sys.executable, "-c", "from configs.command_line import command_parser; command_parser(''); "
         "raise BrokenPipeError('a worker is gone')"], cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert "a worker is gone" in done.stderr
    assert done.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [("launch.cli", "--help"), ("launch.cli", "eval", "protocols", "paper", "clean"), ("data_prep.build", "--help"),
     ("data_prep.build", "--config", "configs/demo.yaml", "--print-config")],
)  # fmt: skip
def test_programs_end_quietly_before_head(words):
    assert without_reader("-m", *words).stderr == ""


def test_an_error_about_missing_shards_names_the_build_of_the_program_s_config_with_the_settings_that_decide_data(
    capsys,
):
    error = DataError(f"the shard set x does not exist; build it with `{BUILD_SHARDS}`")
    told: list[str] = []

    def program(*words: str) -> None:
        parser = config_parser("", RunConfig)
        add_base_model(parser)
        config_of(parser.parse_args(["--config", "configs/demo.yaml", *words]), RunConfig)
        tell_user_error(error)
        told.append(capsys.readouterr().err)

    for words in ((), ("--set", "data.shards=my shards", "--set", "train.epochs=2", "--base", "tiny")):
        Context().run(program, *words)
    Context().run(tell_user_error, error)
    start = "error: the shard set x does not exist; build it with `python -m data_prep.build --config"
    assert told[0] == f"{start} configs/demo.yaml`\n"
    assert told[1] == f"{start} configs/demo.yaml --base tiny --set 'data.shards=my shards'`\n"
    assert capsys.readouterr().err == f"{start} FILE`\n"


@pytest.mark.parametrize("program", [program for program in PROGRAMS if program != "launch/reproduce.py"])
def test_every_option_says_what_it_is(program):
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / program).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"
    ]
    silent = [ast.unparse(call) for call in calls if not any(key.arg in ("help", None) for key in call.keywords)]
    assert silent == []


def test_an_option_s_default_is_in_the_help_once():
    parser = command_parser("A program.")
    for name, default, text in (
        ("a", 5, "rounds"),
        ("b", 7, "rounds (default 7)"),
        ("c", None, "x"),
        ("d", False, "y"),
    ):
        parser.add_argument(f"--{name}", default=default, help=text)
    shown = parser.format_help()
    assert "rounds (default: 5)" in shown
    assert shown.count("default") == 2
