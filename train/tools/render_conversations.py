"""Renders LLaVA JSON to token ids and labels.

    python -m train.tools.render_conversations --tokenizer DIR --conversations IN.json --output OUT.json --show

The ids and labels are those of training (`train.chat.render`).
"""

import argparse
from pathlib import Path

from configs.command_line import add_output_file, at_least, command_parser
from train.chat.templates import CHAT_TEMPLATES, FOLDER


def main() -> None:
    """Render every record, in order."""
    arguments = _arguments()
    from train.tools.rendered_files import render_and_print  # after parsing: --help needs no torch

    render_and_print(arguments)


def _arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--tokenizer", required=True, help="model folder, tokenizer.json or tokenizer.model")
    parser.add_argument("--conversations", required=True, type=Path, help='JSON list of {"conversations": [...]}')
    add_output_file(parser, "the tokens as JSON, a list of {input_ids, labels},")
    parser.add_argument(
        "--max-length", type=at_least(1), default=2048, help="cut text-only conversations here (default 2048)"
    )
    parser.add_argument("--template", choices=(*CHAT_TEMPLATES, FOLDER), default="llava", help="as chat.template")
    parser.add_argument("--system-prompt", default="template", help="as chat.system_prompt")
    parser.add_argument("--show", action="store_true", help="print each conversation, target tokens highlighted")
    return parser.parse_args()


if __name__ == "__main__":
    main()
