"""Micro-batch and activation checkpointing follow from a GPU's memory, once; on a CPU and on a resume they do not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.run_dir import RunDir
from data_prep.byte_size import gib_size
from train import memory_plan
from train.checkpoints.reading import newest_checkpoint
from train.memory_plan import USABLE, MemoryChoice, choose, estimate, settle, with_choice
from train.plan import make_plan
from train.tools.preview import preview

ROOT = Path(__file__).resolve().parents[2]
AUTO = ("train.global_batch=32", "train.micro_batch=auto", "model.mode=full")


@pytest.fixture(scope="module")
def plan(training_setup):
    return make_plan(training_setup.config("memory", *AUTO), 2, "cpu")


@pytest.fixture(scope="module")
def estimated(plan):
    return estimate(plan)


def device_for(estimated, micro_batch: int, level) -> float:
    """The smallest GPU on which this fits."""
    return (estimated.fixed + estimated.activations(micro_batch, level)) / USABLE * 1.000001


def test_without_a_gpu_the_choice_is_the_largest_divisor_and_nothing_is_recomputed(plan, monkeypatch):
    monkeypatch.setattr(memory_plan, "estimate", lambda plan: pytest.fail("nothing is counted"))
    assert choose(plan, None) == MemoryChoice(16, False, 2)
    assert settle(plan, None).memory == MemoryChoice(16, False, 2)


@pytest.mark.parametrize("level", [False, "selective", True])
def test_the_largest_micro_batch_is_kept_with_the_least_recomputation_that_fits(plan, estimated, level):
    chosen = choose(plan, device_for(estimated, 16, level))
    assert (chosen.micro_batch, chosen.activation_checkpointing) == (16, level)


@pytest.mark.slow
def test_a_smaller_micro_batch_comes_before_recomputation_if_it_has_enough_tokens(plan, estimated, monkeypatch):
    monkeypatch.setattr(memory_plan, "PREFERRED_TOKENS", estimated.largest(8)[0])
    chosen = choose(plan, device_for(estimated, 8, False))
    assert (chosen.micro_batch, chosen.activation_checkpointing) == (8, False)
    chosen = choose(plan, device_for(estimated, 8, "selective"))
    assert (chosen.micro_batch, chosen.activation_checkpointing) == (8, "selective")
    few = choose(plan, device_for(estimated, 1, True))
    assert (few.micro_batch, few.activation_checkpointing) == (1, True), "all that fits"


@pytest.mark.slow
def test_what_the_config_says_is_not_chosen(training_setup, estimated):
    fixed = make_plan(training_setup.config("memory", *AUTO, "train.micro_batch=8"), 2, "cpu")
    assert choose(fixed, device_for(estimated, 8, "selective")).micro_batch == 8
    assert choose(fixed, device_for(estimated, 8, "selective")).activation_checkpointing == "selective"
    never = make_plan(training_setup.config("memory", *AUTO, "model.activation_checkpointing=false"), 2, "cpu")
    chosen = choose(never, device_for(estimated, 2, False))
    assert (chosen.micro_batch, chosen.activation_checkpointing) == (2, False)


def test_memory_does_not_decide_the_micro_batch_where_results_depend_on_it(training_setup, estimated):
    mean = make_plan(training_setup.config("memory", *AUTO, "loss.reduction=micro_batch"), 2, "cpu")
    chosen = choose(mean, device_for(estimated, 2, False))
    assert chosen.micro_batch == mean.batches.micro_batch == 16


def test_what_does_not_fit_at_all_says_so(plan, estimated):
    chosen = choose(plan, estimated.fixed)
    assert (chosen.micro_batch, chosen.activation_checkpointing) == (1, True)
    assert "which does not fit" in chosen.note
    assert "raise deepspeed.zero_stage or use more GPUs" in chosen.note


def test_a_decoder_whose_activations_cannot_be_counted_is_left_as_it_is(plan, monkeypatch):
    monkeypatch.setattr(memory_plan, "activation_bytes", lambda *_: None)
    chosen = choose(plan, 1e-6)
    assert (chosen.micro_batch, chosen.activation_checkpointing) == (16, False)
    assert "cannot be counted" in chosen.note


def test_a_level_that_the_model_does_not_have_is_not_chosen(plan, estimated, monkeypatch):
    counted = memory_plan.activation_bytes
    gib = device_for(estimated, 16, "selective")
    assert choose(plan, gib).activation_checkpointing == "selective"
    monkeypatch.setattr(memory_plan, "activation_bytes", lambda *a: None if "selective" in a else counted(*a))
    assert choose(plan, gib).activation_checkpointing is True


def test_the_global_batch_stays_and_deepspeed_gets_the_chosen_split(plan):
    made = with_choice(plan, MemoryChoice(4, "selective", 2))
    assert (made.batches.global_batch, made.batches.micro_batch, made.batches.accumulation) == (32, 4, 4)
    assert made.deepspeed["train_micro_batch_size_per_gpu"] == 4
    assert made.deepspeed["gradient_accumulation_steps"] == 4
    assert made.activation_checkpointing == "selective"
    assert plan.batches.micro_batch == 16


def test_a_resume_takes_the_recorded_numbers_unless_the_config_or_the_world_is_another(training_setup, plan):
    record = MemoryChoice(4, "selective", 2, "12 of 80 GiB").record
    assert json.loads(json.dumps(record)) == record
    resumed = settle(plan, record)
    assert (resumed.batches.micro_batch, resumed.activation_checkpointing) == (4, "selective")
    explicit = make_plan(training_setup.config("memory", *AUTO, "train.micro_batch=2"), 2, "cpu")
    resumed = settle(explicit, record)
    assert (resumed.batches.micro_batch, resumed.activation_checkpointing) == (2, "selective")
    elsewhere = make_plan(training_setup.config("memory", *AUTO), 4, "cpu")
    assert settle(elsewhere, record).batches.micro_batch == 8
    assert settle(plan, {**record, "micro_batch": 5}).batches.micro_batch == 16


def test_the_dry_run_prints_the_choice_with_the_estimate(plan, estimated):
    gib = device_for(estimated, 16, "selective")
    text = preview(with_choice(plan, choose(plan, gib)), 0)
    assert "activation checkpointing selective" in text
    assert "16 micro-batch" in text
    assert f"of {gib_size(gib)}" in text


def test_another_kind_of_checkpointing_is_refused(training_setup):
    with pytest.raises(ConfigError, match="activation_checkpointing is 'mlp'; choose auto, selective, true or false"):
        training_setup.config("memory", "model.activation_checkpointing=mlp")


@pytest.mark.slow
def test_a_run_records_its_choice_and_selective_checkpointing_repeats_it_bit_for_bit(training_setup):
    curves = []
    for name, level in (("kept", "auto"), ("recomputed", "selective"), ("whole", "true")):
        settings = {"train__max_steps": 3, "train__heldout": "[]", "checkpoint__export": "false"}
        arguments = training_setup.arguments(
            name, model__mode="lora", model__activation_checkpointing=level, train__micro_batch="auto", **settings
        )
        done = subprocess.run(
            [sys.executable, "train/finetune.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        run = RunDir(training_setup.root / "runs" / name)
        recorded = {"auto": False, "selective": "selective", "true": True}[level]
        state = newest_checkpoint(run)[0].state["memory"]
        assert state == json.loads(run.identity.read_text())["memory"]
        assert (state["micro_batch"], state["activation_checkpointing"]) == (8, recorded)
        lines = map(json.loads, run.metrics.read_text().splitlines())
        curves.append([(line["loss"].hex(), line["grad_norm"].hex()) for line in lines])
    assert curves[0] == curves[1] == curves[2]


@pytest.mark.slow
def test_device_memory_is_for_dry_runs(training_setup):
    command = [sys.executable, "train/finetune.py", *training_setup.arguments("flag"), "--device-memory", "80"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "--device-memory 80 plans a dry run for a GPU of that size: give it with --dry-run" in done.stderr
