"""The lines of a dry run about what an epoch is made of: passes, shares, balanced classes, weights of classes."""

import numpy as np

from train.data.class_weights import described
from train.data.lengths import Counts
from train.plan import RunPlan


def portions(plan: RunPlan, tokens: Counts) -> list[str]:
    """One line each for passes or shares with what they make of samples and tokens, for balance, and for weights."""
    train = plan.config.train
    lines = []
    if train.passes_per_epoch and train.balance == "none":
        lines.append(_passes(plan))
    if train.passes_per_epoch or train.shares:
        lines.append(_shares(plan, tokens))
    if train.balance != "none":
        lines += _balance(plan)
    if plan.class_weights is not None:
        lines.append(f"class weights     {described(plan.class_weights)}")
    return lines


def _passes(plan: RunPlan) -> str:
    parts = []
    for name, mix in zip(plan.sources.names, plan.order.mixture.source_mixes(), strict=True):
        extra = f" + {mix.extra:,} chosen by seed and epoch" if mix.extra else ""
        parts.append(f"{name} {mix.passes} x {mix.samples:,}{extra}")
    return f"an epoch is       {'; '.join(parts)}"


def _shares(plan: RunPlan, tokens: Counts) -> str:
    """Shares of the first epoch, counted."""
    train, mixture = plan.config.train, plan.order.mixture
    repeats = mixture.repeats(plan.config.seed, 0)
    counted = {kind: repeats * tokens[kind].astype(np.int64) for kind in ("tokens", "supervised")} | {
        "samples": repeats
    }
    parts = []
    for name, (first, last) in zip(plan.sources.names, mixture.bounds(), strict=True):
        sums = {kind: (int(some[first:last].sum()), int(some.sum())) for kind, some in counted.items()}
        entries, once = sums["samples"][0], max(1, last - first)
        shares = {kind: own / max(1, total) for kind, (own, total) in sums.items()}
        asked = f" (asked {train.shares[name]:.1%} of {_kind(train.share_of)})" if train.shares else ""
        parts.append(
            f"{name} {entries:,} entries, {entries / once:.3g} passes: {shares['samples']:.1%} of samples, "
            f"{shares['tokens']:.1%} of tokens, {shares['supervised']:.1%} of supervised tokens{asked}"
        )
    return f"mixture           {'; '.join(parts)}"


def _kind(share_of: str) -> str:
    return "supervised tokens" if share_of == "supervised" else share_of


def _balance(plan: RunPlan) -> list[str]:
    """Of each source with classes: how often its largest and its smallest classes come."""
    balance, mixture = plan.config.train.balance, plan.order.mixture
    expected = mixture.expected_repeats()
    lines = []
    for name, shards, (first, last) in zip(plan.sources.names, plan.sources.sets, mixture.bounds(), strict=True):
        labels = shards.labels
        trained = (labels >= 0) & (expected[first:last] > 0)
        classes, counts = np.unique(labels[trained], return_counts=True)
        if not len(classes):
            lines.append(f"balance           {name}: no classes, as it is")
            continue
        entries = np.bincount(labels[trained], weights=expected[first:last][trained])[classes].round().astype(int)
        by_size = np.argsort(-counts, kind="stable")
        ends = [by_size[0], by_size[-1]] if len(classes) > 1 else [by_size[0]]
        names = shards.manifest.class_names
        shown = ", ".join(
            f"{names[classes[k]]!r}: {counts[k]:,} samples, {entries[k]:,} entries, {entries[k] / counts[k]:.3g} passes"
            for k in ends
        )
        lines.append(
            f"balance           {balance}: {name} has {len(classes):,} classes, {entries.min():,} to {entries.max():,} "
            f"entries each; {shown}"
        )
    return lines
