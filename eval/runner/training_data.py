"""What the test items have to do with the data that a run trained on: classes by name, and images that are in both."""

from pathlib import Path

from configs.errors import UserError
from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import ExportDir, RunDir, run_of
from configs.shard_dir import ShardDir
from data_prep.drops import drop_notes
from data_prep.manifest import read_manifest
from data_prep.provenance import FINISHED
from data_prep.run_ending import ending
from data_prep.source_match import open_shards
from data_prep.train_test_check import SourceContent, mismatch_warnings
from eval.runner.batching import open_source_named


def training_notes(config: EvalConfig) -> list[str]:
    """What does not fit between the test items and the training sources of the evaluated run, a sentence each.

    Empty for a model that belongs to no run here. Raises `DataError` if the test source is not built.
    """
    run = run_of(config.model)
    if run is None:
        return []
    trained, _ = load_config(RunConfig, run.config)
    training, missing, unread = [], [], []
    for name in trained.train.sources:
        try:
            training.append(SourceContent.of(name, open_shards(trained.data, name)))
        except UserError as error:
            if ShardDir(Path(trained.data.shards) / name).manifest.is_file():
                unread.append(f"whether test images are also in the training source {name} was not checked: {error}")
            else:
                missing.append(name)
    notes = mismatch_warnings(training, [SourceContent.of(config.source, open_source_named(config, config.source))])
    notes += [note for name in trained.train.sources for note in _left_out(trained, name)]
    notes += [*unread, *_unfinished(run, config)]
    if missing:
        notes.append(
            f"the shards of the training source {', '.join(missing)} are not in {trained.data.shards}: whether test "
            "images are also in them was not checked"
        )
    return notes


def _left_out(run: RunConfig, name: str) -> list[str]:
    """What the shards of a training source lack; empty if they are not here."""
    folder = Path(run.data.shards) / name
    if not ShardDir(folder).manifest.is_file():
        return []
    manifest = read_manifest(folder)
    return drop_notes(name, manifest.drops, manifest.records)


def _unfinished(run: RunDir, config: EvalConfig) -> list[str]:
    """Where the newest checkpoint of a run that has not ended is evaluated in place of its export."""
    chosen = Path(config.model) == run.root and config.checkpoint in ("export", "last")
    state = ending(run)
    if not chosen or not run.steps() or ExportDir(run.export).record.is_file() or state in ("", FINISHED):
        return []
    return [
        f"{run.root} has no export yet ({state}): a checkpoint is evaluated, the newest is of step {run.steps()[-1]}"
    ]


def probe_notes(config: EvalConfig) -> list[str]:
    """The same between the test items and the source that linear probes are trained on; classes are checked apart."""
    if config.probe_source is None:
        return []
    train, test = (
        SourceContent.of(name, open_source_named(config, name)) for name in (config.probe_source, config.source)
    )
    return mismatch_warnings([train], [test], classes=False)
