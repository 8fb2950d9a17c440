"""Reports: the numbers, the page, and what stands beside them."""

import json
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from configs.data import DataConfig, SourceConfig
from configs.errors import ConfigError, RunError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.protocol import ProtocolConfig
from eval.paper.comparison import comparison_with
from eval.paper.published import NUMBERS, paper_number
from eval.reports import evaluation as reports
from eval.reports.most_frequent import most_frequent, not_above_note
from eval.reports.protocol_words import protocol_words
from eval.runner.evaluation_record import describe_evaluation, write_evaluation
from eval.runner.predictions import PredictionWriter
from eval.types import FailedItem, Prediction
from tests.eval.stored_answers import stored_answer

PAPER = Path(__file__).resolve().parents[4] / "shared" / "paper" / "paper.txt"
VOID = {"wbr", "meta", "img", "path", "use", "br", "hr", "rect", "line", "circle"}


def prediction(number: int, name: str, answer: str, label: int | None = 0) -> Prediction:
    more = {"num_tokens": 3, "stopped": number % 2 == 0, "seconds": 0.5}
    return stored_answer(f"{name}/{number}", answer, name, label=label, **more)


def write_report(folder: EvalDir, config: EvalConfig) -> dict:
    return reports.write_report(folder, config, comparison_with(config.paper_row))


@pytest.fixture
def evaluation(tmp_path, data_section):
    """Ten answers about two classes: six right, three wrong, one empty; one item failed; one of twelve is missing."""
    shards = re.search(r"shards: (.+)", data_section)[1]
    raw = str(Path(shards).parent / "pets")
    sources = {name: SourceConfig(reader="image_folder", path=raw) for name in ("imagenet_val", "pets")}
    config = EvalConfig(
        name="pets",
        model="llava-hf/llava-1.5-7b-hf",
        source="imagenet_val",
        data=DataConfig(shards=shards, sources=sources),
        paper_row="table1/open_world/LLaVA1.5-7B/ImageNet",
    )
    folder = EvalDir(tmp_path / "pets")
    write_evaluation(folder, describe_evaluation(config, "export", "a" * 64, "b" * 64, (12, 20)))
    answers = [
        "tench",
        "a TENCH",
        "a cat",
        "tench",
        "tench",
        "",
        "cat",
        "cat",
        "dog <script>alert(1)</script> | x",
        "rat",
    ]
    names = ["tench"] * 6 + ["cat"] * 4
    with PredictionWriter(folder.predictions(0)) as writer:
        for number, (name, answer) in enumerate(zip(names, answers, strict=True)):
            writer.write([prediction(number, name, answer, label=int(name == "cat"))])
        writer.write([FailedItem("tench/99", "does not decode: truncated")])
    return folder, config


def test_right_wrong_no_answer_failed_and_missing_are_distinguished(evaluation):
    report = write_report(*evaluation)
    assert report["items"] == {"expected": 12, "answered": 10, "failed": 1, "missing": 1, "source": 20}
    counts = {key: report[key]["count"] for key in ("accuracy", "wrong", "no_answer")}
    assert counts == {"accuracy": 6, "wrong": 3, "no_answer": 1}
    assert report["accuracy"]["value"] == 0.6
    assert report["accuracy"]["low"] < 0.6 < report["accuracy"]["high"]
    assert (report["accuracy_of_answers"]["count"], report["accuracy_of_answers"]["n"]) == (6, 9)
    assert report["answers"] == {"mean_tokens": 3.0, "cut": 5, "cut_before_answer": 1, "seconds": 5.0}


def test_a_report_says_what_always_giving_the_most_frequent_class_earns_and_whether_the_model_is_above_it(
    evaluation, capsys
):
    folder, config = evaluation
    report = write_report(folder, config)
    assert {key: report["most_frequent"][key] for key in ("name", "count", "n")} == {
        "name": "tench",
        "count": 6,
        "n": 10,
    }
    assert report["accuracy"]["value"] == report["most_frequent"]["value"] == 0.6
    page = folder.report("md").read_text()
    assert "| always 'tench' | 60.0 % | the most frequent class of the test items: 6 of 10; needs no model |" in page
    assert "**60.0 % correct is no higher than the 60.0 % of always answering 'tench'.**" in page
    assert not_above_note(report | {"accuracy": {"value": 0.61}}) is None
    assert not_above_note(report | {"accuracy": {"value": 0.1}}).startswith("10.0 % correct is below the 60.0 %")
    assert not_above_note(report | {"accuracy": {"value": None}}) is None


def test_there_is_no_most_frequent_class_without_two_classes_or_with_options_or_other_tasks():
    cats, dogs = [prediction(n, "cat", "x") for n in range(2)], [prediction(9, "dog", "x")]
    asked = {"task": "open_world"}
    assert most_frequent([*cats, *dogs], asked)["name"] == "cat"
    assert most_frequent(cats, asked) is None
    assert most_frequent([*cats, replace(dogs[0], choices=("a", "b"))], asked) is None
    assert most_frequent([*cats, replace(dogs[0], label_name=None)], asked) is None
    assert most_frequent([*cats, *dogs], {"task": "vqa"}) is None
    assert most_frequent([*cats, *dogs], asked | {"labels": "real"}) is None
    answers = [replace(dogs[0], target=target, label_name=None) for target in ("yes", "no", "no")]
    assert most_frequent(answers, {"task": "yes_no"})["name"] == "no"


