"""Which tokens of a batch the decoder runs, where they are, and which keys each attends to.

Tensor shapes: `B` rows, `T` running tokens of a row, `P` tokens of the shared prefix, `C` conversations, `M` targets,
`Q` most targets of a row.
"""

from dataclasses import dataclass

import torch

from train.models.batch import Batch
from train.models.varlen_attention import PackedRow, kernel_for


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch are once those that need not run are left out.

    A packed row has the `conversation` of each token, and either a kernel for such rows or a mask (1, 1, T, P + T) of
    the keys that a token attends to. Other rows are causal, each by itself.
    """

    batch: Batch  # with the tokens that run
    prefix: int  # P
    positions: torch.Tensor  # (1, T) of the rotary embedding
    conversation: torch.Tensor | None  # (T,)
    mask: torch.Tensor | None
    packed: PackedRow | None
    targets: tuple[torch.Tensor, torch.Tensor]  # rows and columns (M,) in `batch`


def select_tokens(batch: Batch, rows: torch.Tensor, positions: torch.Tensor, shared: int, like: torch.Tensor) -> Layout:
    """The batch without the first `shared` and the last token of each conversation; targets at `rows`, `positions`.

    At least one token remains of each. `like` has the device and the type of the decoder's states.
    """
    device = batch.input_ids.device
    if not batch.packed:
        end = max(batch.input_ids.shape[1] - int(not batch.process_last_token), shared + 1)
        places = torch.arange(shared, end, device=device)[None]
        rest = batch.with_tokens(slice(None), slice(shared, end))
        return Layout(rest, shared, places, None, None, None, (rows, positions - shared))
    sequence_ids = batch.sequence_ids[0]  # (T,)
    lengths = batch.lengths()
    ends = (lengths - int(not batch.process_last_token)).clamp(min=shared + 1)
    offsets = torch.arange(len(sequence_ids), device=device) - (torch.cumsum(lengths, 0) - lengths)[sequence_ids]
    kept = (offsets >= shared) & (offsets < ends[sequence_ids])
    columns = kept.nonzero()[:, 0]
    own, rest = sequence_ids[columns], batch.with_tokens(slice(None), columns)
    kernel = kernel_for(like)
    return Layout(
        rest,
        shared,
        offsets[columns][None],
        own,
        None if kernel else visible_keys(own, torch.arange(len(own), device=device), shared)[None, None],
        PackedRow.of(kernel, ends - shared, shared) if kernel else None,
        (rows, (kept.cumsum(0) - 1)[positions]),
    )


def visible_keys(conversation: torch.Tensor, columns: torch.Tensor, prefix: int) -> torch.Tensor:
    """(Q, P + T): the keys that the tokens in `columns` (Q,) of a packed row attend to: the prefix, and their past."""
    index = torch.arange(len(conversation), device=columns.device)
    past = (conversation[columns, None] == conversation) & (columns[:, None] >= index)
    return torch.cat([past.new_ones(len(columns), prefix), past], dim=1)


def padded_targets(layout: Layout, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns (B, Q) of the targets of each row, filled up with column 0, and the slot in Q of each target (M,).

    Q is at least 1. The targets are in the order of their rows.
    """
    target_rows, target_columns = layout.targets
    counts = torch.bincount(target_rows, minlength=rows)
    starts = torch.cumsum(counts, 0) - counts
    slots = torch.arange(len(target_rows), device=target_rows.device) - starts[target_rows]
    columns = target_columns.new_zeros(rows, max(1, int(counts.max())))
    columns[target_rows, slots] = target_columns
    return columns, slots


def last_mask(layout: Layout, columns: torch.Tensor) -> torch.Tensor:
    """(B, 1, Q, P + T): the keys that the tokens in `columns` (B, Q) attend to."""
    if layout.conversation is not None:
        return visible_keys(layout.conversation, columns[0], layout.prefix)[None, None]
    keys = torch.arange(layout.prefix + layout.batch.input_ids.shape[1], device=columns.device)
    return (keys <= columns[:, :, None] + layout.prefix)[:, None]
