"""What lies in folders of runs, sorted by the paper's rows; loss curves; the page in all its parts."""

import json
import re
from pathlib import Path

import pytest

from configs.run_dir import RunDir
from eval.paper.derived import Result
from eval.paper.figures import loss_figure
from eval.paper.loss_curves import read_loss_curves
from eval.paper.published import paper_numbers
from eval.paper.results import _named, collect
from eval.scoreboard import main

RATE = {"value": 0.25, "low": 0.2, "high": 0.3, "count": 250, "n": 1000}
PROTOCOL = {"task": "open_world", "prompt": "paper", "answer_prefix": "", "hash": "0123456789ab", "name": "paper"}
MODEL = {"model": "llava-hf/llava-1.5-7b-hf", "label": "model", "source": "imagenet_val", "paper": None}


def rate(value: float) -> dict:
    return RATE | {"value": value}


def write(folder: Path, name: str, values: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(values))


def write_report(folder: Path, value: float, model: dict = MODEL, **changes: object) -> None:
    protocol = PROTOCOL | changes.pop("protocol", {})
    base = {"name": "x", "accuracy": rate(value), "protocol": protocol, "frequency": None, "classes": []}
    write(folder, "report.json", base | model | changes)


def test_results_without_a_row_are_named_by_evaluation_and_model_and_where_equal_by_what_differs_in_the_folder():
    def result(run: str) -> Result:
        return Result(0.5, 0.4, 0.6, 9, "custom", run, run)

    folders = ("runs/cats/comparison/base/photos", "runs/dogs/comparison/base/photos", "runs/cats/eval/photos/export")
    models = (("train/assets/tiny_llava", "export"), ("train/assets/tiny_llava", "export"), ("runs/cats", "20"))
    found = _named([("photos", model, result(folder)) for model, folder in zip(models, folders, strict=True)])
    base = ["photos: tiny_llava (cats)", "photos: tiny_llava (dogs)"]
    assert [name for name, _ in found] == [*base, "photos: cats step 20"]


def test_improvement_and_relative_error_are_derived_from_two_results(tmp_path):
    write_report(tmp_path / "a", 0.20)
    write_report(tmp_path / "b", 0.23, protocol={"synonyms": "imagenet"})
    closed = {"task": "closed_world", "candidates": 20}
    write_report(tmp_path / "c", 0.80, protocol=closed)
    clip = MODEL | {"model": "openai/clip-vit-large-patch14-336"}
    write_report(tmp_path / "d", 0.95, model=clip, protocol=closed | {"task": "zero_shot"})
    rows = collect([tmp_path], paper_numbers()).rows
    assert rows["table8/improvement/LLaVA1.5-7B/ImageNet"][0].value == pytest.approx(0.03)
    assert rows["figure4/candidates_20/LLaVA1.5-7B/ImageNet"][0].value == pytest.approx(4.0)


def test_guidance_is_recognised_by_the_protocol_that_asked_and_by_its_form(tmp_path):
    """Beside the paper's row stand the protocol's own form and the paper's two: its text's and its code's."""
    swept = {"held_out": {"guidance": 1.5, "accuracy": rate(0.4)}, "swept_on_test": {"guidance": 3, "accuracy": RATE}}
    forms = {name: swept | {"held_out": None} for name in ("paper", "official", "clean", "literal")} | {"own": swept}
    values = {"name": "g", "forms": forms, "own": "own", "protocol": PROTOCOL | {"name": "mine"}} | MODEL
    write(tmp_path / "g", "guidance.json", values)
    found = collect([tmp_path], paper_numbers())
    told = [result.protocol for result in found.rows["table2/cfg/LLaVA1.5-7B/ImageNet"]]
    assert told == [
        "mine 0123456789ab, form own, t = 1.5 from the other half",
        "mine 0123456789ab, form own, t = 3 swept on these items",
        "mine 0123456789ab, form paper, t = 3 swept on these items",
        "mine 0123456789ab, form official, t = 3 swept on these items",
    ]
    assert [result.protocol.split(", ")[1] for _, result in found.others] == ["form clean", "form literal"]


