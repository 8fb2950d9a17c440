"""Pages in a real browser: on no width from a phone's to a wide screen's is one cut off or scrolled sideways.

Skipped without Chromium. One start of the browser measures all pages at all widths, in frames of these widths.
"""

import html
import io
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from configs.eval_dir import EvalDir
from configs.run_dir import RunDir
from data_prep.curve_figure import Curve, Mark, curve_figure
from data_prep.page import (
    Block,
    Contents,
    Definitions,
    Figure,
    Folded,
    Heading,
    Numbers,
    Page,
    Table,
    Text,
)
from data_prep.page_cards import Card, Cards, Link
from data_prep.page_charts import Bar, Bars, HeatMap
from data_prep.page_gallery import Gallery, Tile
from data_prep.run_index import index_page
from data_prep.sample import Sample, Turn
from eval.metrics.accuracy import Rate
from eval.metrics.confusion_matrix import confusion_matrix
from eval.paper.loss_curves import LossCurve
from eval.paper.published import paper_numbers
from eval.paper.results import CollectedResults, Result
from eval.paper.scoreboard import scoreboard
from eval.paper.scoreboard_page import scoreboard_page
from eval.reports.compared_answers import ComparedAnswer, changes_from_first, pairwise_tests
from eval.reports.comparison import comparison
from eval.reports.comparison_page import comparison_page
from eval.reports.evaluation_page import report_page
from eval.reports.guidance_page import guidance_page
from train.tools.postmortem_page import RunHistory, as_page, flagged_steps

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (390, 800, 1200, 1600)
LONG = "runs/" + "a_name_without_any_blank_in_it/" * 6
NAMES = tuple(f"class {number} with a name of several words" for number in range(45))
Builder = Callable[[], str]
PAGES: dict[str, Builder] = {}


def page(name: str) -> Callable[[Builder], Builder]:
    """Register a function that returns a page's HTML, made from small made-up inputs."""

    def add(build: Builder) -> Builder:
        PAGES[name] = build
        return build

    return add


def picture(kind: str, size: tuple[int, int] = (1400, 40)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (90, 120, 160)).save(buffer, format=kind)
    return buffer.getvalue()


def all_blocks() -> list[Block]:
    """One of each block, with texts that are longer than a phone is wide."""
    curve = Curve("loss", [(step, 3.0 / step) for step in range(1, 50)])
    bars = [Bar(name, 0.5, "50.0 %, 38.0 to 62.0 %, n = 50", 0.38, 0.62) for name in (*NAMES, LONG)]
    tiles = [
        Tile(picture("JPEG", (64, 64)), LONG, (("answer", LONG),), {"outcome": outcome, "class": LONG}, "good")
        for outcome in ("right", "wrong")
    ]
    counts = [[10 if row == column else 1 for column in range(45)] for row in range(45)]
    return [
        Contents(),
        Heading(f"Heading {LONG}"),
        Text(LONG, warning=True),
        Numbers([(LONG, "84.4 %", LONG), ("n", "1,234,567,890,123,456", "")]),
        Table(("a", "b", "c"), [[LONG, "1" * 60, LONG]], numeric=frozenset({1}), code=frozenset({2})),
        Definitions([("term", LONG), (LONG, "text")]),
        Figure(curve_figure([curve], [Mark(20, "alarm", "text", "#c62828")], "loss"), LONG),
        Bars(bars, LONG),
        Bars(bars[:3], LONG, ((-1.0, "-100 points"), (0.0, "0"), (1.0, "+100 points")), dots=True),
        HeatMap(NAMES, NAMES, counts, "right name", "answer", LONG),
        HeatMap(NAMES[:20], NAMES[:20], [row[:20] for row in counts[:20]], "right name", "answer", LONG),
        Gallery(tiles, LONG),
        Cards([Card(LONG, ((LONG, LONG),), [Link(LONG, LONG, LONG)] * 20, (3.0, 1.0, 2.0), LONG)] * 3),
        Folded(f"Folded {LONG}", [Table(("a",), [[LONG]]), Text(LONG)], open=True),
    ]


@page("all blocks")
def every_block() -> str:
    return Page(f"All blocks {LONG}", all_blocks()).html()


