"""Protocols: what is asked about an item, and how the answer is judged. Each is a `ProtocolConfig` made to act.

    protocol = make_protocol(config.protocol)
    question = protocol.question(sample)          # turns to ask, what the answer is held against
    protocol.prepare(folder, predictions)         # where a score depends on other answers
    score = protocol.score(prediction)            # right, wrong or no answer, and why

A protocol sees no model and a scorer sees no item, so all three can be mixed. Adding a protocol: a class with these
three methods, and a line in `PROTOCOLS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from configs.schema import ProtocolConfig
from eval.class_protocols import ClassScoring, ClosedWorld, ZeroShot
from eval.multiple_choice import MultipleChoice
from eval.open_world import OFFICIAL, EvalProtocol, OpenStates, OpenWorld

PROTOCOLS: Mapping[str, Callable[[ProtocolConfig], EvalProtocol]] = {
    "open_world": OpenWorld,
    "closed_world": ClosedWorld,
    "class_scoring": ClassScoring,
    "zero_shot": ZeroShot,
    "multiple_choice": MultipleChoice,
    "features": OpenStates,
}


def make_protocol(config: ProtocolConfig, answer_mark: str | None = None) -> EvalProtocol:
    """The protocol that `config` describes. Raises `ConfigError` or `DataError` for an unknown wording or file.

    `answer_mark` is what after_last `official` means for the model that answered ("": nothing); without it such a
    protocol asks and does not score.
    """
    if config.after_last == OFFICIAL and answer_mark is not None:
        config = replace(config, after_last=answer_mark or None)
    return PROTOCOLS[config.kind](config)
