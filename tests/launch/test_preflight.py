"""The preflight finds, all at once, what would stop a chain hours later."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.run import RunConfig
from configs.section import result_fields
from configs.slurm import SlurmConfig
from launch import preflight
from launch.cluster import Cluster
from launch.preflight import problems
from launch.slurm_problems import signal_seconds, slurm_problems, time_seconds

Load = Callable[..., RunConfig]
GPUS = Cluster(nodes=2, gpus_per_node=8)


def test_a_good_chain_has_no_problem(load: Load) -> None:
    assert problems(load(), GPUS) == []


def test_all_problems_are_reported_together(load: Load, project: Path) -> None:
    (project / "raw/flowers").rmdir()
    found = problems(load("train.global_batch=60", "slurm.time=soon", "model.base=./nowhere"), GPUS)
    assert len(found) == 4, found
    for words in (
        "slurm.time is 'soon'",
        "global_batch 60 is not divisible by 16 ranks",
        "data.sources.flowers: the path raw/flowers",
        "'./nowhere'",
    ):
        assert any(words in text for text in found), (words, found)


def test_the_batch_must_divide_by_the_world_and_the_next_ones_are_named(load: Load) -> None:
    (found,) = problems(load("train.global_batch=60"), GPUS)
    assert "2 nodes x 8 ranks = 16" in found
    assert "use 48 or 64" in found


def test_a_fixed_micro_batch_must_divide_too(load: Load) -> None:
    (found,) = problems(load("train.micro_batch=3"), GPUS)
    assert "train.micro_batch 3 does not divide" in found
    assert "or auto" in found


def test_packing_asks_for_no_micro_batch(load: Load) -> None:
    assert problems(load("train.micro_batch=3", "train.batching=packed"), GPUS) == []


def test_without_gpus_the_tasks_per_node_are_the_ranks(load: Load) -> None:
    assert Cluster(nodes=2, gpus_per_node=0, tasks_per_node=3).world == 6
    assert problems(load("train.global_batch=6"), Cluster(2, 0, 3)) == []


def test_a_deepspeed_file_that_contradicts_the_config_is_found(load: Load, project: Path) -> None:
    (project / "ds.json").write_text('{"train_batch_size": "auto", "zero_optimization": {"stage": 3},}')
    (found,) = problems(load("deepspeed.base=ds.json"), GPUS)
    assert "set deepspeed.zero_stage=3" in found
    assert problems(load("deepspeed.base=ds.json", "deepspeed.zero_stage=3"), GPUS) == []
    (found,) = problems(load("deepspeed.base=nowhere.json"), GPUS)
    assert "no file nowhere.json" in found


def test_shards_stand_in_for_raw_data(load: Load, project: Path, add_shards: Callable[..., None]) -> None:
    (project / "raw/flowers").rmdir()
    assert problems(load(), GPUS)
    add_shards("flowers")
    assert problems(load(), GPUS) == []


def test_shards_that_the_training_could_not_read_are_found(
    load: Load, project: Path, add_shards: Callable[..., None]
) -> None:
    add_shards("flowers")
    (project / "shards/flowers/manifest.json").write_text('{"format_version": 1')
    (found,) = problems(load(), GPUS)
    assert "shards/flowers/manifest.json is damaged" in found


def test_starting_at_training_needs_the_shards(load: Load, add_shards: Callable[..., None]) -> None:
    (found,) = problems(load(), GPUS, "train")
    assert "no shards in shards/flowers; start from data_prep" in found
    add_shards("flowers")
    assert problems(load(), GPUS, "train") == []


def test_starting_at_evaluation_needs_a_trained_run(load: Load, project: Path) -> None:
    (found,) = problems(load(), GPUS, "eval")
    assert "no trained run" in found
    (project / "runs/flowers").mkdir(parents=True)
    (project / "runs/flowers/config.yaml").touch()
    assert problems(load(), GPUS, "eval") == []


def write_checkpoint(run: Path, step: int, **state: object) -> None:
    folder = run / f"checkpoints/step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "manifest.json").write_text("{}")


def test_a_run_of_other_settings_in_the_folder_is_found_before_the_queue_is(
    load: Load, project: Path, add_shards: Callable[..., None]
) -> None:
    add_shards("flowers")
    run, config = project / "runs/flowers", load()
    settings = json.loads(json.dumps(result_fields(config))) | {"model.kernels": "compile", "world_size": 4}
    older = {key: value for key, value in settings.items() if key != "optim.eps"}
    write_checkpoint(run, 28, settings=older, data={"flowers": "abc"}, base_identity="b")
    assert problems(config, GPUS) == [], (
        "the shards' fingerprint is unknown, and a setting that is newer had its default"
    )
    (found,) = problems(load("train.epochs=8", "optim.eps=1e-6"), GPUS)
    assert "runs/flowers/checkpoints/step-00000028 belongs to another run: optim.eps 1e-08 -> 1e-06; " in found
    assert "train.epochs 1 -> 8. Undo the change, or choose another name (--set name=" in found
    assert problems(load("train.epochs=8"), GPUS, "train") == problems(load("train.epochs=8"), GPUS)
    (project / "runs/flowers/config.yaml").touch()
    assert problems(load("train.epochs=8"), GPUS, "eval") == [], "nothing is trained"
    assert problems(load("train.epochs=8", "name=other"), GPUS) == []
    manifest = project / "shards/flowers/manifest.json"
    manifest.write_text(manifest.read_text().replace('"fingerprint": []', '"fingerprint": "def"'))
    assert "data.flowers 'abc' -> 'def'" in problems(config, GPUS)[0]
    (run / "checkpoints/step-00000028/manifest.json").unlink()
    assert "is complete; remove them to start over" in problems(config, GPUS)[0]


def test_evaluation_configs_are_loaded_and_their_data_looked_for(load: Load, project: Path) -> None:
    (project / "raw/flowers_test").rmdir()
    found = problems(load("evaluate=[configs/eval/open_world.yaml,configs/eval/none.yaml]"), GPUS)
    assert len(found) == 2
    assert "raw/flowers_test" in found[0]
    assert "no config file configs/eval/none.yaml" in found[1]


def test_an_evaluation_of_the_export_needs_an_export(load: Load) -> None:
    (found,) = problems(load("checkpoint.export=false"), GPUS)
    assert "checkpoint.export is false" in found


def test_the_config_of_a_run_among_its_evaluations_is_named_as_that(load: Load) -> None:
    Path("configs/own.yaml").write_text("name: own\ntrain: {epochs: 2}\n")
    (found,) = problems(load("evaluate=[configs/own.yaml]"), GPUS)
    assert "configs/own.yaml is the config of a training run (it sets train), and this program takes" in found


def test_two_evaluations_need_two_names(load: Load) -> None:
    (found,) = problems(load("evaluate=[configs/eval/open_world.yaml,configs/eval/open_world.yaml]"), GPUS)
    assert "both named 'open_world'" in found


@pytest.mark.parametrize(
    ("base", "hub"), [("owner/name", True), ("owner", False), ("/a/b", False), ("./a", False), ("raw/gone", False)]
)
def test_a_hub_id_is_distinguished_from_a_mistyped_path(project: Path, base: str, hub: bool) -> None:
    assert preflight.is_hub_id(base) is hub


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (None, "'models/gone', and there is no such folder; give a model's folder or a hub id"),
        ((), "a folder without config.json"),
        (("config.json",), "a folder without a tokenizer (tokenizer.json or tokenizer.model); copy tokenizer*"),
        (("config.json", "tokenizer.model"), None),
    ],
)
def test_a_model_folder_that_lacks_something_is_the_only_problem(load: Load, project: Path, files, words) -> None:
    (project / "models").mkdir()
    for name in files or ():
        (project / "models/gone").mkdir(exist_ok=True)
        (project / "models/gone" / name).touch()
    if files == ():
        (project / "models/gone").mkdir()
    found = problems(load("model.base=models/gone", "model.mode=full"), GPUS)
    assert [words in text for text in found] == ([] if words is None else [True]), found


def test_a_full_disk_is_seen(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "UNKNOWN_BASE_BYTES", 10**18)
    (found,) = problems(load(), GPUS)
    assert re.search(r"iB free, about [\d,.]+ GiB are needed for 4 checkpoints and the export \(assuming that", found)


def test_another_folder_than_the_root_is_refused(load: Load, project: Path) -> None:
    (project / "train/finetune.py").unlink()
    (found,) = problems(load(), GPUS)
    assert "root folder of the repository" in found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("10:30", 630), ("24:00:00", 86400), ("1-12", 129600), ("1-12:30", 131400), ("2-0:0:1", 172801)],
)
def test_times_are_read_as_sbatch_reads_them(text: str, seconds: int) -> None:
    assert time_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "-5", "24h", "10:00\n#SBATCH --x"])
def test_other_times_are_none(text: str) -> None:
    assert time_seconds(text) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("partition", "gpu\n#SBATCH --comment=x"),
        ("partition", "-x"),
        ("account", "a b"),
        ("qos", "$(id)"),
        ("constraint", "a100;id"),
        ("memory", "200 GB"),
        ("time", "00:05:00"),
        ("setup", ("module load cuda\nrm -rf x",)),
        ("setup", ("echo \x1b[2J",)),
    ],
)
def test_slurm_values_that_are_no_such_values_are_refused(field: str, value: object) -> None:
    (found,) = slurm_problems(SlurmConfig(**{field: value}))
    assert field in found


def test_slurm_values_in_use_are_accepted() -> None:
    slurm = SlurmConfig(partition="gpu,gpu-long", account="lab_7", qos="high", constraint="[a100|h100]&ib", memory="0")
    assert list(slurm_problems(slurm)) == []


@pytest.mark.slow
def test_a_base_that_jobs_without_a_network_would_not_find_is_named(
    load: Load, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HOME", raising=False)
    online = "slurm.setup=[export HF_HUB_OFFLINE=0]"
    offline = f"slurm.setup=['export HF_HUB_OFFLINE=1', 'export HF_HOME=\"{project}/hf\" # shared']"
    assert problems(load(online), GPUS) == []
    (found,) = problems(load(offline), GPUS)
    assert f"llava-hf/llava-1.5-7b-hf is not in {project}/hf/hub; fetch it here: HF_HOME={project}/hf python" in found
    snapshot = project / "hf/hub/models--llava-hf--llava-1.5-7b-hf/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert problems(load(offline), GPUS) == []


def test_the_signal_of_the_job_script_is_the_one_the_preflight_counts_with() -> None:
    script = (Path(preflight.__file__).parents[1] / "slurm/finetune.sbatch").read_text()
    assert f"#SBATCH --signal=B:USR1@{signal_seconds()}\n" in script


def test_the_command_prints_each_problem_and_leaves_with_2(
    project: Path, run_main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--config", "configs/run.yaml", "--nodes", "3", "--gpus-per-node", "8", "--set", "slurm.memory=lots"]
    assert run_main(preflight.main, *where) == 2
    assert capsys.readouterr().err.count("problem: ") == 2


def test_the_command_is_content_with_a_good_config(project: Path, run_main: Callable[..., int]) -> None:
    assert run_main(preflight.main, "--config", "configs/run.yaml", "--nodes", "2", "--gpus-per-node", "8") == 0


def test_impossible_machines_are_one_line(
    project: Path, run_main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(preflight.main, "--config", "configs/run.yaml", "--nodes", "0", "--gpus-per-node", "8") == 2
    assert capsys.readouterr().err == "error: --nodes is 0; it must be at least 1\n"


@pytest.mark.parametrize(("names", "found"), [("rose\ndaisy\n", []), ("Rose\ndaisy\ntulip\n", ["rose"])])
def test_a_class_list_that_lacks_classes_of_the_test_items_is_found(
    load: Load, project: Path, add_shards: Callable[..., None], names: str, found: list[str]
) -> None:
    add_shards("flowers_test")
    file = project / "shards/flowers_test/manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"class_names": ["rose", "daisy"], "histogram": [3, 4]}))
    (project / "names.txt").write_text(names)
    evaluation = project / "configs/eval/open_world.yaml"
    text = evaluation.read_text()
    evaluation.write_text(text + "protocol: {task: closed_world, classes: names.txt}\n")
    shown = problems(load("evaluate=[configs/eval/open_world.yaml]"), GPUS)
    assert len(shown) == len(found)
    for line in shown:
        assert "1 of 2 classes of flowers_test, 3 of 7 items, are not in protocol.classes names.txt: 'rose' (3)" in line
        assert "classes of protocol.classes names.txt without an item in flowers_test (2): Rose, tulip" in line
