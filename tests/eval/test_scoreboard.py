"""The scoreboard: every row of the paper is there, and a result finds its row."""

import json
import re
from pathlib import Path

import pytest

import eval.scoreboard
from eval.paper.finetuned_rows import Training, finetuned_rows
from eval.paper.published import paper_numbers
from eval.paper.rows import (
    experiments,
    model_and_dataset,
    own_row,
    rows_of_correlation,
    rows_of_probe,
    rows_of_report,
)
from eval.scoreboard import main

RATE = {"value": 0.25, "low": 0.2, "high": 0.3, "count": 250, "n": 1000}


def report(**changes) -> dict:
    protocol = {"task": "open_world", "prompt": "paper", "answer_prefix": "", "hash": "0123456789ab", "name": "clean"}
    values = {
        "name": "open", "label": "model", "model": "llava-hf/llava-1.5-7b-hf", "source": "imagenet_val", "paper": None,
        "accuracy": RATE, "protocol": protocol | changes.pop("protocol", {}), "frequency": None, "classes": [],
    }  # fmt: skip
    return values | changes


@pytest.fixture
def board(tmp_path, capsys):
    """Writes results into a folder, makes the scoreboard and returns its lines by row."""

    def make(*results: dict, name: str = "report.json") -> tuple[dict, dict]:
        for number, values in enumerate(results):
            folder = tmp_path / "runs" / str(number)
            folder.mkdir(parents=True)
            (folder / name).write_text(json.dumps(values))
        (tmp_path / "runs").mkdir(exist_ok=True)
        main([str(tmp_path / "runs"), "--output", str(tmp_path)])
        content = json.loads((tmp_path / "scoreboard.json").read_text())
        return content, {line["row"]: line for line in content["rows"]}

    return make


@pytest.mark.slow
def test_every_row_of_the_paper_is_there_and_says_that_it_was_not_run(board, tmp_path):
    content, lines = board()
    assert set(lines) == set(paper_numbers())
    assert len(content["rows"]) == len(paper_numbers()) > 350
    assert all(line["ours"] is None for line in lines.values())
    text = (tmp_path / "scoreboard.md").read_text()
    page = (tmp_path / "scoreboard.html").read_text()
    assert "Table 1, accuracy in the open and the closed world: 0 of 96 run" in text
    assert "| LLaVA1.5-7B | 22.8 | 5.9 | 0.0 | 47.1 |" in text
    shown = re.sub("<details.*?</details>", "", page, flags=re.DOTALL)
    assert "<table" in page
    assert "<table" not in shown  # nothing was run, so all of the paper's tables are folded
    assert "No evaluation was found" in shown
    assert "No run trained on captions of the paper's data sets was found. python -m data_prep.caption" in text
    for dataset in ("imagewikiqa", "forgetting"):
        assert f"eval.reproduce --model {'MODEL' if dataset == 'imagewikiqa' else 'RUN'} --datasets {dataset}" in text
    assert "show all" not in page
    assert "http" not in page.replace("http://www.w3.org", "")  # nothing is loaded


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("table1/closed_world/IBLIP-13B/Flowers102", 0.20),
        ("table1/closed_world/IBLIP-13B/Caltech101", 0.595),
        ("table5/GPT4 with class/ImageWikiQA", 1.0),
        ("table5/GPT4 without image/ImageWikiQA", 0.0),
        ("figure3/above_10000/LLaVA1.5-7B/ImageNet", 0.827),
        ("figure3/below_10/LLaVA1.5-7B/ImageNet", 0.03),
        ("table2/cfg/BLIP2-2.7B/StanfordCars", 0.692),
        ("table10/500/LLaVA1.5-7B/Flowers102", 0.237),
        ("table11/spearman/LLaVA1.5-7B/ImageNet", 0.76),
        ("table11/pearson/LLaVA1.5-7B/StanfordCars", None),
        ("table13/after/LLaVA1.5-7B finetuned on ImageNet+LLaVA/MM-Vet", 0.311),
    ],
)
def test_the_papers_numbers_are_the_printed_ones(row, value):
    assert paper_numbers()[row].value == pytest.approx(value)


