"""The parts of a comparison besides its table: accuracies as a chart, tests of any two models, and what changed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.eval_dir import EvalDir
from data_prep.page import Block, Folded, Heading, Table, Text
from data_prep.page_cards import Card, Cards, Link
from data_prep.page_charts import Bar, Bars, difference_dots, dots
from data_prep.page_gallery import Gallery, Tile
from eval.metrics.seeds import display_name, recipe_of
from eval.reports.formatting import headline, interval, percent, points

CHARTED_PAIRS = 15
SHOWN_CLASSES = 10  # of each end
SHOWN_ITEMS = 40  # of each direction
PAIRS_TEXT = (
    "Differences in points, second model less first, over the items that both answered: the 95 % interval of paired "
    "samples, McNemar's exact test, and its p-value adjusted for the {tests} tests of this evaluation (Holm). Where "
    "questions share images, bootstrap and sign flips over images instead."
)
CLASSES_TEXT = (
    "Classes with the largest differences; a class has few items, and the extremes of many classes are partly chance."
)


def accuracy_chart(rows: Mapping[str, Mapping[str, Any]], evaluation: str) -> list[Block]:
    """One evaluation's accuracies as dots with their intervals; the runs of one recipe have one colour."""
    found = {model: values[evaluation]["accuracy"] for model, values in rows.items() if evaluation in values}
    known = {model: rate for model, rate in found.items() if rate["value"] is not None}
    if not known:
        return []
    recipes = list(dict.fromkeys(map(recipe_of, rows)))
    bars = [
        Bar(
            display_name(model),
            rate["value"],
            f"{percent(rate['value'])}, {interval(rate)}" if model in known else "no item answered",
            rate["low"],
            rate["high"],
            recipes.index(recipe_of(model)),
        )
        for model, rate in found.items()
    ]
    return [dots(bars, f"{evaluation}: accuracy with its 95 % interval.")]


def report_links(models: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Block]:
    """A card for each model with links from a page in `folder` to its reports, which show its answers one by one."""
    cards = []
    for model, reports in models.items():
        folders = {name: report["folder"] for name, report in reports.items() if "folder" in report}
        pages = {name: EvalDir(Path(place)).report("html") for name, place in folders.items()}
        links = [Link.to(name, page, folder, headline(reports[name])) for name, page in pages.items() if page.is_file()]
        cards += [Card(display_name(model), links=links)] if links else []
    return [Heading("Report of each model"), Cards(cards)] if cards else []


def pair_blocks(pairs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Block]:
    """A chart and a table of all tested pairs of each evaluation; nothing where one pair has the table's column."""
    blocks: list[Block] = []
    for evaluation, tested in pairs.items():
        if len(tested) < 2:
            continue
        blocks.append(Text(f"{evaluation}: {PAIRS_TEXT.format(tests=len(tested))}"))
        if len(tested) <= CHARTED_PAIRS:
            blocks.append(_pair_chart(tested, evaluation))
        blocks.append(_pair_table(tested))
    return [Heading("Any two models"), *blocks] if blocks else []


def _pair_chart(pairs: Sequence[Mapping[str, Any]], evaluation: str) -> Bars:
    bars = [
        Bar(_pair_name(pair), pair["difference"], _with_interval(pair), pair["low"], pair["high"]) for pair in pairs
    ]
    return difference_dots(bars, f"{evaluation}: differences in points with their 95 % intervals.")


def _pair_name(pair: Mapping[str, Any]) -> str:
    return f"{display_name(pair['second'])} less {display_name(pair['first'])}"


def _with_interval(pair: Mapping[str, Any]) -> str:
    return f"{points(pair['difference'])} ({points(pair['low'])} to {points(pair['high'])})"


def _pair_table(pairs: Sequence[Mapping[str, Any]]) -> Table:
    headers = ("first", "second", "difference", "95 % interval", "only first", "only second", "n", "p", "adjusted p")
    rows = [
        [
            display_name(pair["first"]),
            display_name(pair["second"]),
            points(pair["difference"]),
            f"{points(pair['low'])} to {points(pair['high'])}",
            *(f"{pair[key]:,}" for key in ("first_only", "second_only", "items")),
            *(p_text(pair[key]) for key in ("p_value", "p_adjusted")),
        ]
        for pair in pairs
    ]
    return Table(headers, rows, numeric=frozenset(range(2, len(headers))))


def p_text(value: float) -> str:
    """A p-value as tables print it.

    >>> p_text(0.0004), p_text(0.0312)
    ('< 0.001', '0.031')
    """
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def change_blocks(changes: Mapping[str, Mapping[str, Any]], first: str) -> list[Block]:
    """For each evaluation and model a folded part: classes and items that differ from the model `first`."""
    parts = [
        Folded(
            f"{evaluation}, {display_name(model)}: {found['lost']:,} items lost, {found['gained']:,} gained",
            [*_classes(found["classes"], first, model), *_items(found, first, model)],
        )
        for evaluation, models in changes.items()
        for model, found in models.items()
    ]
    reference = display_name(first)
    text = f"Lost: only {reference} is correct; gained: only the other model is. Over the items that both answered."
    return [Heading(f"What changed from {reference}"), Text(text), *parts] if parts else []


def _classes(classes: Sequence[Mapping[str, Any]], first: str, model: str) -> list[Block]:
    changed = [row for row in classes if row["difference"]]
    if not changed or len(classes) < 2:
        return []
    gains = [row for row in changed if row["difference"] > 0][:SHOWN_CLASSES]
    losses = [row for row in changed if row["difference"] < 0][-SHOWN_CLASSES:]
    headers = ("class", "n", display_name(first), display_name(model), "difference", "95 % interval")
    rows = [
        [
            row["class"],
            f"{row['items']:,}",
            *(percent(row[key] / row["items"]) for key in ("first_correct", "second_correct")),
            points(row["difference"]),
            f"{points(row['low'])} to {points(row['high'])}",
        ]
        for row in (*gains, *losses)
    ]
    text = f"{CLASSES_TEXT} {len(changed):,} of {len(classes):,} classes differ."
    return [Text(text), Table(headers, rows, numeric=frozenset(range(1, len(headers))))]


def _items(found: Mapping[str, Any], first: str, model: str) -> list[Block]:
    tiles = []
    for change, tone in (("lost", "bad"), ("gained", "good")):
        for item in [item for item in found["items"] if item["change"] == change][:SHOWN_ITEMS]:
            name = item["class"] if item["class"] not in (None, item["target"]) else ""
            lines = [
                ("right name", item["target"] + (f" ({name})" if name else "")),
                (f"{display_name(first)}, {item['first_outcome']}", item["first_answer"] or "(empty)"),
                (f"{display_name(model)}, {item['second_outcome']}", item["second_answer"] or "(empty)"),
            ]
            tiles.append(Tile(None, item["id"], lines, {"change": change, "class": item["class"] or ""}, tone))
    total = found["lost"] + found["gained"]
    if not tiles:
        return [Text("No item changed.")]
    shown = "All changed items." if len(tiles) == total else f"{len(tiles)} of {total:,} changed items"
    rest = "" if len(tiles) == total else f": at most {SHOWN_ITEMS} of each kind, in an order drawn from the ids."
    return [Gallery(tiles, shown + rest)]
