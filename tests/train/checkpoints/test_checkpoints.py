"""Checkpoints that are complete or absent."""

import json
import os
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from configs.errors import RunError
from configs.run_dir import RunDir
from configs.saving import CheckpointConfig
from train.checkpoints.async_checkpointer import AsyncCheckpointer
from train.checkpoints.reading import MANIFEST, SELF, manifest_sum, newest_checkpoint, open_checkpoint, steps_present
from train.checkpoints.tensor_file import write_tensors
from train.checkpoints.writing import CheckpointWriter, Snapshot, cleanup_partial
from train.optimization.full_state import ParameterState

NAMES = ("model.a", "model.b")


def states(seed: int = 0) -> list[ParameterState]:
    torch.manual_seed(seed)
    return [
        ParameterState(name, torch.randn(3, 4), {"exp_avg": torch.randn(3, 4), "exp_avg_sq": torch.rand(3, 4)})
        for name in NAMES
    ]


@pytest.fixture
def run(tmp_path) -> RunDir:
    return RunDir(tmp_path / "run")


def snapshot(step: int, seed: int | None = None) -> Snapshot:
    return Snapshot.take(step, iter(states(step if seed is None else seed)), {"note": step})


def write(run: RunDir, *steps: int, **config: int) -> None:
    writer = CheckpointWriter(run, CheckpointConfig(**config))
    for step in steps:
        writer.write(snapshot(step))
        writer.prune(step)


def test_what_was_written_is_read_back_bit_for_bit(run):
    write(run, 5)
    checkpoint = open_checkpoint(run, 5)
    assert checkpoint.state["note"] == 5
    for saved, expected in zip(checkpoint.parameters(), states(5), strict=True):
        assert saved.name == expected.name
        assert torch.equal(saved.master, expected.master)
        assert all(torch.equal(saved.moments[key], expected.moments[key]) for key in expected.moments)


def test_the_last_ones_and_every_nth_are_kept(run):
    write(run, 10, 20, 25, 30, 35, keep_last=2, keep_every=20)
    assert steps_present(run) == [20, 30, 35]


@pytest.mark.parametrize("lost", ["weights.safetensors", MANIFEST])
def test_a_checkpoint_with_a_lost_file_is_skipped(run, lost):
    write(run, 1, 2)
    (run.checkpoint(2) / lost).unlink()
    found, problems = newest_checkpoint(run)
    assert found.step == 1
    assert len(problems) == 1


def test_if_no_checkpoint_is_complete_it_is_an_error_and_never_a_start_from_zero(run):
    write(run, 1)
    (run.checkpoint(1) / "state.json").write_text("{}")
    with pytest.raises(RunError, match=r"no checkpoint in .* is complete"):
        newest_checkpoint(run)


def test_no_checkpoint_at_all_is_a_fresh_start(run):
    assert newest_checkpoint(run) == (None, [])


def test_an_interrupted_write_leaves_the_old_checkpoint_and_no_litter(run, monkeypatch):
    write(run, 1)

    def dying(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("train.checkpoints.writing.write_bytes", dying)
    with pytest.raises(KeyboardInterrupt):
        CheckpointWriter(run, CheckpointConfig()).write(snapshot(2))
    assert [folder.name for folder in run.checkpoints.iterdir()] == ["step-00000001"]


def test_a_leftover_of_a_killed_write_is_neither_read_nor_in_the_way(run):
    write(run, 1)
    leftover = run.checkpoints / ".step-00000002.tmp"
    leftover.mkdir()
    (leftover / "weights.safetensors").write_bytes(b"half")
    assert newest_checkpoint(run)[0].step == 1
    write(run, 2)
    assert newest_checkpoint(run)[0].step == 2
    assert not leftover.exists()


def rewrite_manifest(run: RunDir, step: int, **changes: object) -> None:
    """Another manifest whose own checksum is right."""
    manifest = run.checkpoint(step) / MANIFEST
    content = json.loads(manifest.read_text()) | changes
    manifest.write_text(json.dumps(content | {SELF: manifest_sum(content)}))


def test_another_format_is_refused_by_number_and_not_skipped_for_an_older_one(run):
    write(run, 1, 2)
    rewrite_manifest(run, 2, format_version=99)
    with pytest.raises(RunError, match="step-00000002 has format 99; this version reads 1"):
        newest_checkpoint(run)


def test_a_flipped_bit_in_the_format_number_is_damage_and_not_another_format(run):
    write(run, 1, 2)
    manifest = run.checkpoint(2) / MANIFEST
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 3'))
    found, problems = newest_checkpoint(run)
    assert found.step == 1
    assert "manifest.json is damaged" in problems[0]


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"[]", b"garbage", b"{}"])
def test_a_manifest_of_anything_else_is_skipped_too(run, damage):
    write(run, 1, 2)
    (run.checkpoint(2) / MANIFEST).write_bytes(damage)
    found, problems = newest_checkpoint(run)
    assert found.step == 1
    assert "cannot be read" in problems[0]


def test_links_and_renamed_folders_are_not_read_and_a_link_is_never_followed_to_delete(run, tmp_path):
    write(run, 1, 2)
    elsewhere = tmp_path / "elsewhere"
    run.checkpoint(2).rename(elsewhere)
    run.checkpoint(2).symlink_to(elsewhere)
    assert "is a link" in newest_checkpoint(run)[1][0]
    write(run, 3, 4, keep_last=1)
    assert sorted(file.name for file in elsewhere.iterdir()) == sorted(
        file.name for file in run.checkpoint(4).iterdir()
    )
    run.checkpoint(4).rename(run.checkpoint(9))
    with pytest.raises(RunError, match="holds step 4: it was renamed"):
        open_checkpoint(run, 9)