@pytest.mark.slow
def test_a_result_is_shown_with_its_rows_with_interval_n_and_protocol(board, tmp_path):
    _, lines = board(report())
    for row in ("table1/open_world", "table2/base", "table2/direct", "table8/without_synonyms"):
        line = lines[f"{row}/LLaVA1.5-7B/ImageNet"]
        assert line["ours"]["n"] == 1000
        assert line["difference"] == pytest.approx(0.25 - 0.228)
    text = (tmp_path / "scoreboard.md").read_text()
    assert "| 22.8 | 25.0 | +2.2 | 20.0 to 30.0 | 1,000 | clean 0123456789ab |" in text
    assert "| LLaVA1.5-7B | 22.8 | 25.0 (+2.2) | 5.9 | – |" in text  # the paper's layout, ours next to each number
    assert "| Table 1, open world; Table 2, base; Table 2, direct; Table 8, without synonyms; " in text
    assert text.index("Own evaluations") < text.index("closed world: 1 of 96") < text.index("23 more rows, not run")


@pytest.mark.parametrize(
    ("protocol", "found"),
    [
        ({"task": "open_world", "prompt": "identify"}, {"table2/identify"}),
        (
            {"task": "open_world", "prompt": "paper", "synonyms": "imagenet", "name": "paper"},
            {"table8/with_synonyms"},
        ),
        (
            {"task": "open_world", "prompt": "paper", "synonyms": "auto", "name": "clean"},
            {"table8/with_synonyms", "table1/open_world", "table2/base", "table2/direct"},
        ),
        ({"task": "closed_world", "prompt": "paper", "order": "fixed"}, {"table2/fixed_order"}),
        ({"task": "closed_world", "prompt": "paper"}, {"table1/closed_world", "table2/random_order"}),
        (
            {"task": "closed_world", "prompt": "paper", "answer_prefix": "Let's think step by step."},
            {"table2/random_order_cot"},
        ),
        ({"task": "closed_world", "prompt": "paper", "candidates": 20}, {"table9/candidates_20"}),
        ({"task": "class_likelihood", "prompt": "paper", "rule": "mean"}, {"table2/mean"}),
        ({"task": "class_likelihood", "prompt": "paper", "rule": "mean", "candidates": 20}, set()),
        ({"task": "class_likelihood", "prompt": "identify", "rule": "sum"}, set()),
        ({"task": "class_likelihood", "prompt": "paper", "rule": "sum", "answer_prefix": "Think step by step."}, set()),
        (
            {"task": "closed_world", "prompt": "paper", "candidates": 20, "answer_prefix": "Think step by step."},
            set(),
        ),
        ({"task": "open_world", "prompt": "identify", "synonyms": "auto"}, set()),
        ({"task": "multiple_choice"}, {"table5"}),
        ({"task": "multiple_choice", "show_image": False}, set()),
    ],
)
def test_the_protocol_says_which_experiment_it_is(protocol, found):
    known = {name.rsplit("/", 2)[0] for name in paper_numbers()}
    assert "table5" in known
    assert set(experiments(protocol)) & known - {name for name in known if "table12" in name} == found


def trained(*sources: str, mode: str = "projector") -> dict:
    return {"base": "llava-hf/llava-1.5-7b-hf", "mode": mode, "sources": list(sources), "finetuned": True}


@pytest.mark.parametrize(
    ("sources", "protocol", "source", "rows"),
    [
        (
            ["flowers102_train"], {}, "flowers102_test",
            {"table3/finetuned/LLaVA1.5-7B/projector/Flowers102", "table4/classification/LLaVA1.5-7B/Flowers102"},
        ),
        (["flowers102_train"], {}, "caltech101_test", set()),
        (["flowers102_captions"], {"prompt": "caption"}, "flowers102_test", {"table4/captions/LLaVA1.5-7B/Flowers102"}),
        (["flowers102_train"], {"task": "closed_world"}, "flowers102_test", set()),
        (
            ["imagenet_train", "llava_instruct"], {}, "imagenet_val",
            {"section4.3/LLaVA1.5-7B finetuned on ImageNet+LLaVA/ImageNet"},
        ),
        (
            ["imagenet_train", "llava_instruct"], {"task": "multiple_choice"}, "imagewikiqa",
            {"table5/LLaVA1.5-7B finetuned on ImageNet+LLaVA/ImageWikiQA"},
        ),
        (
            ["imagenet_train"], {"task": "multiple_choice"}, "imagewikiqa",
            {"table5/LLaVA1.5-7B finetuned on ImageNet/ImageWikiQA"},
        ),
    ],
)  # fmt: skip
def test_what_a_run_trained_is_never_compared_with_a_zero_shot_row(sources, protocol, source, rows):
    own = report(model="runs/x", label="export", source=source, evaluated_model=trained(*sources), protocol=protocol)
    assert set(rows_of_report(own, paper_numbers())) == rows
    kept = own | {"paper": {"row": "table1/open_world/LLaVA1.5-7B/Flowers102"}}  # a preset's row, as older reports have
    assert set(rows_of_report(kept, paper_numbers())) == rows


