"""What happened to a run: `python -m train.tools.postmortem runs/NAME [runs/OTHER] [--samples 12]`

Prints the monitor's events with the samples of the flagged steps, and writes `runs/NAME/postmortem.html`: the loss
curve of each source with the events as marks, the gradient norm, and a contact sheet of each flagged step. With a
second run, the paper's Figure 5: both losses in one plot, LoRA against projector-only. Needs no GPU and loads no model;
the samples come from the shards, since the order is a pure function of the step.
"""

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.command_line import command_parser, exit_on_user_error
from configs.errors import DataError, RunError, UserError
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir
from data_prep.atomic import write_bytes
from data_prep.inspect import contact_sheet
from data_prep.sample import Sample
from train.data.order import PADDING
from train.data.sources import SourceSet
from train.loggers.jsonl import read_records
from train.plan import plan_order
from train.spikes.alerts import ALARMS, NEWS
from train.spikes.plot import Curve, Mark, svg

Record = dict[str, Any]
MARKED = (*ALARMS, *NEWS, "skipped", "rolled_back", "stopped_by_monitor")
MOST_STEPS = 8


@dataclass(frozen=True)
class Story:
    """A run's files, read."""

    run: RunDir
    metrics: list[Record]
    events: list[Record]

    @classmethod
    def of(cls, folder: Path) -> "Story":
        """Raises `RunError` if the folder holds no run."""
        run = RunDir(folder)
        if not run.metrics.is_file():
            raise RunError(f"{folder} holds no run: there is no {run.metrics.name}; give a folder such as runs/NAME")
        return cls(run, read_records(run.metrics), read_records(run.events))

    @property
    def marked(self) -> list[Record]:
        """The events worth a mark, in the order they happened."""
        return [event for event in self.events if event["kind"] in MARKED]

    def curve(self, key: str, name: str) -> Curve:
        """A number of every step."""
        return Curve(name, [(line["step"], float(line[key])) for line in self.metrics if line.get(key) is not None])

    def losses(self) -> list[Curve]:
        """The loss of each source."""
        names = dict.fromkeys(name for line in self.metrics for name in line["loss_by_source"])
        return [
            Curve(name, [(m["step"], m["loss_by_source"][name]) for m in self.metrics if name in m["loss_by_source"]])
            for name in names
        ]


def flagged_steps(events: Sequence[Record]) -> dict[int, str]:
    """Data step to what was said of it, for the first step of every episode; the first `MOST_STEPS` of them.

    The batch before is listed too: a loss is computed before its own batch is learnt from, so a level that stays up was
    broken by an earlier one.
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
    return dict(list(found.items())[: 2 * MOST_STEPS])


def samples_of(run: RunDir, steps: Sequence[int], limit: int) -> dict[int, list[Sample]]:
    """The samples of each data step, at most `limit`. Raises `DataError` if the run's shards are not there."""
    config, _ = load_config(RunConfig, run.config, [])
    sources = SourceSet.of(config.data, config.train.sources)
    order = plan_order(config, sources, 1)
    found = {}
    for step in steps:
        positions = next(order.batches(step))[:limit]
        found[step] = [sources.sample(position) for position in positions if position != PADDING]
    return found


def blame(events: Sequence[Record]) -> str:
    """Which source spiked, by alarms.

    >>> blame([{"kind": "outlier", "signal": "loss/talk"}, {"kind": "skipped"}])
    'alarms by signal: loss/talk 1'
    """
    counts: dict[str, int] = {}
    for event in events:
        if event["kind"] in ALARMS:
            counts[event["signal"]] = counts.get(event["signal"], 0) + 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return "alarms by signal: " + (", ".join(f"{name} {count}" for name, count in ranked) or "none")


def as_text(story: Story, said: dict[int, str], samples: dict[int, list[Sample]]) -> str:
    """The same as the page, without the pictures."""
    losses = [line["loss"] for line in story.metrics if math.isfinite(line["loss"])]
    last = story.metrics[-1]["step"] if story.metrics else 0
    lowest, newest = (min(losses), losses[-1]) if losses else (math.nan, math.nan)
    lines = [f"{story.run.root}: {last} steps; lowest loss {lowest:.4g}, last {newest:.4g}"]
    lines.append(blame(story.events))
    lines += [f"step {event['step']:6}  {event['message']}" for event in story.marked]
    for step, message in said.items():
        lines.append(f"\ndata step {step}: {message}")
        for sample in samples.get(step, []):
            answer = next((turn.text for turn in sample.turns if turn.speaker == "gpt"), "")
            lines.append(f"    {sample.id}  {sample.label_name or ''}  {' '.join(answer.split())[:80]}")
    return "\n".join(lines)


def as_page(story: Story, other: Story | None, said: dict[int, str], samples: dict[int, list[Sample]]) -> str:
    """One HTML file without anything outside it."""
    marks = [Mark(event["step"], event["kind"], event["message"]) for event in story.marked]
    parts = ["<!doctype html><meta charset='utf-8'><title>Post-mortem</title>"]
    parts.append("<style>body{font-family:sans-serif;max-width:1000px;margin:auto}img{max-width:100%}</style>")
    parts.append(f"<h1>{html.escape(story.run.root.name)}</h1><p>{html.escape(blame(story.events))}</p>")
    if other is not None:
        both = [one.curve("loss", one.run.root.name) for one in (story, other)]
        parts.append("<h2>Both runs</h2>" + svg(both, marks, "training loss"))
    parts.append("<h2>Loss by source</h2>" + svg(story.losses(), marks, "loss"))
    for key, label in (("grad_norm", "gradient norm"), ("update_rms", "size of the update")):
        curve = story.curve(key, label)
        if curve.points:
            parts.append(f"<h2>{label.capitalize()}</h2>" + svg([curve], marks, label))
    parts.append("<h2>Events</h2><ul>")
    parts += [f"<li>step {event['step']}: {html.escape(event['message'])}</li>" for event in story.marked]
    parts.append("</ul>")
    for step, message in said.items():
        shown = samples.get(step, [])
        parts.append(f"<h2>Data step {step}</h2><p>{html.escape(message)}</p>")
        if shown:
            parts.append(f"<img alt='samples of data step {step}' src='{_picture(shown)}'>")
        parts.append(f"<p>{html.escape(', '.join(sample.id for sample in shown))}</p>")
    return "\n".join(parts)


def _picture(samples: Sequence[Sample]) -> str:
    buffer = io.BytesIO()
    contact_sheet(samples).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def main(argv: Sequence[str] | None = None) -> None:
    """Read, look the samples up, print, write the page."""
    parser = command_parser(__doc__)
    parser.add_argument("run", type=Path, help="folder of the run, such as runs/imagenet_lora")
    parser.add_argument("other", type=Path, nargs="?", help="a run to draw beside it, such as runs/imagenet_projector")
    parser.add_argument("--samples", type=int, default=12, metavar="N", help="samples shown of each step (default 12)")
    arguments = parser.parse_args(argv)
    try:
        story = Story.of(arguments.run)
        other = None if arguments.other is None else Story.of(arguments.other)
        said = flagged_steps(story.events)
        try:
            samples = samples_of(story.run, list(said), arguments.samples) if said else {}
        except (DataError, OSError) as error:
            print(f"no samples: {error}")
            samples = {}
        print(as_text(story, said, samples))
        write_bytes(story.run.postmortem, as_page(story, other, said, samples).encode())
        print(f"\nwritten: {story.run.postmortem}")
    except UserError as error:
        exit_on_user_error(error)


if __name__ == "__main__":
    main()
