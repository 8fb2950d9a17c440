"""How the scoreboard looks: all rows that were planned, then a section a table of the paper, with its figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.page import LONG_TABLE, Block, Contents, Figure, Heading, Page, Table, Text
from eval.metrics.accuracy import ClassResult
from eval.paper.figures import candidates_figure, error_figure, frequency_and_paper, loss_figure
from eval.paper.results import CollectedResults, Model, model_names, model_of_record
from eval.reports.formatting import points

HEADERS = ("row", "paper", "ours", "difference", "95 % interval", "n", "protocol", "run")
NUMERIC = frozenset({1, 2, 3, 5})
PATHS = frozenset({7})
NOT_RUN = "not run"
Line = Mapping[str, Any]


def scoreboard_page(content: Mapping[str, Any], found: CollectedResults) -> Page:
    """The complete page; `content` is that of scoreboard.json."""
    blocks: list[Block] = [
        Text(
            f"{count_run(content['rows'])} of the paper's numbers compared with ours. Shares in per cent "
            "with 95 % intervals and sample sizes (correlations: numbers of classes); differences in points, ours less "
            "the paper's. The paper gives no intervals, and its tables mix protocols: the protocol of each of our "
            "numbers is named."
        ),
        Contents(),
        *_reproductions(found.reproductions),
    ]
    for section, lines in sections(content["rows"]).items():
        detail = section.partition("/")[2].replace("_", " ")
        title = lines[0]["source"].split(",")[0].split(" and ")[0].split(" (")[0]
        blocks.append(Heading(f"{title}{f' ({detail})' if detail else ''}: {count_run(lines)} run"))
        blocks += _figures(section, lines, found)
        shown = [[_short(line["row"], section), *_cells(line)[1:]] for line in lines]
        blocks.append(Table(HEADERS, shown, numeric=NUMERIC, code=PATHS))
    blocks += [
        Heading("Figure 5"),
        Figure(
            loss_figure(found.curves),
            "Figure 5: loss of our runs. A thinned curve keeps the lowest and the highest loss of each stretch.",
        ),
        Text(
            "The paper prints no numbers with its Figure 5: LoRA's loss spikes, the projector's alone falls steadily."
        ),
    ]
    if content["others"]:
        others = [
            _cells({"row": other["name"], "paper": None, "difference": None, **other}) for other in content["others"]
        ]
        shown = [[name, ours, *rest] for name, _, ours, _, *rest in others]
        headers = ("result", "ours", *HEADERS[4:])
        table = Table(headers, shown, numeric=frozenset({1, 3}), code=frozenset({5}))
        blocks += [Heading("Results that no row of the paper belongs to"), table]
    return Page("The paper's numbers and ours", blocks)


def _figures(section: str, lines: Sequence[Line], found: CollectedResults) -> list[Block]:
    """The drawings that belong above a section's table, and what the paper does not print in numbers."""
    if section == "table9":
        return [
            Figure(
                candidates_figure(lines),
                "Figure 2: accuracy over the number of classes to choose from; hollow and dashed: the paper.",
            ),
            Figure(
                error_figure(lines),
                "Figure 4: errors of LLaVA1.5-7B over those of CLIP-L; hollow and dashed: from the paper's Table 9.",
            ),
            Text("Figure 6 is Figure 2 with a line of GPT4, whose points the paper does not print."),
        ]
    if section == "figure3":
        printed = {str(line["row"]).split("/")[1]: line["paper"] for line in lines}
        datasets: dict[str, dict[str, list[ClassResult]]] = {"ImageNet": {}} | found.by_class
        blocks: list[Block] = [
            Figure(frequency_and_paper(models, printed if dataset == "ImageNet" else {}), _frequency_caption(dataset))
            for dataset, models in datasets.items()
        ]
        note = (
            "The paper prints two points of Figure 3 and none of Figure 7 (linear probes, which go with no frequency)."
        )
        return [*blocks, Text(note)]
    return []


