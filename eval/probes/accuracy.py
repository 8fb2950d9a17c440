"""Accuracy of linear probes: heads trained on the stored states of one source and tested on another's.

The held-out items and the order of training depend on `probe.seed` and the items' ids only, not on the number of
workers that stored the states, nor on failed items.

Shapes: `N` items, `F` token positions.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from configs.errors import RunError
from configs.probe import ProbeConfig
from eval.metrics.accuracy import Rate
from eval.models.hidden_states import has_position
from eval.probes.batches import Batches, Items, Layout, multiplies_bf16
from eval.probes.heads import Trained, train_heads
from eval.probes.store import StoredStates

CHECK_BATCH = 4096
SHOWN_FAILURES = 5
PER_CLASS_POSITIONS = (
    "-1",
    "mean",
    "image_embeds",
    "vision_pooled",
)  # of Table 3 and Figure 7
EPOCH_CHOICE = {
    "held_out": "best epoch on held-out training items",
    "best_on_test": "best epoch on the test items themselves",
    "last": "last epoch",
}


def probe(train: StoredStates, test: StoredStates, settings: ProbeConfig) -> dict[str, Any]:
    """Train one head per token position on `train`; return each head's accuracy on `test` as JSON values.

    Positions that some prompt lacks are excluded and counted: prompts of BLIP-2 are short, those of LLaVA-NeXT vary.
    Raises `RunError` for too few training items.
    """
    columns, left_out = usable_positions(train, test)
    kept, held = _split(train, settings)
    maker = BatchMaker(settings, columns)
    learned = maker.batches(train, kept, maker.layout(learning=True), settings.batch_size)
    check = maker.batches(train, held, maker.layout(), CHECK_BATCH) if len(held) else None
    looked = maker.batches(test, torch.arange(len(test)), maker.layout(), CHECK_BATCH)
    if settings.choose_epoch == "best_on_test":
        check = looked
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    trained = train_heads(learned, check, classes, settings)
    named = [train.row_format.positions[column] for column in columns]
    return {
        "token_positions": _results_by_position(named, trained, trained.hits(looked), test.labels, settings),
        "left_out": left_out,
        "class_count": classes,
        "train": len(kept),
        "val": len(held),
        "epochs": settings.epochs,
        "chosen": EPOCH_CHOICE[settings.choose_epoch],
        "precision": maker.precision,
        "kept_in_memory": learned.keep,
    }


def usable_positions(train: StoredStates, test: StoredStates) -> tuple[list[int], dict[str, int]]:
    """(numbers of the positions that all questions have, how many questions lack each of the others).

    Raises `RunError` if no position is left, or no test item.
    """
    lacking = {name: sum(_lacking(name, part) for part in (train, test)) for name in train.row_format.positions}
    columns = [number for number, prompts in enumerate(lacking.values()) if not prompts]
    if not columns or not len(test):
        raise RunError(
            f"nothing to probe: {len(test)} test items have states, and only {len(columns)} of {len(lacking)} token "
            "positions exist in all questions; see probe.token_positions and the failures named above"
        )
    return columns, {name: prompts for name, prompts in lacking.items() if prompts}


def _lacking(position: str, stored: StoredStates) -> int:
    """The number of stored questions that end before `position`."""
    lengths = zip(*np.unique(stored.tokens, return_counts=True), strict=True)
    return sum(int(count) for tokens, count in lengths if not has_position(position, int(tokens)))


def _split(train: StoredStates, settings: ProbeConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """(training items, held-out items), in the order of training."""
    drawn = [sha256(f"probe:{settings.seed}:{item}".encode()).digest() for item in train.hashes.tolist()]
    order = torch.tensor(sorted(range(len(drawn)), key=drawn.__getitem__), dtype=torch.long)
    held = max(1, int(len(order) * settings.held_out)) if settings.choose_epoch == "held_out" else 0
    if len(order) <= held:
        raise RunError(f"probing needs at least {held + 1} training items; {len(order)} have states")
    return order[held:], order[:held]


class BatchMaker:
    """Makes batches of stored states; keeps them in memory up to `probe.memory_gib`."""

    def __init__(self, settings: ProbeConfig, columns: Sequence[int]):
        self.settings, self.columns = settings, columns
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.precision = settings.precision
        if self.precision == "auto":
            self.precision = "bf16" if multiplies_bf16(self.device) else "fp32"
        self.left = settings.memory_gib * 2**30

    def layout(self, *, learning: bool = False) -> Layout:
        """The layout for products in the precision of training."""
        return Layout(torch.bfloat16 if self.precision == "bf16" else torch.float32, self.device, learning)

    def batches(self, stored: StoredStates, items: torch.Tensor, layout: Layout, size: int) -> Batches:
        """Batches of the states of `items`."""
        needed = layout.bytes(len(items) * len(self.columns) * stored.row_format.size)
        keep = needed <= self.left
        self.left -= needed if keep else 0
        shuffled = self.settings.seed if self.settings.shuffle == "every_epoch" and layout.learning else None
        read = Items(stored.labels[items], lambda part: stored.read(items[part], self.columns))
        return Batches(read, layout, size, keep=keep, shuffle_seed=shuffled)


def _results_by_position(
    names: Sequence[str], trained: Trained, hits: torch.Tensor, labels: torch.Tensor, settings: ProbeConfig
) -> dict[str, dict[str, Any]]:
    """Accuracy of each position's head; with `best_on_test` also its accuracy after the last epoch."""
    results: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(names):
        found = results[name] = {
            "accuracy": Rate(int(hits[index].sum()), len(labels)).to_json(),
            "epoch": int(trained.epochs[index]) + 1,
        }
        if settings.choose_epoch == "best_on_test" and trained.correct_at_the_end is not None:
            found["last_epoch"] = Rate(int(trained.correct_at_the_end[index]), len(labels)).to_json()
        if name in PER_CLASS_POSITIONS:
            found["correct_by_label"] = _by_label(labels, hits[index])
    return results


