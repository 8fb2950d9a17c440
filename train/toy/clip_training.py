"""The tiny CLIP: trained on the images of a shard set, saved as a folder."""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

from configs.command_line import exit_on_user_error
from configs.errors import ConfigError, DataError, UserError
from configs.load import load_config
from data_prep.build import config_schema
from data_prep.images import decode_rgb
from data_prep.progress import progress_bar
from data_prep.shards import ShardSet
from data_prep.source_match import open_shards
from train.models.pixels import PixelProcessor
from train.optimization.schedule import half_cosine
from train.toy.clip_recipe import ClipRecipe
from train.toy.tiny_clip_parts import TEMPLATES, build_model, build_tokenizer, contrastive_loss, varied

RECORD = "tiny_clip.json"
LOG_SECONDS = 30.0


def read_images(shards: ShardSet, size: int) -> tuple[Tensor, Tensor]:
    """(N, 3, S, S) uint8, cropped as by CLIP's processor, and (N,) labels.

    Raises `DataError` for a sample without an image or a class.
    """
    pixels = torch.empty(len(shards), 3, size, size, dtype=torch.uint8)
    processor = PixelProcessor(size, "crop")
    for number in progress_bar(range(len(shards)), name="images", unit="images"):
        sample = shards.sample(number)
        if sample.label is None or not isinstance(sample.image, bytes):
            raise DataError(
                f"{sample.id} has no {'class' if sample.label is None else 'image'}; CLIP training needs both"
            )
        pixels[number] = torch.from_numpy(np.ascontiguousarray(processor(decode_rgb(sample.image))))
    return pixels, torch.from_numpy(shards.labels.copy())


def batches(count: int, recipe: ClipRecipe, draw: torch.Generator) -> Iterator[Tensor]:
    """Rows of every step: each epoch all images in a new order, without those that do not fill a batch."""
    size = min(recipe.images, count)
    for _ in range(recipe.epochs):
        order = torch.randperm(count, generator=draw)
        yield from torch.split(order[: count - count % size], size)


def train_clip(
    model: CLIPModel, tokenizer: PreTrainedTokenizerFast, data: tuple[Tensor, Tensor], names: Sequence[str],
    recipe: ClipRecipe,
) -> float:  # fmt: skip
    """Train in place; returns the mean loss of the last hundred steps."""
    pixels, labels = data
    draw = torch.Generator().manual_seed(recipe.seed)
    texts = [
        tokenizer([t.format(n) for n in names], padding=True, truncation=True, return_tensors="pt") for t in TEMPLATES
    ]
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )
    steps = recipe.epochs * (len(labels) // min(recipe.images, len(labels)))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    normalize = PixelProcessor(recipe.image_size).normalize
    losses: list[float] = []
    last = time.monotonic()
    progress = progress_bar(batches(len(labels), recipe, draw), name="CLIP", unit="steps", total=steps)
    for rows in progress:
        text = texts[int(torch.randint(len(TEMPLATES), (), generator=draw))]
        present, owners = torch.unique(labels[rows], return_inverse=True)
        images = normalize(varied(pixels[rows], recipe.shift, draw))
        seen = functional.normalize(model.get_image_features(pixel_values=images).pooler_output, dim=-1)
        text_inputs = {"input_ids": text["input_ids"][present], "attention_mask": text["attention_mask"][present]}
        read = functional.normalize(model.get_text_features(**text_inputs).pooler_output, dim=-1)
        loss = contrastive_loss(model.logit_scale.exp() * seen @ read.T, owners)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        model.logit_scale.data.clamp_(max=math.log(100))  # as in CLIP
        losses = [*losses[-99:], loss.item()]
        progress.set_postfix(loss=f"{losses[-1]:.3f}")
        if time.monotonic() - last > LOG_SECONDS:
            last = time.monotonic()
            print(f"step {schedule.last_epoch:,} of {steps:,}: loss {sum(losses) / len(losses):.3f}", file=sys.stderr)
    return sum(losses) / len(losses)


def _rate(step: int, steps: int) -> float:
    """Factor on the learning rate: a half cosine, with a linear warm-up over the first twentieth of the steps."""
    warm = max(1, steps // 20)
    return min((step + 1) / warm, half_cosine(step / steps))


def build(shards: ShardSet, recipe: ClipRecipe, output: Path) -> float:
    """Train on `shards` and write the folder; returns the last loss. Raises `DataError` for a set without classes."""
    names = shards.manifest.class_names
    if len(set(names)) < 2:
        raise DataError(f"{shards.folder} has {len(set(names))} classes; CLIP needs at least 2")
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(recipe.seed)
    tokenizer = build_tokenizer(names, recipe)
    model = build_model(tokenizer, recipe)
    loss = train_clip(model, tokenizer, read_images(shards, recipe.image_size), names, recipe)
    save(model, tokenizer, recipe, output)
    return loss


def save(model: CLIPModel, tokenizer: PreTrainedTokenizerFast, recipe: ClipRecipe, output: Path) -> None:
    """Model and processor as one Hugging Face folder, in float32, and the recipe as `RECORD`."""
    size = recipe.image_size
    images = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    model.save_pretrained(output)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(output)
    (output / RECORD).write_text(json.dumps(asdict(recipe), indent=1) + "\n", encoding="utf-8")


def train_and_print(options: argparse.Namespace) -> None:
    """The command line. Exits with code 2 on a mistake in configuration or data."""
    recipe = ClipRecipe(
        epochs=options.epochs,
        image_size=options.image_size,
        patch_size=options.patch_size,
        seed=options.seed,
    )
    try:
        config, _ = load_config(config_schema(options.config), options.config, options.overrides)
        if options.source not in config.data.sources:
            raise ConfigError(f"--source {options.source!r} is not in data.sources: {', '.join(config.data.sources)}")
        if recipe.image_size % recipe.patch_size or recipe.epochs < 1:
            raise ConfigError(
                f"--image-size {recipe.image_size} must divide by --patch-size {recipe.patch_size}, and --epochs "
                f"({recipe.epochs}) be at least 1"
            )
        loss = build(open_shards(config.data, options.source), recipe, options.output)
    except UserError as error:
        exit_on_user_error(error)
    size = sum(file.stat().st_size for file in options.output.iterdir())
    print(f"wrote {options.output} ({size / 1e6:.1f} MB); loss {loss:.3f}")
