"""How many threads train the tiny CLIP fastest: measured, as small products are slower with many of them."""

import copy
import os
import time
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import CLIPModel, PreTrainedTokenizerFast

from train.toy.clip_recipe import ClipRecipe

ROUNDS = 3
GAIN = 0.95  # more threads are taken only if a step then takes less than this share of the time


def fastest_threads(most: int, seconds: Callable[[int], float]) -> int:
    """The smallest number of threads, of 1, 2, 4 ... and `most`, that no larger number beats by much.

    `seconds` measures a step with a number of threads.

    >>> fastest_threads(8, lambda threads: {1: 1.0, 2: 0.6, 4: 0.59, 8: 0.9}[threads])
    2
    """
    counts = sorted({most, *(1 << power for power in range(most.bit_length()))})
    taken = {count: seconds(count) for count in counts}
    best = min(taken.values())
    return next(count for count in counts if GAIN * taken[count] <= best)


def measured_threads(model: CLIPModel, tokenizer: PreTrainedTokenizerFast, recipe: ClipRecipe) -> int:
    """The fastest number of threads for steps of `recipe`; `model` and all random numbers stay as they are."""
    trial = copy.deepcopy(model)
    pixels = torch.zeros(recipe.images, 3, recipe.image_size, recipe.image_size)
    text = tokenizer(["a photo"] * min(recipe.images, 16), return_tensors="pt")["input_ids"]

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        return min(_step_seconds(trial, pixels, text) for _ in range(ROUNDS))

    before = torch.get_num_threads()
    try:
        return fastest_threads(len(os.sched_getaffinity(0)), seconds)
    finally:
        torch.set_num_threads(before)


def _step_seconds(model: CLIPModel, pixels: Tensor, text: Tensor) -> float:
    started = time.perf_counter()
    seen = model.get_image_features(pixel_values=pixels).pooler_output
    read = model.get_text_features(input_ids=text).pooler_output
    torch.autograd.backward((seen @ read.T).mean())
    return time.perf_counter() - started
