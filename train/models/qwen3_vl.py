"""Qwen3-VL (dense): Qwen2.5-VL's images and positions, with features of three tower layers (arXiv 2511.21631).

Its tower attends over the whole image. Tokens of three of its layers pass mergers of their own and are added to the
results of the first decoder layers (DeepStack). Published: Qwen/Qwen3-VL-2B-, 4B-, 8B-, 32B-Instruct.
"""

from typing import Any

import torch

from train.models.images import ImageBatch
from train.models.qwen2_5_vl import Qwen25VlFamily


class Qwen3VlFamily(Qwen25VlFamily):
    """As Qwen2.5-VL; the projector is the merger and the mergers of the added features."""

    name = "Qwen3-VL"
    model_type = "qwen3_vl"
    parts = Qwen25VlFamily.parts | {"projector": ("model.visual.merger.", "model.visual.deepstack_merger_list.")}
    config_sections = ("text_config", "vision_config")

    def encode_layers(self, model: Any, images: ImageBatch, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        """The tower's merged tokens, and those of the layers whose features are added."""
        output = self.run_tower(model, images, dtype)
        return (output.pooler_output, *output.deepstack_features)
