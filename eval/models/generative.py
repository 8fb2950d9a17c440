"""A vision-language model on this machine: generates text, scores class names, or stores hidden states."""

from pathlib import Path

import torch

from configs.errors import ConfigError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig, precision
from eval.models.class_likelihood.predictor import ClassLikelihoodPredictor
from eval.models.class_likelihood.tree_forward import scoring_attention
from eval.models.generate import TextPredictor
from eval.models.hidden_states import HiddenStatePredictor, LanguageModelStates
from eval.models.kernels import layer_parts
from eval.models.right_padding import pads_right
from eval.models.trained_probe import TrainedProbePredictor
from eval.tasks.registry import task_output
from eval.types import Predictor
from train.models.layer_parts import LayerParts
from train.models.loading import LoadedModel, load_model


class GenerativeEvalModel:
    """A model that generates text, on this machine."""

    def __init__(self, loaded: LoadedModel):
        """Keep the loaded model."""
        self.loaded, self.identity = loaded, loaded.identity
        self.answer_delimiter = loaded.family.prompt_style("official").answer_delimiter
        self.pads_right = pads_right(loaded.tokenizer, loaded.family)

    @classmethod
    def load(cls, config: EvalConfig, folder: Path, device: str) -> "GenerativeEvalModel":
        """Load the model in `folder`, a run's export or a model as published."""
        return cls(load_model(str(folder), None, *precision_and_attention(config), device))

    def predictor(self, config: EvalConfig, folder: EvalDir) -> Predictor:
        """The predictor of the output that the task scores. Raises `ConfigError` for image-text similarities."""
        output = task_output(config.protocol.task)
        if output == "similarities":
            raise ConfigError(
                f"protocol.task {config.protocol.task} compares images with texts as a CLIP does, and "
                f"{self.loaded.folder} holds a {self.loaded.family.name} model; task class_likelihood scores all class "
                "names"
            )
        if output == "hidden_states":
            return HiddenStatePredictor(LanguageModelStates(self.loaded, config), folder)
        if output == "probe_scores":
            return TrainedProbePredictor(self.loaded, config.protocol, folder)
        if output == "class_likelihoods":
            return ClassLikelihoodPredictor(self.loaded, config.protocol, folder, self._parts(config))
        return TextPredictor(self.loaded, config.protocol, self._parts(config))

    def _parts(self, config: EvalConfig) -> LayerParts:
        return layer_parts(config.kernels, self.loaded.family.decoder(self.loaded.model))


def precision_and_attention(config: EvalConfig) -> tuple[str, str]:
    """(dtype, attention kernel) of the model; scoring class names needs a kernel that takes a mask."""
    if task_output(config.protocol.task) != "class_likelihoods":
        return precision(config), config.attention
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return precision(config), scoring_attention(config.attention, device, precision(config))
