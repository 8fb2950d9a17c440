"""A protocol's words for one model: `family` and `official` become the markup, system prompt and prefixes they mean.

    protocol.markup          family: as the model was trained; official: as the authors' code asks it; or one by name
    protocol.system_prompt   likewise
    protocol.class_prefix    official: "The photo features a" for LLaVA, "A" for BLIP; or the text itself

`evaluation.json` keeps the protocol's words: with the model beside them they say the same of every model.
"""

from dataclasses import dataclass
from typing import Any

from configs.errors import ConfigError
from configs.schema import ProtocolConfig
from train.families.interface import Family

RELATIVE = ("family", "official")


@dataclass(frozen=True, slots=True)
class Words:
    """Names of markup and system prompt, the answer's beginning, and what is added to the question instead."""

    markup: str
    system_prompt: str
    answer_prefix: str
    class_prefix: str
    question_suffix: str = ""


def words_for(protocol: ProtocolConfig, family: Family, config: Any) -> Words:
    """What `protocol` says to a model of `family`. Raises `ConfigError` for a markup that the family does not know."""
    choice = protocol.markup if protocol.markup in RELATIVE else "family"
    own = family.wording(choice, config)
    markup = own.markup if protocol.markup in RELATIVE else protocol.markup
    if markup not in family.markups:
        raise ConfigError(
            f"protocol.markup {markup} is none of {family.name}'s: {', '.join(family.markups)}; "
            "`family` takes the one it was trained with"
        )
    system, class_prefix = protocol.system_prompt, protocol.class_prefix
    if system in RELATIVE:
        system = family.wording(system, config).system_prompt
    if class_prefix == "official":
        class_prefix = family.wording("official", config).class_prefix
    if own.prefix_in_question and choice == "official":
        return Words(markup, system, "", class_prefix, protocol.answer_prefix)
    return Words(markup, system, protocol.answer_prefix, class_prefix)
