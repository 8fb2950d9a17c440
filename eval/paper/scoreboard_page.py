"""How the scoreboard looks: own evaluations, then the tables of the paper that were run, then the others, folded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.eval_dir import EvalDir
from data_prep.page import Block, Contents, Figure, Folded, Heading, Page, Table, Text
from data_prep.page_cards import Link
from eval.metrics.accuracy import ClassResult
from eval.paper.figures import SHADES, candidates_figure, error_figure, frequency_and_paper, loss_figure
from eval.paper.model_names import Model, model_names, model_of_record
from eval.paper.other_data import below_table, other_data_run
from eval.paper.results import CollectedResults
from eval.paper.table_layout import Grid, difference, grids, number

HEADERS = ("row", "paper", "ours", "difference", "95 % interval", "n", "protocol", "run")
NUMERIC = frozenset({1, 2, 3, 4, 5})
PATHS = frozenset({7})
NOT_RUN = "not run"
NO_EVALUATION = (
    "No evaluation was found in the folders given. python -m eval.reproduce --model runs/demo_mix --datasets demo runs "
    "the rows of the paper that a model and a data set allow."
)
FIGURE_5 = "The paper prints no numbers with its Figure 5: LoRA's loss spikes, the projector's alone falls steadily."
SUBJECTS = {
    "table1": "accuracy in the open and the closed world",
    "table2": "prompts and rules of inference",
    "table3": "linear probes and fine-tuning",
    "figure3": "accuracy and frequency in the training data",
    "table4": "fine-tuning on captions",
    "table5": "ImageWikiQA",
    "section4.3": "fine-tuning on ImageNet and LLaVA's data",
    "appendixC.1": "how ImageWikiQA was made",
    "table7": "sizes of the data sets",
    "table8": "class names with synonyms",
    "table9": "number of candidate classes",
    "figure4": "errors next to CLIP's",
    "table10": "probes at each token position",
    "table11": "correlation of frequency and accuracy",
    "appendixB6": "the same by training stage",
    "table12": "order of the candidates",
    "table13": "other abilities after fine-tuning",
}
Line = Mapping[str, Any]


def scoreboard_page(content: Mapping[str, Any], found: CollectedResults, folder: Path) -> Page:
    """The complete page, with links from a page in `folder` to reports; `content` is that of scoreboard.json."""
    tables: dict[str, list[Line]] = {}
    for line in content["rows"]:
        tables.setdefault(str(line["row"]).split("/")[0], []).append(line)
    run = {table: lines for table, lines in tables.items() if any(line["ours"] is not None for line in lines)}
    blocks: list[Block] = [
        Text(
            f"{count_run(content['rows'])} of the paper's numbers compared with ours. Shares in per cent "
            "with 95 % intervals and sample sizes (correlations: numbers of classes); differences in points, ours less "
            "the paper's. The paper gives no intervals, and its tables mix protocols: the protocol of each of our "
            "numbers is named."
        ),
        Contents(),
        *_own_evaluations(content, folder),
        *_reproductions(found.reproductions, folder),
    ]
    for table, lines in run.items():
        blocks += [Heading(_heading(table, lines, found)), *_run_table(table, lines, found)]
    curves = [curve for curve in found.curves if curve.mode in SHADES]
    if curves:
        text = "Figure 5: loss of our runs. A thinned curve keeps the lowest and the highest loss of each stretch."
        blocks += [Heading("Figure 5"), Figure(loss_figure(curves), text), Text(FIGURE_5)]
    blocks.append(Heading("Tables that were not run"))
    for table, lines in tables.items():
        if table not in run:
            shown = [block for grid in grids(table, lines) for block in _paper_alone(grid, list(grid.cells))]
            blocks.append(Folded(_heading(table, lines, found), [*_figures(table, lines, found), *shown]))
    if not curves:
        blocks.append(Folded("Figure 5: no run of projector or LoRA", [Text(FIGURE_5)]))
    return Page("The paper's numbers and ours", blocks)


def _heading(table: str, lines: Sequence[Line], found: CollectedResults) -> str:
    return f"{_title(lines)}: {count_run(lines)} run{other_data_run(table, found.other_data)}"


def _title(lines: Sequence[Line]) -> str:
    """The name of a table of the paper, from the source of its rows, and its subject."""
    name = str(lines[0]["source"].split(",")[0].split(" and ")[0].split(" (")[0])
    subject = SUBJECTS.get(str(lines[0]["row"]).split("/")[0])
    return f"{name}, {subject}" if subject else name


def _run_table(table: str, lines: Sequence[Line], found: CollectedResults) -> list[Block]:
    """Rows with a number of ours in the paper's layout; folded: the others, and intervals and protocols."""
    blocks: list[Block] = []
    rest: list[Block] = []
    left = 0
    for grid in grids(table, lines):
        titles = grid.run()
        others = [title for title in grid.cells if title not in titles]
        if titles:
            blocks += [*_subtitle(grid), grid.compared(titles)]
        if others:
            rest += _paper_alone(grid, others)
            left += len(others)
    if rest:
        blocks.append(Folded(f"{left} more rows, not run", rest))
    blocks += _figures(table, lines, found)
    ours = [line for line in lines if line["ours"] is not None]
    shown = [[_short(line["row"], table), *_cells(line)[1:]] for line in ours]
    details = Table(HEADERS, shown, numeric=NUMERIC, code=PATHS)
    return [*blocks, Folded("Interval, sample size, protocol and run of each number", [details])]


