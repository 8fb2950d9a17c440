"""The console: a progress bar on a terminal, a line every few steps elsewhere."""

import sys

from tqdm import tqdm

from data_prep.progress import print_above_bar, progress_bar
from train.loggers.types import Record

QUIET_EVERY = 20  # steps between lines where there is no terminal; fewer in a short run


class ConsoleLogger:
    """A progress bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total_steps: int, start: int):
        """The bar starts at step `start`."""
        self._terminal = sys.stderr.isatty()
        self._total = total_steps
        self._quiet_every = max(1, min(QUIET_EVERY, total_steps // 10))
        self._bar: tqdm[object] = progress_bar(name="train", unit="steps", total=total_steps, initial=start)

    def log_step(self, record: Record) -> None:
        """Advance the bar, or print a line."""
        text = f"loss {record['loss']:.4f}  |grad| {record['grad_norm']:.3f}  {record['samples_per_s']:.1f} samples/s"
        for source, loss in (record.get("heldout_loss") or {}).items():
            text += f"  held-out {source} {loss:.4f}"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(record["step"] - self._bar.n)
        step = record["step"]
        if not self._terminal and (step % self._quiet_every == 0 or step in (1, self._total)):
            print(f"step {step}/{self._total}  {text}", flush=True)

    def log_event(self, record: Record) -> None:
        """Print the event above the bar."""
        print_above_bar(f"[step {record['step']}] {record['kind']}: {record['message']}")

    def close(self) -> None:
        """Leave the bar on the terminal."""
        self._bar.close()
