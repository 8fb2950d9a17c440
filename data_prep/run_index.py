"""The page of all runs, `runs/index.html`: loss curves, checkpoints, and links to reports with their accuracies.

    write_page(Path("runs/demo_mix/eval/demo_open_world/export/report.html"), page)      # and update the index

Made from the files of the runs alone. It replaces no `index.html` that something else wrote.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from configs.errors import RunError
from configs.eval_dir import ResultsDir
from configs.run_dir import RunDir, SweepDir
from data_prep.atomic import write_bytes, write_json
from data_prep.page import Block, Heading, Page, Text
from data_prep.page_cards import Card, Cards, Link
from data_prep.provenance import FINISHED
from data_prep.run_ending import ending, total_steps
from data_prep.run_search import MOST_ENTRIES, MOST_OF_FOLDER, Found, record_of_line, runs_folder_of, search

NAME = "index.html"
SUMMARISED = (
    SweepDir(Path()).table("html").stem,
    ResultsDir(Path()).accuracy("html").stem,
    ResultsDir(Path()).robustness("html").stem,
)
"""Pages whose JSON file has a `summary` in words."""
TITLE = "All runs"
CURVE_POINTS = 120  # of a small curve
WHOLE_FILE = 4_000_000  # bytes; of a longer file of metrics, lines at equal distances are read
LINE_BYTES = 65_536
MOST_REPORT_BYTES = 16_000_000  # the accuracy of a longer report is not read

Record = Mapping[str, Any]


def write_page(file: Path, page: Page) -> None:
    """Write an HTML page, with a link to the index of all runs that it belongs to, and update that index.

    What the index says of a page is read from the JSON file next to it: write that first.
    """
    write_bytes(file, page.html(home=_home(file)).encode())
    update_index(file.parent)


def write_result(file_of: Callable[[str], Path], values: object, page: Page) -> Path:
    """Write `values` to the file `file_of("json")`, and `page` to those of "md" and "html"; returns the last.

    Their folder is made, and the index of all runs is updated.
    """
    file_of("json").parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file_of("md"), page.markdown().encode())
    write_json(file_of("json"), values)
    write_page(file_of("html"), page)
    return file_of("html")


def read_result(file: Path, advice: str = "run eval.run --report-only again") -> dict[str, Any]:
    """The values of a report or another result. Raises `RunError` with `advice` if the file is damaged."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{file} is damaged ({error}); {advice}") from error
    if not isinstance(values, dict):
        raise RunError(f"{file} is damaged (it holds no JSON object); {advice}")
    return values


def _home(file: Path) -> str:
    """Where the index of all runs is from `file`; empty without one."""
    try:
        folder = runs_folder_of(file.absolute().parent)
        if folder is None or _is_foreign(folder / NAME):
            return ""
        return quote(Path(os.path.relpath(folder / NAME, file.absolute().parent)).as_posix())
    except OSError:
        return ""


def update_index(page: Path) -> Path | None:
    """Write the index of the runs that `page` belongs to; returns its path, None if there is no folder of runs.

    Never raises: an index that cannot be written is a line on stderr.
    """
    try:
        folder = runs_folder_of(page.absolute())
        if folder is None:
            return None
        file = folder / NAME
        if _is_foreign(file):
            return None
        write_bytes(file, index_page(folder).html().encode())
        return file
    except Exception as error:  # whatever is wrong in other runs, the program that wrote a page has done its work
        print(f"the index of all runs was not updated: {error}", file=sys.stderr)
        return None


def _is_foreign(file: Path) -> bool:
    """Whether something else wrote this index."""
    if not file.exists():
        return False
    with file.open("rb") as stream:
        return f"<title>{TITLE}</title>".encode() not in stream.read(1000)


def index_page(folder: Path) -> Page:
    """The page of all runs below `folder`, the newest first."""
    found = search(folder)
    runs = sorted(found.runs, key=_written, reverse=True)
    blocks: list[Block] = [
        Text(f"{len(runs):,} {'run' if len(runs) == 1 else 'runs'} in {folder}; updated {_moment(time.time())}.")
    ]
    if found.cut:
        blocks.append(Text(_cut_warning(folder, found), warning=True))
    cards = [_run_card(run, folder, found.pages.get(run.root, [])) for run in runs]
    blocks.append(Cards(cards) if cards else Text("No run yet."))
    others = found.pages.get(None, [])
    if others:
        card = Card("in no run", links=[_page_link(page, folder, folder) for page in others])
        blocks += [Heading("Comparisons and other reports"), Cards([card])]
    return Page(TITLE, blocks)


def _cut_warning(folder: Path, found: Found) -> str:
    names = ", ".join(_relative(path, folder) for path in found.cut[:3])
    limits = f"{MOST_OF_FOLDER:,} entries of a folder and {MOST_ENTRIES:,} in all"
    return f"Not everything was read: {names}. This page reads {limits}. Runs and reports may be missing here."


