"""One rank that meets the others, with short intervals: run by test_rendezvous.py as a process of its own."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))


def main() -> int:
    from train.supervision import signals

    signals.install()  # before torch is imported, as train/finetune.py does
    from configs.errors import UserError
    from train.distributed import rendezvous

    rendezvous.NOTICE_EVERY = 0.3
    try:
        meeting = rendezvous.rendezvous_of(os.environ, slurm="SLURM_STEP_ID" in os.environ)
        store = meeting.meet(float(sys.argv[1]), signals.stop_requested)  # noqa: F841 - held: rank 0 serves it
        print("met", flush=True)
        sys.stdin.read()
        return 0
    except rendezvous.WaitStopped as stopped:
        print(f"stopped, waited for {stopped}", flush=True)
        return 0
    except UserError as error:
        print(f"error: {error}", flush=True)
        return 2


if __name__ == "__main__":
    sys.exit(main())