def _frequency_caption(dataset: str) -> str:
    marks = "small marks are classes, lines connect the means of bins of the frequency in the training data"
    paper = "; diamonds are the paper's means of all classes below 10 and of all above 10,000 occurrences"
    return f"Figures 3 and 7, {dataset}: {marks}{paper if dataset == 'ImageNet' else ''}."


def _reproductions(records: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Every row that was planned, a table a data set and protocol, a column a model; or why it was not run."""
    tables: dict[tuple[str, str], dict[str, dict[Model, Mapping[str, Any]]]] = {}
    for record in records:
        for row in record["rows"]:
            table = tables.setdefault((row["dataset"], record["protocol"]), {})
            table.setdefault(row["title"], {})[model_of_record(record)] = row
    names = model_names(map(model_of_record, records))
    blocks: list[Block] = []
    for (dataset, protocol), titles in tables.items():
        models = list(dict.fromkeys(model for by_model in titles.values() for model in by_model))
        rows = [[title, *(_outcome(by_model.get(model)) for model in models)] for title, by_model in titles.items()]
        heads = [names[model] for model in models]
        blocks += [Heading(f"All rows on {dataset}, protocol {protocol}"), Table(("row", *heads), rows)]
    return blocks


def _outcome(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if row["reason"] is not None:
        return f"{NOT_RUN}: {row['reason']}"
    rate = row["accuracy"]
    if rate is None:
        return str(row["note"])
    accuracy = f"{100 * rate['value']:.1f} ({100 * rate['low']:.1f} to {100 * rate['high']:.1f}), n = {rate['n']:,}"
    parts = [accuracy, row.get("protocol"), row["note"]]
    return "; ".join(part for part in parts if part)


def sections(rows: Sequence[Line]) -> dict[str, list[Line]]:
    """The lines by table of the paper; one longer than a page shows unfolded is split by experiment."""
    tables: dict[str, list[Line]] = {}
    for row in rows:
        tables.setdefault(row["row"].split("/")[0], []).append(row)
    split: dict[str, list[Line]] = {}
    for row in rows:
        parts = row["row"].split("/")
        long = len(tables[parts[0]]) > LONG_TABLE
        split.setdefault("/".join(parts[:2]) if long else parts[0], []).append(row)
    return split


def _short(row: str, section: str) -> str:
    """What of a row's name its heading does not say already.

    >>> _short("table1/open_world/LLaVA1.5-7B/ImageNet", "table1/open_world")
    'LLaVA1.5-7B, ImageNet'
    """
    return row.removeprefix(f"{section}/").replace("/", ", ").replace("_", " ")


def count_run(lines: Sequence[Line]) -> str:
    """How many rows of the paper have a number of ours, of how many; a row may have several lines."""
    run = {line["row"] for line in lines if line["ours"] is not None}
    return f"{len(run)} of {len({line['row'] for line in lines})}"


def _cells(row: Line) -> list[str]:
    ours, unit = row["ours"], row.get("unit", "accuracy")
    paper = "n/a" if row["paper"] is None else _number(row["paper"], unit)
    if ours is None:
        return [row["row"], paper, NOT_RUN, "", "", "", "", ""]
    number = "n/a" if ours["value"] is None else _number(ours["value"], unit)
    interval = "" if ours["low"] is None else f"{_number(ours['low'], unit)} to {_number(ours['high'], unit)}"
    n = "" if ours["n"] is None else f"{ours['n']:,}"
    return [row["row"], paper, number, _difference(row["difference"], unit), interval, n, ours["protocol"], ours["run"]]


def _number(value: float, unit: str) -> str:
    formats = {"correlation": f"{value:.2f}", "ratio": f"{value:.1f}x", "count": f"{value:,.0f}"}
    return formats.get(unit, f"{100 * value:.1f}")


def _difference(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    formats = {"correlation": f"{value:+.2f}", "ratio": f"{value:+.1f}", "count": f"{value:+,.0f}"}
    return formats.get(unit, points(value))
