"""Who is asked, by what an evaluation's `model` says.

run, checkpoint or export, folder or hub id     a LLaVA, BLIP-2, ... that generates, or a CLIP (by its config.json)
open_clip:ARCHITECTURE/WEIGHTS                  a CLIP that open_clip loads (optional extra `eva`)
api:NAME                                        the model NAME behind an API (`eval.models.api_client`)
"""

from pathlib import Path

import torch

from configs.errors import ConfigError
from configs.evaluation import EvalConfig, is_api
from configs.run_dir import EvalDir
from eval.models.class_likelihood.predictor import ClassLikelihoodPredictor
from eval.models.class_likelihood.tree_forward import scoring_attention
from eval.models.clip import ClipEvalModel
from eval.models.encoder_features import EncoderEvalModel
from eval.models.generate import TextPredictor
from eval.models.hidden_states import HiddenStatePredictor, LanguageModelStates
from eval.models.image_encoders import model_type, weights_identity, with_weights
from eval.models.open_clip import OpenClipEvalModel, is_open_clip
from eval.models.openai_api import ApiEvalModel
from eval.runner.batching import open_source
from eval.runner.fingerprint import check_answers, describe_evaluation, in_fixed_batches, read_evaluation
from eval.runner.output_paths import NO_RUN, place_of
from eval.types import EvalModel, Predictor
from train.export import model_folders
from train.models.loading import LoadedModel, load_model


class GenerativeEvalModel:
    """A model that generates text, on this machine."""

    def __init__(self, loaded: LoadedModel):
        """Keep the loaded model."""
        self.loaded, self.identity = loaded, loaded.identity
        self.answer_delimiter = loaded.family.wording("official", loaded.model.config).answer_delimiter
        self.pads_right = loaded.tokenizer.padding_side == "right"

    def predictor(self, config: EvalConfig, folder: EvalDir) -> Predictor:
        """One that generates, scores class names, or stores states. Raises `ConfigError` for kind zero_shot."""
        if config.protocol.kind == "zero_shot":
            raise ConfigError(
                f"protocol.kind zero_shot compares images with texts as a CLIP does, and {self.loaded.folder} holds a "
                f"{self.loaded.family.name} model; kind class_scoring scores all class names"
            )
        if config.protocol.kind == "features":
            return HiddenStatePredictor(LanguageModelStates(self.loaded, config), folder)
        scoring = config.protocol.kind == "class_scoring"
        return (
            ClassLikelihoodPredictor(self.loaded, config.protocol, folder)
            if scoring
            else TextPredictor(self.loaded, config.protocol)
        )


def evaluated_folders(config: EvalConfig) -> list[tuple[str, Path]]:
    """(label, model folder) of every model that `config` asks; a name stands for the folder of one that has none."""
    if is_api(config.model) or is_open_clip(config.model):
        return [("model", Path(config.model))]
    return model_folders(config.model, config.checkpoint, config.revision)


def answers_folder(config: EvalConfig) -> tuple[EvalDir, Path]:
    """(folder of the first model's answers or states, the model's own folder).

    A model that is not on this machine (any more) stands for itself: what it answered can be reported without it.
    """
    try:
        label, model = evaluated_folders(config)[0]
    except ConfigError:
        label, model = NO_RUN, Path(config.model)
    return place_of(config).folder(label, model), model


def check_current(config: EvalConfig) -> EvalDir:
    """The folder of the first model's answers or states, if there are any.

    Raises `OtherAnswersError` if they are those of other weights than lie in the model's folder now (of an open_clip
    model only loading tells), about other items, or, where neighbours matter, of other batches.
    """
    folder, model = answers_folder(config)
    present = read_evaluation(folder)
    if present is not None:
        identity = weights_identity(model) if model.is_dir() else present.asked["model"]
        data = open_source(config).fingerprint
        wanted = describe_evaluation(config, present.label, identity, data, (0, 0))
        check_answers(folder, in_fixed_batches(wanted, config) if "batch_size" in present.asked else wanted)
    return folder


def opening(config: EvalConfig) -> tuple[str, str]:
    """(precision, attention): evaluations of one model that agree in it share what was opened."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scoring = config.protocol.kind == "class_scoring"
    attention = scoring_attention(config.attention, device, config.dtype) if scoring else config.attention
    return config.dtype, attention


def load_eval_model(config: EvalConfig, folder: Path) -> EvalModel:
    """Load the model in `folder`, or make ready to call it. Raises `ConfigError` if it cannot be had."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if is_api(config.model):
        return ApiEvalModel(config)
    if config.protocol.kind == "features" and config.probe.part == "encoder":
        return EncoderEvalModel(config, folder, device)
    if is_open_clip(config.model):
        return OpenClipEvalModel(config.model, config.dtype, device)
    if model_type(folder) == "clip":
        with_weights(folder, config)
        return ClipEvalModel(folder, config.dtype, device)
    return GenerativeEvalModel(load_model(str(folder), None, *opening(config), device))
