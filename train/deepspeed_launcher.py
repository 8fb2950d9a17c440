"""DeepSpeed's launcher, which waits on a signal until the ranks have saved; the same options as `deepspeed`.

    python train/deepspeed_launcher.py --quiet --num_gpus 2 train/finetune.py --config configs/demo.yaml

`deepspeed` itself ends at once: on Ctrl-C with a traceback, on SIGTERM before its ranks. `vlm-classify train`, the
quickstart, the demo and sweeps start trainings by this file. Exit code after a signal: 128 + its number.
"""

import signal
import sys
from pathlib import Path
from types import FrameType

sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python puts this folder here, not the project's


class _Signalled(Exception):
    """The launcher got the signal of this number."""


def main() -> None:
    """Run DeepSpeed's launcher with the words of the command line."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _raise)
        from deepspeed.launcher import runner

        runner.main()
    except _Signalled as signalled:
        number = signalled.args[0]
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)  # a second one ends this process
        if "psutil" in sys.modules:  # DeepSpeed imports it
            wait_for_ranks(number)
        raise SystemExit(128 + number) from None


def wait_for_ranks(number: int) -> None:
    """Wait until the processes that this one started have ended. Ctrl-C reached them too; other signals they get here.

    DeepSpeed's launcher of a machine passes a signal on to its ranks, and kills those that live after 30 s.
    """
    import psutil

    started = psutil.Process().children()
    if number != signal.SIGINT:
        for process in started:
            process.send_signal(number)
    psutil.wait_procs(started)


def _raise(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
    raise _Signalled(number)


if __name__ == "__main__":
    main()
