"""The tiny LLaVA: its recipe, its stages, the files."""

import argparse
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from configs.run_dir import ExportDir
from data_prep.byte_size import size as in_words
from train.toy.base_language import LanguageRecipe, build_language_model, train_language_model
from train.toy.base_metrics import measure
from train.toy.base_projector import ProjectorRecipe, assemble, save, teach_images
from train.toy.base_spelling import teach_letters
from train.toy.base_tokenizer import build_tokenizer
from train.toy.base_vision import VisionRecipe, build_tower, train_tower

THREADS = 2  # fixed, because the order of sums, and so the last bits of the weights, depend on the number of threads


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRecipe:
    """The whole build: the world's seed and one recipe per stage; `measured_per_class` test images per class."""

    seed: int = 0
    vision: VisionRecipe = field(default_factory=VisionRecipe)
    language: LanguageRecipe = field(default_factory=LanguageRecipe)
    projector: ProjectorRecipe = field(default_factory=ProjectorRecipe)
    measured_per_class: int = 10


def quick(recipe: BaseRecipe) -> BaseRecipe:
    """The same build with two steps per stage: it tests that everything runs; the model learns nothing."""
    return replace(
        recipe,
        vision=replace(recipe.vision, steps=2, images=48),
        language=replace(recipe.language, steps=2, rows=10),
        projector=replace(recipe.projector, records=96, alignment_epochs=1, instruct_epochs=1, rows=48),
        measured_per_class=1,
    )


CHAT_RECORD = {"chat": {"template": "llava", "system_prompt": "none"}, "image_mode": "pad", "dtype": "fp32"}
"""How the base was trained, for `configs.trained`."""


def build(recipe: BaseRecipe, output: Path) -> dict[str, float]:
    """Build the base, write it to `output` and return its accuracies. The same recipe gives the same bytes."""
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    tokenizer = build_tokenizer(recipe.seed)
    torch.manual_seed(recipe.seed)
    tower = build_tower(recipe.vision)
    train_tower(tower, recipe.vision, seed=recipe.seed)
    torch.manual_seed(recipe.seed + 1)
    language_model = build_language_model(recipe.language, tokenizer)
    image_tokens = recipe.vision.patches
    train_language_model(language_model, tokenizer, recipe.language, seed=recipe.seed, image_tokens=image_tokens)
    torch.manual_seed(recipe.seed + 2)
    model = assemble(tower, language_model, tokenizer, image_tokens)
    teach_images(model, tokenizer, recipe.projector, seed=recipe.seed)
    teach_letters(model, tokenizer, seed=recipe.seed)
    measures = measure(
        model, tokenizer, seed=recipe.seed, records=recipe.projector.records, per_class=recipe.measured_per_class
    )
    save(model, tokenizer, output)
    text = json.dumps({name: round(value, 4) for name, value in measures.items()}, indent=2) + "\n"
    (output / "measures.json").write_text(text, encoding="utf-8")
    record = json.dumps(CHAT_RECORD, indent=1) + "\n"
    ExportDir(output).record.write_text(record, encoding="utf-8")
    return measures


def build_and_print(options: argparse.Namespace) -> int:
    """The command line. Returns the exit code."""
    recipe = quick(BaseRecipe()) if options.quick else BaseRecipe()
    measures = build(recipe, options.output)
    for name, value in measures.items():
        print(f"{name:24s} {100 * value:6.1f} %")
    size = sum(file.stat().st_size for file in options.output.iterdir())
    print(f"wrote {options.output} ({in_words(size)})")
    return 0
