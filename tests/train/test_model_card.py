"""An export's card for the model hub, and its upload to a hub that runs in this process."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import constants
from safetensors.torch import save_file

import train.export
from configs.errors import ConfigError, RunError
from configs.load import load_config, to_yaml
from configs.run import RunConfig
from configs.run_dir import ExportDir, RunDir
from train import export_command
from train.model_card import _public, model_card, scores_of, write_model_card
from train.models.fingerprint import model_identity
from train.push import push

ROOT = Path(__file__).resolve().parents[2]
SHA = "c" * 64


def record(base: str = "llava-hf/llava-1.5-7b-hf", **others: Any) -> dict[str, Any]:
    chat = {"template": "llava", "system_prompt": "default"}
    values = {"run": "flowers", "step": 40, "checkpoint_sha256": SHA, "mode": "projector", "base": base, "chat": chat}
    return values | {"base_identity": "b" * 64, "adapter": False, "recipe": {"name": "paper"}, "chosen": None} | others


def report(name: str, folder: Path, label: str = "export", value: float | None = 0.5, n: int = 1200) -> dict[str, Any]:
    """One about the weights that are in `folder`."""
    rate = {"value": value, "low": 0.4, "high": 0.6, "n": n, "count": 600}
    protocol = {"name": "clean", "hash": "123456789abc", "model": model_identity(folder)}
    return {"name": name, "label": label, "source": "flowers102_test", "protocol": protocol, "accuracy": rate}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A finished run with an export, the reports of two evaluations, and one of an older checkpoint."""
    monkeypatch.chdir(ROOT)
    folder = RunDir(tmp_path / "flowers")
    config, _ = load_config(RunConfig, Path("configs/flowers102_projector.yaml"), ["name=flowers"])
    folder.export.mkdir(parents=True)
    folder.config.write_text(to_yaml(config))
    write_export(folder.export, 40)
    write_export(folder.export_of(20), 20)
    start = {"packages": {"torch": "2.13.0"}, "code": {"commit": "a" * 40, "clean": False}, "host": "secret-host"}
    folder.provenance.write_text(json.dumps([start]))
    for name, label, value in (
        ("open_world", "export", 0.5),
        ("open_world", "step-00000020", 0.1),
        ("closed_world", "export", 0.75),
        ("empty", "export", None),
    ):
        evaluated(folder, name, label, value=value)
    return folder


