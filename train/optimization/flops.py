"""Counted floating-point operations of a training step, and the peak rates to compare them with."""

from collections.abc import Sequence
from dataclasses import dataclass

from train.models.batch import Batch
from train.models.types import TrainableFamily

PEAK_BF16 = {  # dense bf16 FLOP/s by the vendors' datasheets
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
}


@dataclass(frozen=True)
class FlopModel:
    """Multiply-add counts (2 FLOP each) of one model and mode; recomputation is never counted (MFU, not HFU)."""

    language_parameters: int  # in matrix products, the head included
    lora_parameters: int
    vision_parameters: int
    family: TrainableFamily
    layers: int
    hidden: int
    mode: str

    @classmethod
    def of(cls, family: TrainableFamily, counts: dict[str, int], lora_parameters: int, mode: str) -> "FlopModel":
        """From a model's family and its parameter counts by part."""
        text = family.text_config
        tied = bool(getattr(text, "tie_word_embeddings", False))  # then the head's product is with the embedding
        look_up = 0 if tied else text.vocab_size * text.hidden_size
        return cls(
            language_parameters=counts["language"] - look_up,
            lora_parameters=lora_parameters,
            vision_parameters=counts["vision"],
            family=family,
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
            mode=mode,
        )

    def step(self, batches: Sequence[Batch]) -> float:
        """FLOPs of forward and backward over micro-batches.

        A frozen language model costs forward + gradients of activations (2 + 2 per parameter and token), a trained
        one 2 more for gradients of weights. Causal attention costs 2 x 2 x length^2 x hidden / 2 forward per layer.
        """
        lengths = [int(length) for batch in batches for length in batch.lengths()]
        tokens = sum(lengths)
        vision_tokens = sum(self.family.vision_tokens(batch.images) for batch in batches if len(batch.images))
        passes = 3 if self.mode == "full" else 2
        linear = 2 * passes * self.language_parameters * tokens + 6 * self.lora_parameters * tokens
        attention = 3 * sum(2 * length * length for length in lengths) * self.hidden * self.layers
        vision = 2 * self.vision_parameters * vision_tokens
        return float(linear + attention + vision)


def peak_flops(device_name: str) -> float | None:
    """Peak dense bf16 rate of a device by its name, or None where it is not known."""
    return next((rate for name, rate in PEAK_BF16.items() if name in device_name), None)
