"""Text summary of a build: totals, and drops by reason with examples."""

from collections import Counter

from configs.shard_dir import ShardDir
from configs.words import counted
from data_prep.byte_size import size
from data_prep.class_matching import named_histogram, shortened
from data_prep.drops import SHOWN_FILES, describe_drops
from data_prep.image_notes import note_lines
from data_prep.manifest import Manifest
from data_prep.workers import Outcome


def build_summary(folder: ShardDir, outcome: Outcome, manifest: Manifest | None, missing: int) -> str:
    """The result of one source's build; without a manifest, how many shards other workers have not written yet."""
    work = f"{counted(outcome.written, 'shard')} written, {outcome.kept} kept"
    if manifest is None:
        pending = f"not yet written by other workers: {counted(missing, 'shard')}; the last worker writes the manifest"
        return f"{folder.root}: {work}; {pending}"
    lines = [
        f"{folder.root}: {counted(manifest.samples, 'sample')} in {counted(len(manifest.shards), 'shard')},"
        f" {size(manifest.bytes)}; {work}; {len(manifest.drops):,} of {manifest.records:,} records dropped"
    ]
    lines += _ignored(manifest.ignored) + _classes(manifest) + [f"    {line}" for line in note_lines(manifest.notes)]
    return "\n".join(lines + [f"    {line}" for line in describe_drops(manifest.drops)])


def check_summary(name: str, outcome: Outcome, ignored: tuple[str, ...] = ()) -> str:
    """What `--check-only` found, one line per dropped record."""
    lines = [f"{name}: {len(outcome.drops):,} of {outcome.records:,} records would be dropped; nothing was written"]
    lines += _ignored(ignored) + [f"    {line}" for line in note_lines(outcome.notes.notes())]
    return "\n".join(lines + [f"    {drop.name}: {drop.reason} ({drop.file or 'no file'})" for drop in outcome.drops])


def _classes(manifest: Manifest) -> list[str]:
    """Classes without a sample, such as those of empty folders; a single class; names that several classes have."""
    counts = named_histogram(manifest)
    empty = [name for name, count in counts.items() if not count]
    lines = [f"    classes without a sample ({len(empty):,}): {shortened(empty)}"] if empty else []
    if counts and len(counts) - len(empty) == 1:
        lines.append(f"    all samples have the same class, {max(counts, key=counts.__getitem__)}")
    shared = [name for name, times in Counter(manifest.class_names).items() if times > 1]
    if shared:
        lines.append(f"    names that several classes have ({len(shared):,}): {shortened(shared)}")
    return lines


def _ignored(files: tuple[str, ...]) -> list[str]:
    if not files:
        return []
    more = ", ..." if len(files) > SHOWN_FILES else ""
    return [f"    {len(files):,} other files ignored ({', '.join(files[:SHOWN_FILES])}{more})"]