PUBLISHED = {"base": "llava-hf/llava-1.5-7b-hf", "mode": None, "sources": [], "finetuned": False}


def row_of(preset: str, system: dict = PUBLISHED, source: str = "flowers102_test", **protocol: object) -> str | None:
    return own_row(preset, report(evaluated_model=system, source=source, protocol=protocol), paper_numbers())


def test_a_presets_row_becomes_that_of_the_model_that_was_asked():
    preset = "table1/open_world/LLaVA1.5-7B/Flowers102"
    assert row_of(preset, PUBLISHED | {"base": "llava-hf/llava-1.5-13b-hf"}) == preset.replace("7B", "13B")
    assert row_of(preset) == preset
    lora = trained("flowers102_train", mode="lora")
    assert row_of(preset, lora) == "table3/finetuned/LLaVA1.5-7B/lora/Flowers102"
    assert row_of(preset, trained("caltech101_train")) is None
    captions = "table4/captions/LLaVA1.5-7B/Flowers102"
    assert row_of(captions, trained("flowers102_captions"), prompt="caption") == captions
    assert row_of(captions, lora, prompt="caption") is None


def test_half_of_the_classes_is_compared_with_no_row():
    half = report(source="flowers102_test", evaluated_model=PUBLISHED, class_half={"part": "new", "of": "1"})
    assert rows_of_report(half | {"class_half": None}, paper_numbers())
    assert not rows_of_report(half, paper_numbers())
    assert own_row("table1/open_world/LLaVA1.5-7B/Flowers102", half, paper_numbers()) is None


@pytest.mark.slow
def test_a_run_trained_on_captions_fills_its_row_of_table_4(board, tmp_path):
    result = report(source="flowers102_test", evaluated_model=trained("flowers102_captions"),
                    protocol={"prompt": "caption"})  # fmt: skip
    _, lines = board(result)
    assert lines["table4/captions/LLaVA1.5-7B/Flowers102"]["ours"]["value"] == 0.25
    assert "No run trained on captions" not in (tmp_path / "scoreboard.md").read_text()


@pytest.mark.slow
def test_an_evaluation_of_a_tables_kind_on_other_data_is_shown_below_the_table_with_what_the_table_needs(
    board, tmp_path
):
    demo = {"model": "runs/demo", "label": "export", "source": "demo_test"}
    f1 = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 90}
    board(
        report(**demo, name="mine_captions", evaluated_model=trained("captions"), protocol={"prompt": "caption"}),
        report(**demo, name="mine_wikiqa", protocol={"task": "multiple_choice"}),
        report(**demo, name="mine_pope", numbers={"f1": f1}, protocol={"task": "yes_no"}),
        report(**demo, name="mine_graded", numbers={}, items={"source": 9}, protocol={"task": "graded"}),
        report(**demo, name="mine_open"),
    )
    text = (tmp_path / "scoreboard.md").read_text()
    for table, name, number in (
        ("Table 4, fine-tuning on captions: 0 of 12 run; 1 run on other data", "mine_captions", "25.0 % accuracy"),
        ("Table 5, ImageWikiQA: 0 of 18 run; 1 run on other data", "mine_wikiqa", "25.0 % accuracy"),
        ("Table 13, other abilities after fine-tuning: 0 of 8 run; 1 run on other data", "mine_pope",
         "50.0 % F1 score"),
    ):  # fmt: skip
        section = text.split(table)[1].split("Table ", 1)[0]
        assert f"| {name} | runs/demo export | {number} |" in section and "configs/" in section
    assert text.count("Run on other data:") == 3


