"""The page of a guidance sweep: both ways to choose t, for every form."""

from collections.abc import Mapping
from typing import Any

from configs.eval_dir import EvalDir
from data_prep.page import Block, Definitions, Figure, Heading, Page, Table, Text
from data_prep.page_charts import Bar, dots
from data_prep.run_index import write_result
from eval.reports.figures import guidance_figure
from eval.reports.formatting import interval, percent

METHODS = {"held_out": "chosen on the other half", "swept_on_test": "swept on these items"}


def write_guidance(folder: EvalDir, results: Mapping[str, Any]) -> None:
    """Write guidance.json, report.md and report.html into `folder`."""
    files = {"json": folder.guidance, "md": folder.report("md"), "html": folder.report("html")}
    write_result(files.__getitem__, results, guidance_page(results))


def guidance_page(results: Mapping[str, Any]) -> Page:
    """The page: the accuracy of each form and method of selecting t, accuracy over t, and what each form is."""
    found = [
        (name, swept, how, swept[key])
        for name, swept in results["forms"].items()
        for key, how in METHODS.items()
        if swept[key] is not None
    ]
    colours = {name: number for number, name in enumerate(results["forms"])}
    blocks: list[Block] = [
        Text(f"{results['model']} ({results['label']}), evaluated on {results['source']}; {results['items']:,} items."),
        Text(
            "The authors select t on the items they report. Here t is selected on one half of the items and accuracy "
            "is measured on the other half; the row below it gives the authors' method."
        ),
        Heading("Accuracy of each form"),
    ]
    if found:
        bars = [_bar(name, how, rate, colours[name]) for name, _, how, rate in found]
        blocks.append(dots(bars, "Accuracy with its 95 % interval, and the selected t."))
    else:
        blocks.append(Text("Too few items to select t and to measure an accuracy.", warning=True))
    curves = {name: swept["curve"] for name, swept in results["forms"].items() if "curve" in swept}
    if curves:
        caption = f"Accuracy of all {results['items']:,} items over t; dotted: t = 1, no guidance."
        blocks += [Heading("Accuracy over t"), Figure(guidance_figure(curves), caption)]
    headers = ("form", "t is", "accuracy", "95 % interval", "n", "selected t")
    rows = [[name, how, *_numbers(rate)] for name, _, how, rate in found]
    forms = [Table(headers, rows, numeric=frozenset({2, 3, 4, 5}))] if rows else []
    meanings = Definitions([(name, _form(swept)) for name, swept in results["forms"].items()])
    blocks += [Heading("The forms"), meanings, *_few(results), *forms]
    return Page(f"{results['name']}: classifier-free guidance", blocks)


def _bar(name: str, how: str, found: Mapping[str, Any], colour: int) -> Bar:
    rate = found["accuracy"]
    text = f"{percent(rate['value'])}, n = {rate['n']:,}, t = {found['guidance']:g}"
    return Bar(f"{name}, {how}", rate["value"], text, rate["low"], rate["high"], colour)


def _form(swept: Mapping[str, Any]) -> str:
    what = f"{swept['form']}, prior {swept['prior'].replace('_', ' ')}, {'means' if swept['mean'] else 'sums'}"
    return what + (" of the tokens' probabilities" if swept["tokens"] == "probability" else "")


def _numbers(found: Mapping[str, Any]) -> list[str]:
    rate = found["accuracy"]
    return [percent(rate["value"]), interval(rate), f"{rate['n']:,}", f"{found['guidance']:g}"]


def _few(results: Mapping[str, Any]) -> list[Block]:
    """What was not measured, by form."""
    missing = [
        f"{name}: too few items for t {how}"
        for name, swept in results["forms"].items()
        for key, how in METHODS.items()
        if swept[key] is None
    ]
    return [Text("; ".join(missing) + ".", warning=True)] if missing else []


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
