"""A trained model is prompted as in training, about the data of its run, without any flag."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.protocol import ProtocolConfig
from configs.run import RunConfig
from configs.run_dir import RunDir
from configs.trained import load_evaluation_of, training_record_of_model
from data_prep import build
from data_prep.class_names import load_class_list
from eval import run as evaluation
from eval.models.generate import Prompt, TextPredictor
from eval.paper.rows import own_row, rows_of_report
from eval.runner.as_trained import differences
from eval.runner.training_data import training_notes
from train.plan import make_plan

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "Let ' s think step by step"
RUN = """
name: mine
runs_dir: {root}/runs
data:
  shards: {root}/shards
  sources:
    mine_train: {{reader: image_folder, path: {root}/pictures, options: {{prompt: identify}}}}
    mine_test: {{reader: image_folder, path: {root}/pictures, options: {{prompt: identify}}}}
model: {{base: {model}, dtype: fp32}}
chat: {{template: hf, system_prompt: "{system}", image_mode: crop, max_length: 256}}
train:
  {{sources: [mine_train], heldout: [mine_test], global_batch: 2, micro_batch: 2, max_steps: 1, workers: 0}}
evaluate: [{root}/look.yaml]
"""
EVALUATION = """
base: {configs}/eval/open_world.yaml
name: look
source: mine_test
batch_size: 4
protocol: {{max_new_tokens: 2}}
"""


@dataclass(frozen=True)
class Trained:
    """A run that the program trained, and an evaluation that says nothing of how the run was trained."""

    root: Path
    run: RunDir

    def evaluate(self, *settings: str, model: Path | None = None, flags: tuple[str, ...] = ()) -> None:
        """`python -m eval.run` with the run as its model."""
        chosen = (f"model={model or self.run.root}", *settings)
        sets = [part for setting in chosen for part in ("--set", setting)]
        evaluation.main(["--config", str(self.root / "look.yaml"), *sets, *flags])

    @property
    def report(self) -> dict[str, Any]:
        """The report of the last evaluation in the run's own folder."""
        content: dict[str, Any] = json.loads((self.run.evaluation("look") / "export" / "report.json").read_text())
        return content


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, picture: Callable[..., bytes]) -> Trained:
    root = tmp_path_factory.mktemp("as_trained")
    for number, name in enumerate(("tench", "dog")):
        (root / "pictures" / name).mkdir(parents=True)
        for copy in range(2):
            (root / "pictures" / name / f"{copy}.jpg").write_bytes(picture(10 * number + copy))
    (root / "run.yaml").write_text(RUN.format(root=root, model=tiny_model, system=SYSTEM))
    (root / "look.yaml").write_text(EVALUATION.format(configs=ROOT / "configs"))
    build.main(["--config", str(root / "run.yaml")])
    command = [sys.executable, "train/finetune.py", "--config", str(root / "run.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return Trained(root, RunDir(root / "runs" / "mine"))


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The token ids of each question that reaches the model."""
    asked: list[list[int]] = []
    original = TextPredictor.predict

    def predict(self: TextPredictor, given: list[Prompt]) -> Any:
        asked.extend(prompt.input_ids for prompt in given)
        return original(self, given)

    monkeypatch.setattr(TextPredictor, "predict", predict)
    return asked


def test_the_question_of_an_evaluation_has_the_tokens_of_training(
    trained: Trained, prompts: list[list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    trained.evaluate()
    plan = make_plan(load_config(RunConfig, trained.root / "run.yaml")[0], 1, "cpu")
    learned = [plan.example_builder.build(plan.heldout.sample(position), 0).input_ids for position in range(4)]
    assert len(prompts) == 4
    for ids, lesson in zip(prompts, learned, strict=True):
        assert ids == lesson[: len(ids)]
        assert len(ids) < len(lesson)
    report = trained.report
    asked = {key: report["protocol"][key] for key in ("prompt", "template", "system_prompt", "dtype")}
    assert asked == {"prompt": "identify", "template": "hf", "system_prompt": SYSTEM, "dtype": "fp32"}
    assert report["trained"]["differences"] == []
    provenance = report["provenance"]
    assert [start["outcome"] for start in provenance["evaluation"]] == ["finished"]
    assert provenance["training"][0]["command"].startswith("python train/finetune.py --config")
    assert provenance["training"][0]["data"]["mine_train"]
    assert provenance["export"][0]["packages"]["torch"] == provenance["evaluation"][0]["packages"]["torch"]
    trained.evaluate()
    assert trained.report["provenance"] == provenance, "nothing was asked again, so nothing was started"
    assert "not as trained" not in capsys.readouterr().out


def test_what_is_asked_in_another_way_is_said_and_not_compared_with_fine_tuned_rows(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained.evaluate("protocol.system_prompt=none", "protocol.prompt=paper", f"output={tmp_path / 'other'}")
    printed = capsys.readouterr().out
    assert f"not as trained: protocol.system_prompt is 'none', training had {SYSTEM!r}" in printed
    assert "training had 'Identify the object in this image.'" in printed
    folder = tmp_path / "other" / "export"
    assert "Not evaluated as trained" in (folder / "report.md").read_text()
    report = json.loads((folder / "report.json").read_text())
    model = {
        "base": "llava-hf/llava-1.5-7b-hf",
        "mode": "projector",
        "sources": ["flowers102_train"],
        "finetuned": True,
    }
    fitted = report | {"evaluated_model": model, "source": "flowers102_test", "paper": None}
    row = "table3/finetuned/LLaVA1.5-7B/projector/Flowers102"
    assert own_row(row, fitted, {row: 1}) is None
    assert rows_of_report(fitted, {row: 1}) == []
    same = fitted | {"trained": {"record": "x", "differences": []}}
    assert own_row(row, same, {row: 1}) == row
    assert rows_of_report(same, {row: 1}) == [row]


def test_an_export_that_was_copied_elsewhere_is_asked_as_it_was_trained(trained: Trained, tmp_path: Path) -> None:
    model = shutil.copytree(trained.run.export, tmp_path / "model")
    config, origins = load_config(EvalConfig, trained.root / "look.yaml", [f"model={model}"])
    assert (config.protocol.prompt, config.protocol.template, config.dtype) == ("identify", "hf", "fp32")
    assert config.data.sources["mine_test"].path == str(trained.root / "pictures")
    assert origins["protocol.prompt"] == f"as trained: {model / 'export.json'}"
    assert origins["data.shards"].startswith("as trained: ")


def test_the_class_list_of_a_task_that_needs_one_is_that_of_the_training(trained: Trained) -> None:
    settings = [f"model={trained.run.root}", "protocol.task=closed_world"]
    config, _ = load_config(EvalConfig, trained.root / "look.yaml", settings)
    assert config.protocol.classes == str(trained.root / "shards" / "mine_train")
    settings[0] = f"model={trained.run.export}"
    exported, _ = load_config(EvalConfig, trained.root / "look.yaml", settings)
    assert load_class_list(str(exported.protocol.classes)).names == ("dog", "tench")


def test_a_dry_run_says_whether_the_model_is_asked_as_trained(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    trained.evaluate(flags=("--dry-run",))
    printed = capsys.readouterr().out
    assert f"are those of {trained.run.config}" in printed
    assert "human: <image>\n" in printed
    assert "Identify the object in this image." in printed
    trained.evaluate("dtype=bf16", flags=("--dry-run",))
    assert "not as trained: dtype is 'bf16', training had 'fp32'" in capsys.readouterr().out


def test_a_dry_run_names_a_checkpoint_that_the_run_lacks_and_says_why_a_model_is_not_checked(
    trained: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    step = trained.run.steps()[-1]
    trained.evaluate(f"checkpoint={step}", flags=("--dry-run",))
    assert "weights, tokenizer and image processor fit" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        trained.evaluate(f"checkpoint={step + 1}", flags=("--dry-run",))
    assert f"checkpoint is {step + 1}; the steps in {trained.run.checkpoints} are: " in capsys.readouterr().err
    trained.evaluate(f"model={trained.run.checkpoint(step)}", flags=("--dry-run",))
    assert "it is exported from a checkpoint when the evaluation starts" in capsys.readouterr().out
    gone = trained.run.root.with_name(f"{trained.run.root.name}x")
    with pytest.raises(SystemExit):
        trained.evaluate(f"model={gone}", f"data_from={trained.run.root}", flags=("--dry-run",))
    error = capsys.readouterr().err
    assert f"model is {gone}, and there is no such folder" in error
    assert f"did you mean {trained.run.root}?" in error
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/later.yaml").write_text(f"name: {gone.name}\nruns_dir: {gone.parent}\n")
    trained.evaluate(f"model={gone}", f"data_from={trained.run.root}", flags=("--dry-run",))
    assert f"there is no folder {gone} yet; configs/later.yaml trains it" in capsys.readouterr().out


def test_a_smaller_limit_says_that_its_report_counts_fewer_answers(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    trained.evaluate("limit=2", "name=fewer")
    assert "counts" not in capsys.readouterr().out
    trained.evaluate("limit=1", "name=fewer")
    assert "fewer: limit=1 counts 1 answer, the report before 2; the others are still" in capsys.readouterr().out
    trained.evaluate("limit=2", "name=fewer")
    assert "counts" not in capsys.readouterr().out


def test_an_evaluation_of_a_run_that_was_stopped_says_so(trained: Trained, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "stopped")
    shutil.copytree(trained.run.root, run.root, ignore=shutil.ignore_patterns("export*", "eval"))
    config, _ = load_config(EvalConfig, trained.root / "look.yaml", [f"model={run.root}"])
    run.provenance.write_text('[{"start": "s", "end": "e", "outcome": "stopped by SIGTERM"}]')
    (note,) = (text for text in training_notes(config) if "no export yet" in text)
    assert "(not finished: stopped by SIGTERM): a checkpoint is evaluated, the newest is of step" in note
    run.provenance.write_text('[{"start": "s", "end": "e", "outcome": "finished"}]')
    assert not any("no export yet" in text for text in training_notes(config))


def test_a_model_that_is_not_there_is_named_before_its_data(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        trained.evaluate(f"model={trained.root / 'gone'}")
    assert f"(there is no folder {trained.root / 'gone'} here)" in capsys.readouterr().err
    described = "data.sources.mine_test={reader: image_folder, path: elsewhere}"
    with pytest.raises(SystemExit):
        trained.evaluate(f"model={trained.root / 'gone'}", described, "data.shards=no/such/shards")
    assert f"no model folder {trained.root / 'gone'}; give a folder" in capsys.readouterr().err


def test_the_resolved_config_names_the_training_as_the_origin(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        trained.evaluate(flags=("--print-config",))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("protocol.system_prompt")]
    assert f"# as trained: {trained.run.config}" in lines[0]


def test_a_value_in_the_config_is_kept(trained: Trained) -> None:
    settings = [f"model={trained.run.root}", "protocol.prompt=main_object", "data.shards=elsewhere"]
    config, origins = load_config(EvalConfig, trained.root / "look.yaml", settings)
    assert (config.protocol.prompt, config.data.shards) == ("main_object", "elsewhere")
    assert origins["protocol.prompt"] == "--set protocol.prompt=main_object"
    found = training_record_of_model(str(trained.run.root))
    assert found is not None
    assert {one.setting for one in differences(config, found)} == {"protocol.prompt", "data.shards"}


def test_a_model_as_published_keeps_the_usual_values(trained: Trained, tiny_model: Path) -> None:
    file = trained.root / "published.yaml"
    file.write_text((trained.root / "look.yaml").read_text() + f"data_from: {trained.root / 'run.yaml'}\n")
    config, _ = load_config(EvalConfig, file, [f"model={tiny_model}"])
    protocol = config.protocol
    assert (protocol.prompt, protocol.template, protocol.system_prompt) == ("paper", "family", "family")
    assert (protocol.image_mode, config.dtype) == ("export", "bf16")
    assert config.data.shards == str(trained.root / "shards")
    with pytest.raises(ConfigError, match=r"source 'mine_test' is not in data\.sources; it has: none\. .*data_from"):
        load_config(EvalConfig, trained.root / "look.yaml", [f"model={tiny_model}"])


def test_a_shipped_evaluation_reads_the_data_of_the_run_and_that_of_its_preset_otherwise(trained: Trained) -> None:
    text = (
        (trained.root / "run.yaml").read_text().replace("mine_test", "imagenet_val").replace("name: mine", "name: own")
    )
    (trained.root / "own.yaml").write_text(text)
    (trained.root / "runs" / "own").mkdir()
    shutil.copy(trained.root / "own.yaml", trained.root / "runs" / "own" / "config.yaml")
    shipped = ROOT / "configs" / "eval" / "imagenet_open_world.yaml"
    config, _ = load_config(EvalConfig, shipped, [f"model={trained.root / 'runs' / 'own'}"])
    assert set(config.data.sources) == {"imagenet_val"}
    assert config.data.sources["imagenet_val"].path == str(trained.root / "pictures")
    assert config.data.shards == str(trained.root / "shards")
    published, origins = load_config(EvalConfig, shipped)
    assert set(published.data.sources) == {"imagenet_val"}
    assert published.data.sources["imagenet_val"].path == "data/imagenet/val"
    assert origins["data.shards"] == "data_from: configs/imagenet_projector.yaml"


def test_the_evaluations_of_submit_get_the_data_of_the_run_and_stay_as_trained(trained: Trained) -> None:
    other = trained.root / "other.yaml"
    other.write_text(
        (trained.root / "look.yaml").read_text()
        + "data: {shards: old, sources: {mine_test: {reader: jsonl, path: old.jsonl, options: {label_key: a}}}}\n"
    )
    config, _ = load_config(RunConfig, trained.root / "run.yaml")
    found, notes = load_evaluation_of(other, config)
    assert found.data.shards == str(trained.root / "shards")
    assert found.data.sources["mine_test"] == config.data.sources["mine_test"]
    assert found.model == str(trained.run.root)
    assert found.protocol.prompt == found.dtype == ProtocolConfig().prompt == "trained"
    assert any("source mine_test is the run's: reader 'image_folder' and not 'jsonl'" in note for note in notes)
    assert any("data.shards" in note for note in notes)
