"""The MLX engine: mlx-lm's BatchGenerator (continuous batching), with shared prefixes and sampling per request.

A model is an mlx-lm checkpoint or a Hugging Face folder with `model*.safetensors`, quantised or not, with an adapter in
mlx-lm's format or PEFT's on top where one is named. Importing this module imports neither mlx nor transformers.
"""

from __future__ import annotations

import heapq
import importlib
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batch.engines.local.core import ThreadedEngine
from batch.engines.local.intake import Intake, Row
from batch.engines.local.memory import available
from batch.engines.local.rows import CoreSpec, RowCore, broken, finished
from batch.engines.mlx.loader import Loaded, load
from batch.engines.mlx.prefixes import Prefixes
from batch.engines.mlx.sampling import make_processors, make_sampler
from batch.engines.torch.prompt import noted  # which knows nothing of torch
from batch.errors import ErrorClass, Failure
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions

BATCH = 32
PREFILL_BATCH = 8  # prompts read at the same time, as in mlx-lm


@dataclass(slots=True, eq=False)
class _Row(Row):
    """A prompt and its answer so far. `uid` is the generator's name for it, once it runs."""

    raw: deque[Any] = field(default_factory=deque)  # log probabilities to come, from before any processor
    uid: int = -1
    count: int = 0  # tokens, the end token among them


class MlxCore(RowCore):
    """Continuous batching over one model; one thread opens and calls all of it (see `LocalCore`)."""

    def __init__(
        self,
        loaded: Loaded,
        sampling: SamplingOptions | None = None,
        max_batch: int | None = None,
        cache_bytes: int | None = None,
        *,
        truncate: str | None = None,
    ) -> None:
        super().__init__()
        # Only here, so that this module's names can be imported without mlx.
        import mlx.core as mx

        self._mx: Any = mx
        # Not by an import statement, which would find the function of that name.
        self._library: Any = importlib.import_module("mlx_lm.generate")
        self._loaded = loaded
        self.room = max_batch or BATCH
        self._intake = Intake(loaded.tokenizer, loaded.end_ids, loaded.context, sampling, truncate)
        self._generator = self._open_generator()
        self._prefixes = Prefixes(loaded.model, self._generator.stream)
        per_token = self._prefixes.bytes_per_token
        budget = _free_bytes(mx) if cache_bytes is None else cache_bytes
        self._cache_tokens = budget // per_token if per_token else 2**62
        self._waiting: list[tuple[int, int, _Row]] = []  # a heap: highest priority, then first come
        self._arrivals = 0
        self._rows: dict[int, _Row] = {}  # running, by uid
        self.about: Mapping[str, Any] = noted(
            {**loaded.about, "batching": "together"}, loaded.tokenizer, self._intake.sampling.system
        )

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self._refused or self._waiting or self._rows)

    @property
    def shared_tokens(self) -> int:
        """Prompt tokens that were not computed again, because another prompt begins with them too."""
        return self._prefixes.shared_tokens

    def _add(self, item: BatchItem[Request]) -> None:
        row = self._intake.row(item, _Row)
        heapq.heappush(self._waiting, (-item.priority, self._arrivals, row))
        self._arrivals += 1

    def cancel(self, item_id: ItemId) -> None:
        """Forget an item."""
        self._forget_refused(item_id)
        self._waiting = [entry for entry in self._waiting if entry[2].id != item_id]
        heapq.heapify(self._waiting)
        gone = [uid for uid, row in self._rows.items() if row.id == item_id]
        if gone:
            self._remove(gone)

    def step(self) -> list[BatchResponse[Answer]]:
        """Advance every running row by one token and prompts by one chunk; return what has finished."""
        done = self._take_refused()
        try:
            self._admit()
            if self._rows:
                done += self._take(self._generator.next()[1])
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            done += self._give_up(f"out of memory with {len(self._rows)} prompts running: {error}")
        return done

    def partial_texts(self) -> dict[ItemId, str]:
        """The text so far of every running item."""
        return {row.id: row.text.read() for row in self._rows.values()}

    def token_counts(self) -> dict[ItemId, int]:
        """The tokens so far of every running item."""
        return {row.id: row.count for row in self._rows.values()}

    def close(self) -> None:
        """Forget everything; the model goes with the last reference to this core."""
        self._waiting = []
        self._take_refused()
        self._rows.clear()
        self._prefixes.clear()
        self._generator.close()
        self._mx.clear_cache()

    def _open_generator(self) -> Any:
        return self._library.BatchGenerator(
            self._loaded.model,
            completion_batch_size=self.room,
            prefill_batch_size=min(PREFILL_BATCH, self.room) if self._loaded.pads else 1,
        )

    def _admit(self) -> None:
        """Give the generator as many waiting rows as there is room for, the beginnings they share computed.

        The cache is a rectangle, rows times the longest row, and must fit its bytes when every row is at its longest.
        One row is always admitted.
        """
        rows: list[_Row] = []
        longest = max((row.most_tokens for row in self._rows.values()), default=0)
        while self._waiting and (count := len(self._rows) + len(rows)) < self.room:
            longest = max(longest, self._waiting[0][2].most_tokens)
            if count and (count + 1) * longest > self._cache_tokens:
                break
            rows.append(heapq.heappop(self._waiting)[2])
        if not rows:
            return
        coming = [entry[2].prompt for entry in self._waiting[: self.room]]
        shared = self._prefixes.find([row.prompt for row in rows], coming)
        uids = self._generator.insert(
            [row.prompt[length:] for row, (length, _) in zip(rows, shared, strict=True)],
            max_tokens=[row.max_tokens for row in rows],
            caches=[cache for _, cache in shared],
            all_tokens=[row.prompt[:length] for row, (length, _) in zip(rows, shared, strict=True)],
            samplers=[make_sampler(self._mx, row.sampling) for row in rows],
            logits_processors=[
                make_processors(
                    self._mx,
                    row.sampling,
                    len(row.prompt),
                    row.constraint,
                    None if row.logprobs is None else row.raw,
                    self._loaded.penalty,
                )
                for row in rows
            ],
            stop_sequences=[self._library.StopSequences([[t] for t in sorted(row.stop_ids)]) for row in rows],
        )
        for uid, row in zip(uids, rows, strict=True):
            row.uid = uid
            self._rows[uid] = row

    def _take(self, tokens: list[Any]) -> list[BatchResponse[Answer]]:
        """Add one token to each row; the responses of those that are finished."""
        done: list[BatchResponse[Answer]] = []
        stopped: list[int] = []  # rows that the generator does not know to be finished
        for token, is_number in zip(tokens, self._are_numbers(tokens), strict=True):
            row = self._rows[token.uid]
            row.count += 1
            if not is_number:
                done.append(broken(row))
            else:
                if ended := token.token in row.stop_ids:
                    row.count -= 1  # the end token is counted in no length
                else:
                    row.text.push(token.token)
                    if row.logprobs is not None:
                        scores = row.raw.popleft() if row.raw else token.logprobs
                        row.logprobs.append(scores[token.token].item())
                ended = ended or row.text.stopped or (row.constraint is not None and row.constraint.ended)
                if not (ended or token.finish_reason):
                    continue
                done.append(finished(row, "stop" if ended else "length", row.count))
            if token.finish_reason:
                del self._rows[row.uid]
            else:
                stopped.append(row.uid)
        if stopped:
            self._remove(stopped)
        return done

    def _are_numbers(self, tokens: list[Any]) -> list[bool]:
        """Whether each row's log probabilities are numbers: the first of them is none where any logit was none."""
        if not tokens:
            return []
        firsts: list[float] = self._mx.stack([token.logprobs[0] for token in tokens]).tolist()
        return [
            math.isfinite(first) or math.isfinite(self._mx.max(token.logprobs).item())
            for first, token in zip(firsts, tokens, strict=True)
        ]

    def _remove(self, uids: list[int]) -> None:
        self._generator.remove(uids)
        for uid in uids:
            del self._rows[uid]

    def _give_up(self, message: str) -> list[BatchResponse[Answer]]:
        """Fail what runs, and begin again with an empty generator."""
        failure = Failure(ErrorClass.EXHAUSTED, message)
        done: list[BatchResponse[Answer]] = [BatchResponse(row.id, None, error=failure) for row in self._rows.values()]
        self._rows.clear()
        self._prefixes.clear()
        self._generator.close()
        self._generator = self._open_generator()
        self._mx.clear_cache()
        return done


