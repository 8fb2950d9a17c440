"""A linear probe that is trained with the model (`loss.probe`): a learned token, and a linear layer at its last state.

The paper (Appendix C.5) added a new token with a linear probing loss and gives neither position nor weight nor rate;
those are this project's choice. The token is one vector among the embeddings, not a row of the vocabulary: tokenizer
and vocabulary stay those of the base. The probe is part of the model while it trains, so that checkpoints and ZeRO
treat it like any other part; an export has it in two separate files.
Tensor shapes: `B` rows, `T` tokens a row, `H` hidden size, `C` classes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from configs.errors import ConfigError
from configs.run_dir import ExportDir
from data_prep.atomic import write_bytes
from train.models.types import PROBE, Family


class ProbeToken(nn.Module):
    """The learned embedding; a separate module, whose forward ZeRO 3 gathers it for."""

    def __init__(self, vector: torch.Tensor):
        """Begin with `vector` (H,)."""
        super().__init__()
        self.vector = nn.Parameter(vector)

    def forward(self, states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """(B, T, H) embeddings `states` with the token at `places` (B, T)."""
        return torch.where(places[..., None], self.vector, states)


class LinearProbe(nn.Module):
    """`token` goes into the decoder, `head` (H to C) reads its normalized state in the last layer."""

    def __init__(self, token: torch.Tensor, classes: int):
        """The head begins at zero: every class is equally likely, and the first gradient of the model is zero."""
        super().__init__()
        self.token = ProbeToken(token)
        self.head = nn.Linear(len(token), classes, device=token.device, dtype=token.dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)


def attach_probe(model: Any, family: Family, classes: int, seed: int) -> None:
    """Make a trainable probe part of `model`, the same for every rank: the token is drawn with `seed`."""
    like = next(family.word_embeddings(model).parameters())
    deviation = float(getattr(family.text_config, "initializer_range", 0.02))
    drawn = torch.randn(like.shape[1], generator=torch.Generator().manual_seed(seed), device="cpu") * deviation
    model.add_module(PROBE, LinearProbe(drawn.to(like.device, like.dtype), classes))


def probe_of(model: Any) -> LinearProbe | None:
    """The probe that is part of `model`."""
    found: LinearProbe | None = getattr(model, PROBE, None)
    return found


def is_probe(parameter: str) -> bool:
    """Whether the parameter of this name is a probe's."""
    return parameter.startswith(f"{PROBE}.")


@dataclass(frozen=True)
class StoredProbe:
    """A trained probe: its `classes` (C names), `token` (H,), and the head's `weight` (C, H) and `bias` (C,), fp32."""

    classes: tuple[str, ...]
    token: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def of(cls, weights: dict[str, torch.Tensor], classes: list[str]) -> "StoredProbe":
        """From a checkpoint's weights by their names in the model."""
        names = ("token.vector", "head.weight", "head.bias")
        return cls(tuple(classes), *(weights[f"{PROBE}.{name}"].float().contiguous() for name in names))

    def write(self, folder: Path, described: dict[str, Any]) -> None:
        """`linear_probe.safetensors` and `linear_probe.json` in `folder`; `described` is added to the latter."""
        from safetensors.torch import save_file

        export = ExportDir(folder)
        tensors = {f"{PROBE}.{name}": getattr(self, name) for name in ("token", "weight", "bias")}
        save_file(tensors, export.probe_weights)
        text = json.dumps({**described, "classes": list(self.classes)}, indent=1, ensure_ascii=False)
        write_bytes(export.probe, text.encode())

    @classmethod
    def read(cls, folder: Path) -> "StoredProbe":
        """The probe of an exported model. Raises `ConfigError` if there is none, or its files do not belong together.

        The tensors are checked against each other, not against the model next to them.
        """
        from safetensors.torch import load_file

        export = ExportDir(folder)
        if not export.probe.is_file() or not export.probe_weights.is_file():
            raise ConfigError(
                f"{folder} has no linear probe ({export.probe_weights.name} and {export.probe.name}); train with "
                "loss.probe above 0, or evaluate with protocol.task class_likelihood, which needs no probe"
            )
        try:
            classes = tuple(map(str, json.loads(export.probe.read_text(encoding="utf-8-sig"))["classes"]))
            tensors = load_file(export.probe_weights)
            found = cls(classes, *(tensors[f"{PROBE}.{name}"].float() for name in ("token", "weight", "bias")))
        except Exception as error:  # damage has many forms: JSON, types, safetensors' own errors
            raise ConfigError(f"the linear probe in {folder} cannot be read ({error}); export the run again") from error
        if found.weight.shape != (len(classes), len(found.token)) or found.bias.shape != (len(classes),):
            raise ConfigError(
                f"the linear probe in {folder} has {len(classes):,} classes and a head of shape "
                f"{tuple(found.weight.shape)}; its two files are of different runs: export the run again"
            )
        return found
