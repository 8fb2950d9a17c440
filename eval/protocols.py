"""Protocols: what is asked about an item, and how the answer is judged. Each is a `ProtocolConfig` made to act.

    protocol = make_protocol(config.protocol)
    question = protocol.question(sample)          # turns to ask, what the answer is held against
    protocol.prepare(folder, predictions)         # where a score depends on other answers
    score = protocol.score(prediction)            # right, wrong or no answer, and why

A protocol sees no model and a scorer sees no item, so all three can be mixed. Adding a protocol: a class with these
three methods, and a line in `PROTOCOLS`.

    python -m eval.protocols [NAME or YAML ...] [--json]

prints the shipped protocols (or those given) side by side, a line a setting: what differs is marked, and what the
setting decides in the authors' code is named by its number in `eval.paper.audit`, whose list stands below.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from configs.command_line import command_parser, exit_on_user_error
from configs.errors import UserError
from configs.protocol import ProtocolConfig
from eval.paper.protocol_table import as_json, as_text, protocol_lines
from eval.tasks.closed_world import ClassScoring, ClosedWorld, ZeroShot
from eval.tasks.multiple_choice import MultipleChoice
from eval.tasks.open_world import OFFICIAL, HiddenStates, OpenWorld
from eval.tasks.presets import preset_names
from eval.types import Task

PROTOCOLS: Mapping[str, Callable[[ProtocolConfig], Task]] = {
    "open_world": OpenWorld,
    "closed_world": ClosedWorld,
    "class_scoring": ClassScoring,
    "zero_shot": ZeroShot,
    "multiple_choice": MultipleChoice,
    "features": HiddenStates,
}


def make_protocol(config: ProtocolConfig, answer_delimiter: str | None = None) -> Task:
    """The protocol that `config` describes. Raises `ConfigError` or `DataError` for an unknown wording or file.

    `answer_delimiter` is what after_last `official` means for the model that answered ("": nothing); without it such a
    protocol asks and does not score.
    """
    if config.after_last == OFFICIAL and answer_delimiter is not None:
        config = replace(config, after_last=answer_delimiter or None)
    return PROTOCOLS[config.kind](config)


def main(argv: Sequence[str] | None = None) -> None:
    """Print protocols side by side. Exits with code 2 for an unknown one."""
    parser = command_parser(__doc__)
    parser.add_argument("protocols", nargs="*", metavar="NAME", help="shipped protocols or YAML files (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    names = arguments.protocols or preset_names()
    try:
        lines = protocol_lines(names)
    except UserError as error:
        exit_on_user_error(error)
    print(json.dumps(as_json(names, lines)) if arguments.json else as_text(names, lines))


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
