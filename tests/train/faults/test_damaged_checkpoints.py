"""Checkpoints that are damaged, lost, foreign or belong to something else: found out, said, agreed by all ranks."""

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from configs.errors import ConfigError, RunError
from configs.run_dir import CheckpointDir, RunDir
from configs.saving import CheckpointConfig
from train.checkpoints.reading import FILES, FORMAT_VERSION, MANIFEST, SELF, manifest_sum, newest_checkpoint
from train.checkpoints.writing import CheckpointWriter, Snapshot
from train.exported_model import check_checkpoints, checkpoint_to_export
from train.kernel_choice import KernelChoice
from train.models.model_folder import read_model_config
from train.optimization.full_state import ParameterState
from train.plan import make_plan
from train.resume import check_start, open_run

pytestmark = pytest.mark.slow

LOADING = Path(__file__).with_name("load_checkpoint_views.py")


def states(step: int) -> list[ParameterState]:
    torch.manual_seed(step)
    moments = [{"exp_avg": torch.randn(32, 64), "exp_avg_sq": torch.rand(32, 64)} for _ in range(2)]
    return [ParameterState(f"layer.{n}", torch.randn(32, 64), moments[n]) for n in range(2)]


def write(run: RunDir, *steps: int, **state: object) -> RunDir:
    for step in steps:
        CheckpointWriter(run, CheckpointConfig()).write(Snapshot.take(step, iter(states(step)), state))
    return run


def test_a_damaged_checkpoint_outside_training_is_said_with_the_steps_that_can_be_taken(tmp_path, capsys):
    run = write(RunDir(tmp_path), 1, 2, best={"step": 2, "loss": 1.0})
    run.config.write_text(
        "name: x\nmodel: {base: b}\ncheckpoint: {keep: best}\n"
        "data: {sources: {a: {reader: jsonl}, b: {reader: jsonl}}}\n"
        "train: {sources: [a], heldout: [b], heldout_every: 1}\n"
    )
    check_checkpoints(str(run.root), "export")
    weights = CheckpointDir(run.checkpoint(2)).weights
    weights.write_bytes(weights.read_bytes()[:-1])
    advice = r"is damaged: .*take another step \(--step of train.export, checkpoint of an evaluation\): 1$"
    for check in (
        lambda: checkpoint_to_export(run, None),
        lambda: checkpoint_to_export(run, 2),
        lambda: check_checkpoints(str(run.root), "export"),
        lambda: check_checkpoints(str(run.root), "all"),
        lambda: check_checkpoints(str(run.checkpoint(2)), "export"),
    ):
        with pytest.raises(RunError, match=advice):
            check()
    check_checkpoints(str(run.root), "1")
    assert checkpoint_to_export(run, None, best=False).step == 1
    assert "weights.safetensors is damaged" in capsys.readouterr().err, "an older step is never taken silently"
    run.config.unlink()
    with pytest.raises(ConfigError, match=r"is a run without its config\.yaml, .*; copy that too$"):
        read_model_config(run.root)
    run.export.mkdir()
    (run.export / "config.json").touch()
    with pytest.raises(ConfigError, match=r"copy that too, or name its export: .*export$"):
        read_model_config(run.root)