def _paper_alone(grid: Grid, titles: Sequence[str]) -> list[Block]:
    return [*_subtitle(grid), grid.paper(titles)]


def _subtitle(grid: Grid) -> list[Block]:
    return [Text(grid.title)] if grid.title else []


def _own_evaluations(content: Mapping[str, Any], folder: Path) -> list[Block]:
    """Every accuracy of ours once, with the rows of the paper that it belongs to, or none."""
    names: dict[tuple[Any, ...], str] = {}
    rows: dict[tuple[Any, ...], list[str]] = {}
    for line in [*content["rows"], *content["others"]]:
        ours = line["ours"]
        if ours is None or ours["low"] is None or line.get("unit", "accuracy") != "accuracy":
            continue
        key = tuple(ours[part] for part in ("value", "low", "high", "n", "protocol", "run"))
        names.setdefault(key, line.get("name") or "/".join(Path(ours["run"]).parts[-2:]))
        rows.setdefault(key, []).extend([_words(_experiment(line["row"]))] if "row" in line else [])
    if not names:
        return [Heading("Own evaluations"), Text(NO_EVALUATION)]
    shown: list[list[str | Link]] = []
    for key, name in names.items():
        value, low, high, n, protocol, run = key
        interval = f"{number(low, '')} to {number(high, '')}"
        belongs = "; ".join(dict.fromkeys(rows[key])) or "none"
        shown.append([_linked(name, run, folder), number(value, ""), interval, f"{n:,}", protocol, belongs, run])
    headers = ("evaluation", "ours", *HEADERS[4:7], "rows of the paper", "run")
    table = Table(headers, shown, numeric=frozenset({1, 2, 3}), code=frozenset({6}))
    return [Heading(f"Own evaluations: {len(shown)}"), table]


def _linked(text: str, run: str | None, folder: Path) -> str | Link:
    """`text`, as a link to the report in the folder `run` where there is one."""
    page = EvalDir(Path(run or "")).report("html")
    return Link.to(text, page, folder) if run and page.is_file() else text


def _experiment(row: str) -> str:
    """A row's name without model and data set, which the run has.

    >>> _experiment("table1/open_world/LLaVA1.5-7B/ImageNet"), _experiment("table5/GPT4/ImageWikiQA")
    ('table1/open_world', 'table5')
    """
    parts = row.split("/")
    return "/".join(parts[:2] if len(parts) > 3 else parts[:1])


def _words(row: str) -> str:
    """A row's name as text.

    >>> _words("table1/open_world")
    'Table 1, open world'
    """
    text = row.replace("/", ", ").replace("_", " ")
    for word in ("table", "figure", "section", "appendix"):
        if text.startswith(word):
            return f"{word.capitalize()} {text.removeprefix(word)}"
    return text


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
    done = {str(line["row"]): line["ours"] is not None for line in lines}
    return below_table(section, done, found.other_data)


def _frequency_caption(dataset: str) -> str:
    marks = "small marks are classes, lines connect the means of bins of the frequency in the training data"
    paper = "; diamonds are the paper's means of all classes below 10 and of all above 10,000 occurrences"
    return f"Figures 3 and 7, {dataset}: {marks}{paper if dataset == 'ImageNet' else ''}."


def _reproductions(records: Sequence[Mapping[str, Any]], folder: Path) -> list[Block]:
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
        rows = [[title, *(_outcome(by_model.get(one), folder) for one in models)] for title, by_model in titles.items()]
        heads = [names[model] for model in models]
        reasons = {row["reason"] for by_model in titles.values() for row in by_model.values()}
        shown: Block = Table(("row", *heads), rows)
        if len(rows) > 1 and len(reasons) == 1 and None not in reasons:
            shown = Text(f"{', '.join(heads)}: {len(rows)} rows, {NOT_RUN}: {reasons.pop()}.")
        blocks += [Heading(f"All rows on {dataset}, protocol {protocol}"), shown]
    return blocks


def _outcome(row: Mapping[str, Any] | None, folder: Path) -> str | Link:
    if row is None:
        return ""
    if row["reason"] is not None:
        return f"{NOT_RUN}: {row['reason']}"
    rate = row["accuracy"]
    if rate is None:
        return str(row["note"])
    accuracy = f"{100 * rate['value']:.1f} ({100 * rate['low']:.1f} to {100 * rate['high']:.1f}), n = {rate['n']:,}"
    parts = [accuracy, row.get("protocol"), row["note"]]
    return _linked("; ".join(part for part in parts if part), row.get("folder"), folder)


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
    paper = "n/a" if row["paper"] is None else number(row["paper"], unit)
    if ours is None:
        return [row["row"], paper, NOT_RUN, "", "", "", "", ""]
    value = "n/a" if ours["value"] is None else number(ours["value"], unit)
    interval = "" if ours["low"] is None else f"{number(ours['low'], unit)} to {number(ours['high'], unit)}"
    n = "" if ours["n"] is None else f"{ours['n']:,}"
    return [row["row"], paper, value, difference(row["difference"], unit), interval, n, ours["protocol"], ours["run"]]
