"""The tiny CLIP: trained on the images of a shard set, saved as a folder; a stopped training continues."""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

from configs.command_line import exit_on_user_error
from configs.errors import ConfigError, DataError, UserError
from configs.load import load_config
from data_prep.build import config_schema
from data_prep.byte_size import size as in_words
from data_prep.images import decode_rgb
from data_prep.progress import log_line, progress_bar
from data_prep.shards import ShardSet
from data_prep.source_match import open_shards
from train.models.checked_loading import quiet_transformers
from train.models.pixels import PixelProcessor
from train.supervision import signals
from train.toy.clip_recipe import ClipRecipe
from train.toy.clip_state import STATE, ClipTraining, read_state
from train.toy.clip_threads import measured_threads
from train.toy.tiny_clip_parts import TEMPLATES, build_model, build_tokenizer, contrastive_loss, varied

RECORD = "tiny_clip.json"
LOG_SECONDS = 30.0
SAVE_SECONDS = 60.0
STOPPED = 130  # exit code of a program that Ctrl-C ended


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


class Steps:
    """Steps of a training on images and the sentences of their class names."""

    def __init__(
        self, training: ClipTraining, tokenizer: PreTrainedTokenizerFast, data: tuple[Tensor, Tensor],
        names: Sequence[str],
    ):  # fmt: skip
        """`data` are pixels and labels as `read_images` returns them."""
        self.training = training
        self.pixels, self.labels = data
        self.texts = [
            tokenizer([t.format(n) for n in names], padding=True, truncation=True, return_tensors="pt")
            for t in TEMPLATES
        ]
        self.normalize = PixelProcessor(training.recipe.image_size).normalize

    def step(self) -> float:
        """One update; returns its loss."""
        training, model = self.training, self.training.model
        rows = training.rows()
        text = self.texts[int(torch.randint(len(TEMPLATES), (), generator=training.draw))]
        present, owners = torch.unique(self.labels[rows], return_inverse=True)
        images = self.normalize(varied(self.pixels[rows], training.recipe.shift, training.draw))
        seen = functional.normalize(model.get_image_features(pixel_values=images).pooler_output, dim=-1)
        text_inputs = {"input_ids": text["input_ids"][present], "attention_mask": text["attention_mask"][present]}
        read = functional.normalize(model.get_text_features(**text_inputs).pooler_output, dim=-1)
        loss = contrastive_loss(model.logit_scale.exp() * seen @ read.T, owners)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        training.optimizer.step()
        training.schedule.step()
        training.optimizer.zero_grad()
        model.logit_scale.data.clamp_(max=math.log(100))  # as in CLIP
        training.losses = [*training.losses[-99:], loss.item()]
        training.step += 1
        return training.losses[-1]


def train_clip(steps: Steps, output: Path, identity: dict[str, Any]) -> None:
    """Train to the last step; the state is saved every `SAVE_SECONDS`, and before `StopRequested` is raised."""
    training = steps.training
    logged = saved = time.monotonic()
    bar: tqdm[object] = progress_bar(name="CLIP", unit="steps", total=training.steps, initial=training.step)
    with bar:
        while training.step < training.steps:
            loss, now = steps.step(), time.monotonic()
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if signals.stop_requested() or now - saved >= SAVE_SECONDS:
                saved = now
                training.save(output, identity)
                if signals.stop_requested():
                    raise signals.StopRequested
            if bar.disable and now - logged > LOG_SECONDS:
                logged = now
                log_line(f"step {training.step:,} of {training.steps:,}: loss {training.mean_loss():.3f}")


def build(shards: ShardSet, recipe: ClipRecipe, output: Path, threads: int | None = None) -> float:
    """Train on `shards` and write the folder; returns the last loss. A training that was stopped there continues.

    `threads` None: those of the stopped training, else OMP_NUM_THREADS, else measured. Raises `DataError` for a set
    without classes, `ConfigError` if something else was being trained in `output`.
    """
    names = shards.manifest.class_names
    if len(set(names)) < 2:
        raise DataError(f"{shards.folder} has {len(set(names))} classes; CLIP needs at least 2")
    identity = {"data": shards.fingerprint, **asdict(recipe)}
    state = read_state(output, identity)
    if state and threads not in (None, state["threads"]):
        raise ConfigError(f"--threads {threads} differs from the {state['threads']} of the training it would continue")
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(recipe.seed)
    tokenizer = build_tokenizer(names, recipe)
    model = build_model(tokenizer, recipe)
    if threads is None:
        threads = state["threads"] if state else int(os.environ.get("OMP_NUM_THREADS") or 0)
    threads = threads or measured_threads(model, tokenizer, recipe)
    torch.set_num_threads(threads)
    with signals.interruptible():
        data = read_images(shards, recipe.image_size)
    training = ClipTraining(model, recipe, len(shards), threads)
    if state:
        training.load(state)
    output.mkdir(parents=True, exist_ok=True)
    start = f"continues after step {training.step:,}" if state else "starts"
    log_line(f"training {start}: {training.steps:,} steps, {threads} thread{'s' * (threads > 1)}")
    train_clip(Steps(training, tokenizer, data, names), output, identity)
    save(model, tokenizer, recipe, output)
    (output / STATE).unlink(missing_ok=True)
    return training.mean_loss()


def save(model: CLIPModel, tokenizer: PreTrainedTokenizerFast, recipe: ClipRecipe, output: Path) -> None:
    """Model and processor as one Hugging Face folder, in float32, and the recipe as `RECORD`."""
    size = recipe.image_size
    images = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    with quiet_transformers():
        model.save_pretrained(output)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(output)
    (output / RECORD).write_text(json.dumps(asdict(recipe), indent=1) + "\n", encoding="utf-8")


def train_and_print(options: argparse.Namespace) -> None:
    """Train with the options of `train.toy.tiny_clip`. Exits with 2 on a user's mistake, with `STOPPED` on Ctrl-C."""
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
        loss = build(open_shards(config.data, options.source), recipe, options.output, options.threads)
    except UserError as error:
        exit_on_user_error(error)
    except (signals.StopRequested, KeyboardInterrupt):
        saved = "the same command continues" if (options.output / STATE).is_file() else "nothing was trained yet"
        print(f"stopped; {saved}", file=sys.stderr)
        raise SystemExit(STOPPED) from None
    size = sum(file.stat().st_size for file in options.output.iterdir())
    print(f"wrote {options.output} ({in_words(size)}); loss {loss:.3f}")
