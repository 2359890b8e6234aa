"""The packed step with the native kernels, over pages that rows take as they grow."""

from __future__ import annotations

from typing import Any

import torch

from batch.engines.torch.attention import Native, Plan
from batch.engines.torch.lean.model import LeanModel
from batch.engines.torch.native import CACHE_DTYPES, INT8, kernels
from batch.engines.torch.packed import STEP_TOKENS, PackedRunner, unshared
from batch.engines.torch.pages import PageCache
from batch.engines.torch.slots import Prefix, cache_for


class NativePackedRunner(PackedRunner):
    """Every row takes its own columns of the cache only, and all attend in one call. Raises ValueError where it cannot.

    It needs the kernels, and a model on the CPU in fp32 with a cache of fp32, bf16 or eight bits.
    """

    name = "packed, native kernels"
    ragged = True

    def __init__(
        self,
        model: Any,
        max_batch: int,
        *,
        share: bool = True,
        step_tokens: int = STEP_TOKENS,
        cache_dtype: torch.dtype | None = None,
    ) -> None:
        quick = kernels()
        dtypes = {model.dtype, cache_dtype or model.dtype}
        if quick is None or model.device.type != "cpu" or model.dtype != torch.float32 or not dtypes <= {*CACHE_DTYPES}:
            raise ValueError("the native kernels do not do this model")
        self._kernels = quick
        layers = model.config.num_hidden_layers if isinstance(model, LeanModel) else 0
        self._pages = cache_for(model, PageCache)(cache_dtype, max_batch, quick, layers)
        super().__init__(model, self._pages, share=share, step_tokens=step_tokens)

    def about(self) -> tuple[dict[str, Any], list[str]]:
        """What its cache is of, where that is not the model's."""
        return ({"kv_cache": "int8"} if self._pages.dtype is INT8 else {}), []

    def _may_guess(self) -> bool:
        return self._pages.has_room(len(self.rows))

    def _plan(self, parts: list[tuple[int, int]]) -> Plan:
        prefixes: dict[Prefix | None, int] = {None: -1}
        filled = [row.filled for row in self.rows]
        runs, longest = [], 0
        for i, count in parts:
            row = self.rows[i]
            place = prefixes.setdefault(row.cache, len(prefixes) - 1)
            runs.append((i, unshared(row, filled[i]), count, place))
            filled[i] += count
            longest = max(longest, filled[i])
        return self._native(runs, longest, [prefix for prefix in prefixes if prefix is not None])

    def _plan_alone(self, row: int, first: int, count: int) -> Plan:
        return self._native([(row, first, count, -1)], first + count, [])

    def _native(self, runs: list[tuple[int, int, int, int]], longest: int, prefixes: list[Prefix]) -> Plan:
        table = torch.from_numpy(self._pages.table)
        return Plan(self._pages, [], [], Native(self._kernels, table, runs, longest, prefixes))
