"""Positions of three numbers for tokens of texts and image grids (M-RoPE; Qwen2-VL, arXiv 2409.12191, Section 2.1).

    text   text   image of 2 x 3 tokens                  text
    time    0      1     2     2     2     2     2     2     5
    row     0      1     2     2     2     3     3     3     5
    column  0      1     2     3     4     2     3     4     5

A text token has three equal numbers. An image's tokens count its rows and columns from the next number on; the text
behind it continues after the highest of them. Tensor shapes: `B` rows, `T` tokens a row, `N` images.
"""

import torch


def grid_positions(is_image: torch.Tensor, sequence_ids: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
    """(3, B, T) int64 positions, which begin at 0 in each conversation; 0 on padding.

    `is_image` (B, T) marks image tokens, `sequence_ids` (B, T) numbers the conversations (-1 on padding), `grids`
    (N, 2) has rows and columns of each image in tokens, in their order.
    """
    counts = grids.prod(1)  # (N,)
    image = torch.repeat_interleave(torch.arange(len(grids), device=grids.device), counts)  # (sum of P,)
    within = torch.arange(len(image), device=grids.device) - (counts.cumsum(0) - counts)[image]
    steps = (sequence_ids >= 0).long().masked_fill(is_image, 0)  # how much further the next token is
    steps[is_image] = torch.where(within + 1 == counts[image], grids.amax(1)[image], 0)
    before = steps.cumsum(1) - steps
    previous = torch.cat([sequence_ids.new_full((len(sequence_ids), 1), -2), sequence_ids[:, :-1]], 1)
    starts = torch.where(sequence_ids != previous, before, 0).cummax(1).values
    positions = torch.stack([before - starts] * 3)  # (3, B, T)
    columns = grids[:, 1][image]
    positions[1][is_image] += within // columns
    positions[2][is_image] += within % columns
    return positions.masked_fill(sequence_ids < 0, 0)
