"""The console: a progress bar on a terminal, a line every few steps elsewhere."""

import sys

from tqdm import tqdm

from data_prep.progress import log_line, progress_bar
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
        """Advance the bar, or print a line; held-out losses are always a line, as the next step would replace them."""
        text = f"loss {record['loss']:.4f}  |grad| {record['grad_norm']:.3f}  {record['samples_per_s']:.1f} samples/s"
        heldout = "  ".join(f"held-out {source} {x:.4f}" for source, x in (record.get("heldout_loss") or {}).items())
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(record["step"] - self._bar.n)
        step = record["step"]
        due = step % self._quiet_every == 0 or step in (1, self._total)
        if heldout or (due and not self._terminal):
            log_line(f"step {step}/{self._total}  {text}{heldout and '  ' + heldout}", sys.stdout)

    def log_event(self, record: Record) -> None:
        """Print the event above the bar."""
        log_line(f"[step {record['step']}] {record['kind']}: {record['message']}")

    def close(self) -> None:
        """Leave the bar on the terminal."""
        self._bar.close()