def test_a_linked_file_in_a_checkpoint_is_not_read(run, tmp_path):
    write(run, 1)
    weights = run.checkpoint(1) / "weights.safetensors"
    weights.rename(tmp_path / "weights")
    weights.symlink_to(tmp_path / "weights")
    with pytest.raises(RunError, match=r"weights\.safetensors is a link"):
        open_checkpoint(run, 1)


def test_a_manifest_cannot_name_files_elsewhere(run):
    write(run, 1)
    sums = json.loads((run.checkpoint(1) / MANIFEST).read_text())["sha256"]
    rewrite_manifest(run, 1, sha256=sums | {"../../other": "0"})
    with pytest.raises(RunError, match=r"contains .*\.\./\.\./other"):
        open_checkpoint(run, 1)


def test_a_checkpoint_of_the_same_step_takes_the_others_place(run):
    write(run, 1)
    CheckpointWriter(run, CheckpointConfig()).write(snapshot(1, seed=7))
    assert torch.equal(next(open_checkpoint(run, 1).parameters()).master, states(7)[0].master)
    assert [folder.name for folder in run.checkpoints.iterdir()] == ["step-00000001"]


def test_a_writer_killed_between_the_two_renames_has_lost_nothing(run):
    """What lies there then: the old one aside, the new one under its temporary name."""
    write(run, 1)
    run.checkpoint(1).rename(run.checkpoints / ".step-00000001.old")
    (run.checkpoints / ".step-00000001.tmp").mkdir()
    cleanup_partial(run)
    assert newest_checkpoint(run)[0].step == 1
    assert [folder.name for folder in run.checkpoints.iterdir()] == ["step-00000001"]


def test_what_a_killed_pruning_left_half_deleted_goes_with_the_next(run):
    write(run, 1, 2)
    (run.checkpoint(1) / MANIFEST).unlink()
    write(run, 3, keep_last=2)
    assert steps_present(run) == [2, 3]


def test_tensors_are_written_as_safetensors_reads_them(tmp_path):
    tensors = {"a": torch.randn(3, 5).t(), "empty": torch.zeros(0, 4), "number": torch.tensor(1.5)}
    tensors["long"] = torch.randn(3_000_000)
    write_tensors(tmp_path / "file", tensors)
    with safe_open(tmp_path / "file", "pt") as opened:
        assert set(opened.keys()) == set(tensors)
        assert all(torch.equal(opened.get_tensor(name), tensor) for name, tensor in tensors.items())


def test_the_lines_of_its_steps_are_on_the_disk_before_a_checkpoint_is(run, monkeypatch):
    """A power cut between the two must not lose the last held-out loss: a resume does not measure it again."""
    write(run, 1)
    run.metrics.write_text('{"step": 2, "heldout_loss": {"unseen": 1.0}}\n')
    synced: list[tuple[str, bool]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        synced.append((name, run.checkpoint(2).exists()))
        real(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    write(run, 2)
    assert ("metrics.jsonl", False) in synced
    assert synced[-1] == ("checkpoints", True), "and the new name is made safe last"


class HeldBack(CheckpointWriter):
    """A disk that waits to be let go."""

    def __init__(self, run: RunDir):
        super().__init__(run, CheckpointConfig())
        self.go = threading.Event()

    def _write_files(self, folder, snapshot):
        assert self.go.wait(20)
        super()._write_files(folder, snapshot)


def test_training_continues_while_a_checkpoint_is_written(run):
    writer = HeldBack(run)
    checkpointer = AsyncCheckpointer(writer, asynchronous=True)
    checkpointer.begin(snapshot(5), time.perf_counter())
    assert checkpointer.finished() is None
    assert steps_present(run) == []
    writer.go.set()
    outcome = checkpointer.finished(wait=True)
    assert outcome.error is None
    assert outcome.waited < outcome.seconds
    assert outcome.size == sum(file.stat().st_size for file in run.checkpoint(5).iterdir())
    assert checkpointer.finished(wait=True) is None, "told once"
    assert newest_checkpoint(run)[0].step == 5


def test_a_mistake_in_the_writer_ends_the_run(run, monkeypatch):
    checkpointer = AsyncCheckpointer(CheckpointWriter(run, CheckpointConfig()), asynchronous=True)
    monkeypatch.setattr(checkpointer.writer, "_write_files", lambda *_: {}["missing"])
    checkpointer.begin(snapshot(5), time.perf_counter())
    with pytest.raises(KeyError):
        checkpointer.finished(wait=True)


def test_a_disk_without_room_is_an_outcome_and_the_next_save_is_tried(run, monkeypatch):
    write(run, 1)
    checkpointer = AsyncCheckpointer(CheckpointWriter(run, CheckpointConfig()), asynchronous=True)
    with monkeypatch.context() as full:
        full.setattr("train.checkpoints.writing.shutil.disk_usage", lambda _: Full())
        checkpointer.begin(snapshot(2), time.perf_counter())
        outcome = checkpointer.finished(wait=True)
    assert outcome.event()[0] == "checkpoint_failed"
    assert "must be free (the state x 1.2), and free: 1 byte" in outcome.error
    assert checkpointer.failed_step == 2
    assert steps_present(run) == [1]
    checkpointer.begin(snapshot(3), time.perf_counter())
    assert checkpointer.finished(wait=True).event()[0] == "checkpoint"
    assert checkpointer.failed_step is None


class Full:
    free = 1
