"""README and docs/: every command is accepted by its program, links resolve, generated parts are up to date."""

import ast
import dataclasses
import json
import re
import shlex
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest
from PIL import Image

from configs.evaluation import EvalConfig
from configs.run import RunConfig
from configs.section import Section
from data_prep import build
from data_prep.registry import READERS
from data_prep.shards import ShardSet
from launch.command_table import TRAIN, arguments_after, find
from launch.training import FINETUNE, launcher_command

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "slurm" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STARTS = r"(python -m (data_prep|train|eval|launch)\.|deepspeed |python train|vlm-classify )"
OTHER = (
    r"(make |pip install |git |export |cp |python -m (pip|pytest) |python docs/generate\.py|source |"
    r"sbatch |scancel |squeue )"
)


def console_lines(page: Path) -> list[str]:
    """The lines of a page's console blocks: comments removed, variables such as `$S` put in, prompts removed."""
    lines, variables = [], {}
    for block in re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.split(r"(?:^|\s{2,})#", line)[0].removeprefix("$ ").strip()
            if assignment := re.fullmatch(r'(\w+)="?(.*?)"?', line):
                variables[assignment[1]] = assignment[2]
            elif line:
                lines.append(re.sub(r"\$(\w+)", lambda match: variables.get(match[1], match[0]), line))
    return lines


def commands(page: Path) -> list[str]:
    """Every command of a page that starts one of our programs, in console blocks and in backticks.

    Left out are generated parts, and commands with a placeholder such as FILE.
    """
    text = re.sub(r"<!-- generated: .*?<!-- end -->", "", page.read_text("utf-8"), flags=re.DOTALL)
    named = re.findall(r"`((?:python|deepspeed|vlm-classify) [^`]+)`", text)
    bare = r"python -m \S+|deepspeed \S+\.py|vlm-classify \w+ \S+"  # a program's name without arguments
    lines = console_lines(page) + [f"{line} --help" if re.fullmatch(bare, line) else line for line in named]
    lines = [re.sub(r"^source <\((.*)\)$|\s+\| \w+$", r"\1", line) for line in lines]
    return [line for line in lines if re.match(STARTS, line) and not re.search(r"…|\b(FILE|NAME|MODULE|STAGE)\b", line)]


def entry_of(words: list[str]) -> tuple[str, list[str]]:
    """(module or file that a command starts, its arguments)."""
    if words[0] == "vlm-classify":
        if (command := find(words[1:])) is None:
            return "launch.cli", words[1:]
        rest = arguments_after(command, words[1:])
        if command != TRAIN:
            return command.module, rest
        words = launcher_command("deepspeed", rest)
        return "train/finetune.py", words[words.index(str(FINETUNE)) + 1 :]
    if words[0] == "deepspeed":
        return "train/finetune.py", words[words.index("train/finetune.py") + 1 :]
    return (words[2], words[3:]) if words[1] == "-m" else (words[1], words[2:])


ALL = sorted({command for page in PAGES for command in commands(page)})

# Each program runs up to the point where its arguments have been parsed; `--config` and `--set` are then loaded.
PARSE = """
import argparse, contextlib, io, json, runpy, sys
from pathlib import Path

class Parsed(BaseException):
    pass

import configs.command_line
from configs.errors import UserError
from configs.load import load_config

make_parser = configs.command_line.config_parser

def config_parser(doc, schema):
    parser = make_parser(doc, schema)
    parser.schema = schema
    return parser

configs.command_line.config_parser = config_parser
configs.command_line.output_file.__code__ = (lambda text: Path(text)).__code__  # makes no folders
parse = argparse.ArgumentParser.parse_args

def parse_and_stop(parser, *arguments):
    parsed = parse(parser, *arguments)
    if hasattr(parser, "schema"):
        schema = parser.schema
        if sys.argv[0].endswith(("data_prep.build", "data_prep/build.py")):  # builds for trainings and evaluations
            from data_prep.build import config_schema
            schema = config_schema(parsed.config)
        load_config(schema, parsed.config, parsed.overrides)
    raise Parsed

argparse.ArgumentParser.parse_args = parse_and_stop

def refusal(entry, rest):
    sys.argv = [entry, *rest]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            if entry == "launch.cli":
                import launch.cli
                launch.cli.main()
                return ""
            if entry.endswith(".py"):
                runpy.run_path(entry, run_name="__main__")
            else:
                runpy.run_module(entry, run_name="__main__", alter_sys=True)
        except Parsed:
            return ""
        except UserError as error:
            return f"{type(error).__name__}: {error}"
        except SystemExit as error:
            return "" if error.code in (0, None) else errors.getvalue() or str(error.code)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return "the program has parsed no arguments"

asked = json.load(sys.stdin)
print(json.dumps([refusal(entry, rest) for entry, rest in asked]))
"""


