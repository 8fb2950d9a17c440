"""A protocol: how a model is asked (`configs.question`) and how its answers are scored (`configs.scoring`)."""

from dataclasses import dataclass
from typing import Any

from configs.errors import ConfigError
from configs.question import FILE_DRAWS, QuestionSettings
from configs.scoring import AnswerScoring, ClassScoring

PUBLISHED_DEFAULTS: dict[str, Any] = {
    "prompt": "paper",
    "template": "family",
    "system_prompt": "family",
    "image_mode": "export",
}
"""What `trained` means for a model as published."""
LISTED = ("closed_world", "class_likelihood", "zero_shot", "trained_probe")
"""Tasks whose questions or scores use all names of protocol.classes."""
UNCLASSED = ("multiple_choice", "vqa", "yes_no", "graded")
"""Tasks whose answers are letters or free text, which are not compared with class names."""


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig(AnswerScoring, ClassScoring, QuestionSettings):
    """How a question is asked and its answer scored. Every choice is a field, so all combinations can be run."""

    def __post_init__(self) -> None:
        """Raise `ConfigError` if a protocol lacks the class list that it needs."""
        super().__post_init__()
        if self.task in LISTED and self.classes is None:
            raise ConfigError(f"protocol.task {self.task} needs protocol.classes: a list's name, such as imagenet")
        if self.labels is not None and self.task in UNCLASSED:
            raise ConfigError(
                f"protocol.labels has the classes of images, and task {self.task} is not scored by classes; remove it"
            )
        if "{}" not in self.class_sentence:
            raise ConfigError(
                f"protocol.class_sentence is {self.class_sentence!r}; write {{}} where the class name belongs"
            )
        self._check_candidates()
        if self.task == "zero_shot" and self.rule == "cfg":
            raise ConfigError("protocol.rule is cfg, which guides a language model; task zero_shot has none: use sum")
        if self.task == "trained_probe" and self.rule == "cfg":
            raise ConfigError("protocol.rule is cfg, which guides class names; task trained_probe has none: use sum")

    def _check_candidates(self) -> None:
        """Raise `ConfigError` if candidate_draw and candidate_file do not fit each other."""
        named = self.candidate_draw in FILE_DRAWS
        if named and self.candidate_file is None:
            raise ConfigError(
                f"protocol.candidate_draw is {self.candidate_draw} and protocol.candidate_file is not set; write a "
                "file with python -m eval.similar_classes and name it"
            )
        if named and self.candidates is None:
            raise ConfigError(
                f"protocol.candidate_draw is {self.candidate_draw} and protocol.candidates is null, which takes all "
                "classes; set the number of candidates"
            )
        if self.candidate_file is not None and not named:
            raise ConfigError(
                f"protocol.candidate_file is {self.candidate_file} and protocol.candidate_draw {self.candidate_draw} "
                f"does not use it; set candidate_draw to {' or '.join(FILE_DRAWS)}, or candidate_file to null"
            )
