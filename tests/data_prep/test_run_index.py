"""The page of all runs: what it finds, what it leaves alone, and that it never fails the program that updates it."""

import doctest
import json
from pathlib import Path

import pytest

from data_prep import page_cards, run_index, run_search
from data_prep.page import Page
from data_prep.run_index import index_page, sampled_records, update_index, write_page
from data_prep.run_search import runs_folder_of, search

RATE = {"value": 0.25, "low": 0.2, "high": 0.3, "n": 1000}


def write_run(folder: Path, losses=(2.0, 1.0, 0.5)) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: x\n")
    (folder / "identity.json").write_text("{}")
    lines = [{"step": n + 1, "epoch": n / 9, "loss": loss} for n, loss in enumerate(losses)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write_report(folder: Path, **report: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("page")
    (folder / "report.json").write_text(json.dumps({"accuracy": RATE} | report))
    return folder


@pytest.fixture
def runs(tmp_path) -> Path:
    return write_run(tmp_path / "runs" / "a 100% #1").parent


def test_a_run_is_listed_with_curve_checkpoints_and_accuracies(runs):
    run = runs / "a 100% #1"
    write_report(run / "eval" / "flowers" / "export")
    (run / "checkpoints" / "step-00000003").mkdir(parents=True)
    assert update_index(run / "eval" / "flowers" / "export") == runs / "index.html"
    text = (runs / "index.html").read_text().replace("<wbr>", "")
    assert '<a href="a%20100%25%20%231/eval/flowers/export/report.html">flowers/export</a>' in text
    assert "25.0\u00a0% (20.0 to 30.0\u00a0%), n\u00a0=\u00a01,000" in text
    assert "1, last at step 3" in text
    assert "<polyline" in text


def test_what_is_doubtful_about_an_accuracy_is_said(runs):
    items = {"expected": 9, "missing": 2, "failed": 1}
    write_report(runs / "a 100% #1" / "eval" / "b", items=items, trained={"differences": ["prompt"]})
    write_report(runs / "a 100% #1" / "eval" / "none", accuracy=RATE | {"n": 0})
    graded = {"accuracy": RATE | {"n": 0}, "protocol": {"task": "graded"}}
    write_report(runs / "a 100% #1" / "eval" / "graded", numbers={"mm_vet": RATE}, **graded)
    write_report(runs / "a 100% #1" / "eval" / "waits", **graded)
    write_report(runs / "a 100% #1" / "eval" / "short", protocol={"task": "vqa"})
    (write_report(runs / "other") / "report.json").write_text("{")
    text = index_page(runs).markdown()
    assert "n = 1,000; 1 failed; 2 of 9 not answered yet; not evaluated as trained" in text
    assert "no items" in text
    assert "n = 1,000, mean grade by mm_vet" in text
    assert "not graded yet" in text
    assert "n = 1,000, VQA accuracy" in text
    assert "report.json is damaged" in text


def test_a_run_that_was_interrupted_is_not_taken_for_a_finished_one(runs):
    def state(**start: object) -> str:
        file.write_text(json.dumps([{"start": "2026-01-01T00:00:00Z"} | start]))
        return index_page(runs).markdown()

    run = runs / "a 100% #1"
    file = run / "provenance.json"
    (run / "config.yaml").write_text(
        "name: x\ndata: {sources: {a: {reader: image_folder, path: a}}}\nmodel: {base: b}\n"
        "train: {sources: [a], epochs: 3}\n"
    )
    (run / "metrics.jsonl").write_text('{"step": 41, "epoch": 0.336, "loss": 1.0}\n')
    said = state(end=None, outcome=None)
    assert "no end recorded: interrupted, or training on another machine" in said and "41 of 366, epoch" in said
    assert "not finished: RunError: nan" in state(end="2026-01-01T00:01:00Z", outcome="RunError: nan")
    said = state(end="2026-01-01T00:01:00Z", outcome="finished")
    assert "state finished" in said and "41, epoch" in said


def test_a_comparison_beside_the_runs_updates_their_index(runs):
    (runs / "table").mkdir()
    assert update_index(runs / "table") == runs / "index.html"
    assert runs_folder_of(runs) == runs


def test_a_page_that_belongs_to_no_runs_makes_no_index(tmp_path):
    out = tmp_path.joinpath("out", *"abcdefgh")  # deeper than runs are looked for: the folders of other tests lie above
    out.mkdir(parents=True)
    assert update_index(out) is None
    assert list(tmp_path.rglob("index.html")) == []


def test_a_page_leads_to_the_index_that_is_updated_for_it(runs):
    file = runs / "a 100% #1" / "eval" / "forgetting-paper-mix.html"
    file.parent.mkdir()
    write_page(file, Page("Forgetting", []))
    assert '<a href="../../index.html">All runs</a>' in file.read_text()
    assert ">forgetting-paper-mix</a>" in (runs / "index.html").read_text()


def test_a_page_has_no_link_to_an_index_that_something_else_wrote(runs):
    (runs / "index.html").write_text("<title>My pages</title>")
    write_page(runs / "report.html", Page("Forgetting", []))
    assert "All runs" not in (runs / "report.html").read_text()


def test_an_index_that_something_else_wrote_is_kept(runs):
    (runs / "index.html").write_text("<title>My pages</title>")
    assert update_index(runs / "a 100% #1") is None
    assert (runs / "index.html").read_text() == "<title>My pages</title>"


def test_damaged_runs_are_listed_and_fail_nothing(runs):
    run = write_run(runs / "damaged", [])
    (run / "metrics.jsonl").write_bytes(b'{"step": 1, "loss": NaN}\n[1]\n\xff\xfe\n{"step": 2, "lo')
    assert "damaged: last written" in index_page(runs).markdown()
    (runs / "index.html").mkdir()
    assert update_index(run) is None


def test_shards_and_checkpoints_are_not_walked_and_a_cut_is_said(runs, monkeypatch):
    write_report(runs / "a 100% #1" / "checkpoints" / "step-00000001")
    big = runs / "images"
    big.mkdir()
    for number in range(9):
        (big / f"{number}.jpg").touch()
    monkeypatch.setattr(run_search, "MOST_OF_FOLDER", 5)
    found = search(runs)
    assert found.pages == {}
    assert found.cut == [big]
    assert "Runs and reports may be missing here" in index_page(runs).markdown()


def test_a_link_to_itself_ends(runs):
    (runs / "a 100% #1" / "again").symlink_to(runs)
    assert len(search(runs).runs) == 1


def test_of_a_long_file_of_metrics_a_part_is_read_with_its_last_step(tmp_path, monkeypatch):
    monkeypatch.setattr(run_index, "WHOLE_FILE", 1000)
    file = write_run(tmp_path / "run", [1.0] * 5000) / "metrics.jsonl"
    steps = [record["step"] for record in sampled_records(file)]
    assert steps == sorted(set(steps))
    assert steps[-1] == 5000
    assert 100 < len(steps) <= 122


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(page_cards).failed == 0
    assert doctest.testmod(page_cards).attempted == 2