@pytest.mark.parametrize(
    ("preset", "protocol", "expected"),
    [
        ("table1/closed_world", {"task": "closed_world", "candidates": 20}, "table9/candidates_20/LLaVA1.5-7B"),
        ("table1/closed_world", {"task": "closed_world", "candidates": 7}, None),
        ("table1/closed_world", {"task": "closed_world", "order": "fixed"}, "table2/fixed_order/LLaVA1.5-7B"),
        ("table1/open_world", {"prompt": "identify"}, "table2/identify/LLaVA1.5-7B"),
        ("table1/open_world", {"prompt": "caption"}, None),
        ("table1/open_world", {"task": "class_likelihood", "rule": "mean"}, "table2/mean/LLaVA1.5-7B"),
        ("table2/base", {}, "table2/base/LLaVA1.5-7B"),
    ],
)
def test_a_presets_row_becomes_that_of_the_experiment_that_was_made(preset, protocol, expected):
    found = row_of(f"{preset}/LLaVA1.5-7B/Flowers102", **protocol)
    assert found == (expected and f"{expected}/Flowers102")


def test_the_class_named_and_the_image_hidden_have_separate_rows():
    with_class, quiz = "table5/LLaVA1.5-7B with class/ImageWikiQA", "table5/LLaVA1.5-7B/ImageWikiQA"
    asked = {"source": "imagewikiqa", "task": "multiple_choice"}
    assert row_of(quiz, **asked, reveal_class=True) == row_of(with_class, **asked, reveal_class=True) == with_class
    assert row_of(with_class, **asked) == quiz
    assert row_of(quiz, **asked, show_image=False) is None  # the paper has GPT4's alone
    gpt4 = ("table5/GPT4/ImageWikiQA", PUBLISHED | {"base": "api:gpt-4-turbo"})
    filtered = asked | {"show_image": False, "choice_prompt": "filter"}
    assert row_of(*gpt4, **filtered) == "table5/GPT4 without image/ImageWikiQA"
    assert row_of(*gpt4, **filtered, reveal_class=True) == "table5/GPT4 with class/ImageWikiQA"
    for other in ({"show_image": False}, {"reveal_class": True}, {"choice_prompt": "filter"}):  # not as the filter asks
        assert row_of(*gpt4, **asked | other) is None
    assert row_of(quiz, **filtered, reveal_class=True) is None  # LLaVA sees the image, and is asked as stored


def test_a_presets_row_is_not_that_of_other_images():
    assert row_of("table1/open_world/LLaVA1.5-7B/Flowers102", source="caltech101_test") is None
    for source in ("flowers102_train", "my_own"):
        assert row_of("table1/open_world/LLaVA1.5-7B/Flowers102", source=source) is None


@pytest.mark.parametrize("model", ["models/my-own-vlm", "Salesforce/blip2-opt-6.7b", "openai/clip-vit-base-patch32",
                                   "Salesforce/blip2-opt-2.7b-coco", "me/llava-1.5-7b-hf-pets"])  # fmt: skip
def test_a_model_that_the_paper_does_not_have_is_compared_with_none_of_its_rows(model):
    """Whatever preset asked it, and also where an older report names the preset's row."""
    preset = "table1/open_world/LLaVA1.5-7B/Flowers102"
    assert row_of(preset, PUBLISHED | {"base": model}) is None
    older = report(model=model, source="flowers102_test", paper={"row": preset})
    assert rows_of_report(older, paper_numbers()) == []


@pytest.mark.parametrize("source", ["flowers102_train", "imagenet_sketch", "imagenet", "stanford_cars_tiny"])
def test_other_images_are_compared_with_no_row_of_the_papers_test_sets(source):
    assert rows_of_report(report(source=source), paper_numbers()) == []


@pytest.mark.parametrize("place", ["llava-hf/llava-1.5-7b-hf", "models/llava-1.5-7b-hf/", "models/LLaVA-1.5-7b",
                                   "api:gpt-4-turbo-2024-04-09", "api:claude-3-opus-20240229",
                                   "api:google/gemini-1.0-pro-vision-001", "openai/clip-vit-large-patch14-336",
                                   "open_clip:EVA01-g-14-plus/merged2b_s11b_b114k"])  # fmt: skip
def test_a_copy_or_a_dated_version_of_a_model_is_that_model(place):
    (row, *_) = rows_of_report(report(model=place), paper_numbers())
    assert row.startswith("table1/open_world/")


@pytest.mark.parametrize(
    "sources", [["flowers102_test"], ["flowers102_train", "my_own"], ["flowers102_train", "caltech101_train"]]
)
def test_training_on_other_data_than_the_papers_has_no_row(sources):
    own = report(model="runs/x", label="export", source="flowers102_test", evaluated_model=trained(*sources))
    assert rows_of_report(own, paper_numbers()) == []


