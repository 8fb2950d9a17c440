"""Runs a program of `eval` that is killed, with all its processes, as soon as one of them has stored predictions.

python tests/eval/killed_evaluation.py MODULE ARGUMENT...      in a session of its own
"""

import os
import signal
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[2])

from eval.runner.predictions import PredictionWriter

write = PredictionWriter.write


def write_and_die(writer: PredictionWriter, records: Iterable[Any]) -> None:
    stored = list(records)
    write(writer, stored)
    if stored:
        os.killpg(0, signal.SIGKILL)


PredictionWriter.write = write_and_die  # also in worker processes, which import this file

if __name__ == "__main__":
    import_module(sys.argv[1]).main(sys.argv[2:])
