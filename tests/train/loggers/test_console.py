"""What a log file and a terminal show of a training."""

import io
import re
import sys

import pytest

from train.loggers.console import ConsoleLogger


def record(step: int, **more: object) -> dict[str, object]:
    return {"step": step, "loss": 1.0, "grad_norm": 2.0, "samples_per_s": 3.0, **more}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [False, True])
def test_held_out_losses_have_a_line_with_the_time_when_they_are_measured(monkeypatch, capsys, terminal):
    if terminal:
        monkeypatch.setattr(sys, "stderr", Terminal())
    logger = ConsoleLogger(total_steps=1000, start=0)
    for step in range(1, 8):
        logger.log_step(record(step, **({"heldout_loss": {"birds": 0.25}} if step == 7 else {})))
    logger.close()
    lines = [line for line in capsys.readouterr().out.splitlines() if "step" in line]
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  step 7/1000  loss 1.0000  .* samples/s  held-out birds 0.2500", lines[-1]
    )
    assert len(lines) == (1 if terminal else 2), "a log also has the first step"


def test_events_have_the_time(capsys):
    logger = ConsoleLogger(total_steps=10, start=0)
    logger.log_event({"step": 3, "kind": "spike", "message": "loss is 9"})
    logger.close()
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \[step 3\] spike: loss is 9$", capsys.readouterr().err, re.M)
