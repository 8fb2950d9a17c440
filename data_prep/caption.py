"""Captions that name the class, written by a model behind an API for the training images of a source (Table 4).

    export OPENAI_API_KEY=…
    python -m data_prep.caption --config configs/captions/flowers102.yaml --dry-run      questions and largest cost
    python -m data_prep.caption --config configs/captions/flowers102.yaml --limit 20     a first look
    python -m data_prep.caption --config configs/captions/flowers102.yaml
    python -m data_prep.build --config configs/flowers102_captions.yaml

Each image is sent once with the paper's prompt and its class name. A refusal, a reply without the class name, a reply
that was cut off and an empty one are counted and asked again once, with the setting `second_prompt`; what is no caption
then is left out. Every reply is stored when it arrives: the same command continues after a stop and asks nothing twice.
"""

from collections.abc import Sequence

from configs.captions import CaptionConfig
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
from data_prep.captioning import caption_source


def main(argv: Sequence[str] | None = None) -> None:
    """Write the captions. Exits with code 2 on a mistake in configuration or data, or if the API refuses to answer."""
    parser = config_parser(__doc__, CaptionConfig)
    parser.add_argument(
        "--limit", type=at_least(1), metavar="N", help="only N images, chosen by a hash of their ids (default: all)"
    )
    add_dry_run(parser, "the number of questions, the largest cost and the first question,")
    add_json(parser, "the counts")
    arguments = parser.parse_args(argv)
    try:
        config = config_of(arguments, CaptionConfig)
        summary = caption_source(config, limit=arguments.limit, dry_run=arguments.dry_run)
    except UserError as error:
        exit_on_user_error(error)
    if not emit_json(arguments.json, summary.as_dict()):
        print(summary.words())


if __name__ == "__main__":
    main()
