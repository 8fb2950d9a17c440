"""Settings of graders, which score the stored answers of an evaluation a second time (`eval.grade`)."""

from dataclasses import dataclass

from configs.api import ApiConfig, refuse_answer_limit
from configs.section import Section, setting


@dataclass(frozen=True, kw_only=True)
class GradingConfig(Section):
    """What `eval.grade` applies to stored answers. No setting changes an answer or the protocol's own score."""

    graders: tuple[str, ...] = setting(
        tuple,
        doc="Graders of eval/graders/registry.py that are applied, NAME or NAME@LABEL; --grader replaces them.",
        changes_result=False,
    )
    judge: str | None = setting(
        None,
        doc="Model that the graders mm_vet and llm_judge ask: api:NAME (MM-Vet: api:gpt-4-0613).",
        changes_result=False,
    )
    judge_prompt: str | None = setting(
        None,
        doc="YAML file with other words to the judge; null: those of eval/graders/prompts.",
        changes_result=False,
    )
    repeats: int | None = setting(
        None,
        doc="Gradings of each answer; null: the grader's own (mm_vet: 5, as in its paper; llm_judge: 1).",
        at_least=1,
        changes_result=False,
    )
    judge_tokens: int | None = setting(
        None,
        doc="Longest reply of the judge in tokens; null: the grader's own (mm_vet: 3, llm_judge: 16). A judge that "
        "thinks before it replies needs room.",
        at_least=1,
        changes_result=False,
    )
    api: ApiConfig = setting(ApiConfig, doc="Requests to the judge.", changes_result=False)
    encoder: str | None = setting(
        None,
        doc="Folder of a sentence-transformers model, or of a CLIP, whose text vectors the graders similarity, "
        "concepts and nearest compare.",
        changes_result=False,
    )
    tree: str | None = setting(
        None,
        doc="Tree of names for the grader `tree`: a folder with WordNet's data.noun and index.noun, a JSON file {name: "
        "[names of its parents]}, or a shipped tree (cifar10).",
        changes_result=False,
    )

    def __post_init__(self) -> None:
        """Raise `ConfigError` for another limit of the judge's replies."""
        super().__post_init__()
        refuse_answer_limit(self.api, "grading.judge_tokens")