def test_each_class_has_its_own_row(evaluation):
    rows = {row["name"]: row for row in write_report(*evaluation)["classes"]}
    assert (rows["tench"]["correct"], rows["tench"]["wrong"], rows["tench"]["no_answer"]) == (4, 1, 1)
    assert (rows["cat"]["correct"], rows["cat"]["wrong"], rows["cat"]["no_answer"]) == (2, 2, 0)


def test_the_papers_number_is_shown_with_ours(evaluation):
    paper = write_report(*evaluation)["paper"]
    assert paper["value"] == 0.228
    assert paper["difference"] == pytest.approx(0.6 - 0.228)
    assert paper["inside_interval"] is False
    text = evaluation[0].report("md").read_text()
    assert "| table1/open_world/LLaVA1.5-7B/ImageNet (Table 1, open-world setting) | 22.8 % | 60.0 % | +37.2 |" in text


def test_the_report_says_how_it_was_asked(evaluation):
    report = write_report(*evaluation)
    text = evaluation[0].report("md").read_text()
    assert report["protocol"]["hash"] in text
    assert "| prompt | paper |" in text
    assert "| template | family |" in text


def test_a_class_of_the_list_that_no_item_has_is_known_where_it_is_named_instead(evaluation, tmp_path):
    folder, config = evaluation
    assert write_report(folder, config)["confusions"] == [
        {"class": "tench", "predicted_as": "cat", "count": 1, "n": 6, "reverse_count": 0, "reverse_n": 4}
    ]
    names = tmp_path / "names.txt"
    names.write_text("tench\ncat\nrat\n")
    protocol = ProtocolConfig(classes=str(names))
    listed = EvalDir(tmp_path / "listed")
    write_evaluation(
        listed, describe_evaluation(replace(config, protocol=protocol), "export", "a" * 64, "b" * 64, (12, 20))
    )
    listed.predictions(0).write_bytes(folder.predictions(0).read_bytes())
    found = write_report(listed, replace(config, protocol=protocol))["confusions"]
    assert {"class": "cat", "predicted_as": "rat", "count": 1, "n": 4, "reverse_count": 0, "reverse_n": 0} in found
    assert "| class | predicted as | count | n | reverse count | n |" in listed.report("md").read_text()


def test_every_share_has_its_interval_and_its_number_of_items(evaluation):
    write_report(*evaluation)
    text = evaluation[0].report("md").read_text()
    for line in (
        "| accuracy | 60.0 % | 95 % interval 31.3 to 83.2 %, n = 10 |",
        "| wrong | 30.0 % | 3 of 10; 10.8 to 60.3 % |",
        "| no answer | 10.0 % | 1 of 10; 1.8 to 40.4 %; counted as not correct |",
        "| correct, of those that answer | 66.7 % | 6 of 9; 35.4 to 87.9 % |",
        "| length of an answer | 3.0 | tokens, the mean of 10; 5 cut at the limit |",
    ):
        assert line in text


def test_no_line_of_the_page_begins_with_a_per_cent_sign(evaluation):
    write_report(*evaluation)
    assert " %" not in evaluation[0].report("html").read_text().partition("</style>")[2]


def test_two_reports_of_equal_answers_are_equal_files(evaluation):
    folder, config = evaluation
    write_report(folder, config)
    first = {suffix: folder.report(suffix).read_bytes() for suffix in ("json", "md", "html")}
    write_report(folder, config)
    assert first == {suffix: folder.report(suffix).read_bytes() for suffix in ("json", "md", "html")}


def test_frequencies_come_from_the_manifests_of_the_named_sources(evaluation):
    folder, config = evaluation
    report = write_report(folder, replace(config, frequency_sources=("pets",)))
    assert {row["name"]: row["frequency"] for row in report["classes"]} == {"tench": 5, "cat": 5}
    assert report["frequency"]["spearman"] is None  # all classes are equally frequent
    assert sum(part["classes"] for part in report["frequency"]["log_bins"]) == 2
    assert "<svg" in folder.report("html").read_text()


