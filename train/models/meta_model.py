"""A model without storage: exact in names, shapes and what trains, and free at any size (PyTorch's meta device)."""

from typing import Any

import torch

from configs.run import RunConfig
from train.models.param_groups import choose_trainable
from train.models.types import Family


def meta_model(family: Family, config: RunConfig) -> Any:
    """The model of `family` with its trainable parameters chosen."""
    with torch.device("meta"):
        model = family.model_class.from_config(family.config)
        choose_trainable(model, family, config.model, config.optim, config.deepspeed.zero_stage)
    return model.train()
