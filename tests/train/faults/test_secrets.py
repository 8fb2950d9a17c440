"""Canary secrets in every place a secret may come from, and a search for them in every place a run writes to."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from configs.errors import ConfigError, RunError
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir
from train.checkpoints.reading import newest_checkpoint, open_checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
CANARY = "canary5ecretf00dfeedbeefcafe0123456789ab"  # 40 characters, as a W&B key
KEYS = {"WANDB_API_KEY": CANARY, "HF_TOKEN": f"hf_{CANARY}", "AWS_SECRET_ACCESS_KEY": f"aws{CANARY}"}
KEYS["INNOCENT"] = f"no key {CANARY}"  # no file of a run holds an environment


def holding(folder: Path) -> list[str]:
    """Files below `folder` that hold the canary."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files, f"nothing was written to {folder}"
    return [str(file.relative_to(folder)) for file in files if CANARY.encode() in file.read_bytes()]


def test_keys_of_the_environment_stand_in_no_file_no_output_and_no_command_line(rank_forker, training_setup):
    """Two ranks with data workers, W&B offline, a checkpoint, a hang dump and an export."""
    hold = {"rank": 0, "stage": "data", "step": 9, "do": "hold"}
    more = {"train__workers": 1, "logging__wandb": "offline", "checkpoint__export": "true"}
    ranks = rank_forker.start("secret", hold, env=KEYS, **more)
    ranks.wait_until_reached()
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert CANARY.encode() not in line.read_bytes()
        except OSError:
            continue
    ranks.release()
    ranks.ended()
    assert ranks.codes == {0: 0, 1: 0}, ranks.text()[-3000:]
    (sent,) = ranks.run.wandb.glob("offline-run-*/run-*.wandb")
    assert all(name in sent.read_bytes() for name in (b"base_identity", b"data_fingerprints", b"world_size"))
    assert holding(ranks.run.root) == []
    assert CANARY not in ranks.text()


def test_the_search_would_find_it(tmp_path):
    (tmp_path / "log").write_text(f"x {CANARY} y")
    assert holding(tmp_path) == ["log"]


@pytest.mark.parametrize(
    "setting",
    [
        f"data.shards=https://user:{CANARY}@host/shards",
        f"data.shards=s3://key:{CANARY}@bucket/shards",
        f"data.sources.pictures.path=https://{CANARY}@host/x.tar",
        f"data.sources.pictures.options.api_key={CANARY}",
        f"model.base=https://user:{CANARY}@hub/base",
        f"slurm.setup=['export WANDB_API_KEY={CANARY}']",
        f"slurm.setup=['HF_TOKEN={CANARY} true']",
        f"data.shards=https://host/shards?X-Amz-Signature={CANARY}",
        f"data.shards=https://host/shards?token={CANARY}",
    ],
)
def test_a_secret_in_a_config_is_refused_without_being_repeated(training_setup, setting, capsys):
    key, _, value = setting.partition("=")
    with pytest.raises(ConfigError) as caught:
        load_config(RunConfig, training_setup.config_file("refused"), [f"{key}={value}"])
    assert "secret" in str(caught.value)
    assert "environment" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_refused_secret_on_the_command_line_is_in_no_output_and_no_folder(training_setup):
    words = [sys.executable, "train/finetune.py", "--config", str(training_setup.config_file("argv"))]
    words += ["--set", f"data.shards=https://user:{CANARY}@host/shards"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert CANARY not in done.stdout + done.stderr
    assert "data.shards" in done.stderr
    assert not (training_setup.root / "runs" / "argv").exists()


HARMLESS = ["https://host/shards", "s3://bucket/shards", "shards/a@b", "export OMP_NUM_THREADS=4"]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_resembles_a_secret_is_let_through(training_setup, text):
    key = "slurm.setup" if text.startswith("export") else "data.shards"
    value = f"['{text}']" if key == "slurm.setup" else text
    load_config(RunConfig, training_setup.config_file("allowed"), [f"{key}={value}"])


def test_job_scripts_and_dry_runs_hold_no_key_of_the_environment(training_setup):
    words = [sys.executable, "-m", "launch.submit", "--config", str(training_setup.config_file("sbatch"))]
    words += ["--nodes", "1", "--gpus-per-node", "1", "--dry-run"]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, **KEYS}, check=False
    )
    assert "sbatch" in done.stdout
    assert CANARY not in done.stdout + done.stderr


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def test_a_pickle_in_the_place_of_checkpoint_files_is_refused_and_not_run(rank_forker, uninterrupted, tmp_path):
    """As a foreign checkpoint: alone, instead of the weights, and with a manifest that agrees."""
    import hashlib
    import shutil

    target = tmp_path / "executed"
    run = RunDir(tmp_path / "run")
    shutil.copytree(uninterrupted.run.checkpoints, run.checkpoints)
    step = newest_checkpoint(run)[0].step
    bomb = pickle.dumps(Bomb(target))
    foreign = run.checkpoint(step + 1)
    foreign.mkdir()
    for name in ("pytorch_model.bin", "mp_rank_00_model_states.pt", "training_args.bin"):
        (foreign / name).write_bytes(bomb)
    assert newest_checkpoint(run)[0].step == step, "skipped"
    folder = run.checkpoint(step)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in list(manifest["sha256"]):
        if name.endswith(".safetensors"):
            (folder / name).write_bytes(bomb)
            manifest["sha256"][name] = hashlib.sha256(bomb).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Exception) as caught:
        list(open_checkpoint(run, step).parameters())
    assert isinstance(caught.value, RunError | OSError | ValueError) or "Safetensor" in type(caught.value).__name__
    assert not target.exists()
    pickle.loads(bomb)
    assert target.exists(), "the pickle would have made the file"