class Parsed(HTMLParser):
    """Checks that tags close in order, and collects what the page would load and say."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag != "a":  # a link loads nothing
            self.loads += [f"{key}={value}" for key, value in attrs if key in ("src", "href") or key == "xlink:href"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_html_report_is_whole_loads_nothing_and_escapes_answers(evaluation):
    folder, config = evaluation
    write_report(folder, replace(config, frequency_sources=("pets",)))
    text = folder.report("html").read_text()
    page = Parsed(text)
    assert page.open == []
    assert all(load.partition("=")[2].startswith(("#", "data:image/jpeg;")) for load in page.loads), page.loads
    assert page.tags.count("script") == text.count("<script>") == 1  # the filters', inline
    assert "@import" not in text and "url(http" not in text
    words = " ".join(page.words).replace("\u00a0", " ")
    for expected in (
        "60.0 %",
        "22.8 %",
        "does not decode: truncated",
        "dog <script>alert(1)</script> | x",
        "Incomplete",
    ):
        assert expected in words
    assert page.tags.count("svg") == 1
    assert 'name="viewport"' in text


def test_a_report_needs_answers_and_the_questions_they_answer(evaluation, tmp_path):
    folder, config = evaluation
    with pytest.raises(RunError, match="has no evaluation yet"):
        write_report(EvalDir(tmp_path / "empty"), config)
    with pytest.raises(RunError, match="max_new_tokens was 64 and is now 9"):
        write_report(folder, replace(config, protocol=ProtocolConfig(max_new_tokens=9)))


def test_an_unknown_paper_row_is_refused_with_near_ones():
    with pytest.raises(ConfigError, match=r"table5/LLaVA1\.5-7B/ImageWikiQA"):
        paper_number("table5/LLaVA1.5-7B/ImageWiki")


def test_a_number_the_paper_does_not_have_is_none():
    assert paper_number("table3/finetuned/LLaVA1.5-7B/lora/ImageNet").value is None


@pytest.mark.skipif(not PAPER.exists(), reason="needs the paper's text")
def test_the_numbers_are_the_papers():
    lines = [line.split("\t") for line in PAPER.read_text().splitlines()]
    rows = json.loads(NUMBERS.read_text())["rows"]

    def printed(*values: float | None) -> list[str]:
        return ["N/A" if value is None else f"{value:.1f}" for value in values]

    sets = ("ImageNet", "Flowers102", "StanfordCars", "Caltech101")
    table1 = {line[0].split(" [")[0]: line[1:] for line in lines if len(line) == 9 and re.search(r"\[\d+\]$", line[0])}
    assert len(table1) == 12
    for model, cells in table1.items():
        for start, setting in ((0, "open_world"), (4, "closed_world")):
            ours = [
                rows[f"table1/{setting}/{model.replace('LLaVAnEXT', 'LLaVANeXT')}/{name}"]["value"] for name in sets
            ]
            assert printed(*ours) == cells[start : start + 4], model
    table8 = {line[0]: line[1:3] for line in lines if len(line) == 4 and re.fullmatch(r"\d+\.\d", line[3])}
    for model in ("LLaVA1.5-7B", "BLIP2-2.7B", "IBLIP-7B", "LLaVA1.5-13B", "GPT4", "Claude3", "GeminiPro"):
        ours = [rows[f"table8/{kind}_synonyms/{model}/ImageNet"]["value"] for kind in ("without", "with")]
        assert printed(*ours) == table8[model]
    pairs = [pair for line in lines if len(line) == 4 for pair in (line[:2], line[2:])]
    table5 = {name: value for name, value in pairs if re.fullmatch(r"\d+\.\d", value)}
    for model, name in (("LLaVA1.5-7B", "LLaVA1.5-7B [32]"), ("BLIP2-2.7B", "BLIP2-2.7B [27]"), ("GPT4", "GPT4 [36]")):
        assert printed(rows[f"table5/{model}/ImageWikiQA"]["value"]) == [table5[name]]
    finetuned = rows["table5/LLaVA1.5-7B finetuned on ImageNet+LLaVA/ImageWikiQA"]["value"]
    assert printed(finetuned) == [table5["LLaVA1.5-7B Finetuned on ImageNet+LLaVA"]]
    table3 = [line for line in lines if len(line) == 12 and line[1].endswith("Tok")]
    for model, kind, cells in [(line[0], line[1].split()[0], line[2:6]) for line in table3]:
        token = {"Last": "last", "Avg": "average"}[kind]
        assert printed(*(rows[f"table3/probing/{model}/{token}/{name}"]["value"] for name in sets)) == cells
    for model, kind, cells in [(line[6], line[7], line[8:]) for line in table3]:
        part = {"Linear": "linear", "Proj": "projector", "Proj+LM": "lora"}[kind]
        ours = [rows[f"table3/finetuned/{model}/{part}/{name}"]["value"] for name in sets]
        assert printed(*ours) == [cell.replace("NaN", "N/A") for cell in cells]


def test_a_protocol_without_a_name_is_described_by_the_nearest_named_one_and_what_differs_for_its_task():
    def words(**changes: object) -> str:
        protocol = {key: value for key, value in asdict(ProtocolConfig()).items() if key != "name"}
        return protocol_words({"protocol": protocol | {"task": "open_world", "hash": "0" * 12, **changes}})

    assert words() == words(class_quotes=False) == words(cfg_mean=True) == "open world, as protocol paper"
    assert words(template="llava", image_mode="export") == "open world, as protocol paper"
    assert words(match="word") == "open world, as protocol paper but match: word (there contains)"
    assert words(name="clean") == "open world, protocol clean"
    one = {
        "match": "word",
        "padding_side": "right",
        "duplicates": "x",
        "exif": "?",
        "prompt": "?",
        "answer_prefix": "?",
    }
    assert words(**one, seed=7) == words(**one)
    assert "own settings: " in words(**one, synonyms="x", answer_after="x", scored_part="x", item_draw="x")
