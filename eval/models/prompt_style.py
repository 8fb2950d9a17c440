"""A protocol's words for one model: `family` and `official` become the markup, system prompt and prefixes they mean.

    protocol.markup          family: as the model was trained; official: as the authors' code asks it; or one by name
    protocol.system_prompt   likewise
    protocol.class_prefix    official: "The photo features a" for LLaVA, "A" for BLIP; or the text itself
    protocol.class_ids       official: those in context for LLaVA, misaligned for BLIP (`class_likelihood.misaligned`)

`evaluation.json` keeps the protocol's words: with the model beside them they say the same of every model.
"""

from dataclasses import dataclass
from typing import Any

from configs.errors import ConfigError
from configs.protocol import ProtocolConfig
from train.models.families import Family

RELATIVE = ("family", "official")
DOUBLED = "llava_doubled"


@dataclass(frozen=True, slots=True)
class Words:
    """Names of markup and system prompt, the answer's beginning, and what is added to the question instead."""

    markup: str
    system_prompt: str
    answer_prefix: str
    class_prefix: str
    class_ids: str = "in_context"
    question_suffix: str = ""


def words_for(protocol: ProtocolConfig, family: Family, config: Any) -> Words:
    """What `protocol` says to a model of `family`. Raises `ConfigError` for a markup that the family does not know."""
    choice = protocol.markup if protocol.markup in RELATIVE else "family"
    own = family.prompt_style(choice, config)
    markup = own.template if protocol.markup in RELATIVE else protocol.markup
    if markup not in family.chat_templates:
        raise ConfigError(
            f"protocol.markup {markup} is none of {family.name}'s: {', '.join(family.chat_templates)}; "
            "`family` takes the one it was trained with"
        )
    system, official = protocol.system_prompt, family.prompt_style("official", config)
    if system in RELATIVE:
        system = family.prompt_style(system, config).system_prompt
    class_prefix = official.class_prefix if protocol.class_prefix == "official" else protocol.class_prefix
    class_ids = official.class_ids if protocol.class_ids == "official" else protocol.class_ids
    if own.prefix_in_question and choice == "official":
        return Words(markup, system, "", class_prefix, class_ids, protocol.answer_prefix)
    prefix = protocol.answer_prefix
    if markup == DOUBLED:  # LLaVA's conversation puts a space behind a message
        markup, prefix = (DOUBLED, f"{prefix} ") if prefix else ("llava", "")
    return Words(markup, system, prefix, class_prefix, class_ids)