@pytest.mark.parametrize("mode", ["selective", "dora on language", "lora on language, vision"])
def test_a_way_of_training_that_the_paper_does_not_have_has_none_of_its_rows(mode):
    base, known = "llava-hf/llava-1.5-7b-hf", paper_numbers()
    for sources, task, prompt, dataset in (
        (("flowers102_train",), "open_world", "paper", "Flowers102"),
        (("flowers102_captions",), "open_world", "caption", "Flowers102"),
        (("imagenet", "llava_instruct"), "open_world", "paper", "ImageNet"),
        (("imagenet", "llava_instruct"), "multiple_choice", "paper", "ImageWikiQA"),
    ):
        protocol = {"task": task, "prompt": prompt}
        assert [row for row in finetuned_rows(Training(base, "projector", sources), protocol, dataset) if row in known]
        assert not [row for row in finetuned_rows(Training(base, mode, sources), protocol, dataset) if row in known]


def test_a_finetuned_model_that_thinks_step_by_step_has_no_row():
    own = report(model="runs/x", label="export", source="flowers102_test", evaluated_model=trained("flowers102_train"))
    thinking = own | {"protocol": own["protocol"] | {"answer_prefix": "Let's think step by step."}}
    assert rows_of_report(own, paper_numbers())
    assert rows_of_report(thinking, paper_numbers()) == []


def test_a_row_of_trained_models_is_not_that_of_a_published_one():
    assert row_of("table3/finetuned/LLaVA1.5-7B/projector/Flowers102") == "table1/open_world/LLaVA1.5-7B/Flowers102"
    mixed = trained("imagenet", "llava665k")
    before, after = (f"table13/{name}/MM-Vet" for name in
                     ("before/LLaVA1.5-7B", "after/LLaVA1.5-7B finetuned on ImageNet+LLaVA"))  # fmt: skip
    for system, row in ((PUBLISHED, before), (mixed, after)):
        found = [row_of(asked, system, source="mm_vet", task="graded") for asked in (before, after)]
        assert found == [row, row]
        assert row_of(row, system, source="mm_vet") is None  # another task


@pytest.mark.slow
def test_a_model_that_the_paper_does_not_have_is_listed_after_its_rows(board, tmp_path):
    content, lines = board(report(model="runs/demo", source="toys"))
    assert all(line["ours"] is None for line in lines.values())
    assert content["others"][0]["ours"]["value"] == 0.25
    text = (tmp_path / "scoreboard.md").read_text()
    assert "## Own evaluations: 1\n" in text
    assert "| open: demo | 25.0 | 20.0 to 30.0 | 1,000 | clean 0123456789ab | none |" in text


@pytest.mark.slow
def test_frequencies_and_probes_find_their_rows(board):
    frequency = {"spearman": 0.7, "pearson": 0.3, "classes": 2, "log_bins": []}
    classes = [
        {"correct": 1, "wrong": 3, "no_answer": 0, "frequency": 2},
        {"correct": 3, "wrong": 1, "no_answer": 0, "frequency": 90},
    ]
    found = rows_of_correlation(report(frequency=frequency, classes=classes), paper_numbers())
    assert found["table11/spearman/LLaVA1.5-7B/ImageNet"] == 0.7
    assert found["figure3/below_10/LLaVA1.5-7B/ImageNet"] == 0.25
    probe = {
        "model": "llava-hf/llava-1.5-7b-hf", "source": "flowers102_test", "paper": None, "name": "probe", "label": "m",
        "epochs": 500, "train": 9, "val": 1, "class_count": 2,
        "token_positions": {place: {"accuracy": RATE, "epoch": 3} for place in ("0", "-1", "mean")},
    }  # fmt: skip
    rows = rows_of_probe(probe, paper_numbers())
    assert {row.split("/")[0] for row in rows} == {"table3", "table10"}
    assert len(rows) == 5
    _, lines = board(probe, name="probe.json")
    assert lines["table3/probing/LLaVA1.5-7B/average/Flowers102"]["ours"]["value"] == 0.25


