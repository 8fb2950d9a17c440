"""How a turn is marked up for a model: the words around question and answer, by name, and the system prompts."""

from dataclasses import dataclass

END = "</s>"
VICUNA_V1 = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
VICUNA_HUMAN = VICUNA_V1.replace("curious user", "curious human").replace("the user's", "the human's")
SYSTEM_PROMPTS = {"vicuna_v1": VICUNA_V1, "vicuna_human": VICUNA_HUMAN, "none": ""}


@dataclass(frozen=True, slots=True)
class Markup:
    """The words around a question and its answer: `human` question `human_end` `assistant` space answer.

    `cut` tokenises pieces as LLaVA's own code does, else the whole text in one call. With `image_first` the image's
    tokens stand before everything, the start token included, and leave nothing in the text. Only some have a place for
    a `system` prompt, or for several `rounds` of questions.
    """

    human: str = "USER: "
    human_end: str = " "
    assistant: str = "ASSISTANT:"
    cut: bool = False
    image_first: bool = False
    system: bool = True
    rounds: bool = True


MARKUPS = {
    "llava": Markup(cut=True),
    "llava_doubled": Markup(assistant="ASSISTANT:ASSISTANT:", cut=True),  # authors' fine-tuned ImageWikiQA, by LLaVA's
    "hf": Markup(),
    "hf_newline": Markup(human_end="\n"),  # llava-hf's model cards, and the authors' zero-shot LLaVA-1.5
    "mistral": Markup("[INST] ", " ", "[/INST]", system=False),  # transformers' documentation of LLaVA-NeXT
    "mistral_tight": Markup("[INST] ", "", "[/INST]", system=False),  # the authors' zero-shot LLaVA-NeXT
    "question": Markup("Question: ", " ", "Answer:", image_first=True, system=False),  # BLIP-2's paper, Section 4.1
    "plain": Markup("", "", "", image_first=True, system=False, rounds=False),  # transformers' docs of InstructBLIP
}


@dataclass(frozen=True, slots=True)
class Wording:
    """What a model is spoken to with: names of a markup and of a system prompt, the beginning before class names.

    `prefix_in_question`: what is put into the assistant's mouth elsewhere ends the question instead.
    `answer_delimiter`: the text behind which an answer is looked for. `class_ids`: which tokens of a class name are
    scored.
    """

    markup: str
    system_prompt: str = "none"
    class_prefix: str = ""
    prefix_in_question: bool = False
    answer_delimiter: str = "ASSISTANT:"
    class_ids: str = "in_context"
