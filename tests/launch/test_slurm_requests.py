"""What each stage asks SLURM for: its own settings, else the general ones; and what is refused before sbatch."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from configs.errors import ConfigError
from configs.run import RunConfig
from configs.slurm import Gpus, SlurmConfig, SlurmStage, training_gpus
from launch import preflight, reproduce
from launch.chain import plan
from launch.cluster import Cluster
from launch.job import Job
from launch.job_summary import machines, summary
from launch.preflight import load_evaluation, run_folder
from launch.slurm_problems import slurm_problems
from launch.slurm_queue import Queue

ROOT = Path(__file__).parents[2]
Load = Callable[..., RunConfig]
GPUS = Cluster(nodes=2, gpus_per_node=8)


def calls(config: RunConfig, cluster: Cluster = GPUS) -> dict[str, list[str]]:
    """The options of each stage's sbatch call; the ids of earlier ones are their names."""
    queue = Queue(run_folder(config).root, config.slurm)
    jobs = plan(config, [load_evaluation(path, config) for path in config.evaluate], cluster, "data_prep", "python")
    names = {job.stage: job.stage for job in jobs}
    return {job.stage: queue.argv(job, names) for job in jobs}


@pytest.mark.slow
def test_every_setting_of_a_stage_reaches_the_jobs_of_that_stage_alone(load: Load) -> None:
    stages = {"data_prep": "data_prep.run", "train": "finetune", "eval": "eval.open_world"}
    stages["report"] = "eval.open_world.report"
    for stage, job in stages.items():
        values = {"partition": "p1", "account": "a1", "qos": "q1", "constraint": "c1", "time": "'7:00:00'"}
        values |= {"memory": "9G", "cpus_per_task": "3", "options": "[--nice=5]"}
        found = calls(load(*(f"slurm.{stage}.{name}={value}" for name, value in values.items())))
        own = {"--partition=p1", "--account=a1", "--qos=q1", "--constraint=c1", "--time=7:00:00", "--mem=9G"}
        own |= {"--cpus-per-task=3", "--nice=5"}
        assert own <= set(found[job]), stage
        for other in set(stages.values()) - {job}:
            assert not own & set(found[other]) and "--partition=gpu" in found[other], (stage, other)


def test_time_and_memory_of_the_general_settings_are_the_trainings(load: Load) -> None:
    found = calls(load())
    assert {"--time=24:00:00", "--mem=200G"} <= set(found["finetune"])
    assert not any(word.startswith(("--time", "--mem")) for word in found["data_prep.run"] + found["eval.open_world"])


@pytest.mark.parametrize(
    ("option", "training", "evaluation"),
    [
        ("gres", "--gres=gpu:h100:8", "--gres=gpu:h100:1"),
        ("gpus-per-node", "--gpus-per-node=h100:8", "--gpus-per-node=h100:1"),
    ],
)
def test_typed_gpus_are_requested_by_the_option_that_is_chosen(
    load: Load, option: str, training: str, evaluation: str
) -> None:
    found = calls(load("slurm.gpus=h100:8", f"slurm.gpu_option={option}"))
    assert training in found["finetune"] and evaluation in found["eval.open_world"]
    for stage in ("data_prep.run", "eval.open_world.report"):
        assert not any("gpu:" in word or "--gpus" in word for word in found[stage])


def test_an_evaluation_may_take_other_gpus_than_the_training(load: Load) -> None:
    found = calls(load("slurm.gpus=h100:8", "slurm.eval.gpus=a100:2"))
    assert "--gres=gpu:h100:8" in found["finetune"] and "--gres=gpu:a100:2" in found["eval.open_world"]


def test_gres_of_other_resources_joins_that_of_the_gpus(load: Load) -> None:
    found = calls(load("slurm.options=['--gres=lscratch:200', '--exclusive']", "slurm.train.options=['--gres=nic:1']"))
    assert [word for word in found["finetune"] if "gres" in word] == ["--gres=gpu:8,lscratch:200,nic:1"]
    assert [word for word in found["data_prep.run"] if "gres" in word] == ["--gres=lscratch:200"]
    assert all("--exclusive" in argv for argv in found.values())


def test_options_are_passed_as_given_before_the_script(load: Load) -> None:
    argv = calls(load("slurm.options=['--comment=a b $(id)', '-x', '--mail-type=FAIL']"))["finetune"]
    place = argv.index("--comment=a b $(id)")
    assert place < argv.index("runs/flowers/slurm/finetune.sbatch")
    assert argv[place : place + 3] == ["--comment=a b $(id)", "-x", "--mail-type=FAIL"]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--nodelist n1", "one entry"),
        ("n1", "one entry"),
        ("", "one entry"),
        ("--", "one entry"),
        ("--comment=a\nb", "unprintable"),
        ("--comment=a\u2028b", "unprintable"),
        ("--partition=x", "slurm.eval.partition"),
        ("-px", "slurm.eval.partition"),
        ("--part=x", "slurm.eval.partition"),
        ("--gpus=8", "slurm.eval.gpus"),
        ("--gres=lscratch:1,gpu:8", "slurm.eval.gpus"),
        ("--dependency=afterok:1", "leave it out"),
        ("-o", "leave it out"),
        ("--array=0-3", "leave it out"),
        ("--wrap=id", "leave it out"),
        ("--no-requeue", "a training is queued again at its time limit: leave it out"),
        ("--comment=a\nb", "has the unprintable character"),
    ],
)
def test_an_option_that_breaks_the_call_or_the_chain_is_refused_by_name(option: str, said: str) -> None:
    found = list(slurm_problems(SlurmConfig(eval=SlurmStage(options=(option,)))))
    assert found and all("slurm.eval.options[0]" in text for text in found)
    assert said in found[0]


