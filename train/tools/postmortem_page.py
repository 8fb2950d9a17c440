"""The page of a run's events and of the samples of its flagged steps."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.command_line import exit_on_user_error
from configs.errors import DataError, RunError, UserError
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir
from data_prep.curve_figure import Curve, Mark, curve_figure, window
from data_prep.figures import COLOURS, GREY
from data_prep.images import ImageError
from data_prep.page import Block, Figure, Folded, Heading, Numbers, Page, Table, Text
from data_prep.page_gallery import Gallery, Tile
from data_prep.run_index import write_page
from data_prep.sample import Sample
from data_prep.thumbnails import thumbnail
from train.data.order import PADDING
from train.data.sources import SourceSet
from train.loggers.jsonl import read_records
from train.plan import plan_order
from train.spikes.alerts import ALARMS, EPISODE_UPDATES

Record = dict[str, Any]
StepMessages = dict[int, str]  # data step to the message of its alarm
StepSamples = dict[int, list[Sample]]
MARKED = (*ALARMS, *EPISODE_UPDATES, "skipped", "rolled_back", "stopped_by_monitor")
ALARM = "alarm"
COLOUR_OF = {
    ALARM: COLOURS[6], "recovered": COLOURS[2], "accepted": GREY, "recovering": COLOURS[1], "rolled_back": COLOURS[3],
}  # fmt: skip
MAX_EPISODES = 8
SHOWN_EVENTS = 12  # more are folded
MOST_TEXT = 300  # characters of a turn that are shown


@dataclass(frozen=True)
class RunHistory:
    """Metrics and events of a run."""

    run: RunDir
    metrics: list[Record]
    events: list[Record]

    @classmethod
    def of(cls, folder: Path) -> "RunHistory":
        """Raises `RunError` if the folder holds no run."""
        run = RunDir(folder)
        if not run.metrics.is_file():
            raise RunError(f"{folder} holds no run: {run.metrics.name} is missing; give a folder such as runs/NAME")
        return cls(run, read_records(run.metrics), read_records(run.events))

    @property
    def marked(self) -> list[Record]:
        """The events that get a mark, in chronological order."""
        return [event for event in self.events if event["kind"] in MARKED]

    def curve(self, key: str, name: str) -> Curve:
        """One metric over the steps."""
        return Curve(name, [(line["step"], float(line[key])) for line in self.metrics if line.get(key) is not None])

    def by_name(self, key: str, *, measured: bool = False) -> list[Curve]:
        """A curve for each name of a metric that has several values, such as the loss of each source."""
        lines = [(line["step"], line[key]) for line in self.metrics if isinstance(line.get(key), dict)]
        names = dict.fromkeys(name for _, values in lines for name in values)
        return [
            Curve(name, [(step, float(v[name])) for step, v in lines if v.get(name) is not None], measured)
            for name in names
        ]


def flagged_steps(events: Sequence[Record]) -> StepMessages:
    """Data step to message, for the first step of each of the first `MAX_EPISODES` episodes and the step before it.

    The step before counts because a loss is computed before the update from its own batch: a loss that stays high was
    caused by an earlier batch.
    """
    found: dict[int, str] = {}
    for event in events:
        if not event.get("data_steps"):
            continue
        first = event["data_steps"][0]
        if first > 0:
            found.setdefault(first - 1, f"the step before: {event['message']}")
        if found.get(first, "the step before").startswith("the step before"):
            found[first] = event["message"]
    return dict(list(found.items())[: 2 * MAX_EPISODES])


def samples_of(run: RunDir, steps: Sequence[int], limit: int) -> StepSamples:
    """The samples of each data step, at most `limit`. Raises `DataError` if the run's shards are missing."""
    config, _ = load_config(RunConfig, run.config, [])
    sources = SourceSet.of(config.data, config.train.sources)
    order = plan_order(config, sources, 1)
    found = {}
    for step in steps:
        positions = next(order.batches(step))[:limit]
        found[step] = [sources.sample(position) for position in positions if position != PADDING]
    return found


