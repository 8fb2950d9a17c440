"""The states that heads stand on: a frozen model asked the open question, and what stands at chosen tokens.

To the runner this is an predictor like any other (protocol.task `features`): its answer to an item is where its states
were stored. So items are shared out, resumed, counted and refused as in every evaluation.

Shapes: `N` items, `T` tokens, `F` places, `H` size of a state.
"""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from configs.evaluation import EvalConfig
from configs.run_dir import EvalDir
from data_prep.sample import Turn
from eval.models.generate import Prompt, TextPredictor
from eval.models.hidden_state_file import RowFormat, RowWriter
from eval.models.memory import within_memory
from eval.types import Answer, Failure
from train.models.loading import LoadedModel


class StateSource(Protocol):
    """A frozen model: items to states."""

    @property
    def row_format(self) -> RowFormat:
        """What a row of its states is like."""
        ...

    def prompt(self, turns: Sequence[Turn], image: bytes | None) -> Any:
        """As `Predictor.prompt`."""
        ...

    def tokens(self, prompt: Any) -> Sequence[int]:
        """The tokens of `prompt`; none if its places are no tokens."""
        ...

    def states(self, prompts: Sequence[Any]) -> torch.Tensor:
        """(N, F, H) states; those at a place that a prompt does not have may be anything."""
        ...


class HiddenStatePredictor:
    """Answers each item with the name of the row that holds its states."""

    def __init__(self, source: StateSource, folder: EvalDir):
        """Rows go to a new file in `folder`."""
        self.source, self.writer = source, RowWriter(folder, source.row_format)

    def prompt(self, turns: Sequence[Turn], image: bytes | None) -> Any:
        """As the source's."""
        return self.source.prompt(turns, image)

    def predict(self, prompts: Sequence[Any]) -> list[Answer | Failure]:
        """Store the states of all prompts; one with a state that is no number, or too large for fp16, gets no answer.

        Raises `RunError` that names `batch_size` if the device has not enough memory.
        """
        start = time.monotonic()
        with within_memory(len(prompts), "items"):
            states = self.source.states(prompts).half().cpu()
        rows = self.writer.append(states)
        seconds = (time.monotonic() - start) / max(1, len(prompts))
        answers: list[Answer | Failure] = []
        for prompt, own, row in zip(prompts, states, rows, strict=True):
            tokens, pairs = self.source.tokens(prompt), zip(self.source.row_format.positions, own, strict=True)
            bad = [place for place, state in pairs if has(place, len(tokens)) and not state.isfinite().all()]
            if bad:
                answers.append(Failure(f"its state at place {bad[0]} is not finite in fp16"))
            else:
                answers.append(Answer("", list(tokens), True, seconds, row))
        return answers


class LanguageModelStates:
    """States of a language model's last layer, after its norm: what its head would see."""

    def __init__(self, loaded: LoadedModel, config: EvalConfig):
        """Of the question that `config.protocol` asks, at `config.probe.token_positions`."""
        self.predictor = TextPredictor(loaded, config.protocol)
        size = int(self.predictor.family.text_config.hidden_size)
        self.row_format = RowFormat(config.probe.token_positions, size)

    def prompt(self, turns: Sequence[Turn], image: bytes | None) -> Prompt:
        """As `TextPredictor.prompt`."""
        return self.predictor.prompt(turns, image)

    def tokens(self, prompt: Prompt) -> Sequence[int]:
        """Its ids."""
        return prompt.input_ids

    @torch.inference_mode()
    def states(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """(N, F, H) states, 0 at a place beyond the prompt's end. The pass ends before the head."""
        ids, mask = self.predictor.padded(prompts)
        decoder = self.predictor.family.decoder(self.predictor.model)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        embeddings = self.predictor.embeddings(ids, prompts)
        states = decoder(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions).last_hidden_state
        own = [states[row][mask[row].bool()].float() for row in range(len(prompts))]  # each (T, H), without padding
        return torch.stack([torch.stack([_at(place, tokens) for place in self.row_format.positions]) for tokens in own])


def _at(place: str, tokens: torch.Tensor) -> torch.Tensor:
    """(H,) of (T, H)."""
    if place == "mean":
        return tokens.mean(0)
    return tokens[int(place)] if has(place, len(tokens)) else torch.zeros_like(tokens[0])


def has(place: str, tokens: int) -> bool:
    """Whether a question of `tokens` tokens has the place; 0 tokens: the places are no tokens.

    >>> has("600", 600), has("-1", 600), has("mean", 600), has("image_embeds", 0)
    (False, True, True, True)
    """
    return not tokens or place == "mean" or -tokens <= int(place) < tokens