@pytest.mark.parametrize("option", ["--exclusive", "--exclude=n[1-3]", "--reservation=a", "--gres=nic:1", "-x n1"])
def test_other_options_pass(option: str) -> None:
    assert list(slurm_problems(SlurmConfig(options=(option,)))) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"train": SlurmStage(time="0:05:00")}, "slurm.train.time is '0:05:00'; a job saves 300 s"),
        ({"eval": SlurmStage(time="86400")}, "SLURM reads as minutes; give hours:minutes:seconds"),
        ({"data_prep": SlurmStage(memory="64 GB")}, "slurm.data_prep.memory"),
        ({"gpus": "8:h100"}, "slurm.gpus is '8:h100'; give a number of GPUs per node"),
        ({"report": SlurmStage(gpus="1")}, "a report uses no GPU"),
        ({"wrapper": ("apptainer exec x.sif",)}, "each word as one entry"),
        ({"wrapper": ("apptainer", "")}, "an empty word"),
        ({"wrapper": ("apptainer", "a\nb")}, "slurm.wrapper[1]"),
        ({"python": "python\n"}, "slurm.python"),
    ],
)
def test_what_a_stage_cannot_ask_for_is_one_line(settings: dict[str, object], said: str) -> None:
    (found,) = slurm_problems(SlurmConfig(**settings))  # type: ignore[arg-type]
    assert said in found


@pytest.mark.parametrize("written", ["48:00:00", "'48:00:00'"])
def test_a_time_is_read_as_written_with_and_without_quotes(load: Load, written: str) -> None:
    slurm = load(f"slurm.time={written}").slurm
    assert slurm.time == "48:00:00"
    assert list(slurm_problems(slurm)) == []


def test_the_stages_of_the_documentation_are_accepted(load: Load) -> None:
    text = (ROOT / "docs/slurm.md").read_text()
    example = next(block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "report:" in block)
    slurm = yaml.load(example, yaml.BaseLoader)["slurm"]  # as written
    config = load(f"slurm={json.dumps(slurm)}")
    assert list(slurm_problems(config.slurm)) == []
    found = calls(config)
    assert {"--gpus-per-node=h100:8", "--partition=gpu", "--mail-type=FAIL"} <= set(found["finetune"])
    assert {"--gpus-per-node=a100:1", "--partition=a100", "--gres=lscratch:200"} <= set(found["eval.open_world"])
    assert {"--partition=cpu", "--account=lab-7"} <= set(found["eval.open_world.report"])


def test_the_gpus_of_command_line_and_config_must_agree() -> None:
    assert training_gpus(SlurmConfig(gpus="h100:8"), None) == Gpus(8, "h100")
    assert training_gpus(SlurmConfig(gpus="h100:8", train=SlurmStage(gpus="4")), 4) == Gpus(4)
    assert training_gpus(SlurmConfig(), 0) == Gpus(0)
    with pytest.raises(ConfigError, match=r"--gpus-per-node is 4 and slurm\.gpus is h100:8"):
        training_gpus(SlurmConfig(gpus="h100:8"), 4)
    with pytest.raises(ConfigError, match="give --gpus-per-node N"):
        training_gpus(SlurmConfig(), None)


def test_the_command_line_needs_no_gpus_that_the_config_names(project: object, run_main: Callable[..., int]) -> None:
    where = ("--config", "configs/run.yaml", "--nodes", "2")
    assert run_main(preflight.main, *where, "--set", "slurm.gpus=h100:8") == 0
    assert run_main(preflight.main, *where) == 2


def test_the_papers_experiments_take_the_gpus_of_evaluations() -> None:
    assert reproduce.task_gpus(SlurmConfig(eval=SlurmStage(gpus="a100:1")), None) == Gpus(1, "a100")
    assert reproduce.task_gpus(SlurmConfig(gpus="h100:8"), 2) == Gpus(2, "h100")
    assert reproduce.task_gpus(SlurmConfig(gpus="h100:8"), 0) == Gpus(0)
    with pytest.raises(ConfigError, match=r"slurm\.eval\.gpus is a100:1"):
        reproduce.task_gpus(SlurmConfig(eval=SlurmStage(gpus="a100:1")), 2)


def test_the_summary_counts_gpu_hours_and_says_what_is_unknown() -> None:
    slurm = SlurmConfig(time="1-00:00:00", eval=SlurmStage(time="0:30:00"))
    training = Job(
        run="r",
        stage="finetune",
        script="finetune",
        asks="train",
        command=("x",),
        nodes=2,
        ranks_per_node=8,
        gpus=Gpus(8, "h100"),
        reads=("base", "shards/a"),
        writes=("runs/r",),
    )
    evaluate = Job(run="r", stage="e", script="evaluate", asks="eval", command=("x",), gpus=Gpus(1), tasks=3)
    expected = "2 nodes x 8 GPUs (h100) x 24 h = 384 GPU hours at most; 8 ranks of 8 cores per node"
    assert machines(training, slurm) == expected
    assert machines(evaluate, slurm) == "3 tasks x 1 node x 1 GPU x 30 min = 1.5 GPU hours at most; 8 cores"
    text = summary([training, evaluate], slurm)
    assert "all jobs: 385.5 GPU hours at most" in text
    assert "      reads   base, shards/a\n      writes  runs/r\n" in text