def test_a_loss_curve_keeps_its_spike_and_a_repeated_step_counts_once(tmp_path):
    run = RunDir(tmp_path / "runs" / "x")
    run.root.mkdir(parents=True)
    run.config.write_text("name: x\nmodel: {base: b, mode: lora}\ndata: {sources: {a: {reader: toy_world}}}\n"
                          "train: {sources: [a]}\n")  # fmt: skip
    losses = [{"step": step, "loss": 9.0 if step == 500 else 1.0} for step in range(1, 1001)]
    lines = [json.dumps(line) for line in [*losses, {"step": 1000, "loss": 0.5}]]
    run.metrics.write_text("\n".join(lines) + '\n{"step": 1001, "lo')
    (curve,) = read_loss_curves([tmp_path])
    assert (curve.run, curve.mode) == ("x", "lora")
    assert (500, 9.0) in curve.points
    assert len(curve.points) == 300
    figure = loss_figure([curve])
    assert ">optimizer step</text>" in figure
    assert ">9</text>" in figure or ">5</text>" in figure
    assert curve.points[-1][0] > 990


@pytest.mark.slow
def test_the_page_shows_figures_curves_and_the_rows_of_a_reproduction(tmp_path, capsys):
    classes = [
        {"label": n, "name": f"c{n}", "correct": n, "wrong": 4 - n, "no_answer": 0, "frequency": 10**n}
        for n in range(5)
    ]
    frequency = {"spearman": 0.7, "pearson": 0.3, "classes": 5, "log_bins": []}
    folder = tmp_path / "runs" / "eval" / "paper_x_open"
    write_report(folder, 0.5, frequency=frequency, classes=classes, frequency_stages={"pretrain": {"spearman": 0.6}})
    row = {"dataset": "x", "row": "open", "title": "open <world>", "accuracy": RATE, "note": "", "reason": None}
    row["protocol"] = "paper 0123456789ab"
    lost = row | {"row": "closed", "title": "closed world", "accuracy": None, "reason": "too long", "folder": None}
    record = {
        "model": "runs/a",
        "checkpoint": "export",
        "protocol": "paper",
        "rows": [row | {"folder": str(folder)}, lost],
    }
    write(tmp_path / "runs", "reproduction-paper.json", record)
    main([str(tmp_path / "runs"), "--output", str(tmp_path)])
    page = (tmp_path / "scoreboard.html").read_text().replace("\u00a0", " ")
    content = json.loads((tmp_path / "scoreboard.json").read_text())
    lines = {line["row"]: line for line in content["rows"]}
    assert lines["appendixB6/spearman_pretrain/LLaVA1.5-7B/ImageNet"]["ours"]["value"] == 0.6
    assert lines["table11/spearman/LLaVA1.5-7B/ImageNet"]["difference"] == pytest.approx(-0.06)
    assert page.count("<svg") == page.count("</svg>") == 3  # Figures 3, 2, 4
    assert len(re.findall(r"<figcaption>Figures? \d", page)) == 3
    assert "Figure 5: no run of projector or LoRA" in page
    for name in ("classes to choose from", "times as many errors", "accuracy", "ours"):
        assert f">{name}</text>" in page
    assert "open &lt;world&gt;" in page
    assert "25.0 (20.0 to 30.0), n = 1,000; paper 0123456789ab</td>" in page
    assert "not run: too long" in page
    anchors = set(re.findall(r'<h2 id="([^"]+)"', page))
    assert set(re.findall(r'<a href="#([^"]+)"', page)) == anchors
    assert "2 rows of reproductions" in capsys.readouterr().out


