"""Hidden states of a frozen model at chosen token positions of the open question, on which linear heads are trained.

To the runner this is a predictor like any other (task `hidden_states`): its answer to an item names the row that holds
the item's states. So items are distributed, resumed, counted and refused as in every evaluation.

Shapes: `N` items, `T` tokens, `F` positions, `H` hidden size.
"""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from data_prep.sample import Turn
from eval.models.generate import Prompt, TextPredictor
from eval.models.hidden_state_file import RowFormat, RowWriter
from eval.models.memory import within_memory
from eval.types import Answer, Failure
from train.models.loading import LoadedModel


class HiddenStateSource(Protocol):
    """A frozen model: items to hidden states."""

    @property
    def row_format(self) -> RowFormat:
        """What a row of its states is like."""
        ...

    def prompt(self, turns: Sequence[Turn], image: bytes | None) -> Any:
        """As `TextPredictor.prompt`."""
        ...

    def tokens(self, prompt: Any) -> Sequence[int]:
        """The tokens of `prompt`; none if its positions are not those of tokens."""
        ...

    def states(self, prompts: Sequence[Any]) -> torch.Tensor:
        """(N, F, H) states; those at a position that a prompt does not have are arbitrary."""
        ...


class HiddenStatePredictor:
    """Answers each item with the name of the row that holds its states."""

    def __init__(self, source: HiddenStateSource, folder: EvalDir):
        """Rows go to a new file in `folder`."""
        self.source, self.writer = source, RowWriter(folder, source.row_format)

    def prompt(self, turns: Sequence[Turn], image: bytes | None) -> Any:
        """As the source's."""
        return self.source.prompt(turns, image)

    def predict(self, prompts: Sequence[Any]) -> list[Answer | Failure]:
        """Store the states of all prompts; one with a state that is not finite in fp16 is a `Failure`.

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
            bad = [
                position
                for position, state in pairs
                if has_position(position, len(tokens)) and not state.isfinite().all()
            ]
            if bad:
                answers.append(Failure(f"its state at position {bad[0]} is not finite in fp16"))
            else:
                answers.append(Answer("", list(tokens), True, seconds, row))
        return answers


class LanguageModelStates:
    """States of a language model's last layer, after its norm: the input of its head."""

    def __init__(self, loaded: LoadedModel, config: EvalConfig):
        """Of the question of `config.protocol`, at `config.probe.token_positions`."""
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
        """(N, F, H) states, 0 at a position beyond the prompt's end. The head is not run."""
        ids, mask = self.predictor.padded(prompts)
        decoder = self.predictor.text_decoder.decoder
        states = decoder(**self.predictor.inputs(ids, mask, prompts).arguments).last_hidden_state
        own = [states[row][mask[row].bool()].float() for row in range(len(prompts))]  # each (T, H), without padding
        return torch.stack(
            [torch.stack([_at(position, tokens) for position in self.row_format.positions]) for tokens in own]
        )


def _at(position: str, tokens: torch.Tensor) -> torch.Tensor:
    """(H,) of (T, H)."""
    if position == "mean":
        return tokens.mean(0)
    return tokens[int(position)] if has_position(position, len(tokens)) else torch.zeros_like(tokens[0])


def has_position(position: str, tokens: int) -> bool:
    """Whether a question of `tokens` tokens has `position`; 0 tokens: its positions are not those of tokens.

    >>> has_position("600", 600), has_position("-1", 600), has_position("mean", 600), has_position("image_embeds", 0)
    (False, True, True, True)
    """
    return not tokens or position == "mean" or -tokens <= int(position) < tokens
