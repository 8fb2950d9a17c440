"""Prompts: the same sentence in training data and in the test question.

Sources: the paper, Section 2 and Table 2 (`paper`, `identify`, `main_object`) and the authors' training script, which
differs by one word (`authors_training`: "the" for "this"); `caption` is the prompt of models fine-tuned on captions
(Section 3.3); `photo_of` is the beginning of a caption, which the authors' fine-tuned BLIP-2 completes.
"""

from functools import cache

from configs.errors import ConfigError
from data_prep.sample import IMAGE_PLACEHOLDER, Turn

CLASSIFICATION_PROMPTS = {
    "paper": "What type of object is in this photo?",
    "authors_training": "What type of object is in the photo?",
    "identify": "Identify the object in this image.",
    "main_object": "What is the main object depicted in this photograph?",
    "photo_of": "a photo of",
    "caption": "Generate a caption for the image.",
}


SHORT_ANSWER = "Answer the question using a single word or phrase."
"""LLaVA-1.5's line after a question with a short answer (arXiv 2310.03744, Table 7)."""


def classification_prompt(name: str) -> str:
    """The prompt called `name`, or `name` itself if it is a sentence. Raises `ConfigError` that lists the known names.

    >>> classification_prompt("identify"), classification_prompt("Which bird is this?")
    ('Identify the object in this image.', 'Which bird is this?')
    """
    if name in CLASSIFICATION_PROMPTS:
        return CLASSIFICATION_PROMPTS[name]
    if " " in name.strip():
        return name
    raise ConfigError(
        f"unknown prompt {name!r}; known prompts: {', '.join(CLASSIFICATION_PROMPTS)}; or give the question itself"
    )


def prompt_name(text: str) -> str:
    """The name of the prompt that says `text`, else `text` itself.

    >>> prompt_name("a photo of"), prompt_name("Which bird is this?")
    ('photo_of', 'Which bird is this?')
    """
    return next((name for name, prompt in CLASSIFICATION_PROMPTS.items() if prompt == text), text)


def image_question(question: str) -> str:
    """A question about an image, in LLaVA's form: the placeholder on its own line, then the text."""
    return f"{IMAGE_PLACEHOLDER}\n{question}"


@cache  # called for each record, and there are only as many results as classes
def classification_turns(prompt: str, class_name: str) -> tuple[Turn, ...]:
    """The paper's training template (Section 4.2): the question `prompt`, answered by the bare class name."""
    return (Turn("human", image_question(classification_prompt(prompt))), Turn("gpt", class_name))
