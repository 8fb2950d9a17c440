"""Questions through a LLaMA-type decoder; what all begin with (the system prompt) goes through it once.

    prefill = QuestionPrefill(steps, image_token=32000)
    keys, last = prefill(ids, embeddings, room=64)       # last (B, H): the head's input at each question's last token

The keys are in one buffer, which the next batch uses again if it is no larger. Tensor shapes: `B` questions, `T` tokens
of the longest, `R` without the common beginning, `H` hidden size.
"""

from collections.abc import Sequence

import torch

from eval.models.llama_decoder import KeyValueCache, LlamaSteps


class QuestionPrefill:
    """`tokens` counts those that went through the decoder so far."""

    def __init__(self, steps: LlamaSteps, image_token: int | None):
        """`image_token` is the image placeholder's id; only ids before it are shared. None: nothing is shared."""
        self.steps, self.image_token = steps, image_token
        self.tokens = 0
        self._shared_ids: list[int] = []
        self._shared_keys: KeyValueCache | None = None
        self._keys: KeyValueCache | None = None

    def __call__(
        self, ids: Sequence[Sequence[int]], embeddings: torch.Tensor, room: int
    ) -> tuple[KeyValueCache, torch.Tensor]:
        """Keys of all questions with `room` positions behind the longest, and (B, H) after the norm at the last tokens.

        `ids` are the questions' own, `embeddings` (B, T, H) what the decoder takes, padded on the left. The keys are
        overwritten by the next call.
        """
        shared = self._share(ids, embeddings)
        before = shared.lengths[0] if shared else 0
        lengths = [len(row) - before for row in ids]
        keys = self._room(embeddings, before + max(lengths), room)
        if shared:
            keys.begin(shared)
        self.tokens += sum(lengths)
        return keys, self.steps.prefill(padded_right(embeddings, lengths), lengths, keys)

    def _room(self, embeddings: torch.Tensor, longest: int, room: int) -> KeyValueCache:
        rows = len(embeddings)
        if self._keys is None or not self._keys.fits(rows, longest + room, embeddings):
            self._keys = None  # its memory is free before more is taken
            self._keys = KeyValueCache.room(self.steps, rows, longest + room)
        else:
            self._keys.reuse(rows, longest)
        return self._keys

    def _share(self, ids: Sequence[Sequence[int]], embeddings: torch.Tensor) -> KeyValueCache | None:
        """Keys of the questions' common beginning, reused from the previous batch if it began alike."""
        if self.image_token is None:
            return None
        common = common_beginning(ids, self.image_token)
        held = len(self._shared_ids)
        fits = self._shared_ids == common[:held] and (
            self._shared_keys is None or self._shared_keys.fits(1, held, embeddings)
        )
        if not fits or len(ids) * (len(common) - held) > len(common):  # a row's work, against every row's
            self._shared_ids, held = common, len(common)
            self._shared_keys = KeyValueCache.room(self.steps, 1, held) if held else None
            if self._shared_keys is not None:
                start = embeddings.shape[1] - len(ids[0])
                self.tokens += held
                self.steps.prefill(embeddings[:1, start : start + held], [held], self._shared_keys)
        return self._shared_keys


def common_beginning(ids: Sequence[Sequence[int]], image_token: int) -> list[int]:
    """The ids that all rows begin with, up to the image or a row's last token: at least one token stays per row.

    >>> common_beginning([[1, 5, 6, 9, 9, 7], [1, 5, 8, 9, 9]], image_token=9)
    [1, 5]
    """
    rows = [list(row) for row in ids]
    first, last = min(rows), max(rows)  # in sorted order, these two differ the earliest
    shared = range(min(map(len, rows)) - 1)
    end = next((at for at in shared if first[at] != last[at] or first[at] == image_token), len(shared))
    return first[:end]


def padded_right(embeddings: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """(B, R, H): the last `lengths[r]` of each row (B, T, H) moved to the front, zeros behind."""
    longest = max(lengths)
    if min(lengths) == longest:
        return embeddings[:, embeddings.shape[1] - longest :]
    moved = embeddings.new_zeros(len(embeddings), longest, embeddings.shape[2])
    for row, length in enumerate(lengths):
        moved[row, :length] = embeddings[row, embeddings.shape[1] - length :]
    return moved
