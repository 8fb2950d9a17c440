"""Loads the model that an evaluation's `model` names, by the registered backends (`eval.models.registry`).

run, checkpoint or export, folder or hub id     a LLaVA, BLIP-2, ... that generates text, or a CLIP (by its config.json)
open_clip:ARCHITECTURE/WEIGHTS                  a CLIP that open_clip loads (optional extra `eva`)
api:NAME                                        the model NAME behind an API (`data_prep.api.client`)
"""

from pathlib import Path

import torch

from configs.evaluation import EvalConfig
from eval.models.registry import backend_name, find_backend
from eval.types import EvalModel
from train.exported_model import model_folders


def evaluated_folders(config: EvalConfig) -> list[tuple[str, Path]]:
    """(label, model folder) of every model that `config` evaluates; a model without a folder is named by its path."""
    if backend_name(config.model) is not None:
        return [("model", Path(config.model))]
    return model_folders(config.model, config.checkpoint, config.revision)


def load_eval_model(config: EvalConfig, folder: Path) -> EvalModel:
    """Load the model in `folder`, or connect to its API. Raises `ConfigError` if it cannot be loaded."""
    return find_backend(config, folder).load(config, folder, "cuda" if torch.cuda.is_available() else "cpu")
