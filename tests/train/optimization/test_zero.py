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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"train_batch_size": 99}', "train_batch_size is 99, this run has 8; set train.global_batch=99, or remove"),
        ('{"gradient_accumulation_steps": 9}', "is 9, this run has 2, from train.global_batch, train.micro_batch and"),
        ('{"gradient_clipping": 0.5}', "this run has 1.0; set optim.clip_norm=0.5"),
        ('{"zero_optimization": {"stage": 1}}', "stage is 1, this run has 2; set deepspeed.zero_stage=1"),
        ('{"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}', "set deepspeed.offload_optimizer=cpu"),
        ('{"zero_optimization": {"cpu_offload": true}}', "set deepspeed.offload_optimizer=cpu"),
        ('{"zero_optimization": {"cpu_offload_param": true}}', "set deepspeed.offload_param=cpu"),
        (
            '{"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "/local"}}}',
            "set deepspeed.offload_optimizer=nvme.*this run has 'null'; set deepspeed.nvme_path=/local",
        ),
        ('{"zero_optimization": {"zero_quantized_weights": true}}', "zero_quantized_weights True is not supported"),
        (
            '{"zero_optimization": {"stag": 2}}',
            r"rejected by DeepSpeed: stag: Extra inputs are not permitted \(got 2\)",
        ),
        ('{"zero_optimization": {"overlap_comm": "perhaps"}}', "overlap_comm: .* boolean.*got perhaps"),
        ('{"zero_optimization": 2}', "zero_optimization to 2; it must be an object"),
        ('{"zero_optimization": {"offload_optimizer": "cpu"}}', "offload_optimizer to 'cpu'; it must be"),
        ('{"optimizer": {"type": "Lamb"}}', "optimizer is Lamb; only AdamW is supported"),
        ('{"optimizer": {"type": "AdamW", "params": {"lr": 0.5}}}', "set optim.lr_projector=0.5"),
        ('{"optimizer": {"params": {"betas": [0.9, 0.95]}}}', r"set optim.betas=\[0.9,0.95\]"),
        (
            '{"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 9}}}',
            "set optim.schedule and optim.warmup",
        ),
        ('{"fp16": {"enabled": true}}', "fp16 is enabled; the precision is model.dtype"),
        ('{"bf16": {"enabled": false}}', "bf16.enabled is False with model.dtype bf16; set model.dtype"),
        ('{"bf16": {"bf16_optimizer_states": true}}', "bf16_optimizer_states True is not supported"),
        ('{"activation_checkpointing": {"partition_activations": true}}', "set model.activation_checkpointing=true"),
        ('{"tensorboard": {"enabled": true}}', "tensorboard is enabled; metrics are in metrics.jsonl"),
        ('{"zero_optimisation": {"stage": 2}}', r"is not supported \(meant: zero_optimization\?\)"),
        ('{"scheduler": {"params": [1]}}', "scheduler sets 1; remove it"),
        ('{"train_batch_size": "8"}', "train_batch_size is the text '8'; write the number without quotes"),
        ('{"wall_clock_breakdown": "maybe"}', "wall_clock_breakdown 'maybe' has the wrong type"),
        ('{"comms_logger": 3}', "comms_logger 3 has the wrong type"),
        ('{"data_efficiency": {"enabled": true}}', "data_efficiency is not supported"),
        ('{"steps_per_print": 1, "steps_per_print": 2}', "it has steps_per_print more than once"),
        ("{", "is not JSON"),
        ("", "it is empty"),
        ("[]", "holds a list"),
    ],
)
def test_a_users_json_that_contradicts_the_config_is_an_error(training_setup, write_json, text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        settings(training_setup, "deepspeed.zero_stage=2", f"deepspeed.base={write_json('ds.json', text)}")


def test_everything_that_contradicts_the_config_is_listed_at_once(training_setup, write_json):
    text = '{"gradient_clipping": 5, "zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}}'
    with pytest.raises(ConfigError) as caught:
        settings(training_setup, f"deepspeed.base={write_json('ds.json', text)}")
    assert all(f"set {each}" in str(caught.value) for each in ("optim.clip_norm=5", "deepspeed.zero_stage=3"))
    assert "set deepspeed.offload_param=cpu" in str(caught.value)
    assert "\n" not in str(caught.value)


AUTO = "auto"
TRANSFORMERS_ZERO_3 = {
    "fp16": {"enabled": AUTO, "loss_scale": 0, "loss_scale_window": 1000, "hysteresis": 2, "min_loss_scale": 1},
    "bf16": {"enabled": AUTO},
    "optimizer": {"type": "AdamW", "params": {"lr": AUTO, "betas": AUTO, "eps": AUTO, "weight_decay": AUTO}},
    "scheduler": {"type": "WarmupLR", "params": {"warmup_min_lr": AUTO, "warmup_num_steps": AUTO}},
    "zero_optimization": {
        "stage": 3,
        "offload_optimizer": {"device": "none", "pin_memory": True},
        "sub_group_size": 1e9,
        "reduce_bucket_size": AUTO,
        "stage3_prefetch_bucket_size": 15099494.4,
        "stage3_param_persistence_threshold": AUTO,
        "stage3_gather_16bit_weights_on_model_save": True,
        "stage3_gather_fp16_weights_on_model_save": True,
        "cpu_offload": False,
    },
    "gradient_accumulation_steps": AUTO,
    "gradient_clipping": AUTO,
    "steps_per_print": 2000,
    "train_batch_size": AUTO,
    "train_micro_batch_size_per_gpu": AUTO,
    "wall_clock_breakdown": False,
    "activation_checkpointing": {"partition_activations": False, "number_checkpoints": None},
    "comms_logger": {"enabled": False},
    "zero_force_ds_cpu_optimizer": True,
    "zero_allow_untested_optimizer": True,
    "amp": {"enabled": AUTO, "opt_level": AUTO},
    "tensorboard": {"enabled": False},
}  # fmt: skip


def test_a_file_written_for_transformers_is_read(training_setup, write_json):
    file = write_json("ds.json", "\ufeff" + json.dumps(TRANSFORMERS_ZERO_3))
    made = settings(training_setup, "deepspeed.zero_stage=3", f"deepspeed.base={file}")
    zero = made["zero_optimization"]
    assert made["steps_per_print"] == 2000
    assert zero["stage3_prefetch_bucket_size"] == 15099494
    assert not zero["stage3_gather_16bit_weights_on_model_save"]
    assert {"fp16", "amp", "optimizer", "scheduler", "activation_checkpointing"}.isdisjoint(made)
    assert {"offload_optimizer", "stage3_gather_fp16_weights_on_model_save"}.isdisjoint(zero)
    assert (made["train_batch_size"], made["gradient_clipping"]) == (8, 1.0)


def test_logs_and_measurements_are_taken_over_and_never_to_print_is_the_default(training_setup, write_json):
    kept = {"comms_logger": {"enabled": True}, "flops_profiler": {"enabled": True}, "wall_clock_breakdown": True}
    text = json.dumps({**kept, "steps_per_print": float("inf"), "timers": None, "elasticity": {"enabled": False}})
    made = settings(training_setup, f"deepspeed.base={write_json('ds.json', text)}")
    assert {key: made[key] for key in kept} == kept
    assert made["steps_per_print"] == 1_000_000_000
    assert {"timers", "elasticity"}.isdisjoint(made)


def test_comments_and_trailing_commas_are_accepted_as_by_deepspeed(training_setup, write_json):
    text = '{\n // mine\n "zero_optimization": {"stage": 2, "sub_group_size": 7,},\n}'
    made = settings(training_setup, "deepspeed.zero_stage=2", f"deepspeed.base={write_json('ds.json', text)}")
    assert made["zero_optimization"]["sub_group_size"] == 7


def test_what_a_file_says_of_an_offload_is_added_to_the_settings(training_setup, write_json):
    text = '{"zero_optimization": {"cpu_offload": true, "cpu_offload_use_pin_memory": true}}'
    overrides = ("deepspeed.zero_stage=2", "deepspeed.offload_optimizer=cpu")
    made = settings(training_setup, *overrides, f"deepspeed.base={write_json('ds.json', text)}")
    assert made["zero_optimization"]["offload_optimizer"] == {"device": "cpu", "pin_memory": True}
    assert made["zero_force_ds_cpu_optimizer"] is False
    assert "cpu_offload" not in made["zero_optimization"]


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
