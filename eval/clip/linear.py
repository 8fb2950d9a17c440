r"""Features for the linear heads of Table 3 ("Linear"): frozen image encoders, one normalised vector an image.

    python -m eval.probing --config configs/eval/flowers102_clip.yaml --train flowers102_train
    python -m eval.probing --config configs/eval/flowers102_open_world.yaml --set model=Salesforce/blip2-opt-2.7b \
        --encoder --train flowers102_train

A CLIP is probed this way unasked, the ViT-g of a BLIP-2 (the paper's EVA-G) with `--encoder`; `open_clip:` models as
CLIPs are. Heads train as the paper says: batch 512, Adam at 1e-3, 300 epochs (`--epochs 40` for ImageNet). As in the
authors' code the vectors are normalised; unlike there, the order of the items stays the same in all epochs.
"""

from pathlib import Path

import torch

from configs.errors import ConfigError, DataError
from configs.schema import EvalConfig
from eval.clip.eva import OpenClipRespondent, is_open_clip
from eval.clip.images import ImageEncoder, load_image_encoder, model_type
from eval.items import chosen_items, open_source
from eval.respondents import with_weights

EPOCHS = 300
FEATURES = ("image_embeds", "vision_pooled")  # the names of places of such a probe


def is_encoder(config: EvalConfig, folder: Path) -> bool:
    """Whether the model has nothing but an encoder to put a head on."""
    return is_open_clip(config.model) or model_type(folder) == "clip"


def open_encoder(config: EvalConfig, folder: Path) -> ImageEncoder:
    """The image encoder of an evaluation's model. Raises `ConfigError` if it has none that is supported."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if is_open_clip(config.model):
        return OpenClipRespondent(config.model, config.dtype, device).images
    with_weights(folder, config)
    return load_image_encoder(folder, config.dtype, device)


def encoded(config: EvalConfig, encoder: ImageEncoder) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 1, H) fp16 vectors and (N,) labels of `config.source`. Raises `DataError` for an item that lacks either."""
    shards = open_source(config)
    items = chosen_items(shards.index["id_hash"].tolist(), config.limit)
    if not items:
        raise ConfigError(f"{config.source} has no items; a head has nothing to learn from")
    vectors, labels = [], []
    for start in range(0, len(items), config.batch_size):
        pixels = []
        for item in items[start : start + config.batch_size]:
            sample = shards.sample(item)
            if sample.label is None or not isinstance(sample.image, bytes):
                raise DataError(f"{sample.id} of {config.source} has no label or no image; a linear head needs both")
            pixels.append(encoder.pixels(sample.image))
            labels.append(sample.label)
        vectors.append(encoder.embed(pixels)[:, None].half().cpu())
    return torch.cat(vectors), torch.tensor(labels)