@pytest.mark.slow
def test_a_row_of_several_results_counts_once_and_a_data_sets_size_is_said_once(tmp_path, capsys):
    for name in ("paper", "official", "clean"):
        write_report(tmp_path / "runs" / name, 0.2, protocol={"name": name}, items={"source": 50_000})
    main([str(tmp_path / "runs"), "--output", str(tmp_path)])
    assert "6 of 421 of the paper's numbers" in capsys.readouterr().out
    lines = [line for line in json.loads((tmp_path / "scoreboard.json").read_text())["rows"] if line["ours"]]
    sizes = [line for line in lines if line["row"] == "table7/validation/items/ImageNet"]
    assert (len(sizes), len(lines)) == (1, 3 * 5 + 1)
    assert "Table 1, accuracy in the open and the closed world: 1 of 96 run" in (tmp_path / "scoreboard.md").read_text()


@pytest.mark.slow
def test_correlations_have_an_interval_from_their_number_of_classes(tmp_path, capsys):
    frequency = {"spearman": 0.7, "pearson": 0.3, "classes": 1000, "log_bins": []}
    write_report(tmp_path / "runs", 0.2, frequency=frequency)
    main([str(tmp_path / "runs"), "--output", str(tmp_path)])
    text = (tmp_path / "scoreboard.md").read_text()
    assert "| pearson, LLaVA1.5-7B, ImageNet | 0.35 | 0.30 | -0.05 | 0.24 to 0.36 | 1,000 |" in text
    assert "| spearman, LLaVA1.5-7B, ImageNet | 0.76 | 0.70 | -0.06 | 0.66 to 0.73 | 1,000 |" in text


def test_of_several_results_of_one_model_the_figure_has_that_of_most_items(tmp_path):
    def classes(right: int) -> list[dict]:
        return [{"label": 0, "name": "c", "correct": right, "wrong": 0, "no_answer": 0, "frequency": 5}]

    frequency = {"spearman": None, "pearson": None, "classes": 1, "log_bins": []}
    for name, right in (("a", 3), ("b", 9), ("c", 6)):
        write_report(tmp_path / name, 1.0, frequency=frequency, classes=classes(right))
    (drawn,) = collect([tmp_path], paper_numbers()).by_class["ImageNet"].values()
    assert [result.correct for result in drawn] == [9]


