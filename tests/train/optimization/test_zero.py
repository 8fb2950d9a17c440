"""The generated DeepSpeed configuration."""

import json

import pytest

from configs.batch_plan import plan_batches
from configs.errors import ConfigError
from configs.load import load_config
from configs.run import RunConfig
from train.optimization.zero import deepspeed_config, memory_estimate


def settings(training_setup, *overrides):
    config = training_setup.config("zero", "model.dtype=bf16", *overrides)
    return deepspeed_config(config, plan_batches(config.train.global_batch, 2, config.train.micro_batch, 16))


def test_batch_sizes_are_multiplied_once(training_setup):
    made = settings(training_setup, "deepspeed.zero_stage=2")
    assert (made["train_batch_size"], made["train_micro_batch_size_per_gpu"]) == (8, 2)
    assert made["gradient_accumulation_steps"] == 2
    assert made["zero_optimization"]["stage"] == 2
    assert made["bf16"]["enabled"]


def test_offload_passes_through(training_setup):
    made = settings(
        training_setup, "deepspeed.zero_stage=3", "deepspeed.offload_param=cpu", "deepspeed.offload_optimizer=cpu"
    )
    assert made["zero_optimization"]["offload_param"] == {"device": "cpu"}
    assert made["zero_optimization"]["offload_optimizer"] == {"device": "cpu"}


def test_a_users_json_is_the_base_and_its_tuning_wins(training_setup, write_json):
    base = {"train_batch_size": "auto", "zero_optimization": {"reduce_bucket_size": 123}, "wall_clock_breakdown": True}
    made = settings(
        training_setup, "deepspeed.zero_stage=2", f"deepspeed.base={write_json('ds.json', json.dumps(base))}"
    )
    assert made["train_batch_size"] == 8
    assert made["zero_optimization"]["reduce_bucket_size"] == 123
    assert made["wall_clock_breakdown"] is True


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"train_batch_size": 99}', "train_batch_size to 99, this run needs 8"),
        ('{"zero_optimization": {"stage": 1}}', "zero_optimization.stage to 1, this run needs 2"),
        ('{"optimizer": {}}', "sets 'optimizer'"),
        ("{", "is not JSON"),
        ("[]", "holds a list"),
    ],
)
def test_a_users_json_that_contradicts_the_config_is_an_error(training_setup, write_json, text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        settings(training_setup, "deepspeed.zero_stage=2", f"deepspeed.base={write_json('ds.json', text)}")


def test_a_missing_json_is_an_error(training_setup):
    with pytest.raises(ConfigError, match=r"no file nowhere\.json"):
        settings(training_setup, "deepspeed.base=nowhere.json")


def test_memory_follows_the_stage(training_setup):
    def total(stage: int) -> float:
        config = load_config(RunConfig, training_setup.config_file("m"), [f"deepspeed.zero_stage={stage}"])[0]
        return memory_estimate(1000, 100, config, plan_batches(8, 4, 2, 16))["total"]

    assert total(0) > total(1) > total(2) > total(3)


# Bytes of living tensors inside the update, one rank, full training of a model of 107,312 weights of which 74,832 train
# (DeepSpeed 0.19.8, CPU); without the batch, 0.6 bytes a trained weight.
COUNTED = {("bf16", 0): 20.9, ("bf16", 1): 18.7, ("bf16", 2): 18.7, ("bf16", 3): 20.7,
           ("fp32", 0): 17.7, ("fp32", 1): 22.0, ("fp32", 2): 22.0, ("fp32", 3): 25.6}  # fmt: skip


@pytest.mark.parametrize(("dtype", "stage"), list(COUNTED))
def test_the_estimate_covers_what_was_counted_and_little_more(training_setup, dtype, stage):
    """More by the moment in which one group's gradients exist twice, before the update begins."""
    config = training_setup.config("m", f"model.dtype={dtype}", f"deepspeed.zero_stage={stage}")
    total = memory_estimate(107_312, 74_832, config, plan_batches(8, 1, 2, 16))["total"] * 1024**3 / 74_832
    assert COUNTED[dtype, stage] - 0.1 <= total <= COUNTED[dtype, stage] + (4 if dtype == "fp32" else 2.3)


def test_zero_3_holds_the_whole_model_while_it_loads(training_setup):
    config = training_setup.config("m", "model.dtype=bf16", "deepspeed.zero_stage=3")
    estimate = memory_estimate(7_000_000_000, 20_000_000, config, plan_batches(8, 8, 1, 16))
    assert estimate["loading"] * 1024**3 == 14e9
    assert estimate["loading"] > 7 * estimate["weights"]
