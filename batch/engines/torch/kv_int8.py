"""Keys and values of eight bits as numbers again, from pages as kv_int8.c lays them out."""

from __future__ import annotations

import torch

BLOCK, ELEMENTS, PIECE = 32, 16, 4  # as in kv_int8.h; a piece is of numbers that stand together
ORDER = [0, 2, 1, 3]  # of those


def unpacked(pages: torch.Tensor, size: int, *, values: bool) -> torch.Tensor:
    """Tiles, uint8, [..., columns, bytes of a column], as float32, [..., columns, size]; slow."""
    before, (columns, _) = pages.shape[:-2], pages.shape[-2:]
    flat = pages.flatten(-2)
    elements = -(-size // ELEMENTS) * ELEMENTS
    tile, steps = flat.split([columns * elements, flat.shape[-1] - columns * elements], -1)
    if values:
        pieces = tile.view(*before, columns // PIECE, elements, PIECE)[..., ORDER]
        numbers = pieces.transpose(-1, -2).reshape(*before, columns, elements)
    else:
        pieces = tile.view(*before, elements // PIECE, columns, PIECE)[..., ORDER]
        numbers = pieces.transpose(-2, -3).reshape(*before, columns, elements)
    both = steps.contiguous().view(torch.bfloat16).view(*before, -1, columns, 2).float()  # [..., blocks, columns, 2]
    both = both[..., :1, :, :] if values else both
    alike = elements if values else BLOCK
    step, least = (part.transpose(-1, -2).repeat_interleave(alike, -1) for part in both.unbind(-1))
    return (least[..., :size] + step[..., :size] * numbers[..., :size]).contiguous()
