"""The paper's rows of fine-tuned models, found by what a model was trained on.

projector on Flowers102             ->  table3/finetuned/LLaVA1.5-7B/projector/Flowers102, table4/classification/...
projector on captions of Flowers102 ->  table4/captions/LLaVA1.5-7B/Flowers102
projector on ImageNet and LLaVA     ->  section4.3/..., table5/LLaVA1.5-7B finetuned on ImageNet+LLaVA/ImageWikiQA
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from configs.run_dir import step_of

MODELS = {
    "llava-1.5-7b": "LLaVA1.5-7B",
    "llava-1.5-13b": "LLaVA1.5-13B",
    "llava-v1.6-vicuna-7b": "LLaVANeXT-V7B",
    "llava-v1.6-mistral-7b": "LLaVANeXT-M7B",
    "blip2-opt-2.7b": "BLIP2-2.7B",
    "instructblip-vicuna-7b": "IBLIP-7B",
    "instructblip-vicuna-13b": "IBLIP-13B",
    "clip-vit-large-patch14-336": "CLIP-L",
    "eva01-g-14-plus": "EVA-G",
    "gpt-4-turbo": "GPT4",
    "gemini-1.0-pro-vision": "GeminiPro",
    "claude-3-opus": "Claude3",
}
VERSION = re.compile(r"-(hf|latest|00\d|\d{8}|\d{4}-\d\d-\d\d)$")  # a copy or a version of the same model
TEST_SOURCES = {
    "imagewikiqa": "ImageWikiQA",
    "imagenet_val": "ImageNet",
    "flowers102_test": "Flowers102",
    "stanford_cars_test": "StanfordCars",
    "caltech101_test": "Caltech101",
}
GENERAL_TASKS = ("vqa", "yes_no", "graded")
"""Tasks of Table 13: general abilities before and after fine-tuning."""
GENERAL_SOURCES = {
    "textvqa_val": "TextVQA",
    "pope_popular": "POPE popular",
    "pope_adversarial": "POPE adversarial",
    "mm_vet": "MM-Vet",
}
TRAINING_SOURCES = {"imagenet": "ImageNet"} | {
    f"{source.rpartition('_')[0]}_{part}": dataset
    for source, dataset in TEST_SOURCES.items()
    for part in ("train", "captions")
    if "_" in source
}
INSTRUCTION = ("llava", "instruct")
CHAIN_OF_THOUGHT = "step by step"
PAPER_MODES = ("projector", "lora", "full")
"""Ways of training that its rows are compared with; its own are projector and LoRA on the language model."""


@dataclass(frozen=True, slots=True)
class Training:
    """`base` as the run names it, how it was trained (`ModelConfig.trained_as`), and the names of the sources."""

    base: str
    mode: str
    sources: tuple[str, ...]


def training_of(result: Mapping[str, Any]) -> Training | None:
    """What a result's model was trained on; None for a model as published.

    A report without this entry belongs to a run if its label is one of a run: `export`, or a step.
    """
    model = result.get("evaluated_model")
    if model is None:
        label = str(result.get("label"))
        ours = label.startswith("export") or step_of(label) is not None
        return Training(str(result["model"]), "unknown", ()) if ours else None
    if not model["finetuned"]:
        return None
    return Training(str(model["base"]), str(model["mode"]), tuple(model["sources"]))


def paper_model(model: str) -> str | None:
    """The paper's name of a model folder or hub id, None if the paper has none.

    The last part of the path must match completely: the name of a model tuned further begins with its base's name.

    >>> paper_model("Salesforce/blip2-opt-2.7b"), paper_model("Salesforce/blip2-opt-2.7b-coco")
    ('BLIP2-2.7B', None)
    """
    path = model.removeprefix("api:").lower().rstrip("/")
    name = path.removeprefix("open_clip:").split("/")[0] if path.startswith("open_clip:") else path.split("/")[-1]
    return MODELS.get(VERSION.sub("", name))


def finetuned_rows(training: Training, protocol: Mapping[str, Any], dataset: str) -> list[str]:
    """Names of the rows to compare with a model trained like this under this protocol, most specific first.

    No rows if it was trained on further sources: the paper trains on one data set, or on it and LLaVA's data. A way of
    training that the paper does not have (`selective`, a LoRA of another variant or scope) has a row named by it, which
    is none of the paper's, where it was trained on one data set; else none.
    """
    if protocol.get("labels"):
        return []  # the paper has one label for each image
    base = paper_model(training.base) or training.base
    sources = [source.lower() for source in training.sources]
    others = [source for source in sources if source not in TRAINING_SOURCES]
    trained = {TRAINING_SOURCES[source] for source in sources if source in TRAINING_SOURCES}
    others_way = training.mode not in PAPER_MODES
    mixed, captions = bool(others), any(source.endswith("_captions") for source in sources)
    if not all(any(word in source for word in INSTRUCTION) for source in others):
        return []
    about_general = protocol["task"] in GENERAL_TASKS
    if others_way and (mixed or captions or about_general or protocol["task"] == "multiple_choice"):
        return []
    if about_general:
        return [f"table13/after/{base} finetuned on {'+'.join(sorted(trained))}{'+LLaVA' if mixed else ''}/{dataset}"]
    if protocol["task"] == "multiple_choice":
        rows = [f"table5/{base} finetuned on {'+'.join(sorted(trained))}{'+LLaVA' if mixed else ''}/{dataset}"]
    elif trained != {dataset}:
        rows = []
    elif captions:
        rows = [] if mixed else [f"table4/captions/{base}/{dataset}"]
    elif mixed:
        rows = [f"section4.3/{base} finetuned on {dataset}+LLaVA/{dataset}"]
    else:
        rows = [f"table3/finetuned/{base}/{training.mode}/{dataset}"]
        rows += [f"table4/classification/{base}/{dataset}"] if training.mode == "projector" else []
    return [row for row in rows if matches_protocol(row, protocol)]


def matches_protocol(row: str, protocol: Mapping[str, Any]) -> bool:
    """Whether the paper's row of a fine-tuned model was evaluated with this protocol."""
    if row.startswith("table5/"):
        plain = protocol.get("show_image", True) and not protocol.get("reveal_class")
        return bool(protocol["task"] == "multiple_choice" and plain)
    wordings = ("caption",) if row.startswith("table4/captions/") else ("paper", "authors_training", "photo_of")
    plain = not protocol.get("synonyms") and not uses_chain_of_thought(protocol)
    return bool(protocol["task"] == "open_world" and protocol.get("prompt") in wordings and plain)


def uses_chain_of_thought(protocol: Mapping[str, Any]) -> bool:
    """Whether the protocol makes the model reason step by step before it answers."""
    return CHAIN_OF_THOUGHT in str(protocol.get("answer_prefix", "")).lower()