def made_up_report(name: str, classes: int) -> dict[str, Any]:
    """The content of a report.json with long names in every text."""
    names = [f"{name} {number}" for number in range(classes)]
    rate = Rate(30, 100).to_json()
    pairs = [(one, other) for one in names for other in names[:7]]
    part = {"name": "rarest third", "low": 1, "high": 90, "classes": 3, "rate": rate, "mean_accuracy": 0.5}
    frequency = {"classes": classes, "spearman": 0.5, "pearson": None, "thirds": [part], "log_bins": [part]}
    pair = {"class": names[0], "predicted_as": names[1], "count": 3, "n": 9, "reverse_count": 0, "reverse_n": 9}
    example = {"value": False, "target": name, "class": name, "answer": LONG * 3, "reason": LONG, "id": LONG}
    start = {"command": f"python -m eval.run {LONG}", "start": "2026-01-01", "packages": {"torch": "2.13.0"}, "cpus": 2}
    return {
        "name": name, "model": LONG, "label": "export", "source": LONG, "items": {
            "expected": 100, "answered": 90, "failed": 1, "missing": 9, "source": 50_000},
        "evaluated_model": {"finetuned": True, "base": LONG, "mode": "lora", "sources": [LONG]},
        "trained": {"record": "x", "differences": []},
        "protocol": {"task": "open_world", "prompt": LONG, "template": "llava", "hash": "a" * 12, "data": "d" * 64},
        "data_notes": [LONG], "accuracy": rate, "wrong": rate, "no_answer": rate, "accuracy_of_answers": rate,
        "several_classes": rate, "baselines": None, "answers": {"mean_tokens": 3.0, "cut": 0},
        "paper": {"row": LONG, "source": "Table 1", "value": 0.5, "difference": 0.1, "inside_interval": True},
        "frequency": frequency, "frequency_sources": [LONG], "confusions": [pair] * 20, "candidate_set": None,
        "classes": [
            {"label": number, "name": text, "correct": 3, "wrong": 5, "no_answer": 1, "frequency": number}
            for number, text in enumerate(names)
        ],
        "confusion_matrix": confusion_matrix(pairs), "examples": [example], "failures": [{"id": LONG, "reason": LONG}],
        "provenance": {"evaluation": [start]},
    }  # fmt: skip


@page("report of few classes")
def short_report() -> str:
    return report_page(made_up_report("class", 5)).html()


@page("report of many classes")
def long_report() -> str:
    return report_page(made_up_report("a_class_whose_name_is_very_long_and_has_no_blanks", 70)).html()


@page("comparison")
def comparison_of_models() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return comparison_of_reports(Path(folder))


def comparison_of_reports(folder: Path) -> str:
    """A comparison, with links to reports in `folder`."""
    reports = [made_up_report(LONG, 5), made_up_report("quiz", 5), made_up_report("third", 5)]
    for number, report in enumerate(reports):
        report["frequency"] |= {"thirds": [part | {"name": LONG} for part in report["frequency"]["thirds"]]}
        own = EvalDir(folder / str(number))
        own.root.mkdir()
        own.report("html").touch()
        report["folder"] = str(own.root)
    models = {name: {report["name"]: report for report in reports} for name in ("base", "mix@1", "mix@2", LONG)}
    answers = {
        name: {
            f"{LONG}{item}": ComparedAnswer("right" if item % step else "wrong", LONG, LONG, f"{LONG}{item % 5}")
            for item in range(20)
        }
        for name, step in zip(models, (2, 3, 4, 5), strict=True)
    }
    pairs = {name: pairwise_tests({model: found[name] for model, found in models.items()}, answers) for name in [LONG]}
    values = comparison(models) | {"pairs": pairs, "changes": {LONG: changes_from_first(models, LONG, answers)}}
    return comparison_page(models, values, folder).html()


def opened(text: str) -> str:
    """A page with all its folded parts open."""
    return text.replace("<details", "<details open")


@page("scoreboard")
def scoreboard_with_results() -> str:
    known = paper_numbers()
    result = Result(0.25, 0.2, 0.3, 1000, LONG, LONG)
    rows = {row: [result, result] for row in list(known)[::7]}
    record = {"title": LONG, "dataset": LONG, "reason": LONG, "accuracy": None, "note": ""}
    planned = {"model": LONG, "checkpoint": "export", "protocol": LONG, "rows": [record]}
    found = CollectedResults(rows=rows, others=[(LONG, result)], reproductions=[planned])
    found.curves = [LossCurve(LONG, mode, tuple((n, 1 / n) for n in range(1, 9))) for mode in ("lora", "projector")]
    return opened(scoreboard_page(scoreboard(found, known), found).html())


@page("guidance")
def guidance_of_long_names() -> str:
    part = {"guidance": 1.5, "accuracy": Rate(30, 100).to_json()}
    swept = {"form": LONG, "prior": LONG, "mean": True, "tokens": "probability", "swept_on_test": part}
    curve = [[0.0, 0.2], [1.0, 0.3], [2.0, 0.1]]
    forms = {name: swept | {"held_out": part, "curve": curve} for name in ("paper", "official", "clean", "own")}
    results = {"name": LONG, "model": LONG, "label": LONG, "source": LONG, "items": 100}
    return guidance_page(results | {"forms": forms | {"literal": swept | {"held_out": None}}}).html()