def test_position_600_is_behind_a_system_prompt_and_table_3_without_one():
    probe = {
        "model": "llava-hf/llava-1.5-7b-hf", "source": "flowers102_test", "train_source": "flowers102_train",
        "evaluated_model": PUBLISHED, "token_positions": {place: {"accuracy": RATE} for place in ("600", "-1")},
    }  # fmt: skip
    found = {
        (name, system): {row.split("/")[0] for row in rows_of_probe(
            probe | {"protocol": {"name": name, "hash": "0", "system_prompt": system}}, paper_numbers()
        )}
        for name, system in (("paper", "none"), ("paper", "vicuna_v1"), ("official", "official"), ("clean", "family"))
    }  # fmt: skip
    assert found == {
        ("paper", "none"): {"table3"},
        ("paper", "vicuna_v1"): {"table10"},
        ("official", "official"): {"table3"},
        ("clean", "family"): {"table3", "table10"},
    }


@pytest.mark.parametrize(
    ("sources", "mode", "filled"),
    [
        (["imagenet"], "projector", True),
        (["imagenet"], "lora", False),
        (["flowers102_train"], "projector", False),
        (["imagenet", "llava_instruct"], "projector", False),
        (["imagenet", "flowers102_train"], "projector", False),
    ],
)
@pytest.mark.parametrize("source", ["imagenet_val", "flowers102_test"])
def test_the_finetuned_correlation_is_of_a_model_trained_on_imagenet_alone(sources, mode, filled, source):
    frequency = {"spearman": 0.7, "pearson": 0.3, "classes": 2, "log_bins": []}
    model = {"evaluated_model": PUBLISHED | {"finetuned": True, "mode": mode, "sources": sources}}
    found = rows_of_correlation(report(frequency=frequency, classes=[], source=source) | model, paper_numbers())
    dataset = "ImageNet" if source == "imagenet_val" else "Flowers102"
    rows = {f"table11/{kind}/LLaVA1.5-7B finetuned/{dataset}" for kind in ("spearman", "pearson")}
    assert set(found) == (rows if filled else set())


def test_a_tower_or_states_of_a_trained_model_or_by_other_items_are_compared_with_no_row():
    place, model = {"vision_pooled": {"accuracy": RATE}}, "Salesforce/blip2-opt-2.7b"
    probe = {"model": model, "source": "flowers102_test", "train_source": "flowers102_train", "token_positions": place}
    probe |= {"evaluated_model": PUBLISHED | {"base": model}}
    assert set(rows_of_probe(probe, paper_numbers())) == {"table3/finetuned/EVA-G/linear/Flowers102"}
    own = {"evaluated_model": trained("flowers102_train") | {"base": model}}
    other = {"evaluated_model": PUBLISHED | {"base": "Salesforce/blip2-opt-2.7b-coco"}}
    for change in (own, other, {"train_source": "caltech101_train"}, {"train_source": "flowers102_test"}):
        assert rows_of_probe(probe | change, paper_numbers()) == {}, change


def test_the_frequency_of_another_question_is_compared_with_no_row():
    frequency = {"spearman": 0.7, "pearson": 0.3, "classes": 2, "log_bins": []}
    for protocol in ({"prompt": "identify"}, {"task": "closed_world"}):
        assert rows_of_correlation(report(frequency=frequency, protocol=protocol), paper_numbers()) == {}


def test_a_damaged_or_missing_result_is_one_line(tmp_path, capsys):
    (tmp_path / "report.json").write_text("{")
    for folder, message in ((tmp_path, "is damaged"), (tmp_path / "nowhere", "no folder")):
        with pytest.raises(SystemExit) as left:
            main([str(folder), "--output", str(tmp_path)])
        assert left.value.code == 2
        assert message in capsys.readouterr().err


def test_names_are_those_of_the_paper_where_it_has_them():
    assert model_and_dataset(report(source="imagewikiqa")) == ("LLaVA1.5-7B", "ImageWikiQA")
    assert model_and_dataset(report(model="x/y", source="stanford_cars_test")) == ("x/y", "StanfordCars")


def test_the_scoreboard_of_runs_keeps_what_is_below_runs_when_other_folders_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/mix", "data/made", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    asked = []
    monkeypatch.setattr(eval.scoreboard, "write_scoreboard", lambda folders, output: asked.append((folders, output)))
    for words in (
        ["data/made"],
        ["runs/mix", str(tmp_path / "runs" / "mix")],
        [],
        ["data/made", "--output", "elsewhere"],
    ):
        main(words)
    runs, made = Path("runs"), Path("data/made")
    assert asked == [([made, runs], runs), ([runs], runs), ([runs], runs), ([made], Path("elsewhere"))]
