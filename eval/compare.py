"""Several models side by side, as in the paper's Table 5: one row per model, one column per evaluation.

    python -m eval.compare --output runs/table base=runs/demo_report/base/eval mix=runs/demo_mix/eval

NAME=FOLDER: a folder of evaluations, each with a report.json in it or in a folder for each checkpoint (then `export`
is used, or the best one that summary.json names); the folder of one evaluation; or that of a run. Prints the table;
writes report.md, report.json and report.html.

    mix@1=runs/mix-seed1/eval mix@2=runs/mix-seed2/eval

NAME@SEED=FOLDER: one of several runs of a recipe. The tables then begin with the mean and the standard deviation over
the recipe's seeds.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.command_line import add_output_folder, command_parser, exit_on_user_error
from configs.errors import ConfigError, RunError, UserError
from configs.eval_dir import EvalDir
from data_prep.page import Block, Folded, Page, Text
from eval.reports.comparison import read_reports, write_comparison


def main(argv: Sequence[str] | None = None) -> None:
    """Compare. Exits with code 2 if a folder holds no report."""
    parser = command_parser(__doc__)
    add_output_folder(parser, "report.md, report.json and report.html")
    parser.add_argument("models", nargs="+", metavar="NAME=EVALDIR", help="a model's name and folder of evaluations")
    arguments = parser.parse_args(argv)
    try:
        models = _read_models(arguments.models)
        folder = EvalDir(arguments.output)
        page = write_comparison(models, folder)
    except UserError as error:
        exit_on_user_error(error)
    shown = Page(page.title, [_opened(block) for block in page.blocks])
    print(f"{shown.markdown()}\n{folder.report('html')}")


def _read_models(texts: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Model's name to evaluation to report. Raises `RunError` naming every folder that cannot be taken."""
    folders = [_named_folder(text) for text in texts]
    if len(dict(folders)) < len(folders):
        raise ConfigError(f"two models share a name among {', '.join(texts)}; give each its own")
    models, errors = {}, []
    for name, folder in folders:
        try:
            models[name] = read_reports(folder)
        except RunError as error:
            errors.append(str(error))
    if errors:
        raise RunError("; ".join(errors))
    return models


def _opened(block: Block) -> Block:
    """A block as the terminal shows it: of a folded part its summary."""
    return Text(f"{block.summary} (see the page)") if isinstance(block, Folded) else block


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals or not name or not folder:
        raise ConfigError(f"{text!r} is not of the form NAME=EVALDIR")
    return name, Path(folder)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
