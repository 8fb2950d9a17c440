"""Chat templates by name, and the system prompts: the text that turns a question and its answer into a conversation."""

from dataclasses import dataclass

BEGIN = "<s>"
END = "</s>"
VICUNA_V1 = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
VICUNA_HUMAN = VICUNA_V1.replace("curious user", "curious human").replace("the user's", "the human's")
SYSTEM_PROMPTS = {"vicuna_v1": VICUNA_V1, "vicuna_human": VICUNA_HUMAN, "none": ""}
FOLDER = "folder"
"""The chat template of the model's own folder (`train.chat.folder_template`)."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The text around a question and its answer: `human` question `human_end` `assistant` space answer."""

    human: str = "USER: "
    human_end: str = " "
    assistant: str = "ASSISTANT:"
    tokenize_per_segment: bool = False
    """Tokenize the text between special tokens segment by segment, as LLaVA's code does; else in one call."""
    image_before_bos: bool = False
    """Image tokens come before everything, the start token included; the text has no image token."""
    system: bool = True
    """Whether a system prompt may open the conversation."""
    multi_turn: bool = True
    """Whether a conversation may have several questions."""


CHAT_TEMPLATES = {
    # LLaVA's training code
    "llava": ChatTemplate(tokenize_per_segment=True),
    # the authors' fine-tuned models on ImageWikiQA, prompted with LLaVA's code
    "llava_doubled": ChatTemplate(assistant="ASSISTANT:ASSISTANT:", tokenize_per_segment=True),
    # transformers' processor of LLaVA-1.5
    "hf": ChatTemplate(),
    # llava-hf's model cards, and the authors' zero-shot LLaVA-1.5
    "hf_newline": ChatTemplate(human_end="\n"),
    # transformers' documentation of LLaVA-NeXT
    "mistral": ChatTemplate("[INST] ", " ", "[/INST]", system=False),
    # the authors' zero-shot LLaVA-NeXT
    "mistral_tight": ChatTemplate("[INST] ", "", "[/INST]", system=False),
    # BLIP-2's paper, Section 4.1
    "question": ChatTemplate("Question: ", " ", "Answer:", image_before_bos=True, system=False),
    # transformers' documentation of InstructBLIP
    "plain": ChatTemplate("", "", "", image_before_bos=True, system=False, multi_turn=False),
}


@dataclass(frozen=True, slots=True)
class PromptStyle:
    """How a model is prompted: names of a chat template and of a system prompt, and what precedes an answer."""

    template: str
    system_prompt: str = "none"
    class_prefix: str = ""
    """Text between the prompt and a class name that is scored."""
    prefix_in_question: bool = False
    """An answer prefix ends the question, instead of beginning the answer."""
    answer_delimiter: str = "ASSISTANT:"
    """The answer is the text after the last of these."""
    class_token_ids: str = "in_context"
    """Which token ids of a class name are scored, as `protocol.class_token_ids`."""


def folder_style(choice: str, answer_delimiter: str) -> PromptStyle:
    """How a family is prompted by the template of its folder; the paper's authors did not evaluate those families.

    `choice` is `family`, or `official` with the answer prefix of the authors' other models.
    """
    prefix = "The photo features a" if choice == "official" else ""
    return PromptStyle(FOLDER, "none", prefix, answer_delimiter=answer_delimiter)


def system_text(template: str, system_prompt: str) -> str:
    """The system prompt's text; `template` stands for Vicuna's behind LLaVA's templates, and for none elsewhere.

    >>> system_text("folder", "template"), system_text("folder", "You are a botanist.")
    ('', 'You are a botanist.')
    """
    if system_prompt == "template":
        system_prompt = "vicuna_v1" if template.startswith(("llava", "hf")) else "none"
    return SYSTEM_PROMPTS.get(system_prompt, system_prompt)
