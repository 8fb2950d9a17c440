"""The command as a user types it: two ranks, a kill in the middle, resume, export."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlavaForConditionalGeneration

from configs.errors import ConfigError, RunError
from configs.run_dir import ExportDir, RunDir
from data_prep.provenance import read_starts
from train.checkpoints.reading import newest_checkpoint, open_checkpoint
from train.export_command import default_output
from train.exported_model import export_checkpoint, model_folders
from train.models.loading import load_model
from train.toy.random_models import write_random_base

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ENTRY, FAULTY = "train/finetune.py", "tests/train/finetune_with_faults.py"
SKIPPED = 4  # the step, from 0, that the gate skips: before the kill and after the last checkpoint before it


def command(
    training_setup, name: str, *arguments: str, start: list[str] | None = None, **settings: object
) -> list[str]:
    """The words of a training, started by `start` (default: plain python, one rank)."""
    return [*(start or [sys.executable]), ENTRY, *training_setup.arguments(name, **settings), *arguments]


def run(words: list[str], expect: int | None = 0, **faults: object) -> str:
    """What the command printed; `faults` are those of finetune_with_faults.py."""
    if faults:
        words = [FAULTY if word == ENTRY else word for word in words]
    environment = {**os.environ, "FAULTS": json.dumps(faults)}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    output = done.stdout + done.stderr
    assert done.returncode == expect or (expect is None and done.returncode), output[-4000:]
    return output


def wait_for(folder: RunDir, text: str, process: "subprocess.Popen[bytes]") -> None:
    """Return once metrics.jsonl holds `text`, while `process` is running."""
    deadline = time.monotonic() + 300
    while not (folder.metrics.is_file() and text in folder.metrics.read_text()):
        assert time.monotonic() < deadline
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
            raise AssertionError("the run ended before it could be interrupted")


def metrics(folder: RunDir) -> list[tuple[int, str, str]]:
    lines = map(json.loads, folder.metrics.read_text().splitlines())
    return [(line["step"], line["loss"].hex(), line["grad_norm"].hex()) for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(training_setup, deepspeed) -> RunDir:
    """An uninterrupted LoRA run of 12 steps on two ranks, ZeRO 2, one step of which is skipped for a NaN on rank 1."""
    run(
        command(training_setup, "uninterrupted", start=deepspeed(), model__mode="lora", deepspeed__zero_stage=2),
        nan=SKIPPED,
    )
    return RunDir(training_setup.root / "runs" / "uninterrupted")


def test_a_run_killed_within_an_accumulation_after_a_skipped_step_continues_bit_for_bit(
    training_setup, deepspeed, uninterrupted
):
    """The uninterrupted run writes its checkpoints beside training and this one does not: neither changes a number."""
    folder = RunDir(training_setup.root / "runs" / "killed")
    settings = {"model__mode": "lora", "deepspeed__zero_stage": 2, "checkpoint__asynchronous": "false"}
    words = command(training_setup, "killed", start=deepspeed(), **settings)
    run(words, expect=None, nan=SKIPPED, kill=[9, 1])
    assert metrics(folder)[-1][0] == 9
    assert newest_checkpoint(folder)[0].state["policy"]["missed"] == 1
    output = run(command(training_setup, "killed", "--resume", "auto", start=deepspeed(), **settings), nan=SKIPPED)
    assert "resumed" in output
    assert metrics(folder) == metrics(uninterrupted)
    assert metrics(uninterrupted)[SKIPPED][1] == "nan"
    killed, resumed = read_starts(folder.provenance)
    assert killed["outcome"] is None, "nobody was left to write it"
    assert (resumed["outcome"], resumed["first_step"], resumed["world_size"]) == ("finished", 8, 2)
    assert sum(resumed["hosts"].values()) == 2
    assert resumed["code"] == killed["code"]
    assert "unseen" in resumed["data"], "a held-out source is read too"
    assert [start["start"] for start in read_starts(ExportDir(folder.export).provenance)[-1]["training"]] == [
        killed["start"],
        resumed["start"],
    ]


def test_metrics_and_events_say_what_a_dashboard_needs(uninterrupted):
    last = json.loads(uninterrupted.metrics.read_text().splitlines()[-1])
    wanted = {"step", "epoch", "loss", "grad_norm", "lr", "tokens", "supervised_tokens", "samples_per_s"}
    wanted |= {"tokens_per_s", "data_wait_s", "step_s", "peak_memory_bytes", "loss_by_source", "heldout_loss"}
    assert wanted <= last.keys()
    assert set(last["heldout_loss"]) == {"unseen"}
    kinds = [json.loads(line)["kind"] for line in uninterrupted.events.read_text().splitlines()]
    assert kinds.count("checkpoint") == 3
    saved = [json.loads(line) for line in uninterrupted.events.read_text().splitlines() if '"checkpoint"' in line]
    assert [event["step"] for event in saved] == [4, 8, 12]
    assert all(0 < event["stopped_s"] <= event["seconds"] and event["bytes"] for event in saved)


def test_only_what_trains_is_in_a_checkpoint(uninterrupted):
    checkpoint, _ = newest_checkpoint(uninterrupted)
    names = checkpoint.weights().keys()
    assert any("lora_A" in name for name in names)
    assert all("lora_" in name or "multi_modal_projector" in name for name in names)
    assert not any("vision_tower" in name for name in names), "LoRA stays out of the tower"


def test_the_export_loads_with_plain_transformers_and_has_lora_merged(training_setup, uninterrupted):
    exported = LlavaForConditionalGeneration.from_pretrained(uninterrupted.export)
    AutoTokenizer.from_pretrained(uninterrupted.export)
    base = LlavaForConditionalGeneration.from_pretrained(training_setup.root / "base")
    weights = newest_checkpoint(uninterrupted)[0].weights()
    layer = "model.language_model.layers.0.self_attn.q_proj"
    delta = weights[f"{layer}.lora_B.default.weight"] @ weights[f"{layer}.lora_A.default.weight"] * (8 / 4)
    merged, original = exported.state_dict(), base.state_dict()
    torch.testing.assert_close(merged[f"{layer}.weight"], original[f"{layer}.weight"] + delta)
    assert delta.abs().max() > 0
    name = "model.vision_tower.encoder.layers.0.mlp.fc1.weight"
    key = name if name in merged else next(k for k in merged if "vision_tower" in k and k.endswith("0.mlp.fc1.weight"))
    assert torch.equal(merged[key], original[key])


def test_a_kept_adapter_gives_the_merged_models_logits(uninterrupted, tmp_path):
    from peft import PeftModel

    kept = export_checkpoint(uninterrupted, newest_checkpoint(uninterrupted)[0], tmp_path / "kept", keep_adapter=True)
    plain = LlavaForConditionalGeneration.from_pretrained(kept)
    adapted = PeftModel.from_pretrained(plain, kept / "adapter").eval()
    merged = LlavaForConditionalGeneration.from_pretrained(uninterrupted.export).eval()
    ids = torch.tensor([[1, 5, 6, 9, 10, 11]])
    with torch.no_grad():
        torch.testing.assert_close(adapted(input_ids=ids).logits, merged(input_ids=ids).logits, rtol=1e-4, atol=1e-4)


def test_every_kept_checkpoint_can_be_had_as_a_model_folder(uninterrupted):
    labels = [
        label for label, folder in model_folders(str(uninterrupted.root), "all") if (folder / "config.json").is_file()
    ]
    assert labels == ["step-00000004", "step-00000008", "step-00000012"]
    assert model_folders(str(uninterrupted.root))[0] == ("export", uninterrupted.export)
    assert model_folders(str(uninterrupted.checkpoint(8)))[0][0] == "step-00000008"


def test_an_export_of_a_step_that_was_trained_again_is_made_again(uninterrupted):
    (_, folder), manifest = (
        model_folders(str(uninterrupted.checkpoint(4)))[0],
        uninterrupted.checkpoint(4) / "manifest.json",
    )
    (folder / "left").touch()
    assert (model_folders(str(uninterrupted.checkpoint(4)))[0][1] / "left").exists(), (
        "kept while the checkpoint is the same"
    )
    manifest.write_text(manifest.read_text() + "\n")
    assert not (model_folders(str(uninterrupted.checkpoint(4)))[0][1] / "left").exists()


def test_an_export_onto_the_wrong_base_is_refused(uninterrupted, tmp_path):
    other = write_random_base(tmp_path / "other", "tiny", seed=9)
    with pytest.raises(RunError, match="is not the base of"):
        export_checkpoint(uninterrupted, open_checkpoint(uninterrupted, 4), tmp_path / "out", base=str(other))


@pytest.mark.parametrize("kind", ["language model", "llava"])
def test_lora_may_be_merged_onto_another_models_language_weights(training_setup, uninterrupted, tmp_path, kind):
    other = LlavaForConditionalGeneration.from_pretrained(write_random_base(tmp_path / "other", "tiny", seed=9))
    folder = tmp_path / "other"
    if kind == "language model":
        config = other.config.text_config
        language = LlamaForCausalLM(config)
        language.model.load_state_dict(other.model.language_model.state_dict())
        language.lm_head.load_state_dict(other.lm_head.state_dict())
        language.resize_token_embeddings(config.vocab_size - 3)  # Vicuna knows 64 words fewer than LLaVA's folder
        language.save_pretrained(tmp_path / "vicuna")
        folder = tmp_path / "vicuna"
    checkpoint = newest_checkpoint(uninterrupted)[0]
    export_checkpoint(uninterrupted, checkpoint, tmp_path / "onto", lora_onto=str(folder))
    ours = LlavaForConditionalGeneration.from_pretrained(tmp_path / "onto").state_dict()
    trained = LlavaForConditionalGeneration.from_pretrained(uninterrupted.export).state_dict()
    base = LlavaForConditionalGeneration.from_pretrained(training_setup.root / "base").state_dict()
    for name, tensor in ours.items():
        expected = trained[name]
        if "language_model" in name or name.startswith("lm_head"):  # the other's weights and the same LoRA
            theirs = other.state_dict()[name].clone()
            if kind == "language model" and ("embed_tokens" in name or name.startswith("lm_head")):
                theirs[-3:] = base[name][-3:]
            expected = theirs + trained[name] - base[name]
        torch.testing.assert_close(tensor, expected, rtol=1e-4, atol=1e-5)
    layer = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(ours[layer], trained[layer])
    record = json.loads((tmp_path / "onto" / "export.json").read_text())
    assert record["lora_onto"]["model"] == str(folder)
    assert model_folders(str(uninterrupted.root))[0] == ("export", uninterrupted.export)


def test_merges_onto_two_folders_of_one_name_do_not_replace_each_other(tmp_path):
    run, places = RunDir(tmp_path / "x"), [tmp_path / name / "export" for name in "ab"]
    for place in places:
        place.mkdir(parents=True)
    outputs = {default_output(run, None, lora_onto=str(place)) for place in places}
    assert len(outputs) == 2
    assert all(output.name.startswith("export-onto-export-") for output in outputs)
    assert default_output(run, None) == run.export
    assert default_output(run, 5, keep_adapter=True).name == "export-step-00000005-adapter"


def test_language_weights_of_another_shape_are_refused_by_name(uninterrupted, tmp_path):
    language = LlamaForCausalLM(
        LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=64)
    )
    language.save_pretrained(tmp_path / "small")
    with pytest.raises(RunError, match="--lora-onto takes a language model of the base's own shape"):
        export_checkpoint(
            uninterrupted, newest_checkpoint(uninterrupted)[0], tmp_path / "o", lora_onto=str(tmp_path / "small")
        )


def test_a_folder_that_holds_a_run_is_not_overwritten_without_being_asked(training_setup, uninterrupted):
    output = run(command(training_setup, "uninterrupted", model__mode="lora"), expect=2)
    assert "already contains a run; continue it with --resume auto" in output


def test_a_changed_setting_is_refused_with_the_difference_until_it_is_named(training_setup, uninterrupted):
    settings = {"model__mode": "lora", "deepspeed__zero_stage": 0, "optim__lr_projector": 0.02}
    output = run(command(training_setup, "uninterrupted", "--resume", "auto", **settings), expect=2)
    assert "optim.lr_projector 0.01 -> 0.02" in output
    assert "zero_stage" not in output, "the ZeRO stage may change"
    accepted = ("--resume", "auto", "--accept-change", "optim.lr_projector")
    run(command(training_setup, "uninterrupted", *accepted, **settings))


def test_the_dry_run_shows_the_plan_and_writes_nothing(training_setup):
    output = run(command(training_setup, "dry", "--dry-run", "--world", "4"))
    for words in ("effective batch   8 = 4 ranks x 1 accumulation x 2 micro-batch", "warm-up", "projector", "frozen"):
        assert words in output
    assert "\033[" not in output, "no colours into a pipe"
    assert "⟦" in output
    assert re.search(r"memory per rank +[\d.]+ [KMG]iB \(weights [\d.]+ [KMG]iB, ", output)
    assert not (training_setup.root / "runs" / "dry").exists()


TRANSFORMERS_FILE = """{
 // as it is written for transformers
 "fp16": {"enabled": "auto"}, "bf16": {"enabled": "auto"}, "gradient_clipping": "auto",
 "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto",
 "zero_optimization": {"stage": 2, "overlap_comm": true, "sub_group_size": 1e9, "reduce_bucket_size": 1638.4,
  "offload_optimizer": {"device": "cpu", "pin_memory": false},
 },
}"""


def test_an_offload_in_a_deepspeed_file_is_named_by_the_dry_run_and_trains_once_it_is_set(training_setup, write_json):
    settings = {"deepspeed__base": write_json("ds.json", TRANSFORMERS_FILE), "deepspeed__zero_stage": 2}
    output = run(command(training_setup, "offload", "--dry-run", **settings), expect=2)
    assert "set deepspeed.offload_optimizer=cpu" in output
    assert "Traceback" not in output
    settings |= {"deepspeed__offload_optimizer": "cpu", "train__max_steps": 2, "train__heldout_every": 0}
    run(command(training_setup, "offload", **settings))
    assert len(metrics(RunDir(training_setup.root / "runs" / "offload"))) == 2


def test_a_signal_stops_the_run_at_a_step_with_everything_saved(training_setup):
    folder = RunDir(training_setup.root / "runs" / "stopped")
    words = command(training_setup, "stopped", train__max_steps=100_000, train__epochs=100_000)
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(folder, '"step": 1', process)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=300) == 0
    assert folder.requeue.is_file()
    assert newest_checkpoint(folder)[0].step == metrics(folder)[-1][0]


def test_a_rank_that_waits_for_others_ends_by_a_signal_and_is_marked_for_requeueing(training_setup, free_port):
    folder, port = RunDir(training_setup.root / "runs" / "waiting"), free_port()
    variables = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    process = subprocess.Popen(
        command(training_setup, "waiting"), cwd=ROOT, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            break
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert f"waited for rank 1 to come at 127.0.0.1:{port}; nothing was trained" in output
    assert process.returncode == 0
    assert folder.requeue.is_file()


def test_a_rank_variable_without_the_other_is_named_and_nothing_starts(training_setup, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    output = run(command(training_setup, "lone"), expect=2)
    assert "error: RANK is set to '1' and WORLD_SIZE is not; unset RANK" in output
    assert "Traceback" not in output


def test_a_run_whose_gradient_was_never_above_zero_is_an_error_and_exports_nothing(training_setup):
    output = run(command(training_setup, "untrained", train__max_steps=3), expect=2, zero=True)
    assert "error: nothing was trained: no gradient was finite and above zero in any of 3 steps" in output
    assert "exported to" not in output
    assert not RunDir(training_setup.root / "runs" / "untrained").export.exists()


def test_an_export_never_replaces_a_folder_that_is_not_one(uninterrupted, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("keep")
    with pytest.raises(RunError, match="exists and is no export"):
        export_checkpoint(uninterrupted, open_checkpoint(uninterrupted, 4), tmp_path / "precious")
    assert (tmp_path / "precious" / "file").read_text() == "keep"


def test_a_kept_adapter_is_not_taken_for_the_whole_model(uninterrupted, tmp_path):
    kept = export_checkpoint(uninterrupted, open_checkpoint(uninterrupted, 4), tmp_path / "kept", keep_adapter=True)
    with pytest.raises(ConfigError, match="keeps its LoRA in"):
        load_model(str(kept), None, "fp32", "sdpa")
