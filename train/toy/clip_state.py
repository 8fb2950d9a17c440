"""The state of a training of the tiny CLIP between two steps, and its file: a killed training continues from it."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPModel

from configs.errors import ConfigError, DataError
from data_prep.atomic import atomic_file
from train.optimization.schedule import half_cosine
from train.toy.clip_recipe import ClipRecipe

STATE = "unfinished.pt"
"""Name of the file in the output folder; it is deleted when the model is there."""


class ClipTraining:
    """Model, AdamW, learning rate, random numbers, the epoch's order of N images, and the number of steps done."""

    def __init__(self, model: CLIPModel, recipe: ClipRecipe, count: int, threads: int):
        """Before the first step; `count` is N. `threads` is kept, as sums are rounded by their number."""
        self.model, self.recipe, self.count, self.threads = model, recipe, count, threads
        self.size = min(recipe.images, count)
        self.steps = recipe.epochs * (count // self.size)
        decayed = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=recipe.learning_rate,
            betas=(0.9, 0.98),
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: _rate(step, self.steps))
        self.draw = torch.Generator().manual_seed(recipe.seed)
        self.order = torch.empty(0, dtype=torch.int64)
        self.step = 0
        self.losses: list[float] = []  # of the last hundred steps

    def rows(self) -> Tensor:
        """Rows of the next step; an epoch takes all images in a new order, without those that do not fill a batch."""
        within = self.step % (self.count // self.size) * self.size
        if within == 0:
            self.order = torch.randperm(self.count, generator=self.draw)
        return self.order[within : within + self.size]

    def mean_loss(self) -> float:
        """Of the last hundred steps."""
        return sum(self.losses) / len(self.losses)

    def save(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Write the state to `folder`; `identity` says what is trained on what."""
        state = {
            "identity": dict(identity),
            "threads": self.threads,
            "step": self.step,
            "losses": self.losses,
            "order": self.order,
            "draw": self.draw.get_state(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        with atomic_file(folder / STATE) as file:
            torch.save(state, file)

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue after the step of `state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.draw.set_state(state["draw"])
        self.order, self.step, self.losses = state["order"], state["step"], state["losses"]


def read_state(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `ClipTraining.save` wrote to `folder`, if it was killed there.

    Raises `ConfigError` if that training was of something else, `DataError` if the file is damaged.
    """
    file = folder / STATE
    if not file.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(file, weights_only=True)
        theirs: dict[str, Any] = state["identity"]
    except (OSError, EOFError, RuntimeError, UnpicklingError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged ({type(error).__name__}); delete it to train from the beginning") from error
    changed = [
        f"{name} {theirs.get(name)} -> {identity.get(name)}"
        for name in sorted({*theirs, *identity})
        if theirs.get(name) != identity.get(name)
    ]
    if changed:
        raise ConfigError(
            f"{folder} has an unfinished training of something else ({', '.join(changed)}); repeat its command to "
            f"finish it, delete {file} to train from the beginning, or choose another --output"
        )
    return state


def _rate(step: int, steps: int) -> float:
    """Factor on the learning rate: a half cosine, with a linear warm-up over the first twentieth of the steps."""
    warm = max(1, steps // 20)
    return min((step + 1) / warm, half_cosine(step / steps))