@page("post-mortem")
def post_mortem_with_flagged_samples() -> str:
    losses = {"pictures": 2.0, LONG[:60]: 1.0}
    metrics = [{"step": n, "loss": 1.0, "grad_norm": 1.0 + n % 3, "loss_by_source": losses} for n in range(1, 99)]
    metrics[-1] |= {"heldout_loss": losses, "lr": {"projector": 1e-3}}
    events = [{"step": 50, "kind": "outlier", "signal": LONG, "message": LONG, "data_steps": [49]}]
    turns = (Turn("human", LONG), Turn("gpt", LONG))
    sample = Sample(id=LONG, image=picture("JPEG", (64, 64)), turns=turns, label=1, label_name=LONG)
    history = RunHistory(RunDir(Path("runs") / "x"), metrics, events)
    return as_page(history, history, flagged_steps(events), {49: [sample, sample]}).html()


@page("index of runs")
def index_of_runs() -> str:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a", "a_name_without_any_blank_in_it" * 6):
            run = RunDir(Path(folder) / name)
            run.evaluation("x" * 99).mkdir(parents=True)
            run.config.write_text("")
            run.metrics.write_text("".join(f'{{"step": {n}, "loss": {1 / n}}}\n' for n in range(1, 50)))
            (run.evaluation("x" * 99) / "report.html").write_text("")
        return index_page(Path(folder)).html()


def shown(text: str, folder: Path) -> str:
    """What a page's script writes between MEASURED and END."""
    file = folder / "page.html"
    file.write_text(text)
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--hide-scrollbars", "--dump-dom", file.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = re.search(r"MEASURED(.*?)END", result.stdout, flags=re.DOTALL)
    assert found is not None, result.stderr
    return html.unescape(found[1])


def measured(pages: dict[str, str], folder: Path) -> dict[str, tuple[int, int]]:
    """Page and width to (scroll width, client width), in CSS pixels."""
    frames = "".join(
        f'<iframe name="{html.escape(name)} at {width}" style="width:{width}px;height:900px" '
        f'srcdoc="{html.escape(text)}"></iframe>'
        for name, text in pages.items()
        for width in WIDTHS
    )
    script = """
      const found = {};
      for (const frame of document.querySelectorAll("iframe")) {
        const root = frame.contentDocument.documentElement;
        for (const part of root.querySelectorAll("details")) part.open = true;
        found[frame.name] = [root.scrollWidth, root.clientWidth];
      }
      document.body.textContent = "MEASURED" + JSON.stringify(found) + "END";
    """
    text = f"<!DOCTYPE html><meta charset=utf-8><body>{frames}<script>onload = () => {{{script}}}</script>"
    found = json.loads(shown(text, folder))
    return {name: tuple(sizes) for name, sizes in found.items()}


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_no_page_is_wider_than_the_window(tmp_path):
    found = measured({name: build() for name, build in PAGES.items()}, tmp_path)
    assert len(found) == len(PAGES) * len(WIDTHS)
    assert {name: sizes for name, sizes in found.items() if sizes[0] != sizes[1]} == {}


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_measurement_finds_a_page_that_is_too_wide(tmp_path):
    wide = Page("T", [Figure('<svg width="900" height="9" style="width:900px;max-width:none"></svg>', "")]).html()
    found = measured({"wide": wide.replace('class="scroll"', "")}, tmp_path)
    assert found["wide at 390"][0] > found["wide at 390"][1] == 390


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_filters_of_a_gallery_leave_the_tiles_that_match_all_of_them(tmp_path):
    outcomes = [("right", "cat"), ("wrong", "cat"), ("wrong", 'dog "a"')]
    tiles = [Tile(None, str(number), (), {"outcome": a, "class": b}) for number, (a, b) in enumerate(outcomes)]
    script = """<script>
      const left = [];
      for (const [outcome, name] of [["", ""], ["wrong", ""], ["wrong", 'dog "a"'], ["right", 'dog "a"'], ["", ""]]) {
        document.querySelector("select[name=outcome]").value = outcome;
        document.querySelector("select[name=class]").value = name;
        document.querySelector("select").dispatchEvent(new Event("change"));
        left.push([...document.querySelectorAll(".tile")].filter((tile) => tile.offsetHeight > 0).length);
      }
      document.body.textContent = "MEASURED" + JSON.stringify(left) + "END";
    </script></body>"""
    text = Page("T", [Gallery(tiles, "c")]).html().replace("</body>", script)
    assert json.loads(shown(text, tmp_path)) == [3, 2, 1, 0, 3]
