"""Was the model prompted as in training? What differs goes into the report and its last line.

A model that answers another question, behind another system prompt or template, or about other pixels than in training
is not the model of the paper's fine-tuned rows (`DECISIVE`). Other data, classes or precision are reported alone.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, DataError
from configs.evaluation import EvalConfig, precision
from configs.protocol import LISTED, ProtocolConfig
from configs.trained import IMAGE_SIZES, TrainingRecord, protocol_as_trained, training_record_of_model
from data_prep.class_names import load_class_list
from data_prep.prompts import classification_prompt
from train.chat.templates import system_text

DECISIVE = tuple(f"protocol.{name}" for name in ("prompt", "template", "system_prompt", "image_mode", *IMAGE_SIZES))
"""Settings in which an evaluation must agree with the training to be compared with the paper's fine-tuned rows."""
ASKS_PROMPT = ("open_world", "closed_world", "class_likelihood", "hidden_states")
"""Tasks whose question is protocol.prompt."""
TEMPLATES = {"family": "llava", "official": "hf_newline", "llava_doubled": "llava"}
"""Chat templates of LLaVA-1.5 under their other names."""
SYSTEMS = {"family": "vicuna_v1", "official": "none"}
"""Its system prompts under their other names."""
OTHERS = {
    "folder": {"family": "folder", "official": "folder"},
    "mistral": {"family": "mistral", "official": "mistral_tight"},
    "question": {"family": "question", "official": "question"},
    "plain": {"family": "plain", "official": "question"},
}
"""Template of a training to the names of its family's templates, where that is no LLaVA with Vicuna."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting of an evaluation with its value, and the value of the training."""

    setting: str
    evaluated: str
    trained: str

    def __str__(self) -> str:
        """As reports print it."""
        return f"{self.setting} is {self.evaluated!r}, training had {self.trained!r}"


def describe_training(config: EvalConfig) -> dict[str, Any] | None:
    """For report.json: the file that records the training and what differs from it; None for a model as published."""
    try:
        trained = training_record_of_model(config.model)
    except ConfigError:  # stored answers are reported although the model's record is damaged
        return None
    if trained is None:
        return None
    return {"record": trained.where, "differences": [asdict(found) for found in differences(config, trained)]}


def differences(config: EvalConfig, trained: TrainingRecord) -> list[Difference]:
    """Every setting of the evaluation that is not as in training."""
    protocol = protocol_as_trained(config.protocol, trained)
    found = _asked(protocol, trained) if protocol.task != "zero_shot" else []
    if precision(config) != trained.dtype:
        found.append(Difference("dtype", precision(config), trained.dtype))
    return [*found, *_data(config, trained), *_classes(protocol, trained)]


def _asked(protocol: ProtocolConfig, trained: TrainingRecord) -> list[Difference]:
    found = []
    if protocol.task in ASKS_PROMPT and trained.questions:
        asked = classification_prompt(protocol.prompt)
        questions = [classification_prompt(question) for question in trained.questions.values()]
        if asked not in questions:
            found.append(Difference("protocol.prompt", asked, questions[0]))
    template = OTHERS.get(trained.template, TEMPLATES).get(protocol.template, protocol.template)
    if template != trained.template:
        found.append(Difference("protocol.template", template, trained.template))
    named = dict.fromkeys(SYSTEMS, "none") if trained.template in OTHERS else SYSTEMS
    system = named.get(protocol.system_prompt, protocol.system_prompt)
    if system_text(template, system) != system_text(trained.template, trained.system_prompt):
        found.append(Difference("protocol.system_prompt", system, trained.system_prompt))
    if protocol.image_mode not in ("export", trained.image_mode):
        found.append(Difference("protocol.image_mode", protocol.image_mode, trained.image_mode))
    for name in IMAGE_SIZES:
        asked, before = getattr(protocol, name), trained.images.get(name)
        if asked not in (None, before):
            found.append(
                Difference(f"protocol.{name}", str(asked), "the model's own" if before is None else str(before))
            )
    return found


def _data(config: EvalConfig, trained: TrainingRecord) -> list[Difference]:
    """Where a source of the run is evaluated under the same name from elsewhere."""
    ours, theirs = config.data.sources.get(config.source), trained.data.sources.get(config.source)
    if ours is None or theirs is None:
        return []
    key = f"data.sources.{config.source}"
    pairs = {
        "data.shards": (config.data.shards, trained.data.shards),
        f"{key}.reader": (ours.reader, theirs.reader),
        f"{key}.path": (str(ours.path), str(theirs.path)),
    }
    return [Difference(name, now, before) for name, (now, before) in pairs.items() if now != before]


def _classes(protocol: ProtocolConfig, trained: TrainingRecord) -> list[Difference]:
    if protocol.task not in LISTED or protocol.classes is None or not trained.class_names:
        return []
    try:
        names = set(load_class_list(protocol.classes).names)
    except DataError:  # a report of stored answers does without the list
        return []
    if names == set(trained.class_names):
        return []
    both = len(names & set(trained.class_names))
    return [
        Difference(
            "protocol.classes",
            f"{Path(protocol.classes).name}: {len(names):,} classes",
            f"{len(trained.class_names):,} classes, {both:,} of them the same",
        )
    ]


def training_differences(result: Mapping[str, Any]) -> list[str]:
    """What differs from training, from the content of report.json, as text."""
    listed = (result.get("trained") or {}).get("differences", ())
    return [str(Difference(**found)) for found in listed]


def asked_as_trained(result: Mapping[str, Any]) -> bool:
    """Whether nothing decisive differs from training."""
    listed = (result.get("trained") or {}).get("differences", ())
    return not any(found["setting"] in DECISIVE for found in listed)
