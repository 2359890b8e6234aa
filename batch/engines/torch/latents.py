"""Attention whose keys and values are made from a latent of all heads (MLA): the latents themselves are attended to.

A query takes the matrix that makes keys into itself, and what was attended to goes through the one that makes values,
so that the cache holds one latent a token and all heads read it (DeepSeek-V2, 2024, section 2.1.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(slots=True)
class Latents:
    """The two matrices of an attention, [heads, size of a key without its position, rank] and [heads, rank, value]."""

    keys: torch.Tensor
    values: torch.Tensor

    def ask(self, query: torch.Tensor) -> torch.Tensor:
        """[tokens, heads, key size] to [tokens, heads, rank and what has the position]."""
        plain, placed = query.split([self.keys.shape[1], query.shape[2] - self.keys.shape[1]], -1)
        asked = torch.bmm(plain.transpose(0, 1), self.keys).transpose(0, 1)
        return torch.cat([asked, placed], -1)

    def answer(self, mixed: torch.Tensor) -> torch.Tensor:
        """[tokens, heads, rank or more] to [tokens, heads, value size]."""
        return torch.bmm(mixed[..., : self.values.shape[1]].transpose(0, 1), self.values).transpose(0, 1)


def latents_of(module: Any, latent: torch.Tensor, query: torch.Tensor) -> Latents | None:
    """Those of an attention that keeps `latent`, [1, 1, tokens, rank]; None where it keeps keys and values.

    The matrix is read by what it makes of ones, as its weights may be in few bits or have an adapter.
    """
    project = getattr(module, "kv_b_proj", None)
    if project is None or not hasattr(module, "expand_kv") or getattr(project, "bias", None) is not None:
        return None
    rank, heads, plain = latent.shape[-1], query.shape[1], module.qk_nope_head_dim
    made = project(torch.eye(rank, dtype=query.dtype, device=query.device)).view(rank, heads, -1)
    keys, values = made.split([plain, made.shape[2] - plain], -1)
    return Latents(keys.permute(1, 2, 0).contiguous(), values.transpose(0, 1).contiguous())
