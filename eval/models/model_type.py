"""Which type of model an evaluation's `model` names: by its prefix, or by config.json. Loads no torch."""

from pathlib import Path

from configs.run_dir import MODEL_CONFIG
from train.models.model_folder import read_model_config

ENCODERS = ("clip", "blip-2")
"""Model types whose image encoder can be evaluated alone (`eval.models.image_encoders`)."""
OPEN_CLIP_PREFIX = "open_clip:"


def is_open_clip(model: str) -> bool:
    """Whether `model` names weights that open_clip loads."""
    return model.startswith(OPEN_CLIP_PREFIX)


def model_type(folder: Path) -> str | None:
    """`model_type` of the config.json in `folder`, None without one."""
    return read_model_config(folder).get("model_type") if (folder / MODEL_CONFIG).is_file() else None


def is_encoder(model: str, folder: Path) -> bool:
    """Whether the model is an image encoder and nothing else, such as a CLIP; `folder` holds it."""
    return is_open_clip(model) or model_type(folder) == "clip"
