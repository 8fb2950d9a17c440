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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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
from eval.metrics.class_confidence import confidence_results
from eval.metrics.confusion_matrix import confusion_matrix
from eval.metrics.grouped import ItemPoints
from eval.metrics.kappa import agreement_of
from eval.metrics.robustness import FactorOutcomes, robustness_results
from eval.paper.derived import Result
from eval.paper.forgetting import forgetting_page
from eval.paper.loss_curves import LossCurve
from eval.paper.published import paper_numbers
from eval.paper.results import CollectedResults
from eval.paper.scoreboard import scoreboard
from eval.paper.scoreboard_page import scoreboard_page
from eval.reports.agreement import agreement_page
from eval.reports.class_halves import half_blocks
from eval.reports.compared_answers import ComparedAnswer, changes_from_first, pairwise_tests
from eval.reports.comparison import comparison
from eval.reports.comparison_page import accuracy_table, comparison_page
from eval.reports.evaluation_page import report_page
from eval.reports.guidance_page import guidance_page
from eval.reports.knn_page import knn_page
from eval.reports.robustness_page import robustness_page
from launch.follow_curve import write_curve
from launch.sweep_page import sweep_page
from train.tools.postmortem_page import RunHistory, as_page, flagged_steps

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (390, 800, 1200, 1600)
LONG = "runs/" + "a_name_without_any_blank_in_it/" * 6
NAMES = tuple(f"class {number} with a name of several words" for number in range(45))
Builder = Callable[[], str]
RATE = Rate(30, 100).to_json()
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
    pair = {"class": f"{name} 0", "predicted_as": f"{name} 1", "count": 3, "n": 9, "reverse_count": 0, "reverse_n": 9}
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
    changes = changes_from_first(models, LONG, answers)
    values = comparison(models) | {"pairs": pairs, "changes": {LONG: changes}, "halves": half_rows(LONG)}
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
    return opened(scoreboard_page(scoreboard(found, known), found, Path()).html())


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


@page("post-mortem of two runs without a step")
def post_mortem_without_a_step() -> str:
    history = RunHistory(RunDir(Path("runs") / "x"), [], [])
    return as_page(history, history, {}, {}).html()


@page("index of no runs")
def index_of_no_runs() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return index_page(Path(folder)).html()


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


