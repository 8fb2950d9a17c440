"""The page of a guidance sweep: both ways to choose t, for every form."""

import json
from collections.abc import Mapping
from typing import Any

from configs.eval_dir import EvalDir
from data_prep.atomic import write_bytes
from data_prep.page import Block, Figure, Page, Table, Text
from data_prep.run_index import update_index
from eval.reports.figures import guidance_figure
from eval.reports.formatting import interval, percent


def write_guidance(folder: EvalDir, results: Mapping[str, Any]) -> None:
    """Write guidance.json, report.md and report.html into `folder`."""
    folder.root.mkdir(parents=True, exist_ok=True)
    page = guidance_page(results)
    write_bytes(folder.report("md"), page.markdown().encode())
    write_bytes(folder.report("html"), page.html().encode())
    write_bytes(folder.guidance, (json.dumps(results, indent=1, ensure_ascii=False) + "\n").encode())
    update_index(folder.root)


def guidance_page(results: Mapping[str, Any]) -> Page:
    """The page: a row for each form and method of selecting t, and accuracy over t."""
    rows = []
    for name, swept in results["forms"].items():
        what = f"{swept['form']}, prior {swept['prior'].replace('_', ' ')}, {'means' if swept['mean'] else 'sums'}"
        what += " of the tokens' probabilities" if swept["tokens"] == "probability" else ""
        for key, how in (("held_out", "chosen on the other half"), ("swept_on_test", "swept on these items")):
            found = swept[key]
            if found is not None:
                rate = found["accuracy"]
                numbers = [percent(rate["value"]), interval(rate), f"{rate['n']:,}", f"{found['guidance']:g}"]
                rows.append([name, what, how, *numbers])
    headers = ("form", "guided", "t", "accuracy", "95 % interval", "n", "selected t")
    blocks: list[Block] = [
        Text(f"{results['model']} ({results['label']}), evaluated on {results['source']}"),
        Text(
            "The authors select t on the items they report. Here t is selected on one half of the items and accuracy "
            "is measured on the other half; the row below it gives the authors' method."
        ),
        Table(headers, rows, numeric=frozenset({3, 4, 5, 6})),
    ]
    if any("curve" in swept for swept in results["forms"].values()):
        figure = guidance_figure({name: swept["curve"] for name, swept in results["forms"].items() if "curve" in swept})
        blocks.append(Figure(figure, f"Accuracy of all {results['items']:,} items over t; dotted: t = 1, no guidance."))
    return Page(f"{results['name']}: classifier-free guidance", blocks)


def as_text(results: Mapping[str, Any]) -> str:
    """Two lines per form."""
    lines = [f"{results['name']} {results['label']}: {results['items']:,} items with stored scores"]
    for name, swept in results["forms"].items():
        lines.append(f"{name:>8}  {_rate_text(swept['held_out'], 't chosen on the other half')}")
        lines.append(f"{'':>8}  {_rate_text(swept['swept_on_test'], 't swept on these very items, as the authors do')}")
    return "\n".join(lines)


def _rate_text(result: Mapping[str, Any] | None, how: str) -> str:
    if result is None:
        return f"too few items for {how}"
    rate = result["accuracy"]
    text = f"{rate['value']:.1%} ({rate['low']:.1%} to {rate['high']:.1%}, n = {rate['n']:,})"
    return f"{text} at t = {result['guidance']:g}, {how}"
