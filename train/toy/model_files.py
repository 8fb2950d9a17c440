"""What random models have in common: large weights, and files of image processors."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil


@torch.no_grad()
def draw_large_weights(model: PreTrainedModel) -> None:
    """Draw all weights anew, so large that answers differ between images."""
    for weight in model.parameters():
        weight.copy_(torch.randn_like(weight) * (0.3 if weight.ndim > 1 else 0.5))


def padding_processor(side: int) -> LlavaImageProcessorPil:
    """LLaVA-1.5's image processor: pads an image to a square, and scales that to `side` pixels."""
    sizes = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    return LlavaImageProcessorPil(do_pad=True, **sizes)


def write_image_processor(images: Any, folder: Path, kind: str) -> None:
    """Write `images` under the name that published models have there, not that of the Pillow class."""
    images.save_pretrained(folder)
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) | {"image_processor_type": kind}
    file.write_text(json.dumps(settings), encoding="utf-8")
