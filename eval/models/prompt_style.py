"""A protocol's prompt style for one model: the values of `family` and `official` for its model family.

    protocol.template        chat template: family, as trained; official, as in the authors' code; or a name
    protocol.system_prompt   the same choices
    protocol.prefix_position official: the answer prefix ends a BLIP's question, and begins the answer of all others
    protocol.class_prefix    official: "The photo features a" for LLaVA, "A" for BLIP; or the text itself
    protocol.class_token_ids official: those in context for LLaVA, misaligned for BLIP (`class_likelihood.misaligned`)

`evaluation.json` stores the protocol's settings, not what they resolve to.
"""

from dataclasses import dataclass

from configs.errors import ConfigError
from configs.protocol import ProtocolConfig
from configs.trained import protocol_as_trained
from train.models.types import Family

STYLE_CHOICES = ("family", "official")
DOUBLED = "llava_doubled"


@dataclass(frozen=True, slots=True)
class ResolvedStyle:
    """Names of chat template and system prompt, the answer prefixes, and a suffix of the question in their place."""

    template: str
    system_prompt: str
    answer_prefix: str
    class_prefix: str
    class_token_ids: str = "in_context"
    question_suffix: str = ""


def resolve_style(protocol: ProtocolConfig, family: Family) -> ResolvedStyle:
    """The style of `protocol` for a model of `family`. Raises `ConfigError` for a template the family does not have."""
    protocol = protocol_as_trained(protocol, None)
    choice = protocol.template if protocol.template in STYLE_CHOICES else "family"
    own = family.prompt_style(choice)
    template = own.template if protocol.template in STYLE_CHOICES else protocol.template
    if template not in family.chat_templates:
        raise ConfigError(
            f"protocol.template {template} is none of {family.name}'s: {', '.join(family.chat_templates)}; "
            "`family` takes the one it was trained with"
        )
    system, official = protocol.system_prompt, family.prompt_style("official")
    if system in STYLE_CHOICES:
        system = family.prompt_style(system).system_prompt
    class_prefix = official.class_prefix if protocol.class_prefix == "official" else protocol.class_prefix
    class_token_ids = official.class_token_ids if protocol.class_token_ids == "official" else protocol.class_token_ids
    prefix, suffix = protocol.answer_prefix, ""
    if protocol.prefix_position == "question" or (
        protocol.prefix_position == "official" and official.prefix_in_question
    ):
        prefix, suffix = "", prefix
    if template == DOUBLED:  # LLaVA's conversation puts a space behind a message
        template, prefix = (DOUBLED, f"{prefix} ") if prefix else ("llava", "")
    return ResolvedStyle(template, system, prefix, class_prefix, class_token_ids, suffix)