def write_export(folder: Path, step: int, **others: Any) -> None:
    """An export whose weights differ from those of every other step."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"weight": torch.full((2,), float(step))}, folder / "model.safetensors")
    values = record(step=step, checkpoint_sha256=SHA if step == 40 else f"{step:064d}", **others)
    ExportDir(folder).record.write_text(json.dumps(values))


def evaluated(run: RunDir, name: str, label: str = "export", **others: Any) -> None:
    """The report of the weights that are in the folder of `label` now."""
    place = run.evaluation(name) / label
    place.mkdir(parents=True, exist_ok=True)
    folder = run.export if label == "export" else run.root / f"export-{label}"
    (place / "report.json").write_text(json.dumps(report(name, folder, label, **others)))


def names_and_items(run: RunDir, output: Path) -> list[tuple[str, int]]:
    return [(report["name"], report["accuracy"]["n"]) for report in scores_of(run, output)]


def test_scores_measured_while_the_folder_held_another_step_are_not_scores_of_this_export(run: RunDir) -> None:
    write_export(run.export, 20)
    evaluated(run, "after_choosing")
    write_export(run.export, 40)
    assert names_and_items(run, run.export) == [("closed_world", 1200), ("open_world", 1200)]
    assert names_and_items(run, run.export_of(20)) == [("after_choosing", 1200), ("open_world", 1200)]


def test_of_one_evaluation_the_report_with_most_items_counts_wherever_it_lies(run: RunDir) -> None:
    write_export(run.export_of(40), 40)
    evaluated(run, "open_world", "step-00000040", n=8)
    evaluated(run, "closed_world", "step-00000040", n=50_000)
    assert names_and_items(run, run.export) == [("closed_world", 50_000), ("open_world", 1200)]


def test_an_adapter_has_the_scores_of_its_merged_export(run: RunDir) -> None:
    adapter = run.root / "export-adapter"
    write_export(adapter, 40, adapter=True)
    save_file({"weight": torch.zeros(2)}, adapter / "model.safetensors")
    assert names_and_items(run, adapter) == [("closed_world", 1200), ("open_world", 1200)]
    write_export(run.export, 20)
    assert names_and_items(run, adapter) == []


def test_the_example_loads_the_card_s_folder_or_the_repository_it_was_uploaded_to(run: RunDir) -> None:
    assert 'vlm_classify.load_model(".")  # this folder' in model_card(run, run.export)
    assert 'vlm_classify.load_model("owner/name")\n' in model_card(run, run.export, "owner/name")


def export(run: RunDir, monkeypatch: pytest.MonkeyPatch, *options: str) -> list[tuple[int, Path]]:
    """What `train.export` with `options` writes: (step, folder), without writing it."""
    written: list[tuple[int, Path]] = []

    def noted(_run: RunDir, checkpoint: Any, output: Path, *_: Any, **__: Any) -> Path:
        written.append((checkpoint.step, output))
        return output

    monkeypatch.setattr(export_command, "export_checkpoint", noted)
    monkeypatch.setattr(export_command, "steps_present", lambda run: [20, 40])
    monkeypatch.setattr(
        export_command, "checkpoint_to_export", lambda run, step: SimpleNamespace(step=40 if step is None else step)
    )
    monkeypatch.setattr(sys, "argv", ["train.export", str(run.root), *options])
    train.export.main()
    return written


CHOSEN = {"by": "accuracy in open_world", "value": 0.5, "items": {"flowers102_val": 8}, "measured": 3}


def test_a_card_of_a_chosen_export_leaves_the_choice_as_it_is(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_export(run.export, 20, chosen=CHOSEN)
    assert export(run, monkeypatch, "--model-card") == []
    assert "is step 20, which was chosen by accuracy in open_world; nothing was exported" in capsys.readouterr().out
    assert "| steps | 20 of " in (run.export / "README.md").read_text()
    assert export(run, monkeypatch, "--step", "40", "--output", str(run.export)) == [(40, run.export)]


def test_a_chosen_export_is_replaced_only_where_the_step_is_named(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_export(run.export, 20, chosen=CHOSEN)
    for options in ([], ["--output", str(run.export)], ["--model-card", "--base", "other"]):
        with pytest.raises(SystemExit):
            export(run, monkeypatch, *options)
        assert f"--step N --output {run.export}" in capsys.readouterr().err
    write_export(run.export, 20, chosen=CHOSEN | {"by": "held-out loss"})
    assert export(run, monkeypatch) == [(40, run.export)], "training chooses again as it continues"


def test_a_card_takes_the_export_of_the_same_checkpoint(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    assert export(run, monkeypatch, "--model-card") == []
    assert export(run, monkeypatch) == [(40, run.export)]
    assert (run.export / "README.md").is_file()


def test_the_header_has_base_tags_and_the_scores_of_this_export(run: RunDir) -> None:
    _, header, body = model_card(run, run.export).split("---\n", 2)
    values = yaml.safe_load(header)
    assert values["base_model"] == "llava-hf/llava-1.5-7b-hf"
    assert values["base_model_relation"] == "finetune"
    results = values["model-index"][0]["results"]
    assert [(r["task"]["name"], r["metrics"][0]["value"]) for r in results] == [
        ("closed_world", 75.0),
        ("open_world", 50.0),
    ]
    assert "| open_world | flowers102_test | 50.0 % | 40.0 to 60.0 % | 1,200 | clean 123456789abc |" in body
    assert "10.0 %" not in body, "the older checkpoint's"
    assert "| recipe | paper |" in body
    assert f"| commit | {'a' * 40}, with changes |" in body


def test_the_card_lists_the_class_names_and_of_many_the_first_ones_and_the_file(run):
    names = [f"class {number}" for number in range(53)]
    ExportDir(run.export).class_names.write_text(json.dumps(names[:2]))
    text = model_card(run, run.export)
    assert "The 2 class names of the training, which are its answers: `class 0`, `class 1`.\n" in text
    ExportDir(run.export).class_names.write_text(json.dumps(names))
    assert "`class 49`, and 3 more, all of them in `class_names.json`.\n" in model_card(run, run.export)
    ExportDir(run.export).class_names.unlink()
    assert "## Classes" not in model_card(run, run.export)


def test_answers_to_questions_are_not_called_image_classification(run: RunDir) -> None:
    file = run.evaluation("open_world") / "export" / "report.json"
    values = report("short_answers", run.export)
    file.write_text(json.dumps(values | {"protocol": values["protocol"] | {"task": "vqa"}}))
    _, header, body = model_card(run, run.export).split("---\n", 2)
    result = yaml.safe_load(header)["model-index"][0]["results"][1]
    assert (result["task"]["type"], result["metrics"][0]["type"]) == ("visual-question-answering", "vqa_accuracy")
    assert "| short_answers | flowers102_test | 50.0 % (VQA accuracy) |" in body


def test_the_header_is_one_that_the_hub_reads(run: RunDir) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(write_model_card(run, run.export))
    assert card.data.pipeline_tag == "image-text-to-text"
    assert {result.metric_value for result in card.data.eval_results} == {50.0, 75.0}


def test_paths_and_machines_stay_out_of_the_card(run: RunDir) -> None:
    text = model_card(run, run.export)
    assert "secret-host" not in text
    assert "shards" not in text
    assert str(run.root) not in text


def test_a_base_that_is_a_folder_is_named_but_not_linked(run: RunDir) -> None:
    ExportDir(run.export).record.write_text(json.dumps(record("train/assets/tiny_llava")))
    header = model_card(run, run.export).split("---\n")[1]
    assert "base_model" not in yaml.safe_load(header)


def test_without_an_evaluation_the_card_says_so(run: RunDir) -> None:
    for file in run.evaluations.rglob("report.json"):
        file.unlink()
    text = model_card(run, run.export)
    assert "has not been evaluated yet" in text
    assert "model-index" not in text


class Hub(BaseHTTPRequestHandler):
    """The requests of an upload, as the hub answers them; every file is sent within the commit."""

    received: dict[str, Any]
    refuses: int

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.refuses:
            self._answer({"error": "You do not have the right to write here"}, self.refuses)
        elif self.path == "/api/repos/create":
            self.received["created"] = json.loads(body)
            self._answer({"url": f"http://{self.headers['Host']}/owner/name", "id": "owner/name"})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            self.received["files"] = {line["value"]["path"] for line in lines if line["key"] == "file"}
            self._answer(
                {"commitOid": "f" * 40, "commitUrl": f"http://{self.headers['Host']}/owner/name/commit/{'f' * 40}"}
            )
        else:
            self._answer({"shouldIgnore": False})

    def do_GET(self) -> None:
        self._answer({"id": "owner/name", "sha": "f" * 40, "siblings": []})

    def _answer(self, content: dict[str, Any], status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("ThisHub", (Hub,), {"received": {}, "refuses": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", address, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "not-a-real-token")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    yield handler
    server.shutdown()
    server.server_close()


def test_an_export_is_uploaded_to_a_private_repository_without_its_provenance(run: RunDir, hub: type[Hub]) -> None:
    write_model_card(run, run.export)
    ExportDir(run.export).provenance.write_text("[]")
    (run.export / "config.json").write_text("{}")
    address = push(run.export, "owner/name")
    assert address.endswith("/owner/name")
    created = hub.received["created"]
    assert created.get("private") is True or created.get("visibility") == "private"
    assert hub.received["files"] == {"README.md", "config.json", "export.json", "model.safetensors"}


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_one_line_with_the_next_step(run: RunDir, hub: type[Hub], status: int) -> None:
    hub.refuses = status
    with pytest.raises(RunError, match=r"was not uploaded to .*owner/name: .*`hf auth login`"):
        push(run.export, "owner/name")


def test_another_form_of_name_is_refused_before_anything_is_sent(run: RunDir) -> None:
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        push(run.export, "name")


@pytest.mark.parametrize(
    ("note", "public"),
    [
        ("1 x does not decode (/data/My Photos/Big cats/b (1).jpg)", "1 x does not decode (b (1).jpg)"),
        ("such as a/1 = b/2; all: python -m data_prep.overlap shards/x/train", "such as a/1 = b/2"),
        ("classes of shards/x/train: cat/dog", "classes of shards/x/train: cat/dog"),
    ],
)
def test_notes_on_a_card_name_no_folder_of_this_machine(note, public):
    assert _public(note) == public
