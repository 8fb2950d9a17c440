"""How much does a score depend on settings that should not matter? One table of mean, spread, lowest and highest.

    python -m eval.robustness --config configs/eval/demo_open_world.yaml --set model=runs/demo_mix --dry-run
    python -m eval.robustness --config configs/eval/demo_open_world.yaml --set model=runs/demo_mix
    python -m eval.robustness --config FILE.yaml --factors wording seed --seeds 3 --json

The evaluation is repeated with one setting changed at a time:

    wording       the three wordings of the paper's Table 2; of a CLIP three sentences of a class
    image_order   the image before or after the question's text
    batch_size    questions per forward pass (--batch-sizes)
    seed          candidates, their order, and letters for answers without one, where they are drawn (--seeds)

A factor that cannot change the evaluation is not varied, and the table says why. The evaluation's own answers are the
base, also those of an earlier `eval.run`; the model is loaded once. After a kill the same command continues, and no
answered item is asked again. Each variant is compared with the base on the same items.

Files: robustness.json, .md and .html in the folder robustness/ next to the evaluation's answers, with a folder for the
answers of each variant. The page links to the report of the base, which is written where it is not there yet.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_dry_run, add_json, at_least, config_parser, emit_json, exit_on_user_error
from configs.errors import UserError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from eval.runner.arguments import add_processes, add_protocol_argument, eval_config_of
from eval.runner.variants import FACTORS, Choice, factors_of, folder_of


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate all variants and compare them. Exits with code 2 on a mistake in configuration or data."""
    arguments = _parser().parse_args(argv)
    from eval.metrics.robustness_run import ask, collect, plan_of, plan_text
    from eval.paper.comparison import comparison_with
    from eval.reports.evaluation import write_report
    from eval.reports.robustness_page import (  # after parsing: --help is quick
        factor_table,
        not_varied,
        write_robustness,
    )

    try:
        config = eval_config_of(arguments)
        factors = factors_of(config, Choice(arguments.factors, arguments.seeds, arguments.batch_sizes))
        if arguments.dry_run:
            plan = plan_of(config, factors)
            if not emit_json(arguments.json, plan):
                print(plan_text(plan))
            return
        if not arguments.report_only:
            ask(config, factors, arguments.processes)
        results = collect(config, factors)
        if not (page := Path(results["report"])).is_file():
            write_report(EvalDir(page.parent), config, comparison_with(config.paper_row))
        page = write_robustness(folder_of(config), results)
    except UserError as error:
        exit_on_user_error(error)
    if not emit_json(arguments.json, results):
        from data_prep.page import Page

        print(Page(f"{results['name']}: robustness", [factor_table(results)]).markdown())
        print("\n".join(not_varied(results)))
        for note in results["notes"]:
            print(f"warning: {note}")
        print(page)


def _parser() -> argparse.ArgumentParser:
    parser = config_parser(__doc__, EvalConfig)
    parser.add_argument("--factors", nargs="+", choices=FACTORS, default=list(FACTORS), help="vary only these")
    parser.add_argument("--seeds", type=at_least(1), default=5, metavar="N", help="seeds, the base's among them")
    parser.add_argument(
        "--batch-sizes",
        nargs="+",
        type=at_least(1),
        default=[1, 4],
        metavar="B",
        help="batch sizes besides the base's (1 and 4)",
    )
    add_processes(parser)
    add_protocol_argument(parser)
    parser.add_argument("--report-only", action="store_true", help="compare the stored answers; run no model")
    add_dry_run(parser, "the variants, and how many of their items are answered")
    add_json(parser)
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