@pytest.fixture(scope="module")
def refusals() -> dict[str, str]:
    """Why a command is refused, or nothing; all in one process, since most of the time is spent on importing torch."""
    words = [[word for word in shlex.split(command) if word not in ("...", "…")] for command in ALL]
    asked = json.dumps([entry_of(line) for line in words])
    done = subprocess.run([sys.executable, "-c", PARSE], cwd=ROOT, input=asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(zip(ALL, json.loads(done.stdout.splitlines()[-1]), strict=True))


def test_there_are_commands_to_check():
    assert len(ALL) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("command", ALL)
def test_the_program_accepts_the_command(command, refusals):
    assert refusals[command] == ""
    for word in shlex.split(command):
        if word.startswith("configs/"):
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_console_blocks_hold_known_commands_only(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]["markers"]
    for line in console_lines(page):
        assert re.match(STARTS, line) or re.match(OTHER, line), line
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line
        if match := re.search(r'-m "not (\w+)"', line):
            assert any(marker.startswith(f"{match[1]}:") for marker in markers), line
        for word in shlex.split(line):
            if word.startswith("tests/"):
                assert (ROOT / word).exists(), word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text):
        file, _, anchor = link.partition("#")
        target = (page.parent / file) if file else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, link


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_a_page_opens_with_a_command_or_code(page):
    title, _, rest = page.read_text(encoding="utf-8").partition("\n")
    assert title.startswith("# ")
    assert re.match(r"\n```(console|python|yaml)\n", rest), f"{page.name} does not open with a command"


def test_the_readme_is_short_and_lists_every_page():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.encode()) <= 10_000
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in readme, f"{page.name} is not in the README's index"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    pattern = r"`((?:configs|data_prep|train|eval|launch|slurm|tests|docs)/[^`A-Z\s*]*)`"
    for name in re.findall(pattern, page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), name


def setting_names(schema: type[Section], prefix: str = "") -> set[str]:
    names = set()
    for spec in dataclasses.fields(schema):
        names.add(f"{prefix}{spec.name}")
        if isinstance(spec.type, type) and issubclass(spec.type, Section):
            names |= setting_names(spec.type, f"{prefix}{spec.name}.")
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_and_modules_that_a_page_names_exist(page):
    settings = setting_names(RunConfig) | setting_names(EvalConfig)
    sections = {name.split(".")[0] for name in settings if "." in name}
    for name in re.findall(r"`((?:[a-z_0-9]+\.)+[a-z_0-9]+)[:=`]", page.read_text(encoding="utf-8")):
        if name.endswith((".py", ".sbatch")):
            continue
        if name.split(".")[0] in sections | {"configs", "data_prep", "train", "eval", "launch"}:
            file = ROOT / name.replace(".", "/")
            named = name in settings or file.is_dir() or file.with_suffix(".py").is_file()
            # a function or class of a module, or an entry of a mapping of settings
            of_module = (
                file.parent.with_suffix(".py").is_file() and file.name in file.parent.with_suffix(".py").read_text()
            )
            assert named or of_module or name.startswith("data.sources."), name


@pytest.mark.slow
def test_generated_parts_are_up_to_date():
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_fault_rows_of_the_tests_are_explained():
    page = (ROOT / "docs" / "fault_tolerance.md").read_text(encoding="utf-8")
    explained = {int(row) for row in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert explained == set(range(1, 31))
    for file in re.findall(r"`(test_\w+\.py)` \|$", page, re.MULTILINE):
        assert "pytest.mark.fault(" in (ROOT / "tests" / "train" / "faults" / file).read_text(encoding="utf-8"), file


def test_metrics_that_the_page_explains_are_written():
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").split("## Evaluation")[0]
    source = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "train").rglob("*.py"))
    for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row):
            assert f'"{name}"' in source, name


def test_the_reader_of_the_data_page_builds_a_shard_set(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    (code, line) = re.findall(r"```python\n((?:from|    \"my_format).*?)```", page, re.DOTALL)
    monkeypatch.setitem(READERS, *ast.literal_eval(f"{{{line}}}").popitem())
    module = types.ModuleType("data_prep.readers.my_format")
    exec(compile(code, "data.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (tmp_path / "raw").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "raw" / "tom.jpg")
    source = {"sources": {"cats": {"reader": "my_format", "path": str(tmp_path / "raw")}}, "shards": str(tmp_path)}
    run = {"name": "x", "model": {"base": "none"}, "train": {"sources": ["cats"]}, "data": source}
    (tmp_path / "run.yaml").write_text(json.dumps(run))
    build.main(["--config", str(tmp_path / "run.yaml")])
    assert ShardSet.open(tmp_path / "cats").sample(0).turns[1].text == "cat"


def test_the_quickstart_lists_every_extra():
    text = (ROOT / "docs/quickstart.md").read_text()
    (listed,) = re.findall(r"extras are (.*)", text)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(listed.split(", ")) == extras.keys() - {"dev"}
