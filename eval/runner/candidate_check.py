"""Has every item enough hard candidates in protocol.candidate_file? Checked before a model is loaded."""

from collections.abc import Mapping

from configs.errors import DataError
from configs.evaluation import EvalConfig
from configs.protocol import LISTED
from configs.question import FILE_DRAWS
from data_prep.class_matching import shortened
from data_prep.class_names import load_class_list
from data_prep.shard_index import id_hash
from data_prep.shards import ShardSet
from eval.class_scores.neighbours import Neighbours
from eval.runner.batching import items_of
from eval.tasks.candidates import candidate_file, check_candidates

MORE = "or leave these items out and count them with protocol.unknown_classes=leave_out"


def candidate_notes(config: EvalConfig, shards: ShardSet, counts: Mapping[str, int]) -> list[str]:
    """What is to be said about hard candidates, a sentence each; `counts` maps the items' classes to their numbers.

    Raises `DataError` for classes or items that have too few, unless protocol.unknown_classes is `leave_out`.
    """
    protocol = config.protocol
    if protocol.task not in LISTED or protocol.candidate_draw not in FILE_DRAWS:
        return []
    found = candidate_file(protocol)
    short = _short_items(config, shards, found) if found.by == "image" else _short_classes(config, counts)
    other = found.of.get("data") not in (None, shards.fingerprint) and found.by == "image"
    notes = [f"{protocol.candidate_file} was made of other shards; its items are matched by their ids"] if other else []
    if not short:
        return notes
    if protocol.unknown_classes == "refuse":
        raise DataError(f"{short}. Lower protocol.candidates, write a file that has more, {MORE}")
    return [*notes, f"{short}; these items are left out and counted as failed (protocol.unknown_classes: leave_out)"]


def _short_classes(config: EvalConfig, counts: Mapping[str, int]) -> str:
    """Which classes of the items have too few similar ones, as a sentence; empty if none has."""
    names = load_class_list(config.protocol.classes or "").names
    short = {}
    present = [name for name in dict.fromkeys(names) if counts.get(name)]
    for name in present:
        try:
            check_candidates(config.protocol, names, name, "")
        except DataError as error:
            short[name] = str(error)
    if not short:
        return ""
    first = next(iter(short.values()))
    return f"{len(short):,} of {len(present):,} classes have no candidates: {shortened([*short])} ({first})"


def _short_items(config: EvalConfig, shards: ShardSet, found: Neighbours) -> str:
    """How many items are not in the file or have too few similar classes there, as a sentence; empty if none."""
    wanted = (config.protocol.candidates or 2) - 1
    known = {id_hash(key): (key, len(row)) for key, row in found.neighbours.items()}
    items = items_of(config, shards)
    missing = [item for item in items if known.get(int(shards.index["id_hash"][item]), ("", -1))[1] < wanted]
    if not missing:
        return ""
    sample = shards.sample(missing[0])
    kept = dict(known.values()).get(sample.id)
    why = "is not in the file" if kept is None else f"has {kept} similar classes, of {wanted} that are needed"
    return (
        f"{len(missing):,} of {len(items):,} items have no candidates in {config.protocol.candidate_file}: the first, "
        f"{sample.id} of class {sample.label_name!r}, {why}"
    )