def _by_label(labels: torch.Tensor, correct: torch.Tensor) -> dict[int, tuple[int, int]]:
    """Label to (correct items, all items)."""
    counts, hits = labels.bincount().tolist(), labels[correct].bincount(minlength=int(labels.max()) + 1).tolist()
    return {label: (hits[label], count) for label, count in enumerate(counts) if count}


def as_text(result: Mapping[str, Any]) -> str:
    """One line per token position, the excluded positions, and how the epoch was chosen."""
    held = f", {result['val']:,} held out to choose the epoch" if result["val"] else ""
    lines = [f"{result['name']}: {result['train']:,} items to train on{held}; {result['precision']} products"]
    for name, row in result["token_positions"].items():
        rate = row["accuracy"]
        lines.append(
            f"{name:>5}  {rate['value']:.1%} ({rate['low']:.1%} to {rate['high']:.1%}, n = {rate['n']:,}), "
            f"epoch {row['epoch']} of {result['epochs']}, {result['chosen']}"
            + (f"; after the last {row['last_epoch']['value']:.1%}" if "last_epoch" in row else "")
        )
    return "\n".join([*lines, *doubts(result)])


def doubts(result: Mapping[str, Any]) -> list[str]:
    """What a reader of results on stored states must know, a line each: notes on the data, items without states."""
    lines = [f"data: {note}" for note in result["data_notes"]]
    lines += [
        f"{name:>5}  left out: {prompts:,} questions end before it" for name, prompts in result["left_out"].items()
    ]
    for source, failures in result["failures"].items():
        if failures:
            first = "; ".join(f"{failure['id']}: {failure['reason']}" for failure in failures[:SHOWN_FAILURES])
            lines.append(f"{source}: {len(failures):,} items without states are excluded: {first}")
    return lines
