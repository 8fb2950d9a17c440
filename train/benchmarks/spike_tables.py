"""The spike monitor on made loss curves: tables of what it finds, next to other methods."""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from configs.command_line import emit_json
from configs.training import MonitorConfig
from train.benchmarks.spike_peers import PEERS
from train.benchmarks.spike_scores import OURS, Score, Scores, score_all
from train.benchmarks.spike_traces import FAULTS, REGIMES, Trace
from train.benchmarks.spikes_live import live_benchmark
from train.spikes.monitor import SpikeMonitor

FIXED = (0, 1, 2, 3, 4)
FALSE_ALARMS = {"gaussian": 1.0, "lognormal": 1.0, "bimodal": 1.0, "heavy": 15.0}
MOST_MILLISECONDS, RIGHT_NAMES = 0.2, 0.95


def targets(scores: Scores) -> Iterator[tuple[str, str, bool]]:
    """(what, figure, reached) for each target of our monitor."""
    ours = {regime: scores[OURS, regime] for regime in REGIMES}
    for regime, score in ours.items():
        rate = score.false_alarm_rate
        yield (
            f"false alarms per 10,000, {regime}",
            f"{rate:.1f} <= {FALSE_ALARMS[regime]:g}",
            rate <= FALSE_ALARMS[regime],
        )
    for name, fault in FAULTS.items():
        delays = [delay for score in ours.values() for delay in score.delays[name]]
        seen = [delay for delay in delays if delay is not None]
        worst, limit = max(seen, default=-1), fault.most_delay
        figure = f"{len(seen)}/{len(delays)} detected, longest delay {worst}" + (
            f" <= {limit}" if limit is not None else ""
        )
        yield name, figure, len(seen) == len(delays) and (limit is None or worst <= limit)
    after = sum(score.flagged_after_nan for score in ours.values())
    yield "healthy steps flagged after a NaN", f"{after} = 0", after == 0
    plateaus = sum(score.still_alarming for score in ours.values())
    count = sum(len(score.delays["never recovers"]) for score in ours.values())
    yield "still alarming at step 300 of a plateau", f"{plateaus}/{count}", plateaus == count
    right = sum(score.named_right for score in ours.values()) / sum(score.named for score in ours.values())
    yield "recovery classified correctly", f"{right:.1%} >= {RIGHT_NAMES:.0%}", right >= RIGHT_NAMES


def milliseconds_per_step(steps: int = 3000) -> float:
    """Time of one `observe` with two sources, gradient norm and update, in milliseconds of one core."""
    monitor = SpikeMonitor(MonitorConfig())
    readings = [reading for reading, _ in zip(Trace("lognormal", 0).readings(), range(steps), strict=False)]
    began = time.process_time()
    for reading in readings:
        losses = {"imagenet": reading.loss, "llava": 2 * reading.loss}
        monitor.observe(reading.step, losses, reading.grad_norm, 1e-4 * reading.grad_norm)
    return (time.process_time() - began) / steps * 1000


def _delay_cell(score: Score, name: str) -> str:
    delays = score.delays[name]
    seen = [delay for delay in delays if delay is not None]
    if not seen:
        return "-"
    middle = f"{statistics.median(seen):.0f}"
    return middle if len(seen) == len(delays) else f"{middle} ({len(seen)}/{len(delays)})"


def peer_table(scores: Scores) -> str:
    """False alarms and median delays of all rules, all regimes together; (detected/all) where some were missed."""
    names = (OURS, *PEERS)
    rows = [["", *names]]
    for regime in REGIMES:
        rows.append([f"false alarms, {regime}", *(f"{scores[name, regime].false_alarm_rate:.1f}" for name in names)])
    pooled = {name: _pooled(scores, name) for name in names}
    rows += [[f"delay, {fault}", *(_delay_cell(pooled[name], fault) for name in names)] for fault in FAULTS]
    rows.append(["flagged after a NaN, of 128", *(f"{_mean_after_nan(pooled[name]):.0f}" for name in names)])
    rows.append(["alarming at plateau's step 300", *(f"{pooled[name].still_alarming}" for name in names)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _pooled(scores: Scores, name: str) -> Score:
    pooled = Score()
    for regime in REGIMES:
        score = scores[name, regime]
        pooled.flagged_after_nan += score.flagged_after_nan
        pooled.still_alarming += score.still_alarming
        for fault, delays in score.delays.items():
            pooled.delays.setdefault(fault, []).extend(delays)
    return pooled


def _mean_after_nan(score: Score) -> float:
    return score.flagged_after_nan / len(score.delays["NaN once"])


def traces_benchmark(seeds: Sequence[int], label: str) -> tuple[str, dict[str, Any], bool]:
    """(table as text, its data, whether all targets are reached)."""
    scores = score_all(seeds)
    rows = list(targets(scores))
    cost = milliseconds_per_step()
    rows.append(("milliseconds per step", f"{cost:.3f} < {MOST_MILLISECONDS}", cost < MOST_MILLISECONDS))
    lines = [f"{label} seeds {' '.join(map(str, seeds))}", "", peer_table(scores), ""]
    lines += [f"{'pass' if reached else 'FAIL'}  {what:42} {figure}" for what, figure, reached in rows]
    data = {
        "seeds": list(seeds),
        "targets": [{"target": what, "figure": figure, "reached": reached} for what, figure, reached in rows],
        "scores": {f"{rule} / {regime}": vars(score) for (rule, regime), score in scores.items()},
    }
    return "\n".join(lines) + "\n", data, all(reached for *_, reached in rows)


def measure_and_print(arguments: argparse.Namespace) -> None:
    """Run the selected benchmarks."""
    fresh = tuple(random.SystemRandom().sample(range(10_000, 10_000_000), 5))
    chosen, parts = {"fixed": FIXED, "fresh": fresh}, []
    for label in ("fixed", "fresh") if arguments.seeds == "both" else (arguments.seeds,):
        if arguments.live:
            parts.append((label, *live_benchmark(chosen[label][0])))
        else:
            parts.append((label, *traces_benchmark(chosen[label], label)))
    if not emit_json(arguments.json, {label: data for label, _, data, _ in parts}):
        print("\n".join(table for _, table, _, _ in parts))
    sys.exit(0 if all(reached for *_, reached in parts) else 1)