def _free_bytes(mx: Any) -> int:
    """Memory the caches may take: most of what the GPU is said to be good for, a part of what is free on a CPU."""
    working_set = mx.device_info().get("max_recommended_working_set_size", 0)
    return int(max(working_set - mx.get_active_memory(), 0) * 0.8) if working_set else available() // 5 * 2


def _out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "memory" in text or "alloc" in text


def open_core(spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> MlxCore:
    """A core from its description: `path`, and where wanted `precision`, `adapter_path`, `cache_gb` and `truncate`.

    `truncate` is "left" or "right", the end at which a prompt longer than the context is cut instead of refused.
    """
    read = CoreSpec.read("mlx", spec, ("precision", "adapter_path"))
    loaded = load(read.path, spec.get("precision") or "auto", spec.get("adapter_path"))
    return MlxCore(loaded, sampling, max_batch, read.cache_bytes, truncate=read.truncate)


class MlxEngine(ThreadedEngine):
    """The MLX engine within this process: `MlxEngine("path/to/model")`."""

    def __init__(
        self,
        path: str | Path,
        *,
        precision: str = "auto",
        adapter_path: str | Path | None = None,
        sampling: SamplingOptions | None = None,
        max_batch: int | None = None,
    ) -> None:
        spec = {"path": str(path), "precision": precision, "adapter_path": adapter_path}
        super().__init__("mlx", lambda: open_core(spec, sampling or SamplingOptions(), max_batch))
