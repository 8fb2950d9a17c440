r"""Features for the linear heads of Table 3 ("Linear"): frozen image encoders, one normalized vector an image.

    python -m eval.probing --config configs/eval/flowers102_clip.yaml --train flowers102_train
    python -m eval.probing --config configs/eval/flowers102_open_world.yaml --set model=Salesforce/blip2-opt-2.7b \
        --encoder --train flowers102_train

This is the default for a CLIP and for `open_clip:` models; `--encoder` probes the ViT-g of a BLIP-2 (the paper's
EVA-G). As in the authors' code the vectors are normalized.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configs.errors import DataError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig, precision
from data_prep.sample import Turn
from eval.models.clip import ClipPrompt
from eval.models.hidden_state_file import RowFormat
from eval.models.hidden_states import HiddenStatePredictor
from eval.models.image_encoders import ImageEncoder, load_image_encoder, with_weights
from eval.models.model_type import is_open_clip
from eval.models.open_clip import OpenClipEvalModel


@dataclass(frozen=True)
class EncoderStates:
    """One state per image: the encoder's vector, at a position named after the feature."""

    encoder: ImageEncoder
    row_format: RowFormat

    def prompt(self, turns: Sequence[Turn], image: bytes | None) -> ClipPrompt:  # noqa: ARG002
        """The image; an encoder gets no text. Raises `DataError` if there is none, or it does not decode."""
        if image is None:
            raise DataError("it has no image; an image encoder has no other input")
        return ClipPrompt(self.encoder.pixels(image), "")

    def tokens(self, prompt: ClipPrompt) -> Sequence[int]:  # noqa: ARG002
        """None."""
        return ()

    def states(self, prompts: Sequence[ClipPrompt]) -> torch.Tensor:
        """(N, 1, H) vectors of length 1."""
        return self.encoder.embed([prompt.pixels for prompt in prompts])[:, None]


class EncoderEvalModel:
    """The image encoder of an evaluation's model."""

    answer_delimiter = ""
    pads_right = False

    def __init__(self, encoder: Any):
        """`encoder` is an `ImageEncoder`."""
        self.encoder = encoder
        self.identity = str(encoder.identity)

    @classmethod
    def load(cls, config: EvalConfig, folder: Path, device: str) -> "EncoderEvalModel":
        """Load the encoder. Raises `ConfigError` if the model has none that is supported."""
        if is_open_clip(config.model):
            return cls(OpenClipEvalModel.load(config, folder, device).images)
        with_weights(folder, config)
        return cls(load_image_encoder(folder, precision(config), device))

    def predictor(self, config: EvalConfig, folder: EvalDir) -> HiddenStatePredictor:  # noqa: ARG002
        """The predictor that stores its vectors."""
        row_format = RowFormat((self.encoder.feature,), self.encoder.size)
        return HiddenStatePredictor(EncoderStates(self.encoder, row_format), folder)
