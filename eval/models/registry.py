"""The model backends: which class loads what an evaluation's `model` names.

A backend is one class in one file, an `eval.types.EvalModel`; adding one is that file and one line here:

    class MyModel:
        identity: str                # hash of the weights, or a name
        answer_delimiter = ""        # see protocol.answer_after
        pads_right = False

        @classmethod
        def load(cls, config: EvalConfig, folder: Path, device: str) -> "MyModel": ...
        def predictor(self, config: EvalConfig, folder: EvalDir) -> Predictor: ...

A model written as `PREFIX:NAME` is loaded by the backend called PREFIX, which ignores `folder`. A folder or hub id is
loaded by one of `LOCAL`, chosen by its config.json.
"""

from importlib import import_module
from pathlib import Path
from typing import Protocol

from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from eval.models.model_type import model_type
from eval.tasks.registry import task_output
from eval.types import EvalModel

BACKENDS = {
    "api": "eval.models.openai_api:ApiEvalModel",
    "open_clip": "eval.models.open_clip:OpenClipEvalModel",
}
"""Prefix of `model` to the class that loads it."""

LOCAL = {
    "clip": "eval.models.clip:ClipEvalModel",
    "generative": "eval.models.generative:GenerativeEvalModel",
    "encoder": "eval.models.encoder_features:EncoderEvalModel",
}
"""Backends of model folders: a CLIP, a model that generates text, and an image encoder whose features are stored."""


class Backend(Protocol):
    """A class of `EvalModel` that loads itself."""

    def load(self, config: EvalConfig, folder: Path, device: str) -> EvalModel:
        """Load the weights onto `device`. Raises `ConfigError` if they cannot be loaded."""
        ...


def backend_name(model: str) -> str | None:
    """The prefix of `model` if a backend is registered under it; None for a folder or hub id.

    >>> backend_name("api:gpt-4o"), backend_name("llava-hf/llava-1.5-7b-hf")
    ('api', None)

    Raises `ConfigError` that lists the backends for an unknown prefix.
    """
    prefix, colon, _ = model.partition(":")
    if not colon or not prefix.isidentifier():
        return None
    if prefix not in BACKENDS:
        raise ConfigError(
            f"model is {model!r}, and no backend is called {prefix!r}; known backends: {', '.join(BACKENDS)}"
        )
    return prefix


def find_backend(config: EvalConfig, folder: Path) -> Backend:
    """The backend that loads `config.model`, of which `folder` holds the weights if there is one."""
    if task_output(config.protocol.task) == "hidden_states" and config.probe.part == "encoder":
        target = LOCAL["encoder"]
    elif (name := backend_name(config.model)) is not None:
        target = BACKENDS[name]
    else:
        target = LOCAL["clip" if model_type(folder) == "clip" else "generative"]
    module, _, class_name = target.partition(":")
    backend: Backend = getattr(import_module(module), class_name)
    return backend
