"""The Python interface, on the shipped tiny model; every code block of docs/python.md is run."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import vlm_classify
from configs.errors import ConfigError, DataError, RunError
from data_prep.toy_world.facts import toy_classes
from data_prep.toy_world.render import render

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "train" / "assets" / "tiny_llava"
REPORT = {
    "name": "demo_open_world",
    "model": "runs/demo_mix",
    "label": "export",
    "accuracy": {"value": 0.75, "low": 0.3, "high": 0.95, "count": 3, "n": 4},
    "no_answer": {"value": 0.25, "low": 0.05, "high": 0.7, "count": 1, "n": 4},
    "classes": [
        {"label": 0, "name": "cat", "correct": 1, "wrong": 0, "no_answer": 1, "frequency": 7},
        {"label": 1, "name": "dog", "correct": 2, "wrong": 0, "no_answer": 0, "frequency": None},
    ],
}


@pytest.fixture(scope="module")
def model() -> vlm_classify.Model:
    return vlm_classify.load_model(TINY, system_prompt="none", device="cpu")


@pytest.fixture(scope="module")
def picture() -> bytes:
    """A picture of a class that the shipped model knows."""
    return render(toy_classes(0)[0], seed=0, key="picture", image_size=48)


@pytest.fixture
def folder(tmp_path: Path, picture: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of docs/python.md: a picture, the shipped model, a run with metrics and a report."""
    (tmp_path / "photo.png").write_bytes(picture)
    (tmp_path / "train").symlink_to(ROOT / "train")
    evaluation = tmp_path / "runs" / "demo_mix" / "eval" / "demo_open_world" / "export"
    evaluation.mkdir(parents=True)
    (evaluation / "report.json").write_text(json.dumps(REPORT), encoding="utf-8")
    lines = [json.dumps({"step": step, "loss": 1 / step, "lr": {"projector": 1e-3}}) for step in (1, 2, 3)]
    text = "\n".join([*lines, '{"step": 4, "lo'])  # a kill cut the last line
    (tmp_path / "runs" / "demo_mix" / "metrics.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


NAMES = [toy_class.name for toy_class in toy_classes(0)]


def test_an_image_may_be_a_path_bytes_or_a_pil_image(model, picture, folder):
    answer = model.ask("photo.png")
    assert answer == model.ask(Path("photo.png")) == model.ask(picture) == model.ask(Image.open("photo.png"))
    assert answer
    grey = Image.open("photo.png").convert("CMYK")
    assert isinstance(model.ask(grey), str)


def test_a_question_has_the_papers_words_unless_others_are_given(model, picture):
    assert model.ask(picture) == model.ask(picture, "What type of object is in this photo?")
    assert isinstance(model.ask(None, "What does sut vime eat?"), str)
    first_word, _, rest = model.ask(picture).partition(" ")
    assert model.ask(picture, answer_prefix=first_word) == rest, "greedy decoding continues its own beginning"
    assert len(model.ask(picture, max_new_tokens=1)) < len(model.ask(picture))


def test_class_scores_are_those_of_the_program_best_first(model, picture):
    from eval.class_scores.rules import Rule
    from eval.models.class_likelihood.single_image import score_image

    question = "What type of object is in this photo?"
    for rule in ("sum", "mean"):
        scores = model.class_scores(picture, NAMES, question, rule=rule)
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
        scorer = model._scorer(model._protocol("", 1))
        program = score_image(scorer, question, picture, NAMES, Rule(rule))
        assert scores == {entry["name"]: entry["score"] for entry in program["classes"]}
        assert next(iter(scores)) == program["top1"]
    assert model.classify(picture, NAMES) == next(iter(model.class_scores(picture, NAMES)))
    assert all(score < 0 for score in model.class_scores(picture, NAMES).values())


@pytest.mark.parametrize("names", [[], ["cat", "cat"], "cat"])
def test_a_class_list_that_is_none_is_refused(model, picture, names):
    with pytest.raises(ConfigError, match="give a list of different names"):
        model.class_scores(picture, names)


def test_mistakes_name_what_was_given(model, picture, tmp_path):
    with pytest.raises(ConfigError, match="rule is 'cfg'"):
        model.class_scores(picture, NAMES, rule="cfg")
    with pytest.raises(DataError, match=re.escape(f"cannot read the image {tmp_path}/none.png")):
        model.ask(tmp_path / "none.png")
    (tmp_path / "cut.png").write_bytes(picture[:-80])
    with pytest.raises(DataError, match=re.escape(f"the image {tmp_path}/cut.png: does not decode")):
        model.ask(tmp_path / "cut.png")
    with pytest.raises(ConfigError, match="checkpoint is all"):
        vlm_classify.load_model(TINY, checkpoint="all")
    with pytest.raises(ConfigError, match="dtype is 'int4'; choose one of: "):
        vlm_classify.load_model(TINY, dtype="int4")
    with pytest.raises(RunError, match=r"has no metrics\.jsonl"):
        vlm_classify.metrics(tmp_path)
    with pytest.raises(RunError, match=r"has no report\.json"):
        vlm_classify.report(tmp_path)


def test_metrics_and_reports_are_read(folder):
    assert [(step["step"], step["loss"]) for step in vlm_classify.metrics("runs/demo_mix")] == [
        (1, 1.0),
        (2, 0.5),
        (3, 1 / 3),
    ]
    assert vlm_classify.report("runs/demo_mix/eval/demo_open_world/export") == REPORT


def test_without_pandas_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'vlm-classify[pandas]'")):
        vlm_classify.metrics_frame("runs/demo_mix")


def test_frames_have_a_row_for_each_step_class_or_evaluation(folder):
    pytest.importorskip("pandas")
    steps = vlm_classify.metrics_frame("runs/demo_mix")
    assert list(steps["step"]) == [1, 2, 3]
    assert list(steps["lr.projector"]) == [1e-3] * 3
    classes = vlm_classify.report_frame("runs/demo_mix/eval/demo_open_world/export")
    assert list(classes["name"]) == ["cat", "dog"]
    assert list(classes["accuracy"]) == [0.5, 1.0]
    (row,) = vlm_classify.results_frame("runs").to_dict("records")
    assert row == {
        "evaluation": "demo_open_world",
        "model": "runs/demo_mix",
        "label": "export",
        **{key: REPORT["accuracy"][key] for key in ("low", "high", "n")},
        "accuracy": 0.75,
        "no_answer": 0.25,
        "path": "runs/demo_mix/eval/demo_open_world/export",
    }
    assert len(vlm_classify.results_frame("train")) == 0


def test_the_frame_of_results_leaves_out_a_comparison_and_counts_no_evaluation_twice(folder, monkeypatch):
    monkeypatch.setattr(vlm_classify, "_pandas", lambda: SimpleNamespace(DataFrame=list))  # also without pandas
    comparison = folder / "runs" / "demo_mix" / "comparison"
    comparison.mkdir()
    (comparison / "report.json").write_text('{"evaluations": ["demo_open_world"], "models": {}}', encoding="utf-8")
    rows = vlm_classify.results_frame("runs", "runs/demo_mix")
    assert [row["path"] for row in rows] == ["runs/demo_mix/eval/demo_open_world/export"]
    with pytest.raises(
        RunError, match=r"comparison/report\.json is no report of one evaluation; give a folder such as"
    ):
        vlm_classify.report("runs/demo_mix/comparison")
    with pytest.raises(RunError, match="no folder runs/typo; give runs"):
        vlm_classify.results_frame("runs/typo")
    (comparison / "report.json").write_text('{"evaluat', encoding="utf-8")
    with pytest.raises(RunError, match=r"comparison/report\.json is damaged"):
        vlm_classify.results_frame("runs")


def test_the_code_of_the_page_runs(folder, capsys):
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 6
    names: dict[str, object] = {}
    for block in blocks:
        try:
            exec(compile(block, "docs/python.md", "exec"), names)
        except ConfigError as error:
            assert "_frame(" in block
            assert "pandas is not installed" in str(error)
    assert "runs/typo has no metrics.jsonl" in capsys.readouterr().out
    assert isinstance(names["answer"], str)
    assert names["accuracy"] == 0.75
    documented = set(re.findall(r"(?:vlm_classify|model)\.(\w+)\(", page))
    offered = {name for name in vlm_classify.__all__ if name != "Model"} | {"ask", "class_scores", "classify"}
    assert documented >= offered
