"""The rows of docs/fault_tolerance.md are those that the tests of this folder inject, in the files that it names."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow  # imports every test module of the folder

HERE = Path(__file__).parent
PAGE = Path(__file__).resolve().parents[3] / "docs" / "fault_tolerance.md"


def loaded(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"rows_of_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def marks_of(function: object) -> Iterator[object]:
    """The `fault` marks of a test, and of its parameters."""
    for mark in getattr(function, "pytestmark", ()):
        if mark.name == "fault":
            yield mark
        elif mark.name == "parametrize":
            for parameter in mark.args[1]:
                yield from (inner for inner in getattr(parameter, "marks", ()) if inner.name == "fault")


def test_every_row_is_injected_by_the_file_that_the_page_names():
    injected = {
        (int(mark.args[0]), file.name)
        for file in sorted(HERE.glob("test_*.py"))
        if file != Path(__file__)
        for name, value in vars(loaded(file)).items()
        if name.startswith("test_")
        for mark in marks_of(value)
    }
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    explained = {(int(row), file) for row, files in rows for file in re.findall(r"`(test_\w+\.py)`", files)}
    assert explained == injected
