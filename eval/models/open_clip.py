r"""EVA-CLIP zero-shot through the package open_clip, an optional extra.

    python -m eval.run --config configs/eval/imagenet_clip.yaml \
        --set model=open_clip:EVA01-g-14-plus/merged2b_s11b_b114k

`model: open_clip:ARCHITECTURE/WEIGHTS` names it; `pip install 'vlm-classify[eva]'` brings the package, with
torchvision, which must fit the installed torch (a torch for CPUs only does not load it). The weights are those of the
authors' EVA-G (its 1,024 projected features).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from configs.errors import ConfigError, first_line
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig, precision
from data_prep.images import decode_rgb
from eval.models.clip import ZeroShotPredictor, check_zero_shot, unit_vectors
from eval.models.model_type import OPEN_CLIP_PREFIX
from train.models.loading import DTYPES


@dataclass(frozen=True)
class OpenClipImages:
    """The image half, with open_clip's own preprocessing."""

    model: Any
    preprocess: Any
    identity: str
    feature: str = "image_embeds"

    @property
    def size(self) -> int:
        """How many numbers a vector has."""
        return int(self.model.visual.output_dim)

    def pixels(self, image: bytes) -> torch.Tensor:
        """(3, S, S) as open_clip's transform makes it."""
        made: torch.Tensor = self.preprocess(decode_rgb(image))
        return made

    @torch.inference_mode()
    def embed(self, pixels: list[torch.Tensor]) -> torch.Tensor:
        """(N, H) fp32 vectors of length 1."""
        weight = next(self.model.parameters())
        vectors = self.model.encode_image(torch.stack(pixels).to(weight.device, weight.dtype))
        return functional.normalize(vectors.float(), dim=-1)


@dataclass(frozen=True)
class OpenClipTexts:
    """The text half, with open_clip's tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def logit_scale(self) -> float:
        """The learned scale."""
        return float(self.model.logit_scale.detach().float().exp())

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """(C, H) fp32 vectors of length 1."""
        device = next(self.model.parameters()).device
        return unit_vectors(texts, lambda part: self.model.encode_text(self.tokenizer(part).to(device)))


class OpenClipEvalModel:
    """A model of open_clip."""

    answer_delimiter = ""
    pads_right = False

    def __init__(self, model: str, dtype: str, device: str):
        """Load it. Raises `ConfigError` that says what to install if open_clip is missing or does not load."""
        architecture, _, weights = model.removeprefix(OPEN_CLIP_PREFIX).partition("/")
        if not architecture or not weights:
            raise ConfigError(f"model is {model!r}; write {OPEN_CLIP_PREFIX}ARCHITECTURE/WEIGHTS")
        try:
            import open_clip
        except (ImportError, RuntimeError) as error:  # torchvision's operators fail with a RuntimeError
            raise ConfigError(
                f"{model} needs the package open_clip, which does not load here ({first_line(error)}); "
                "pip install 'vlm-classify[eva]', with a torchvision for this torch"
            ) from error
        try:
            loaded, preprocess = open_clip.create_model_from_pretrained(
                architecture, pretrained=weights, device=device, precision="fp32"
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise ConfigError(f"open_clip does not load {model}: {first_line(error)}") from error
        loaded = loaded.eval().to(DTYPES[dtype])
        self.identity = _identity(loaded)
        self.images = OpenClipImages(loaded, preprocess, self.identity)
        self.texts = OpenClipTexts(loaded, open_clip.get_tokenizer(architecture))

    @classmethod
    def load(cls, config: EvalConfig, folder: Path, device: str) -> "OpenClipEvalModel":  # noqa: ARG003
        """Load the weights that `config.model` names; there is no folder."""
        return cls(config.model, precision(config), device)

    def predictor(self, config: EvalConfig, folder: EvalDir) -> ZeroShotPredictor:
        """Zero-shot, the only thing it can."""
        check_zero_shot(config)
        return ZeroShotPredictor(self.images, self.texts, config.protocol, folder)


def _identity(model: Any) -> str:
    """A digest over names, shapes and 16 spread values of every weight."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().flatten()
        step = max(1, len(flat) // 16)
        digest.update(f"{name} {tuple(tensor.shape)} {flat[::step][:16].float().tolist()}".encode())
    return digest.hexdigest()
