"""Checkpoints that are whole or absent."""

import json
import random

import pytest
import torch

from configs.errors import RunError
from configs.run_dir import RunDir
from configs.schema import CheckpointConfig
from train.checkpoints import MANIFEST, CheckpointWriter, newest_checkpoint, open_checkpoint, steps_present
from train.engine import ParameterState

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


def write(run: RunDir, *steps: int, **config: int) -> None:
    writer = CheckpointWriter(run, CheckpointConfig(**config))
    for step in steps:
        writer.write(step, iter(states(step)), {"note": step})


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


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "state.json"])
def test_every_flipped_bit_is_noticed_and_the_one_before_is_used(run, file):
    write(run, 1, 2)
    damaged = run.checkpoint(2) / file
    whole = damaged.read_bytes()
    for trial in range(20):
        position = random.Random(trial).randrange(len(whole) * 8)
        broken = bytearray(whole)
        broken[position // 8] ^= 1 << position % 8
        damaged.write_bytes(broken)
        found, problems = newest_checkpoint(run)
        assert found is not None
        assert found.step == 1
        assert f"{file} is damaged" in problems[0]
    damaged.write_bytes(whole)
    assert newest_checkpoint(run)[0].step == 2, "the undamaged file was accepted, so the check can pass"


@pytest.mark.parametrize("lost", ["weights.safetensors", MANIFEST])
def test_a_checkpoint_with_a_lost_file_is_passed_over(run, lost):
    write(run, 1, 2)
    (run.checkpoint(2) / lost).unlink()
    found, problems = newest_checkpoint(run)
    assert found.step == 1
    assert len(problems) == 1


def test_if_none_is_whole_it_is_an_error_and_never_a_start_from_zero(run):
    write(run, 1)
    (run.checkpoint(1) / "state.json").write_text("{}")
    with pytest.raises(RunError, match=r"no checkpoint in .* is whole"):
        newest_checkpoint(run)


def test_no_checkpoint_at_all_is_a_fresh_start(run):
    assert newest_checkpoint(run) == (None, [])


def test_an_interrupted_write_leaves_the_old_checkpoint_and_no_litter(run):
    write(run, 1)

    def dying():
        yield states()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CheckpointWriter(run, CheckpointConfig()).write(2, dying(), {})
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


def test_another_format_is_refused_by_number(run):
    write(run, 1)
    manifest = run.checkpoint(1) / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format_version": 99}))
    with pytest.raises(RunError, match="has format 99; this version reads 1"):
        open_checkpoint(run, 1)


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"[]", b"garbage", b"{}"])
def test_a_manifest_of_anything_else_is_passed_over_too(run, damage):
    write(run, 1, 2)
    (run.checkpoint(2) / MANIFEST).write_bytes(damage)
    found, problems = newest_checkpoint(run)
    assert found.step == 1
    assert "cannot be read" in problems[0]
