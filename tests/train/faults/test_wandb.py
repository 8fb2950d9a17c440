"""W&B that cannot be reached, never answers or only fails: training goes on at its speed, a copy is kept, one event."""

import http.server
import json
import socket
import statistics
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from wandb.proto.wandb_internal_pb2 import Record

import train.loggers.wandb_session as wandb_session
from configs.run_dir import RunDir
from configs.saving import LoggingConfig
from train.loggers.wandb_logger import WandbLogger
from train.loggers.wandb_session import WandbRun, WandbSession

pytestmark = pytest.mark.slow

KEY = "canary0123456789012345678901234567890123"  # 40 characters, as a real one


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class Failing(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_error(500)

    do_GET = do_PUT = do_POST

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def failing() -> Iterator[str]:
    """A server that answers 500."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def unreachable() -> str:
    """An address where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def records_of(file: Path) -> list[Record]:
    """The records of a .wandb file: LevelDB's log format, blocks of 32 KiB, after a header of 7 bytes."""
    data, place, records, parts = file.read_bytes(), 7, [], b""
    while place + 7 < len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or its last part
            records.append(Record.FromString(parts))
            parts = b""
    return records


def cells():
    for name, what in (("silent", "never answers"), ("failing", "answers 500"), ("unreachable", "is not there")):
        mark = pytest.mark.fault(
            30, f"a W&B server that {what}", "trained, offline copy, one event", long=name != "silent"
        )
        yield pytest.param(name, marks=mark, id=name)


@pytest.mark.parametrize("server", list(cells()))
def test_a_run_is_trained_and_kept_offline(request, server, tmp_path, monkeypatch, seen, until):
    monkeypatch.setenv("WANDB_BASE_URL", request.getfixturevalue(server))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(wandb_session, "START_TIMEOUT", 5.0)
    events, run = [], RunDir(tmp_path)
    logger = WandbLogger(LoggingConfig(wandb="online"), run, WandbRun("name", "abc123", {"a": 1}), events.append)
    for step in range(50):
        logger.log_step({"step": step, "loss": 1.0, "lr": {"projector": 0.1}})
    logger.log_event({"kind": "straggler", "step": 50, "message": "rank 1"})
    logger.close()
    assert [event["kind"] for event in events] == ["wandb_offline"]
    kept = list(run.wandb.glob("offline-run-*/run-abc123.wandb"))
    assert len(kept) == 1
    until(lambda: any(record.HasField("exit") for record in records_of(kept[0])), "W&B's process does not finish")
    records = records_of(kept[0])
    steps = [
        item.value_json for record in records for item in record.history.item if "step" in (item.key, *item.nested_key)
    ]
    assert steps == [str(step) for step in (*range(50), 50)], "the last one counts the alert"
    assert [record.alert.title for record in records if record.HasField("alert")] == ["straggler at step 50"]
    everything = b"".join(file.read_bytes() for file in run.wandb.rglob("*") if file.is_file())
    assert KEY.encode() not in everything
    assert {record.run.host for record in records if record.HasField("run")} == {""}, "no host names"
    seen(f"offline copy of {kept[0].stat().st_size} bytes with all 50 steps, one event")


def test_a_wandb_that_fails_later_is_reported_once_and_closing_does_not_wait_for_it(tmp_path, monkeypatch):
    class Broken:
        def define_metric(self, *names: str, **more: str) -> None: ...

        def log(self, record: dict[str, object]) -> None:
            raise RuntimeError("the service is gone\nwith a long story")

    monkeypatch.setattr(WandbSession, "_open", lambda self: Broken())
    events: list[dict[str, object]] = []
    logger = WandbLogger(
        LoggingConfig(wandb="offline"), RunDir(tmp_path), WandbRun("name", "abc123", {}), events.append
    )
    for step in range(1000):
        logger.log_step({"step": step, "loss": 1.0})
    logger.close()
    assert not logger._session._thread.is_alive()
    assert logger._session._queue.empty(), "records do not pile up"
    assert [event["kind"] for event in events] == ["wandb_failed"]
    assert str(events[0]["message"]).endswith("RuntimeError: the service is gone")


def test_a_step_does_not_wait_for_a_service_that_does_not_answer(tmp_path, monkeypatch):
    """The service answers only after all steps were logged: had one waited, this test would never end."""
    all_logged, seen = threading.Event(), []

    class Slow:
        def define_metric(self, *names: str, **more: str) -> None: ...

        def log(self, record: dict[str, object]) -> None:
            all_logged.wait()
            seen.append(record["step"])

        def finish(self, **more: object) -> None: ...

    monkeypatch.setattr(WandbSession, "_open", lambda self: Slow())
    logger = WandbLogger(LoggingConfig(wandb="offline"), RunDir(tmp_path), WandbRun("name", "abc123", {}), print)
    for step in range(1000):
        logger.log_step({"step": step, "loss": 1.0})
    assert seen == []
    all_logged.set()
    logger.close()
    assert seen == list(range(1000))


@pytest.mark.fault(30, "a W&B server that never answers, a live run", "no step waits for it, same losses", long=True)
def test_a_live_run_has_the_losses_and_steps_of_one_without(rank_forker, silent, seen):
    """CPU seconds of the training thread would hide waiting; the median step is free of a busy machine's outliers."""
    settings = {"train__max_steps": 400, "train__epochs": 1000, "checkpoint__every": 1000}
    runs, environment = {}, {"WANDB_BASE_URL": silent, "WANDB_API_KEY": KEY}
    for attempt in range(3):
        for mode in ("off", "online"):
            more = {"logging__wandb": "online"} if mode == "online" else {}
            ranks = rank_forker.start(f"wandb-{mode}-{attempt}", **settings, **more, env=environment, ranks=1)
            ranks.ended()
            assert ranks.codes == {0: 0}, ranks.text()
            runs[mode, attempt] = ranks
    seconds = {
        mode: min(statistics.median(line["step_s"] for line in runs[mode, n].metrics()[50:]) for n in range(3))
        for mode in ("off", "online")
    }
    assert runs["off", 0].hexes() == runs["online", 0].hexes()
    ratio = seconds["online"] / seconds["off"]  # shown and not asserted: it is a busy machine's as much as ours
    seen(f"median step {seconds['off'] * 1e3:.2f} ms without, {seconds['online'] * 1e3:.2f} ms with: {ratio:.3f}")
    assert len(runs["online", 0].events("wandb_offline")) == 1
    assert json.dumps(runs["online", 0].events("wandb_offline")).find(KEY) < 0
