"""Closed world: the question lists the candidate classes; correct if the class name is in the answer (Section 2.3)."""

from configs.protocol import ProtocolConfig
from data_prep.class_names import load_class_list
from data_prep.prompts import classification_prompt, image_question
from data_prep.sample import Sample, Turn
from eval.tasks.candidates import shown_candidates
from eval.tasks.open_world import OpenWorld, class_of
from eval.types import ItemIndex, Question


class ClosedWorld(OpenWorld):
    """The prompt, then `Choose one from a, b, c.`

    The authors' code puts quotes around the list (`class_quotes`); the paper's text has none.
    """

    def __init__(self, config: ProtocolConfig):
        """Read the class list. Raises `ConfigError` or `DataError` if prompt, list or synonyms are unknown."""
        super().__init__(config)
        self.names = load_class_list(config.classes or "").names

    def question(self, sample: Sample, item_index: ItemIndex | None = None) -> Question:
        """The prompt with the item's candidates."""
        label = class_of(sample, self.config.task)
        shown = shown_candidates(self.config, self.names, label, sample.id, item_index)
        quote = '"' if self.config.class_quotes else ""
        names = ", ".join(self.names[index] for index in shown)
        text = f"{classification_prompt(self.config.prompt)} Choose one from {quote}{names}{quote}."
        streamed = self.config.candidate_draw == "stream"
        turns = (Turn("human", image_question(text)),)
        return Question(turns, label, item_index=item_index if streamed else None)
