"""Which jobs are planned, in which order, and that no value can turn into anything but itself."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from configs.run import RunConfig
from launch.chain import plan
from launch.cluster import Cluster
from launch.job import Job
from launch.preflight import load_evaluation, run_folder
from launch.slurm_queue import Queue

Load = Callable[..., RunConfig]
GPUS = Cluster(nodes=2, gpus_per_node=8)


def jobs_of(config: RunConfig, start: str = "data_prep", cluster: Cluster = GPUS) -> dict[str, Job]:
    evaluations = [load_evaluation(path, config) for path in config.evaluate]
    return {job.stage: job for job in plan(config, evaluations, cluster, start, "python")}


def queue_of(config: RunConfig) -> Queue:
    return Queue(run_folder(config).root, config.slurm)


def argvs_of(config: RunConfig, start: str = "data_prep", cluster: Cluster = GPUS) -> dict[str, list[str]]:
    """The sbatch call of each stage; the ids of earlier ones are their names."""
    queue, jobs = queue_of(config), jobs_of(config, start, cluster)
    return {stage: queue.argv(job, {name: name for name in jobs}) for stage, job in jobs.items()}


def test_the_whole_chain_waits_in_the_right_places(load: Load) -> None:
    assert {stage: job.after for stage, job in jobs_of(load()).items()} == {
        "data_prep.run": (),
        "data_prep.eval.open_world": ("data_prep.run",),
        "finetune": ("data_prep.run",),
        "eval.open_world": ("finetune", "data_prep.eval.open_world"),
        "eval.open_world.report": ("eval.open_world",),
    }


def test_no_data_is_prepared_where_the_shards_are(load: Load, add_shards: Callable[..., None]) -> None:
    add_shards("flowers", "flowers_test")
    jobs = jobs_of(load())
    assert list(jobs) == ["finetune", "eval.open_world", "eval.open_world.report"]
    assert jobs["finetune"].after == ()


def test_a_set_that_two_configs_want_is_built_once(load: Load, project: Path) -> None:
    text = (project / "configs/eval/open_world.yaml").read_text()
    (project / "configs/eval/open_world.yaml").write_text(text.replace("flowers_test", "flowers"))
    jobs = jobs_of(load())
    assert [stage for stage in jobs if stage.startswith("data_prep")] == ["data_prep.run"]
    assert jobs["eval.open_world"].after == ("finetune", "data_prep.run")


@pytest.mark.parametrize(("start", "first"), [("train", "data_prep.eval.open_world"), ("eval", "eval.open_world")])
def test_the_chain_can_start_later(load: Load, add_shards: Callable[..., None], start: str, first: str) -> None:
    add_shards("flowers", *(["flowers_test"] if start == "eval" else []))
    jobs = jobs_of(load(), start)
    assert next(iter(jobs)) == first
    assert ("finetune" in jobs) is (start == "train")
    assert "data_prep.run" not in jobs


def test_a_cpu_cluster_is_never_asked_for_gpus(load: Load) -> None:
    calls = argvs_of(load("slurm.partition=cpu"), cluster=Cluster(2, 0, 4))
    assert not any("gpu" in word for argv in calls.values() for word in argv)
    assert "--ntasks-per-node=4" in calls["finetune"]


def test_evaluations_and_reports_take_one_gpu_and_none(load: Load) -> None:
    calls = argvs_of(load())
    assert "--gres=gpu:1" in calls["eval.open_world"]
    assert "--gres=gpu:8" in calls["finetune"]
    assert not any("gres" in word for word in calls["eval.open_world.report"])


def test_a_single_evaluation_task_writes_its_report_itself(load: Load) -> None:
    assert "eval.open_world.report" not in jobs_of(load("slurm.eval_tasks=1"))


def test_a_single_task_is_no_array(load: Load) -> None:
    config = load("slurm.prep_tasks=1")
    argv = queue_of(config).argv(jobs_of(config)["data_prep.run"], {})
    assert not any("--array" in argument for argument in argv)
    assert "--workers" not in argv
    assert "--output=runs/flowers/slurm/data_prep.run-%j.out" in argv


def test_two_trainings_of_one_run_never_run_together(load: Load) -> None:
    config = load()
    assert "--dependency=afterok:7,singleton" in queue_of(config).argv(
        jobs_of(config)["finetune"], {"data_prep.run": "7"}
    )


HOSTILE = ["a\n#SBATCH --comment=x", "a'b", 'a"b', "$(touch x)", "`id`", "a b", "a;b", "../x", "a" * 300, ""]


@pytest.mark.parametrize("name", [*HOSTILE, "-x", ".x"])
def test_a_job_name_is_a_name(name: str) -> None:
    with pytest.raises(ConfigError, match=r"job name is|unprintable"):
        Job(run=name, stage="" if not name else "x", script="finetune", asks="train", command=("true",))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_run_name_is_a_name(load: Load, name: str) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(load(), name=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_an_evaluation_name_is_a_name(load: Load, name: str) -> None:
    evaluation = load_evaluation("configs/eval/open_world.yaml", load())
    assert isinstance(evaluation, EvalConfig)
    with pytest.raises(ConfigError):
        dataclasses.replace(evaluation, name=name)


@pytest.mark.parametrize("value", ["$(touch x)", "`id`", "a'b\"c", "a b"])
def test_a_value_with_shell_characters_is_one_argument_of_sbatch(load: Load, value: str) -> None:
    config = dataclasses.replace(load(), runs_dir=value)
    argv = queue_of(config).argv(jobs_of(config)["finetune"], {"data_prep.run": "7"})
    assert f"{value}/flowers" in argv
    assert f"{value}/flowers/slurm/run.yaml" in argv


def test_a_value_with_a_control_character_reaches_no_command(load: Load) -> None:
    slurm = dataclasses.replace(load().slurm, partition="gpu\n#SBATCH --comment=x")
    config = dataclasses.replace(load(), slurm=slurm)
    with pytest.raises(ConfigError, match="unprintable"):
        queue_of(config).argv(jobs_of(config)["finetune"], {"data_prep.run": "7"})
