"""Accuracy of nearest neighbours among stored states, for every position, number of neighbours and vote."""

from collections.abc import Mapping
from typing import Any

from configs.errors import RunError
from configs.evaluation import EvalConfig
from configs.knn import KnnConfig
from eval.metrics.accuracy import Rate
from eval.probes.accuracy import doubts, usable_positions
from eval.probes.extraction import states_configs
from eval.probes.neighbours import nearest, voted
from eval.probes.report import ProbedStates, describe_probed
from eval.probes.requirements import states_folder
from eval.probes.store import StoredStates


def knn_report(states: ProbedStates) -> dict[str, Any]:
    """The accuracies with all that is known of the evaluation, as JSON values. Raises `RunError` as `knn`."""
    settings = states.config.knn
    same = states.config.source == states.config.probe_source
    result = knn(states.train, states.test, settings, leave_one_out=same)
    about = describe_probed(states, settings)
    if same:  # that all test images are training images is known then, and taken care of
        about["data_notes"] = [
            *states.known.notes,
            f"test and training items are both {states.config.source}: no item is its own neighbour (leave-one-out)",
        ]
    return result | about | {"part": states.sources[0].probe.part}


def knn(train: StoredStates, test: StoredStates, settings: KnnConfig, *, leave_one_out: bool = False) -> dict[str, Any]:
    """Classify every item of `test` by its neighbours in `train`; the accuracies as JSON values.

    Positions that some prompt lacks are excluded and counted. Raises `RunError` for a k of more items than there are.
    """
    columns, left_out = usable_positions(train, test)
    _check_k(settings, len(train), leave_one_out=leave_one_out)
    found = nearest(train, test, columns, max(settings.k), settings.metric, leave_one_out=leave_one_out)
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    rows = []
    for number, column in enumerate(columns):
        labels, alike = train.labels[found.items[number]], found.similarities[number]
        for k in sorted(settings.k):
            for vote in settings.votes:
                temperature = settings.temperature if vote == "weighted" else None
                right = voted(labels[:, :k], alike[:, :k], classes, temperature) == test.labels
                rate = Rate(int(right.sum()), len(test)).to_json()
                rows.append({"position": train.row_format.positions[column], "k": k, "vote": vote, "accuracy": rate})
    return {"rows": rows, "left_out": left_out, "train": len(train), "class_count": classes}


def check_neighbours(config: EvalConfig) -> None:
    """Raise `RunError` for a k of more items than the training source has, before any state is extracted."""
    _, items = states_folder(states_configs(config)[0])
    _check_k(config.knn, items, leave_one_out=config.source == config.probe_source)


def _check_k(settings: KnnConfig, items: int, *, leave_one_out: bool) -> None:
    usable = items - leave_one_out
    if (most := max(settings.k)) > usable:
        raise RunError(f"knn.k has {most:,}, and there are {usable:,} items to be neighbours; give at most {usable:,}")


def as_text(result: Mapping[str, Any]) -> str:
    """One line per position, k and vote, and what is doubtful."""
    lines = [f"{result['name']}: {described(result)}"]
    for row in result["rows"]:
        rate = row["accuracy"]
        lines.append(
            f"{row['position']:>5}  k = {row['k']:<4} {row['vote']:<8}  {rate['value']:.1%} "
            f"({rate['low']:.1%} to {rate['high']:.1%}, n = {rate['n']:,})"
        )
    return "\n".join([*lines, *doubts(result)])


def described(result: Mapping[str, Any]) -> str:
    """How the neighbours were found, in a sentence."""
    settings = result["settings"]
    warm = f"; weighted votes at temperature {settings['temperature']:g}" if "weighted" in settings["votes"] else ""
    return (
        f"nearest neighbours among {result['train']:,} items of {result['train_source']}, {result['class_count']:,} "
        f"classes, similarity: {settings['metric']}{warm}"
    )
