"""Stage 1 of the tiny base: a CLIP vision tower that distinguishes all classes of the demo world.

It replaces CLIP's pre-training, in which every concept was frequent: it is trained on all classes equally often,
without their names. It learns to predict colour, texture and shape from every patch of the layer that LLaVA reads (the
last but one) and from the class token.

B: images, P: patches, D: hidden size.
"""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from data_prep.progress import progress_bar
from data_prep.sample import Sample
from data_prep.toy_world.facts import COLOURS, SHAPES, TEXTURES, toy_classes
from data_prep.toy_world.reader import read
from data_prep.toy_world.render import render

LOOKS = [len(COLOURS), len(TEXTURES), len(SHAPES)]
FEATURE_LAYER = -2  # LLaVA's: the output of the last layer but one


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionRecipe:
    """Size and training of the tower; `steps` optimizer steps of `images` freshly drawn images."""

    image_size: int = 32
    patch_size: int = 8
    hidden: int = 96
    intermediate: int = 256
    layers: int = 4
    heads: int = 4
    steps: int = 600
    images: int = 96
    learning_rate: float = 2e-3

    @property
    def patches(self) -> int:
        """How many patches, and so image tokens, an image has."""
        return (self.image_size // self.patch_size) ** 2


def build_tower(recipe: VisionRecipe) -> CLIPVisionModel:
    """An untrained CLIP vision model of the recipe's size."""
    return CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=recipe.hidden,
            intermediate_size=recipe.intermediate,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            image_size=recipe.image_size,
            patch_size=recipe.patch_size,
            projection_dim=recipe.hidden,
        )
    )


def to_pixels(pngs: list[bytes]) -> Tensor:
    """PNG bytes as the tower's input, float32 [B, 3, H, W], with CLIP's mean and standard deviation."""
    images = np.stack([np.asarray(Image.open(BytesIO(png)).convert("RGB"), dtype=np.float32) for png in pngs]) / 255
    normal = (images - np.array(OPENAI_CLIP_MEAN, np.float32)) / np.array(OPENAI_CLIP_STD, np.float32)
    return torch.from_numpy(normal.transpose(0, 3, 1, 2).copy())


def image_bytes(sample: Sample) -> bytes:
    """The sample's image, rendered now."""
    assert callable(sample.image), f"{sample.id} has no image to draw"
    return sample.image()


def train_tower(tower: CLIPVisionModel, recipe: VisionRecipe, *, seed: int) -> None:
    """Train in place to classify colour, texture and shape; the classification heads are discarded."""
    patch_head = nn.Linear(recipe.hidden, sum(LOOKS))
    class_head = nn.Linear(recipe.hidden, sum(LOOKS))
    parameters = [*tower.parameters(), *patch_head.parameters(), *class_head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 50, (recipe.steps - step) / recipe.steps)
    )
    classes = toy_classes(seed)
    targets = torch.tensor(
        [[COLOURS.index(c.colour), TEXTURES.index(c.texture), SHAPES.index(c.shape)] for c in classes]
    )
    progress = progress_bar(range(recipe.steps), name="vision tower", unit="steps")
    for step in progress:
        numbers = range(step * recipe.images, (step + 1) * recipe.images)
        labels = torch.tensor([number % len(classes) for number in numbers])
        pngs = [
            render(classes[n % len(classes)], seed=seed, key=f"tower-{n}", image_size=recipe.image_size)
            for n in numbers
        ]
        output = tower(pixel_values=to_pixels(pngs), output_hidden_states=True)
        patches = patch_head(output.hidden_states[FEATURE_LAYER][:, 1:])  # [B, P, 11]
        loss = _looks_loss(patches.flatten(0, 1), targets[labels].repeat_interleave(recipe.patches, dim=0))
        loss = loss + _looks_loss(class_head(output.pooler_output), targets[labels])
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress.set_postfix(loss=f"{loss.item():.3f}")


def _looks_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy of colour, texture and shape. logits: [N, 11]; targets: int64 [N, 3]."""
    return sum(
        (functional.cross_entropy(part, targets[:, i]) for i, part in enumerate(torch.split(logits, LOOKS, dim=-1))),
        start=torch.zeros(()),
    )


@torch.no_grad()
def patch_features(tower: CLIPVisionModel, pixels: Tensor, batch: int = 240) -> Tensor:
    """The input of LLaVA's projector, [B, P, D]: the last layer but one without the class token."""
    outputs = [tower(pixel_values=part, output_hidden_states=True) for part in torch.split(pixels, batch)]
    return torch.cat([output.hidden_states[FEATURE_LAYER][:, 1:] for output in outputs])


def linear_probe(tower: CLIPVisionModel, *, seed: int, image_size: int, per_class: int = 20) -> float:
    """Accuracy of a linear classifier of the classes, fitted on training images and tested on as many test images.

    It is a logistic regression on the standardised mean over patches, with a small weight decay.
    """
    sets = []
    for part in ("classification", "classification_test"):
        samples = [
            sample
            for sample in read(None, part=part, seed=seed, images_per_class=per_class, image_size=image_size).records
            if isinstance(sample, Sample)
        ]
        features = patch_features(tower, to_pixels([image_bytes(s) for s in samples])).mean(dim=1).double()
        sets.append((features, torch.tensor([s.label for s in samples])))
    (seen, seen_labels), (new, new_labels) = sets
    mean, spread = seen.mean(dim=0), seen.std(dim=0)
    seen, new = (seen - mean) / spread, (new - mean) / spread
    weights = torch.zeros(seen.shape[1], int(seen_labels.max()) + 1, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(weights.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(seen @ weights + bias, seen_labels) + 1e-4 * weights.square().sum()
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return float(((new @ weights + bias).argmax(dim=1) == new_labels).double().mean())
