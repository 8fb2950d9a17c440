"""Settings of graders, which score the stored answers of an evaluation a second time (`eval.grade`)."""

from dataclasses import dataclass

from configs.section import Section, setting


@dataclass(frozen=True, kw_only=True)
class GradingConfig(Section):
    """What `eval.grade` applies to stored answers. No setting changes an answer or the protocol's own score."""

    graders: tuple[str, ...] = setting(
        tuple,
        doc="Graders of eval/graders/registry.py that are applied, NAME or NAME@LABEL; --grader replaces them.",
        changes_result=False,
    )