@pytest.mark.slow
def test_a_result_that_a_reproduction_reports_is_no_other_result(tmp_path, monkeypatch, capsys):
    """Also where one names the folder from here, and the other from the root."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/eval/x")
    write_report(folder, 0.5, model=MODEL | {"model": "mine", "source": "toys"})
    row = {"dataset": "x", "row": "open", "title": "open", "accuracy": RATE, "note": "", "reason": None}
    rows = [row | {"folder": str(folder)}]
    write(
        tmp_path / "runs",
        "reproduction-paper.json",
        {"model": "mine", "checkpoint": "export", "protocol": "paper", "rows": rows},
    )
    main([str(tmp_path / "runs"), "--output", str(tmp_path)])
    assert "0 other results" in capsys.readouterr().out


@pytest.mark.slow
def test_every_model_and_checkpoint_of_a_reproduction_has_a_column(tmp_path):
    for number, (model, checkpoint) in enumerate(
        [("runs/a", "export"), ("runs/a", "500"), ("runs/a", "last"), ("one/b", "export"), ("two/b", "export")]
    ):
        row = {"dataset": "x", "row": "open", "title": "open", "note": f"told {number}", "reason": None}
        rows = [row | {"accuracy": None, "folder": None}]
        record = {"model": model, "checkpoint": checkpoint, "protocol": "paper", "rows": rows}
        write(tmp_path / str(number), "reproduction-paper.json", record)
    main([str(tmp_path), "--output", str(tmp_path)])
    text = (tmp_path / "scoreboard.md").read_text()
    assert "| row | a | a step 500 | a last | one/b | two/b |" in text
    assert "| open | told 0 | told 1 | told 2 | told 3 | told 4 |" in text


def test_the_figure_of_frequency_has_a_curve_for_every_model_and_checkpoint(tmp_path):
    classes = [{"label": 0, "name": "c", "correct": 3, "wrong": 0, "no_answer": 0, "frequency": 5}]
    frequency = {"spearman": None, "pearson": None, "classes": 1, "log_bins": []}
    for number, (model, label) in enumerate(
        [("runs/a", "export"), ("runs/a", "step-00000500"), ("runs/a/checkpoints/step-00000600", "step-00000600"),
         ("one/b", "model"), ("two/b", "model")]
    ):  # fmt: skip
        values = MODEL | {"model": model, "label": label}
        write_report(tmp_path / str(number), 1.0, model=values, frequency=frequency, classes=classes)
    drawn = collect([tmp_path], paper_numbers()).by_class["ImageNet"]
    assert set(drawn) == {
        "a (fine-tuned)", "a step 500 (fine-tuned)", "a step 600 (fine-tuned)", "one/b", "two/b",
    }  # fmt: skip


def test_both_merges_of_one_lora_share_a_row_and_are_distinguished(tmp_path):
    system = {"base": MODEL["model"], "mode": "lora", "sources": ["flowers102_train"], "finetuned": True}
    for name, onto in (("export", None), ("onto", "lmsys/vicuna-7b-v1.5")):
        model = {
            "model": f"runs/x/{name}",
            "source": "flowers102_test",
            "evaluated_model": system | {"lora_onto": onto},
        }
        write_report(tmp_path / name, 0.5, model=MODEL | model)
    row = "table3/finetuned/LLaVA1.5-7B/lora/Flowers102"
    assert [result.protocol for result in collect([tmp_path], paper_numbers()).rows[row]] == [
        "paper 0123456789ab",
        "paper 0123456789ab, LoRA merged onto lmsys/vicuna-7b-v1.5",
    ]


def test_nothing_is_derived_from_two_protocols_or_two_models(tmp_path):
    write_report(tmp_path / "a", 0.20, protocol={"name": "official"})
    other = MODEL | {"model": "copies/llava-1.5-7b-hf"}
    write_report(tmp_path / "b", 0.23, model=other, protocol={"synonyms": "imagenet", "name": "official"})
    write_report(tmp_path / "c", 0.40, protocol={"synonyms": "imagenet", "name": "clean"})
    row = "table8/improvement/LLaVA1.5-7B/ImageNet"
    assert row not in collect([tmp_path], paper_numbers()).rows
    write_report(tmp_path / "d", 0.21, protocol={"synonyms": "imagenet", "name": "official"})
    assert [result.value for result in collect([tmp_path], paper_numbers()).rows[row]] == [pytest.approx(0.01)]


def test_the_sizes_of_a_data_set_come_from_its_test_items_and_its_linear_heads(tmp_path):
    write_report(tmp_path / "a", 0.2, items={"source": 50_000})
    probe = {"token_positions": {"mean": {"accuracy": RATE}}, "train": 1_152_000, "val": 128_000, "class_count": 1000}
    write(tmp_path / "p", "probe.json", {"name": "p", "epochs": 500, "frequency": None} | probe | MODEL)
    rows = collect([tmp_path], paper_numbers()).rows
    sizes = {what: rows[f"table7/{what}/items/ImageNet"][0].value for what in ("train", "validation", "classes")}
    assert sizes == {"train": 1_280_000, "validation": 50_000, "classes": 1000}


def test_a_heads_number_names_its_protocol_precision_and_how_the_epoch_was_chosen(tmp_path):
    probe = {"token_positions": {"mean": {"accuracy": RATE}}, "train": 9, "val": 0, "class_count": 2, "frequency": None}
    probe |= {
        "protocol": {"name": "official", "hash": "0123456789ab"},
        "precision": "fp32",
        "chosen": "best epoch on the test items themselves",
    }
    write(tmp_path, "probe.json", {"name": "p", "epochs": 500} | probe | MODEL)
    (result,) = collect([tmp_path], paper_numbers()).rows["table3/probing/LLaVA1.5-7B/average/ImageNet"]
    assert (
        result.protocol
        == "official 0123456789ab probe, 500 epochs, best epoch on the test items themselves, fp32 products"
    )