def alarms_by_signal(events: Sequence[Record]) -> str:
    """How many alarms each signal raised, the most first, as a line of text.

    >>> alarms_by_signal([{"kind": "outlier", "signal": "loss/talk"}, {"kind": "skipped"}])
    'alarms by signal: loss/talk 1'
    """
    counts: dict[str, int] = {}
    for event in events:
        if event["kind"] in ALARMS:
            counts[event["signal"]] = counts.get(event["signal"], 0) + 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return "alarms by signal: " + (", ".join(f"{name} {count}" for name, count in ranked) or "none")


def as_text(history: RunHistory, steps: StepMessages, samples: StepSamples) -> str:
    """The content of the page without figures."""
    losses = [line["loss"] for line in history.metrics if math.isfinite(line["loss"])]
    last = history.metrics[-1]["step"] if history.metrics else 0
    lowest, newest = (min(losses), losses[-1]) if losses else (math.nan, math.nan)
    lines = [f"{history.run.root}: {last} steps; lowest loss {lowest:.4g}, last {newest:.4g}"]
    lines.append(alarms_by_signal(history.events))
    lines += [f"step {event['step']:6}  {event['message']}" for event in history.marked]
    for step, message in steps.items():
        lines.append(f"\ndata step {step}: {message}")
        for sample in samples.get(step, []):
            answer = next((turn.text for turn in sample.turns if turn.speaker == "gpt"), "")
            lines.append(f"    {sample.id}  {sample.label_name or ''}  {' '.join(answer.split())[:80]}")
    return "\n".join(lines)


def as_page(history: RunHistory, other: RunHistory | None, steps: StepMessages, samples: StepSamples) -> Page:
    """The page: curves with marks, the events, and a contact sheet of each flagged step."""
    marks = [_mark(event) for event in history.marked]
    blocks: list[Block] = [*_summary(history), *_events(history)]
    if other is not None and (history.metrics or other.metrics):
        both = [one.curve("loss", one.run.root.name) for one in (history, other)]
        figure = curve_figure(both, marks, "training loss")
        caption = " ".join(
            [*_smoothing(max((history, other), key=lambda one: len(one.metrics))), _about(marks, "the first run's ")]
        )
        blocks += [Heading("Both runs"), Figure(figure, caption)]
    blocks += _curves(history, marks)
    for step, message in steps.items():
        shown = samples.get(step, [])
        blocks += [Heading(f"Data step {step}"), Text(message)]
        if shown:
            count = "1 sample" if len(shown) == 1 else f"{len(shown):,} samples"
            blocks.append(Gallery([_tile(sample) for sample in shown], f"{count} of this step"))
        else:
            blocks.append(Text("The samples of this step could not be read from the shards.", warning=True))
    return Page(f"Post-mortem of {history.run.root.name}", blocks)


def _summary(history: RunHistory) -> list[Block]:
    """The run in three numbers; nothing without a step."""
    losses = [(line["loss"], line["step"]) for line in history.metrics if math.isfinite(line["loss"])]
    if not losses:
        return [Text("No step has a finite loss.", warning=True)]
    lowest, last = min(losses), losses[-1]
    return [
        Numbers(
            [
                ("steps", f"{history.metrics[-1]['step']:,}", ""),
                ("last loss", f"{last[0]:.4g}", f"at step {last[1]:,}"),
                ("lowest loss", f"{lowest[0]:.4g}", f"at step {lowest[1]:,}"),
                ("alarms", f"{sum(event['kind'] in ALARMS for event in history.events):,}", ""),
            ]
        )
    ]


