"""The linear probe that was trained with a model (`loss.probe`): log-probabilities of its classes for an image.

As in training, the probe's token is directly behind the image, and what follows it is not run.
Tensor shapes: `B` images, `H` hidden size, `C` classes of the probe.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from configs.errors import ConfigError, DataError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from data_prep.class_names import load_class_list
from data_prep.sample import Turn
from eval.models.class_answers import class_answers, write_class_table
from eval.models.generate import Prompt, TextPredictor
from eval.models.memory import within_memory
from eval.types import Answer, Failure
from train.chat.probe_position import behind_image
from train.models.linear_probe import StoredProbe
from train.models.loading import LoadedModel
from train.models.model_folder import shortened


def checked_probe(folder: Path, protocol: ProtocolConfig, width: int) -> StoredProbe:
    """The probe in `folder` of a model whose states have `width` numbers, if it can score `protocol.classes`.

    Raises `ConfigError` if the model has no probe, or one that was not trained on some of the classes, and for images
    behind their question, where the token would see it.
    """
    if protocol.image_order == "after":
        raise ConfigError(
            "protocol.image_order is after, and the token of a trained probe would see the question that it never "
            "saw in training; set it to before"
        )
    probe = StoredProbe.read(folder)
    names = load_class_list(protocol.classes or "").names
    if unknown := [name for name in dict.fromkeys(names) if name not in probe.classes]:
        raise ConfigError(
            f"{len(unknown):,} of the {len(names):,} classes of protocol.classes {protocol.classes} are none of the "
            f"{len(probe.classes):,} that the linear probe in {folder} was trained on: {shortened(unknown)}; name a "
            "list of its own classes"
        )
    if len(probe.token) != width:
        raise ConfigError(
            f"the linear probe in {folder} is for states of {len(probe.token):,} numbers and the model next to it has "
            f"{width:,}; export the run again"
        )
    return probe


class TrainedProbePredictor:
    """Scores the classes of `protocol.classes`; the answer's text is the most probable one's name."""

    def __init__(self, loaded: LoadedModel, protocol: ProtocolConfig, folder: EvalDir):
        """Read the probe next to the weights and write the folder's table of classes. Raises as `checked_probe`."""
        self.predictor = TextPredictor(loaded, protocol)
        self.names = load_class_list(protocol.classes or "").names
        probe = checked_probe(loaded.folder, protocol, int(self.predictor.family.text_config.hidden_size))
        number = {name: index for index, name in enumerate(probe.classes)}
        self.chosen = [number[name] for name in self.names]
        device = self.predictor.model.device
        self.token, self.weight, self.bias = (part.to(device) for part in (probe.token, probe.weight, probe.bias))
        write_class_table(folder, self.names)

    def prompt(self, turns: Sequence[Turn], image: bytes | None) -> Prompt:
        """The tokens up to the image's last and one for the probe. Raises `DataError` as `TextPredictor.prompt`."""
        if image is None:
            raise DataError("it has no image, behind which a trained probe's token is")
        whole = self.predictor.prompt(turns, image)
        end = behind_image(whole.input_ids, self.predictor.family.image_token_id)
        return replace(whole, input_ids=[*whole.input_ids[:end], self.predictor.renderer.eos])

    def predict(self, prompts: Sequence[Prompt]) -> list[Answer | Failure]:
        """Log-probabilities of the classes. Raises `RunError` that names `batch_size` if memory runs out."""
        start = time.monotonic()
        with within_memory(len(prompts), "images"):
            scores = self.log_probabilities(prompts)[:, self.chosen]
        return class_answers(self.names, scores, start)

    @torch.inference_mode()
    def log_probabilities(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """(B, C) fp32, over all classes of the probe."""
        ids, mask = self.predictor.padded(prompts)
        inputs = self.predictor.inputs(ids, mask, prompts)
        states = inputs.states.clone()
        states[:, -1] = self.token.to(states.dtype)  # padded on the left, so every row ends with the probe's token
        inputs = replace(inputs, embedded=replace(inputs.embedded, states=states))
        last = self.predictor.text_decoder.decoder(**inputs.arguments).last_hidden_state[:, -1].float()
        scores: torch.Tensor = (last @ self.weight.T + self.bias).log_softmax(-1)
        return scores
