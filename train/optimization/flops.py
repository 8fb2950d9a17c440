"""Counted floating-point operations of a training step, and the peak rates to compare them with."""

from collections.abc import Sequence
from dataclasses import dataclass

from train.models.batch import Batch
from train.models.param_groups import PartCount, lora_row
from train.models.trainable import TrainableFamily

PEAK_BF16 = {  # dense bf16 FLOP/s by the vendors' datasheets
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
}


@dataclass(frozen=True)
class Weights:
    """Parameters of a part that are in matrix products: all, those of them that train, and LoRA's."""

    total: int
    trained: int
    lora: int

    @classmethod
    def of(cls, counts: Sequence[PartCount], part: str, look_up: int) -> "Weights":
        """From the freeze table, without `look_up` parameters that are only looked up."""
        rows = {row.part: row for row in counts}
        own, lora = rows[part], rows.get(lora_row(part))
        used = own.total - look_up
        trained = min(own.trainable, used)  # of some parameters, it is not known which are looked up
        return cls(used, trained, 0 if lora is None else lora.total)

    @property
    def trains(self) -> bool:
        """Whether any of them does."""
        return self.trained + self.lora > 0

    def flops(self, *, backward: bool) -> int:
        """Operations a token."""
        return (4 if backward else 2) * self.total + 2 * self.trained + 6 * self.lora


@dataclass(frozen=True)
class FlopModel:
    """Multiply-add counts (2 FLOP each) of one model and what of it trains, without the projector.

    Recomputation is never counted (MFU, not HFU).
    """

    language: Weights  # the head included
    vision: Weights
    family: TrainableFamily
    layers: int
    hidden: int

    @classmethod
    def of(cls, family: TrainableFamily, counts: Sequence[PartCount]) -> "FlopModel":
        """From a model's family and its freeze table."""
        text = family.text_config
        tied = bool(getattr(text, "tie_word_embeddings", False))  # then the head's product is with the embedding
        look_up = 0 if tied else text.vocab_size * text.hidden_size
        return cls(
            language=Weights.of(counts, "language", look_up),
            vision=Weights.of(counts, "vision", 0),
            family=family,
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
        )

    def step(self, batches: Sequence[Batch]) -> float:
        """FLOPs of forward and backward over micro-batches.

        A frozen language model costs forward + gradients of activations (2 + 2 per parameter and token), trained
        weights 2 more for their gradients. A tower of which nothing trains runs forward only. Causal attention costs
        2 x 2 x length^2 x hidden / 2 forward per layer.
        """
        lengths = [int(length) for batch in batches for length in batch.lengths()]
        tokens = sum(lengths)
        vision_tokens = sum(self.family.vision_tokens(batch.images) for batch in batches if len(batch.images))
        linear = self.language.flops(backward=True) * tokens
        attention = 3 * sum(2 * length * length for length in lengths) * self.hidden * self.layers
        vision = self.vision.flops(backward=self.vision.trains) * vision_tokens
        return float(linear + attention + vision)


def peak_flops(device_name: str) -> float | None:
    """Peak dense bf16 rate of a device by its name, or None where it is not known."""
    return next((rate for name, rate in PEAK_BF16.items() if name in device_name), None)