def _events(history: RunHistory) -> list[Block]:
    """The events with a mark, then all events of events.jsonl; folded where they would hide the curves."""
    others = len(history.events) - len(history.marked)
    every = [Folded(f"All {len(history.events):,} events", [_event_table(history.events)])] if others else []
    if not history.marked:
        return [Heading("Events"), Text("The monitor raised no alarm, and no update was skipped."), *every]
    table = _event_table(history.marked)
    counts = alarms_by_signal(history.events)
    shown: Block = table
    if len(history.marked) > SHOWN_EVENTS:
        shown = Folded(f"All {len(history.marked):,} events of the monitor", [table])
    return [Heading("Events"), Text(f"{counts[:1].upper()}{counts[1:]}."), shown, *every]


def _event_table(events: Sequence[Record]) -> Table:
    rows = [
        [str(event.get("step", "")), str(event["kind"]).replace("_", " "), str(event.get("message", ""))]
        for event in events
    ]
    return Table(("step", "event", "message"), rows, numeric=frozenset({0}))


def _curves(history: RunHistory, marks: Sequence[Mark]) -> list[Block]:
    """A figure for each measure that the run has."""
    if not history.metrics:
        return []
    caption = " ".join([*_smoothing(history), _about(marks)])
    span = history.metrics[0]["step"], history.metrics[-1]["step"]

    def drawn(curves: Sequence[Curve], label: str) -> str:
        return curve_figure(curves, marks, label, span=span, logarithmic=label != "learning rate")

    blocks: list[Block] = [Heading("Loss by source"), Figure(drawn(history.by_name("loss_by_source"), "loss"), caption)]
    held_out = history.by_name("heldout_loss", measured=True)
    if held_out:
        blocks += [Heading("Held-out loss"), Figure(drawn(held_out, "held-out loss"), _about(marks))]
    else:
        blocks.append(Text("No held-out loss was measured."))
    for key, label in (("grad_norm", "gradient norm"), ("update_rms", "size of the update")):
        curve = history.curve(key, label)
        if curve.points:
            blocks += [Heading(label.capitalize()), Figure(drawn([curve], label), caption)]
    rates = history.by_name("lr")
    if rates:
        blocks += [Heading("Learning rate"), Figure(drawn(rates, "learning rate"), _about(marks))]
    return blocks


def _smoothing(history: RunHistory) -> list[str]:
    size = window(len(history.metrics))
    return [f"Pale: each step; bold: the mean of {size} steps."] if size > 1 else []


def _about(marks: Sequence[Mark], whose: str = "") -> str:
    return f"Vertical lines are {whose}events; point at one for its text." if marks else "No alarm to mark."


def _tile(sample: Sample) -> Tile:
    lines = [("label", f"{sample.label} {sample.label_name}")] if sample.label_name is not None else []
    lines += [("question" if turn.speaker == "human" else "answer", turn.text[:MOST_TEXT]) for turn in sample.turns[:2]]
    picture = None
    if isinstance(sample.image, bytes):
        try:
            picture = thumbnail(sample.image)
        except ImageError as error:
            lines.append(("image", f"cannot be decoded: {error}"))
    return Tile(picture, sample.id, lines)


def _mark(event: Record) -> Mark:
    label = event["kind"] if event["kind"] in COLOUR_OF else ALARM
    return Mark(event["step"], label.replace("_", " "), event["message"], COLOUR_OF[label])


def write_and_print(arguments: argparse.Namespace) -> None:
    """Print the events and flagged samples of a run, and write the page. Exits with code 2 without a run."""
    try:
        history = RunHistory.of(arguments.run)
        other = None if arguments.other is None else RunHistory.of(arguments.other)
        steps = flagged_steps(history.events)
        try:
            samples = samples_of(history.run, list(steps), arguments.samples) if steps else {}
        except (DataError, OSError) as error:
            print(f"no samples shown: {error}")
            samples = {}
        print(as_text(history, steps, samples))
        write_page(history.run.postmortem, as_page(history, other, steps, samples))
        print(f"\nwritten: {history.run.postmortem}")
    except UserError as error:
        exit_on_user_error(error)