def class_scores_of(text: str, items: int = 400) -> dict[str, Any]:
    """`class_scores` of a report: scores of 20 classes, calibration at two temperatures."""
    rng = np.random.default_rng(3)
    labels = rng.integers(20, size=items)
    scores = rng.normal(-6, 2, (items, 20)).astype(np.float32)
    scores[np.arange(items), labels] += 4
    correct = scores.argmax(axis=1) == labels
    own, fitted = (confidence_results(scores[start:], correct[start:], t) for start, t in ((0, 1.0), (items // 2, 1.7)))
    top = {"k": 5} | Rate(items - 20, items).to_json()
    return {
        "n": items, "candidates": 20, "classes": 48, "bytes_per_item": 400, "top": top, "temperature": 1.0,
        "temperature_is": text, "own": own, "fitted": {"temperature": 1.7, "fitted_on": items // 2} | fitted,
    }  # fmt: skip


def grade_of(text: str) -> dict[str, Any]:
    """A grader's entry in `grades` of a report, with capabilities."""
    example = {"id": text, "target": text, "answer": text * 3, "outcome": "right", "score": 0.5, "why": text}
    mean = {"value": 0.305, "low": 0.25, "high": 0.361, "n": 218}
    capabilities = {
        "total": mean, "runs": [0.304, 0.306, 0.305], "deviation": 0.001,
        "capabilities": {"ocr": mean, text: mean}, "combinations": {f"ocr, {text}": mean},
    }  # fmt: skip
    return {
        "grader": text, "about": text, "settings": {"judge": text, "temperature": 0}, "examples": [example] * 3,
        "items": {"answers": 100, "graded": 90, "failed": 1, "missing": 9, "stale": 2}, "accuracy": RATE,
        "outcomes": {"right": RATE, "wrong": RATE, "no answer": RATE}, "flags": {text: RATE}, "mean_score": mean,
        "agreement": {"rate": RATE, "kappa": 0.41}, "failures": [{"id": text, "reason": text}],
        "capabilities": capabilities,
    }  # fmt: skip


def agreement_values(text: str) -> dict[str, Any]:
    """agreement.json: two rules and a judge."""
    labels, said = ["right", "wrong", "right", "no answer"] * 25, ["right", "right", "wrong", "no answer"] * 25
    kinds = ["right name", "wrong name", "more general", text]
    entry = {"right": agreement_of(labels, said), "kinds": {kind: [20, 25] for kind in kinds}}
    differing = {"target": text, "answer": text, "label": "right", "outcome": "wrong"}
    judge = {"outcomes": agreement_of(labels, said), "ungraded": 2, "differing": [differing] * 3}
    judge |= {"about": text, "settings": {"judge": text}}
    return {"labels": 100, "kinds": kinds, "graders": {"contains": entry, text: entry, "llm_judge": entry | judge}}


def robustness_values(text: str) -> dict[str, Any]:
    """robustness.json: three factors, one of which was not varied."""
    base, other = ({str(n): ItemPoints(float(n % step > 0), str(n)) for n in range(60)} for step in (3, 4))
    wordings = {"paper": base, "identify": other, text: other}
    factors = [
        FactorOutcomes("wording", "protocol.prompt", wordings),
        FactorOutcomes("batch_size", "batch_size", {"64": base, "1": base}),
        FactorOutcomes("seed", "protocol.seed", {}, text),
    ]
    protocol = {"task": "open_world", "name": "paper", "hash": "a" * 12}
    head = {"name": text, "model": text, "label": "export", "source": text, "notes": [text], "protocol": protocol}
    head["report"] = f"{text}/report.html"
    return head | robustness_results(base, factors, "open_world")


def sweep_values(text: str) -> dict[str, Any]:
    """sweep.json: three settings, two seeds, an evaluation and the held-out loss; one run is missing."""
    measures = [text, "held-out loss"]
    rows = []
    for number in range(3):
        value = 0.5 + number / 10
        entry = {"value": value, "n": 480, "doubtful": text if number == 1 else "", "report": f"{text}/report.html"}
        runs = [
            {"name": f"{text}-seed{seed}", "seed": seed, "state": "finished", "folder": text, "values": {}}
            for seed in (1, 2)
        ]
        for run in runs[: 1 if number == 2 else 2]:
            run["values"] = dict.fromkeys(measures, entry)
        n = 1 if number == 2 else 2
        low, high = (None, None) if n == 1 else (value - 0.1, value + 0.1)
        result = {"n": n, "mean": value, "deviation": None, "low": low, "high": high, "items": [480]}
        settings = {"optim.lr_projector": 10.0**-number, "train.sources": [text]}
        rows.append({"settings": settings, "runs": runs, "results": dict.fromkeys(measures, result)})
    best = {"row": None, "why": "no best setting: 1 of 6 runs has no result yet", "pairs": []}
    return {
        "sweep": text, "seeds": [1, 2], "measures": measures, "notes": [text], "rows": rows,
        "best": {measures[0]: best, measures[1]: best | {"row": 0, "why": "row 1 is best"}},
    }  # fmt: skip


def forgetting_values(text: str) -> dict[str, Any]:
    """forgetting-NAME.json: a data set of the paper, one of ours, and one that is missing."""
    gap = {"difference": -0.05, "low": -0.09, "high": -0.01, "items": 100, "groups": 80}
    row = {"dataset": "textvqa", "measure": "VQA accuracy", "base": RATE, "finetuned": RATE, "paper": [0.582, 0.561]}
    row |= {"difference": gap, "reason": None, "doubts": [text], "reports": [None, None]}
    ours = row | {"dataset": text, "paper": None, "measure": "F1 score"}
    missing = row | {"dataset": "mm_vet", "finetuned": None, "difference": None, "reason": text}
    return {"base": text, "finetuned": text, "rows": [row, ours, missing]}


def half_rows(text: str) -> list[dict[str, Any]]:
    """`halves` of a comparison: a model on base and new classes, and one whose new classes were not evaluated."""
    half = {"evaluation": text, "accuracy": RATE}
    both = {"model": text, "base": half, "new": half, "harmonic_mean": 0.3, "missing": []}
    return [both, both | {"new": None, "harmonic_mean": None, "missing": [f"{text} incomplete"]}]


def knn_values(text: str) -> dict[str, Any]:
    """knn.json."""
    rows = [
        {"position": position, "k": k, "vote": vote, "accuracy": RATE}
        for position in ("last", "vision_mean")
        for k in (1, 5, 20)
        for vote in ("majority", "weighted")
    ]
    return {
        "name": text, "model": text, "label": "export", "source": text, "train_source": text, "rows": rows,
        "train": 500, "class_count": 48, "data_notes": [text], "left_out": {"last": 3},
        "failures": {text: [{"id": text, "reason": text}]}, "protocol": {"name": "paper", "hash": "a" * 12},
        "settings": {"metric": "cosine", "temperature": 0.07, "votes": ["majority", "weighted"]},
    }  # fmt: skip


@page("report with class scores and graders")
def report_with_all_sections() -> str:
    more = {"class_scores": class_scores_of(LONG), "grades": [grade_of(LONG), grade_of("llm_judge")]}
    return report_page(made_up_report("class", 5) | more).html()


@page("report of short answers")
def report_of_short_answers() -> str:
    """A report of VQA accuracy, whose items have no class."""
    report = made_up_report("question", 5)
    report["protocol"] |= {"task": "vqa", "match": "vqa"}
    report["accuracy"] = RATE | {"interval": "bootstrap over 181 images"}
    none = {"classes": [], "confusions": [], "confusion_matrix": None, "frequency": None, "several_classes": None}
    return report_page(report | none).html()


@page("report of one item")
def report_of_one_item() -> str:
    rate, report = Rate(0, 1).to_json(), made_up_report("class", 1)
    counts = {"expected": 1, "answered": 1, "failed": 0, "missing": 0, "source": 1}
    rates = dict.fromkeys(("accuracy", "wrong", "no_answer", "accuracy_of_answers", "several_classes"), rate)
    return report_page(report | rates | {"items": counts, "paper": None, "failures": []}).html()


@page("report without an item")
def report_without_an_item() -> str:
    rate, report = Rate(0, 0).to_json(), made_up_report("class", 0)
    counts = {"expected": 9, "answered": 0, "failed": 9, "missing": 0, "source": 9}
    rates = dict.fromkeys(("accuracy", "wrong", "no_answer", "accuracy_of_answers", "several_classes"), rate)
    none = {"items": counts, "paper": None, "frequency": None, "confusions": [], "examples": []}
    return report_page(
        report | rates | none | {"confusion_matrix": None, "answers": {"mean_tokens": 0, "cut": 0}}
    ).html()


@page("agreement of graders")
def agreement_of_graders() -> str:
    return agreement_page(agreement_values(LONG)).html()


@page("robustness")
def robustness_of_long_names() -> str:
    return robustness_page(robustness_values(LONG), Path("runs")).html()


@page("sweep")
def sweep_of_long_names() -> str:
    return sweep_page(sweep_values(LONG), Path("runs")).html()


@page("forgetting")
def forgetting_of_long_names() -> str:
    return forgetting_page(forgetting_values(LONG), Path()).html()


@page("forgetting without a number")
def forgetting_that_was_not_run() -> str:
    found = forgetting_values(LONG)
    missing = [row | {"base": None, "finetuned": None, "difference": None, "reason": LONG} for row in found["rows"]]
    return forgetting_page(found | {"rows": missing}, Path()).html()


@page("nearest neighbours")
def nearest_neighbours() -> str:
    probe = knn_values(LONG) | {"chosen": LONG, "token_positions": {"last": {"accuracy": RATE}}}
    return knn_page(knn_values(LONG), probe).html()


@page("accuracy over the steps")
def accuracy_over_the_steps() -> str:
    with tempfile.TemporaryDirectory() as folder:
        run = RunDir(Path(folder) / LONG)
        for step in (500, 1_000, 1_500):
            own = EvalDir(run.evaluation("open_world") / f"step-{step:08}")
            own.root.mkdir(parents=True)
            own.report("json").write_text(json.dumps({"accuracy": RATE, "items": {"failed": step % 1_000}}))
        return write_curve(run, "open_world", {2_000: LONG}).read_text()


def usual_tables() -> dict[str, Sequence[Block]]:
    """Tables with names of usual length, which a screen of 1,200 pixels shows whole."""
    name = "demo_existence_adversarial"
    accuracy = {"accuracy": Rate(1900, 2016).to_json(), "grades": {}, "difference": 0.1}
    accuracy["paired"] = {"difference": 0.1, "low": -0.1, "high": 0.12, "p_value": 0.5}
    rows = {model: dict.fromkeys((name, "demo_knowledge"), accuracy) for model in ("base", "mix, seed 1")}
    return {
        "forgetting": forgetting_page(forgetting_values(name), Path()).blocks,
        "halves": half_blocks(half_rows("demo_open_world")),
        "comparison": [accuracy_table(rows, list(rows["base"]), {})],
        "robustness": robustness_page(robustness_values(name), Path()).blocks,
    }


def shown(text: str, folder: Path) -> str:
    """What a page's script writes between MEASURED and END."""
    file = folder / "page.html"
    file.write_text(text)
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--hide-scrollbars", "--virtual-time-budget=5000", "--dump-dom", file.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = re.search(r"MEASURED(.*?)END", result.stdout, flags=re.DOTALL)
    assert found is not None, result.stderr
    return html.unescape(found[1])


def measured(pages: dict[str, str], folder: Path) -> dict[str, tuple[int, int, list[str], int]]:
    """Page and width to (scroll width, client width, what scrolls in it and says so, charts without a common axis)."""
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
      }
      await new Promise((done) => setTimeout(done, 1000));
      for (const frame of document.querySelectorAll("iframe")) {
        const root = frame.contentDocument.documentElement;
        const boxes = [...root.querySelectorAll(".scroll")].filter((box) => box.scrollWidth > box.clientWidth + 1);
        const kind = (box) => box.querySelector("svg") ? "figure" : box.closest(".heat") ? "heat map" : "table";
        const uneven = [...root.querySelectorAll(".bars")].filter(
          (bars) => new Set([...bars.querySelectorAll(".track")].map((track) => track.clientWidth)).size > 1);
        const said = (box) => kind(box) + (box.classList.contains("wide") ? "" : " that does not say so");
        found[frame.name] = [root.scrollWidth, root.clientWidth, [...new Set(boxes.map(said))], uneven.length];
      }
      document.body.textContent = "MEASURED" + JSON.stringify(found) + "END";
    """
    text = f"<!DOCTYPE html><meta charset=utf-8><body>{frames}<script>onload = async () => {{{script}}}</script>"
    found = json.loads(shown(text, folder))
    return {name: tuple(values) for name, values in found.items()}


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_no_page_is_wider_than_the_window_and_what_scrolls_in_it_says_so(tmp_path):
    usual = {f"usual {name}": Page(name, blocks).html() for name, blocks in usual_tables().items()}
    found = measured({name: build() for name, build in PAGES.items()} | usual, tmp_path)
    assert len(found) == (len(PAGES) + len(usual)) * len(WIDTHS)
    assert {name: sizes for name, sizes in found.items() if sizes[0] != sizes[1]} == {}
    assert {name: uneven for name, (*_, uneven) in found.items() if uneven} == {}
    scrolling = {name: kinds for name, (_, _, kinds, _) in found.items()}
    assert {name: kinds for name, kinds in scrolling.items() if set(kinds) - {"table", "heat map"}} == {}
    assert scrolling["forgetting at 390"] == ["table"]
    wide = {name: kinds for name, kinds in scrolling.items() if name.startswith("usual") and not name.endswith("390")}
    assert {name: kinds for name, kinds in wide.items() if kinds and not name.endswith("800")} == {}


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
