"""Settings of captions written by a model behind an API (`data_prep.caption`)."""

from dataclasses import dataclass

from configs.api import ApiConfig, refuse_answer_limit
from configs.data import DataConfig, check_sources_exist
from configs.errors import ConfigError
from configs.section import Section, setting

CLASS_NAME = "<class name>"
"""Stands in a prompt for the image's class name."""
PROMPT = (
    "Generate a short caption for the image. The caption must include the ground-truth label of the image, "
    f"which is {CLASS_NAME}."
)
"""The paper's prompt (Section 3.3)."""


@dataclass(frozen=True, kw_only=True)
class CaptionConfig(Section):
    """Captions of the training images of one class source, written by a model behind an API."""

    source: str = setting(doc="The source of data.sources whose images get captions; it has classes.")
    model: str = setting(doc="The server's name of the model that writes them.")
    output: str = setting(
        doc="JSON lines that are written, for the reader jsonl; replies and counts are next to it.",
        changes_result=False,
    )
    prompt: str = setting(PROMPT, doc=f"What the model is asked; {CLASS_NAME} becomes the image's class name.")
    second_prompt: str = setting(
        f"{PROMPT} Answer with one sentence that contains exactly these words: {CLASS_NAME}",
        doc="What it is asked once more after a reply that is no caption with the class name.",
    )
    max_tokens: int = setting(100, doc="Longest reply in tokens; a longer one is cut off and asked again.", at_least=1)
    data: DataConfig = setting(DataConfig, doc="Raw sources.")
    api: ApiConfig = setting(ApiConfig, doc="Requests to the model.")

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an unknown source, a prompt without the class name, or an output of another kind."""
        super().__post_init__()
        refuse_answer_limit(self.api, "max_tokens")
        check_sources_exist((self.source,), self.data.sources)
        for name in ("prompt", "second_prompt"):
            if CLASS_NAME not in getattr(self, name):
                raise ConfigError(f"{name} does not contain {CLASS_NAME}, which stands for the image's class name")
        if not self.model.removeprefix("api:").strip():
            raise ConfigError("model is empty; write the server's name of the model, such as gpt-4o")
        if not self.output.endswith(".jsonl"):
            raise ConfigError(f"output is {self.output!r}; its name must end in .jsonl")