def _run_card(run: RunDir, folder: Path, pages: list[Path]) -> Card:
    records = list(sampled_records(run.metrics))
    losses = [float(record["loss"]) for record in records if isinstance(record.get("loss"), int | float)]
    facts, ended = [("last written", _moment(_written(run)))], ending(run)
    facts += [("state", ended)] if ended else []
    if records:
        last = records[-1]
        epoch = f", epoch {last['epoch']:.4g}" if isinstance(last.get("epoch"), int | float) else ""
        of = "" if ended in ("", FINISHED) or (total := total_steps(run, records)) is None else f" of {total:,}"
        facts.append(("step", f"{last.get('step', '?')}{of}{epoch}"))
    else:
        facts.append(("step", "none yet"))
    if losses:
        facts.append(("last loss", f"{losses[-1]:.4g}"))
    steps = run.steps()
    facts.append(("checkpoints", f"{len(steps)}, last at step {steps[-1]:,}" if steps else "none"))
    facts.append(("export", "yes" if run.export.is_dir() else "none"))
    links = [_page_link(page, folder, run.root) for page in pages]
    return Card(_relative(run.root, folder), facts, links, losses, "training loss, logarithmic")


def _page_link(page: Path, folder: Path, start: Path) -> Link:
    text = page.parent if page.stem == "report" else page.with_suffix("")
    shown = _relative(text, start).removeprefix("eval/").replace("postmortem", "post-mortem")
    return Link(shown, quote(page.relative_to(folder).as_posix()), _accuracy(page))


def _accuracy(page: Path) -> str:
    """The accuracy of the report next to `page`, with its interval and what is doubtful about it; or why there is none.

    Of a sweep, a curve of accuracies and a test of robustness, their summary; of a comparison, the models; of a
    post-mortem nothing.
    """
    file = page.with_suffix(".json")
    if page.stem not in ("report", *SUMMARISED) or not file.is_file():
        return ""
    if file.stat().st_size > MOST_REPORT_BYTES:
        return "accuracy: see the report"
    try:
        report = json.loads(file.read_bytes())
        if page.stem in SUMMARISED:
            return str(report["summary"])
        rate = report.get("accuracy")
        if rate is None:
            return f"comparison of {listed(list(report['models']))}" if report.get("models") else ""
        grades = ((number, f", mean grade by {name}") for name, number in (report.get("numbers") or {}).items())
        task = (report.get("protocol") or {}).get("task")
        named = ", VQA accuracy" if task == "vqa" else ""
        rate, what = next((found for found in ((rate, named), *grades) if found[0]["n"]), (None, ""))
        if rate is None:
            return "not graded yet" if task == "graded" else "no items"
        text = f"{100 * rate['value']:.1f} % ({100 * rate['low']:.1f} to {100 * rate['high']:.1f} %), n = {rate['n']:,}"
        return "; ".join([f"{text}{what}", *_doubts(report)])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{file.name} is damaged"


def listed(names: Sequence[str]) -> str:
    """The first few names.

    >>> listed(["base", "mix"]), listed("abcde")
    ('base and mix', 'a, b, c and 2 others')
    """
    first = names[:3]
    if len(names) > len(first) + 1:
        return f"{', '.join(first)} and {len(names) - len(first)} others"
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _doubts(report: Record) -> Iterator[str]:
    items = report.get("items") or {}
    if items.get("failed"):
        yield f"{items['failed']:,} failed"
    if items.get("missing"):
        yield f"{items['missing']:,} of {items['expected']:,} not answered yet"
    if (report.get("trained") or {}).get("differences"):
        yield "not evaluated as trained"


def sampled_records(file: Path) -> Iterator[Record]:
    """Records of a JSON Lines file in order: of a long file, `CURVE_POINTS` at equal distances, the last among them.

    Damaged and incomplete lines are left out.
    """
    if not file.is_file():
        return
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= WHOLE_FILE:
            lines = stream.read().split(b"\n")
            chosen = sorted({round(n * (len(lines) - 1) / (CURVE_POINTS - 1)) for n in range(CURVE_POINTS)})
            lines = [lines[number] for number in chosen] + lines[-2:]  # the last may be in writing
        else:
            lines = [_line_at(stream, number * size // CURVE_POINTS) for number in range(CURVE_POINTS)]
            stream.seek(size - LINE_BYTES)
            lines += stream.read().split(b"\n")[-2:]
    before = -1
    for line in lines:
        record = record_of_line(line)
        if record is not None and record.get("step", 0) != before:
            before = record.get("step", 0)
            yield record


def _line_at(stream: Any, position: int) -> bytes:
    stream.seek(position)
    if position:
        stream.readline(LINE_BYTES)  # the rest of the line before
    return bytes(stream.readline(LINE_BYTES))


def _written(run: RunDir) -> float:
    file = run.metrics if run.metrics.is_file() else run.config
    return file.stat().st_mtime


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