@pytest.mark.fault(9, "200 bit flips over all files of a checkpoint", "200 detected, the one before is used, said")
def test_every_flipped_bit_is_noticed(tmp_path, seen):
    run = write(RunDir(tmp_path), 1, 2)
    files = [run.checkpoint(2) / name for name in (*FILES, MANIFEST)]
    random_numbers, detected = random.Random(17), {file.name: 0 for file in files}
    for flip in range(200):
        file = files[flip % len(files)]
        whole = file.read_bytes()
        position = random_numbers.randrange(len(whole) * 8)
        broken = bytearray(whole)
        broken[position // 8] ^= 1 << position % 8
        file.write_bytes(broken)
        found, problems = newest_checkpoint(run)
        assert found is not None
        assert found.step == 1
        assert "step-00000002" in problems[0]
        detected[file.name] += 1
        file.write_bytes(whole)
    assert newest_checkpoint(run)[0].step == 2, "the undamaged one is accepted, so the check can pass"
    seen(f"{sum(detected.values())} of 200 detected ({detected}), step 1 used each time")


@pytest.fixture(scope="module")
def decisions(tmp_path_factory) -> tuple[dict, dict]:
    """What two ranks decide that see checkpoints 1 to 3, each damaged in its own way."""
    folder = tmp_path_factory.mktemp("views")
    whole = write(RunDir(folder / "whole"), 1, 2, 3)

    def cut(name: str):
        def damage(run: RunDir) -> None:
            file = run.checkpoint(3) / name
            file.write_bytes(file.read_bytes()[:-1])

        return damage

    def lose(run: RunDir) -> None:
        (run.checkpoint(3) / "optimizer.safetensors").unlink()

    def lose_all(run: RunDir) -> None:
        for step in (1, 2, 3):
            (run.checkpoint(step) / "state.json").unlink()

    def rewrite(run: RunDir) -> None:
        shutil.rmtree(run.checkpoint(3))
        write(run, 3, other=True)

    damages = {
        "intact": (None, None),
        "truncated": (cut("weights.safetensors"),) * 2,
        "missing": (lose, lose),
        "only-rank-1-truncated": (None, cut("weights.safetensors")),
        "only-rank-0-missing": (lose, None),
        "another-of-the-same-step": (None, rewrite),
        "none-whole-for-rank-1": (None, lose_all),
    }
    for cell, both in damages.items():
        for rank, damage in enumerate(both):
            shutil.copytree(whole.root, folder / f"{cell}-{rank}")
            if damage:
                damage(RunDir(folder / f"{cell}-{rank}"))
    command = [sys.executable, str(LOADING), str(folder), *damages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return tuple(json.loads(done.stdout.splitlines()[-1]))


EXPECTED = {
    "intact": (3, []),
    "truncated": (2, ["weights.safetensors is damaged"]),
    "missing": (2, ["has no optimizer.safetensors"]),
    "only-rank-1-truncated": (2, ["rank 1: ", "weights.safetensors is damaged"]),
    "only-rank-0-missing": (2, ["has no optimizer.safetensors"]),
    "another-of-the-same-step": (2, ["not the same on all ranks"]),
    "none-whole-for-rank-1": (None, ["step-00000001: rank 1: ", "has no state.json"]),
}


@pytest.mark.fault(
    10, "truncated or missing file, on one rank or both", "all ranks load the same older one, and say why"
)
def test_all_ranks_load_the_same_checkpoint(decisions, seen):
    for cell, (step, words) in EXPECTED.items():
        zero, one = decisions[0][cell], decisions[1][cell]
        assert zero == one, "no rank decides for itself"
        assert zero["step"] == step
        for word in words:
            assert any(word in problem for problem in zero["problems"]), zero
    seen(f"{len(EXPECTED)} cells: {', '.join(f'{cell} -> {step}' for cell, (step, _) in EXPECTED.items())}")


def test_what_fails_on_the_leading_rank_alone_ends_all_with_its_words(decisions):
    assert [rank["led"] for rank in decisions] == [7, None]
    assert [rank["failing leader"] for rank in decisions] == ["[Errno 28] No space left on device"] * 2


@pytest.mark.fault(11, "a file `latest`: empty, garbage, missing", "newest complete checkpoint found")
@pytest.mark.parametrize("content", [b"", b"garbage", b"step-00000001", None])
def test_a_pointer_file_means_nothing(tmp_path, seen, content):
    run = write(RunDir(tmp_path), 1, 2)
    if content is not None:
        (run.checkpoints / "latest").write_bytes(content)
    assert newest_checkpoint(run)[0].step == 2
    seen("step 2 of 1, 2 found")


@pytest.mark.fault(14, "checkpoint of another format, config, data or split", "refused with the difference")
def test_what_belongs_to_something_else_is_refused_with_the_difference(training_setup, seen):
    plan = make_plan(training_setup.config("other", "loss.reduction=micro_batch"), 2, "cpu")
    identity = open_run(plan, resume=False).identity
    write(plan.run, 5, **identity)
    assert open_run(plan, resume=True).step == 5, "it can be accepted"
    older = identity | {"settings": {k: v for k, v in identity["settings"].items() if k != "optim.lr_vision"}}
    write(plan.run, 6, **older)  # by a version without this setting, whose default is what was done before it
    assert open_run(plan, resume=True).step == 6
    newer = make_plan(training_setup.config("other", "loss.reduction=micro_batch", "optim.lr_vision=0.5"), 2, "cpu")
    with pytest.raises(RunError, match=r"optim.lr_vision .* -> 0.5"):
        open_run(newer, resume=True)
    shutil.rmtree(plan.run.checkpoint(6))
    refusals = {}
    for override, words in (
        ("optim.lr_projector=0.5", "optim.lr_projector 0.01 -> 0.5"),
        ("train.micro_batch=4", "train.micro_batch 2 -> 4"),
        ("loss.reduction=token", "loss.reduction 'micro_batch' -> 'token'"),
        ("train.sources=[talk]", "data.pictures"),
    ):
        changed = make_plan(training_setup.config("other", "loss.reduction=micro_batch", override), 2, "cpu")
        with pytest.raises(RunError, match="belongs to another run") as refused:
            open_run(changed, resume=True)
        assert words in str(refused.value)
        refusals[override] = words
        if "micro_batch=4" not in override:  # a dry run knows no machine
            with pytest.raises(RunError, match="belongs to another run") as refused:
                check_start(changed, resume=True)
            assert words in str(refused.value)
            check_start(changed, resume=True, accepted=[words.split()[0], "optim.lr_vision", "train.sources"])
    check_start(plan, resume=True)
    with pytest.raises(RunError, match="already contains a run; continue it with --resume auto"):
        check_start(plan, resume=False)
    elsewhere = make_plan(training_setup.config("other", "loss.reduction=micro_batch"), 4, "cpu")
    with pytest.raises(RunError, match=r"world_size 2 -> 4.*--accept-change world_size"):
        open_run(elsewhere, resume=True)
    assert open_run(elsewhere, resume=True, accepted=["world_size"]).step == 5
    manifest = plan.run.checkpoint(5) / MANIFEST
    other = json.loads(manifest.read_text()) | {"format_version": FORMAT_VERSION + 1}
    manifest.write_text(json.dumps(other | {SELF: manifest_sum(other)}))
    with pytest.raises(RunError, match=f"has format {FORMAT_VERSION + 1}; this version reads {FORMAT_VERSION}"):
        open_run(plan, resume=True)
    seen(f"refused: {'; '.join(refusals.values())}; world_size 2 -> 4 (micro_batch mean); another format")


def test_a_resume_where_auto_takes_other_kernels_is_refused_with_the_reason(training_setup):
    plan = make_plan(training_setup.config("kernels"), 1, "cpu")
    on_a_gpu = replace(plan, kernels=KernelChoice("compile", "auto: a GPU with Triton, ZeRO 1"))
    identity = open_run(on_a_gpu, resume=False).identity
    assert identity["settings"]["model.kernels"] == "compile", "auto is not recorded"
    write(plan.run, 5, **identity)
    assert open_run(on_a_gpu, resume=True).step == 5
    set_by_name = make_plan(training_setup.config("kernels", "model.kernels=compile"), 1, "cpu")
    assert open_run(set_by_name, resume=True).step == 5, "the same kernels, whoever chose them"
    with pytest.raises(
        RunError, match=r"model\.kernels 'compile' -> 'none' \(auto: no GPU\)\. .*--accept-change model"
    ):
        open_run(plan, resume=True)
    assert open_run(plan, resume=True, accepted=["model.kernels"]).step == 5


@pytest.mark.parametrize(("before", "after"), [("pissa", "rslora"), ("lora", "pissa")])
def test_weights_below_a_lora_that_pissa_changed_are_not_those_of_another_variant(training_setup, before, after):
    name = f"{before}_to_{after}"

    def plan(variant, *more):
        settings = (f"model.lora.variant={variant}", "model.mode=lora", *more)
        return make_plan(training_setup.config(name, *settings), 1, "cpu")

    write(plan(before).run, 5, **open_run(plan(before), resume=False).identity)
    assert open_run(plan(before), resume=True).step == 5
    accepted = ["model.lora.variant", "model.lora.alpha"]
    assert open_run(plan(before, "model.lora.alpha=7"), resume=True, accepted=accepted).step == 5
    with pytest.raises(RunError, match=f"variant {before}.* {after}.*undo the change, or choose another name"):
        open_run(plan(after), resume=True, accepted=accepted)


def test_another_threshold_is_refused_where_the_monitor_acts_and_accepted_where_it_only_logs(training_setup):
    for action, name in (("escalate", "acting"), ("log", "logging")):
        plan = make_plan(training_setup.config(name, f"monitor.action={action}"), 1, "cpu")
        write(plan.run, 5, **open_run(plan, resume=False).identity)
        changed = make_plan(training_setup.config(name, f"monitor.action={action}", "monitor.threshold=6"), 1, "cpu")
        if action == "log":
            assert open_run(changed, resume=True).step == 5
        else:
            with pytest.raises(RunError, match=r"monitor.threshold 8.0 -> 6.0.*--accept-change monitor.threshold"):
                open_run(changed, resume=True)


def test_checkpoints_that_were_there_and_are_gone_are_no_reason_to_start_from_zero(training_setup):
    plan = make_plan(training_setup.config("gone"), 1, "cpu")
    plan.run.root.mkdir(parents=True)
    plan.run.metrics.write_text("")
    assert open_run(plan, resume=True).step == 0, "killed before its first checkpoint"
    plan.run.events.write_text('{"step": 4, "kind": "checkpoint"}\n{"step": 5, "ki')
    with pytest.raises(RunError, match=r"records a checkpoint of step 4, but .*checkpoints has none"):
        open_run(plan, resume=True)
