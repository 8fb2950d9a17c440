"""The kernels of decoder layers in an evaluation (setting `kernels`): as transformers wrote them, or fused.

Compiled layers take about 15 seconds to compile and then save a third of a prompt's time on a GPU (measured in
training). Answers and scores are equal up to rounding. Only decoders of LLaMA's type have others than transformers'.
"""

from torch import nn

from train.kernel_choice import choose_kernels
from train.models.layer_parts import LayerParts
from train.models.llama_layers import is_supported


def layer_parts(kernels: str, decoder: nn.Module) -> LayerParts:
    """The parts of `decoder`'s layers for `kernels`: `auto` or a name of `model.kernels`.

    Raises `ConfigError` where those cannot run here. Liger's norms stay in the decoder.
    """
    choice = choose_kernels(kernels, next(decoder.parameters()).device.type, 0)
    return LayerParts.of(choice.name, decoder) if is_supported(decoder) else LayerParts()
