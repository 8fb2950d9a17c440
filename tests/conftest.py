"""What tests of several folders share."""

import importlib.util
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

# Two test processes and the ranks they start share the cores: more threads than cores would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Model folders that passed a check are remembered here, not in the home folder.
os.environ.setdefault("VLM_CLASSIFY_CACHE", tempfile.mkdtemp(prefix="vlm-classify-tests-"))


# The chat API of tests: `from chat_api_server import completion, failure` works in every test.
_spec = importlib.util.spec_from_file_location("chat_api_server", Path(__file__).with_name("chat_api_server.py"))
assert _spec and _spec.loader
chat_api_server = importlib.util.module_from_spec(_spec)
sys.modules["chat_api_server"] = chat_api_server
_spec.loader.exec_module(chat_api_server)

API_KEY_CANARY = "sk-canary-71c8b1d2"


@pytest.fixture
def chat_api(monkeypatch):
    """`chat_api(reply, ...)` starts a server with these replies and points the environment at it."""
    contexts = []

    def start(*replies):
        context = chat_api_server.serving(*replies)
        server = context.__enter__()
        contexts.append(context)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", API_KEY_CANARY)
        return server

    yield start
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A port that nobody listens at."""

    def port() -> int:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return int(listener.getsockname()[1])

    return port


@pytest.fixture(scope="session")
def deepspeed(free_port: Callable[[], int]) -> Callable[..., list[str]]:
    """`deepspeed --num_gpus 2 …` as words, meeting at a port of its own: the default one may be another run's."""

    def words(*arguments: object) -> list[str]:
        start = [str(Path(sys.executable).with_name("deepspeed")), "--num_gpus", "2", "--master_port", str(free_port())]
        return [*start, *map(str, arguments)]

    return words


# The fault suite: tests marked `fault(row, injected, expected, long=False)` inject a fault for real, say with the
# fixture `seen` what came of it, and stand in a table at the end. `--long-faults` runs the long ones (`make faults`).


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long-faults", action="store_true", help="also inject the faults that take minutes")
    parser.addoption("--fault-json", metavar="FILE", help="write the fault table to FILE")


def pytest_configure(config: pytest.Config) -> None:
    text = "fault(row, injected, expected, long=False): a row of the fault table"
    config.addinivalue_line("markers", text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    marks = {item: item.get_closest_marker("fault") for item in items}
    long = [item for item, mark in marks.items() if mark and mark.kwargs.get("long")]
    for item, mark in marks.items():
        if mark:
            item.user_properties.append(("fault", mark.args))
    if long and not config.getoption("--long-faults"):
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Write what came of the injected fault into the table."""
    return lambda text: request.node.user_properties.append(("seen", text))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            told = dict(report.user_properties) if report.when == "call" or outcome == "failed" else {}
            if "fault" in told:
                row, injected, expected = told["fault"]
                texts = "; ".join(value for key, value in report.user_properties if key == "seen")
                rows.append({"row": row, "injected": injected, "expected": expected, "seen": texts, "outcome": outcome})
    rows.sort(key=lambda line: (str(line["row"]).zfill(4), line["injected"]))
    if file := config.getoption("--fault-json"):
        Path(file).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if rows and (file or config.getoption("--long-faults")):
        terminalreporter.section("faults")
        for line in rows:
            told = f"{line['injected']} | expected: {line['expected']} | seen: {line['seen']}"
            terminalreporter.write_line(f"{line['row']:>3} {line['outcome']:<6} {told}")
