"""The graders: which class grades stored answers under which name.

A grader is one class in one file, an `eval.graders.types.Grader`; adding one is that file and one line here:

    class MyGrader:
        outcomes = OUTCOMES
        uses_question = False
        about = "right if ..."

        def __init__(self, config: EvalConfig): ...
        @property
        def settings(self) -> Mapping[str, Any]: ...
        def grade(self, answers): ...

`--grader NAME@LABEL` applies the grader NAME and stores its grades under that name, so that grades of one grader with
several settings lie next to each other.
"""

from importlib import import_module

from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from configs.section import check_name
from eval.graders.types import Grader

GRADERS = {
    "contains": "eval.graders.scorer_grader:Contains",
    "word": "eval.graders.scorer_grader:Word",
    "exact": "eval.graders.scorer_grader:Exact",
    "name": "eval.graders.scorer_grader:Name",
    "llm_judge": "eval.graders.llm_judge:LLMJudge",
    "mm_vet": "eval.graders.mm_vet:MMVet",
    "similarity": "eval.graders.similarity:Similarity",
    "concepts": "eval.graders.similarity:Concepts",
    "nearest": "eval.graders.nearest:Nearest",
    "tree": "eval.graders.tree_grader:TreeGrader",
}
"""Name of a grader to the class that implements it."""


def make_grader(name: str, config: EvalConfig) -> Grader:
    """The grader called `name`, NAME or NAME@LABEL. Raises `ConfigError` for an unknown one, or one that cannot run."""
    kind, mark, label = name.partition("@")
    if kind not in GRADERS:
        raise ConfigError(f"the grader {name!r} is unknown; choose of: {', '.join(GRADERS)}")
    if mark:
        check_name(label, f"the label of the grader {name!r}")
    module, _, class_name = GRADERS[kind].partition(":")
    made: Grader = getattr(import_module(module), class_name)(config)
    return made
