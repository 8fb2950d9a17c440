"""Builds ImageWikiQA (Appendix C.1): multiple-choice questions about images, made from articles on their classes.

    export OPENAI_BASE_URL=https://host/v1 OPENAI_API_KEY=…
    python -m data_prep.imagewikiqa --config FILE.yaml --dry-run               requests, tokens and largest spending
    python -m data_prep.imagewikiqa --config FILE.yaml --limit 10              ten classes, to look at
    python -m data_prep.imagewikiqa --config FILE.yaml                         all; continues after a kill
    python -m data_prep.imagewikiqa --config FILE.yaml --compare RELEASED      statistics next to another file's

Five stages, each with a file in the folder `output` that begins with its counts:

    articles     the text about each class, from a folder of texts or a Wikipedia dump
    questions    five questions a class by a model behind an API (Figure 8); an unusable reply is asked for once more
    filter       a question is kept if the model answers it with the class name, and not without (Figure 9)
    images       three images a class
    result       2,000 questions at most, a wording three times at most, letters balanced: imagewikiqa.jsonl

Replies are stored as they come, so that nothing is asked twice. The same replies give the same bytes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import (
    add_dry_run,
    add_json,
    at_least,
    config_of,
    config_parser,
    emit_json,
    exit_on_user_error,
)
from configs.errors import UserError
from configs.wikiqa import WikiqaConfig
from configs.wikiqa_dir import WikiqaDir
from data_prep.wikiqa.construction import STAGES, construct, planned_spending
from data_prep.wikiqa.file_statistics import read_rows, statistics, table
from data_prep.wikiqa.spending import as_json, in_words


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stages, or only say what they would ask, or compare. Exits with code 2 on a user's mistake."""
    arguments = _parser().parse_args(argv)
    try:
        config = config_of(arguments, WikiqaConfig)
        folder = WikiqaDir(Path(config.output).expanduser())
        if arguments.compare:
            _compare(folder, arguments)
        elif arguments.dry_run:
            steps = planned_spending(config, folder, arguments.limit)
            if not emit_json(arguments.json, as_json(steps)):
                print("\n".join(in_words(steps)))
        else:
            stages = construct(
                config, folder, until=arguments.stage, limit=arguments.limit, skip_failed=arguments.skip_failed
            )
            values = {stage.stage: {"counts": stage.counts, "named": stage.named} for stage in stages}
            if not emit_json(arguments.json, values):
                print("\n".join(line for stage in stages for line in stage.summary()))
                print(folder.result if stages[-1].stage == STAGES[-1] else folder.stage(stages[-1].stage))
    except UserError as error:
        exit_on_user_error(error)


def _compare(folder: WikiqaDir, arguments: argparse.Namespace) -> None:
    """Print the statistics of the result, where it exists, and of the files of `--compare`."""
    files = [folder.result, *arguments.compare] if folder.result.is_file() else arguments.compare
    if not folder.result.is_file():
        print(f"{folder.result} does not exist yet; run the command without --compare first", file=sys.stderr)
    columns = {}
    for file in dict.fromkeys(files):
        name = "result" if file == folder.result else file.name
        columns[name if name not in columns else str(file)] = statistics(*read_rows(file))
    if not emit_json(arguments.json, columns):
        print(table(columns))


def _parser() -> argparse.ArgumentParser:
    parser = config_parser(__doc__, WikiqaConfig)
    parser.add_argument("--stage", choices=STAGES, default=STAGES[-1], help="stop after this stage (default: all)")
    parser.add_argument(
        "--limit", type=at_least(1), metavar="N", help="only N classes that have an article, chosen by a hash"
    )
    parser.add_argument(
        "--skip-failed", action="store_true", help="leave out classes and questions to which the server gives no reply"
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="print statistics of the result and of these files of the same form, and stop",
    )
    add_dry_run(parser, "the most requests, tokens and money that the stages may still need")
    add_json(parser, "counts, limits or statistics")
    return parser


if __name__ == "__main__":
    main()
