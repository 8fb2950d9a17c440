"""Variants of an evaluation that differ in one setting which should not matter: the factors of `eval.robustness`.

    wording       the question, in the three wordings of the paper's Table 2; of task zero_shot the sentence of a class
    image_order   the image before or after the question's text
    batch_size    questions per forward pass
    seed          what the protocol draws: candidates, their order, letters for answers without one

A factor that cannot change an evaluation is not varied, with the reason. The base is the evaluation itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from configs.errors import ConfigError
from configs.evaluation import EvalConfig, is_api
from configs.protocol import ProtocolConfig
from configs.question import FILE_DRAWS
from configs.trained import protocol_as_trained, training_record_of_model
from data_prep.prompts import classification_prompt, prompt_name
from eval.runner.output_paths import output_paths_of
from eval.tasks.registry import task_output

FACTORS = ("wording", "image_order", "batch_size", "seed")
WORDINGS = ("paper", "identify", "main_object")  # Table 2
SENTENCES = ("a photo of a {}", "a picture of a {}", "{}")
SCORED = ("class_likelihoods", "similarities", "probe_scores")


@dataclass(frozen=True, slots=True)
class Variant:
    """An evaluation with `factor` at `value`; `config` is the complete configuration.

    A `rescored` variant scores the base's answers again, without a model.
    """

    factor: str
    value: str
    config: EvalConfig
    rescored: bool = False


@dataclass(frozen=True, slots=True)
class Factor:
    """A factor: its setting, the base's value, the other variants, or the `reason` why it is not varied."""

    name: str
    setting: str
    base_value: str
    variants: tuple[Variant, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Which values the factors take."""

    factors: Sequence[str] = FACTORS
    seeds: int = 5
    batch_sizes: Sequence[int] = (1, 4)


def factors_of(config: EvalConfig, choice: Choice) -> list[Factor]:
    """The chosen factors of `config`, in the order of `FACTORS`.

    Raises `ConfigError` for an evaluation of several models, or of a task whose answers no rule scores.
    """
    if config.checkpoint == "all":
        raise ConfigError("checkpoint is all, which names several models; give export, last or a step number")
    if config.protocol.task == "hidden_states":
        raise ConfigError("protocol.task hidden_states has no answers, so there is nothing to vary")
    if config.protocol.task == "graded":
        raise ConfigError(
            "protocol.task is graded, whose answers no rule scores, so that there is no accuracy to compare; run "
            "eval.run and eval.grade for each setting"
        )
    makers = {"wording": _wording, "image_order": _image_order, "batch_size": _batch_size, "seed": _seed}
    return [makers[name](config, choice) for name in FACTORS if name in choice.factors]


def folder_of(config: EvalConfig) -> Path:
    """The folder of the variants and of the result: next to the answers of the evaluation itself."""
    return output_paths_of(config).root / "robustness"


def _wording(config: EvalConfig, choice: Choice) -> Factor:  # noqa: ARG001
    protocol = config.protocol
    if task_output(protocol.task) == "similarities":
        return _varied(config, "wording", "protocol.class_sentence", protocol.class_sentence, SENTENCES)
    if protocol.task == "trained_probe":
        return Factor("wording", "protocol.prompt", "", reason="the probe's token sees no question")
    if protocol.task not in ("open_world", "closed_world", "class_likelihood"):
        return Factor("wording", "protocol.prompt", "", reason="the questions are stored with the items")
    own = prompt_name(classification_prompt(_as_trained(config).prompt))
    return _varied(config, "wording", "protocol.prompt", own, WORDINGS)


def _image_order(config: EvalConfig, choice: Choice) -> Factor:  # noqa: ARG001
    shown = config.protocol.show_image or config.protocol.task != "multiple_choice"
    setting = "api.image_position" if is_api(config.model) else "protocol.image_order"
    if task_output(config.protocol.task) == "similarities":
        return Factor("image_order", setting, "", reason="a CLIP sees image and text apart")
    if config.protocol.task == "trained_probe":
        return Factor("image_order", setting, "", reason="the probe's token sees no question")
    if not shown:
        return Factor("image_order", setting, "", reason="the question shows no image")
    own = config.api.image_position if is_api(config.model) else config.protocol.image_order
    return _varied(config, "image_order", setting, own, ("before", "after"))


def _batch_size(config: EvalConfig, choice: Choice) -> Factor:
    if is_api(config.model):
        return Factor("batch_size", "batch_size", "", reason="an API gets one question at a time")
    values = [str(size) for size in choice.batch_sizes]
    return _varied(config, "batch_size", "batch_size", str(config.batch_size), values)


def _seed(config: EvalConfig, choice: Choice) -> Factor:
    protocol = config.protocol
    if reason := _nothing_drawn(protocol):
        return Factor("seed", "protocol.seed", str(protocol.seed), reason=reason)
    seeds = [str(protocol.seed + number) for number in range(max(1, choice.seeds))]
    rescored = task_output(protocol.task) in SCORED or protocol.task == "multiple_choice"
    return _varied(config, "seed", "protocol.seed", str(protocol.seed), seeds, rescored=rescored)


def _nothing_drawn(protocol: ProtocolConfig) -> str:
    """Why no seed changes the evaluation; empty if one does."""
    if protocol.task == "closed_world":
        fixed = protocol.order == "fixed" and not _draws_candidates(protocol)
        return "candidates and their order are not drawn" if fixed else ""
    if task_output(protocol.task) in SCORED:
        return "" if _draws_candidates(protocol) else "all candidates are given, nothing is drawn"
    if protocol.task == "multiple_choice" and protocol.unparsed == "random":
        return ""
    return "the answers are greedy and nothing is drawn"


def _draws_candidates(protocol: ProtocolConfig) -> bool:
    similar = protocol.candidate_draw in FILE_DRAWS and protocol.candidate_draw != "siblings"
    return protocol.candidates is not None and not similar


def _varied(
    config: EvalConfig, name: str, setting: str, own: str, values: Sequence[str], *, rescored: bool = False
) -> Factor:
    """The factor with a variant for each of `values` but the evaluation's `own`.

    A numeric value names its folder: answers do not say in which batches they were made, so another choice of batch
    sizes must not find those of another size in its folder. Texts are numbered; their answers say what was asked.
    """
    others = [value for value in dict.fromkeys(values) if value != own]
    made = [
        Variant(
            name, value, _with(config, setting, value, f"{name}-{value if value.isdecimal() else number}"), rescored
        )
        for number, value in enumerate(others, start=1)
    ]
    return Factor(name, setting, own, tuple(made))


def _with(config: EvalConfig, setting: str, value: str, folder: str) -> EvalConfig:
    """The evaluation with one setting changed; its answers are in a folder of their own."""
    section, _, key = setting.rpartition(".")
    parsed: Any = int(value) if value.isdecimal() else value
    changed: Mapping[str, Any] = (
        {section: replace(getattr(config, section), **{key: parsed})} if section else {key: parsed}
    )
    return replace(config, **changed, output=str(folder_of(config) / folder))


def _as_trained(config: EvalConfig) -> ProtocolConfig:
    return protocol_as_trained(config.protocol, training_record_of_model(config.model))
