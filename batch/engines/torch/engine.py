"""The torch engine: sequences in, one step after the other, answers out."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from batch.engines.local.core import ThreadedEngine
from batch.engines.local.intake import Intake
from batch.engines.local.memory import available, trim
from batch.engines.local.rows import CoreSpec, RowCore, broken, finished
from batch.engines.torch.loader import Loaded, load
from batch.engines.torch.lookup import settle
from batch.engines.torch.prompt import noted
from batch.engines.torch.scheduler import Scheduler
from batch.engines.torch.sequence import Sequence
from batch.engines.torch.text import Detokenizer
from batch.engines.torch.troubles import first_line, out_of_memory
from batch.errors import ErrorClass, Failure, FatalError
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import KV_CACHE, SamplingOptions

CPU_BATCH = 64
GPU_BATCH = 256


class TorchCore(RowCore):
    """Continuous batching over one model; one thread calls all of it (see `LocalCore`)."""

    def __init__(
        self,
        loaded: Loaded,
        sampling: SamplingOptions | None = None,
        max_batch: int | None = None,
        cache_bytes: int | None = None,
        *,
        share_prefixes: bool = True,
        order: str = "arrival",
        truncate: str | None = None,
        kv_cache: str = "auto",
    ) -> None:
        super().__init__()
        # Only here, so that this module's names can be imported without torch.
        import torch

        from batch.engines.torch import remembered, sampler
        from batch.engines.torch.generation import Generation
        from batch.engines.torch.lean.model import LeanModel
        from batch.engines.torch.packed import SIZES

        self._torch, self._lean = torch, LeanModel
        self._intake = Intake(loaded.tokenizer, loaded.end_ids, loaded.context, sampling, truncate)
        about = noted(loaded.about, loaded.tokenizer, self._intake.sampling.system)
        self._loaded = loaded = replace(loaded, about=about)
        on_gpu = loaded.about["device"] != "cpu"
        self.room = max_batch or (GPU_BATCH if on_gpu else SIZES[-1])
        kv = torch.bfloat16 if loaded.about.get("kv_cache") == "bf16" else None
        self._runner_options: dict[str, Any] = {"share": share_prefixes, "cache_dtype": kv, "int8": kv_cache == "int8"}
        with self._torch.inference_mode():
            notes: list[str] = []
            self._runner: Any = self._open_runner(notes)
            if not (max_batch or on_gpu):
                self.room = remembered.sizes(self._key, self._runner) or CPU_BATCH
        self._sampler = sampler.Sampler()
        budget = cache_bytes or _free_bytes(self._torch, loaded.about["device"])
        per_token, per_row = self._runner.bytes_per_token, self._runner.bytes_per_row
        if per_row:  # states are there however short the rows: no more rows than half of the memory holds
            self.room = max(1, min(self.room, budget // 2 // per_row))
            budget = max(0, budget - self.room * per_row)
        tokens = budget // per_token if per_token else 2**62
        # Of whichever runner there is then.
        footprint = (lambda row: self._runner.footprint(row)) if self._runner.reckons else None
        self._scheduler = Scheduler(
            self.room, tokens, longest_first=order == "longest", footprint=footprint, ragged=self._runner.ragged
        )
        self._limit_cache()
        self._generation = Generation(loaded.model)
        shown, more = self._runner.about()
        notes = [*loaded.about.get("notes", []), *self._generation.notes, *notes, *more]
        self.about: Mapping[str, Any] = {
            **loaded.about,
            "batching": "together" if self._runner.together else "one by one",
            "runner": self._runner.name,
            **shown,
            **({"notes": notes} if notes else {}),
        }

    @property
    def is_lean(self) -> bool:
        """Whether the model is one of our own modules."""
        return isinstance(self._loaded.model, self._lean)

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self._refused or len(self._scheduler))

    def cancel(self, item_id: ItemId) -> None:
        """Forget an item."""
        self._forget_refused(item_id)
        running = self._scheduler.cancel(item_id)
        if running is not None:
            with self._torch.inference_mode():
                self._release([running])

    def step(self) -> list[BatchResponse[Answer]]:
        """Advance every running sequence by one token, or by a part of its prompt; return what has finished."""
        done = self._take_refused()
        with self._torch.inference_mode():
            self._runner.release(self._scheduler.evict())
            newcomers = self._scheduler.schedule()
            if not newcomers and not self._runner.rows:
                return done
            problem = ""
            try:
                rows, logits = self._runner.advance(newcomers)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                problem = first_line(error)
            if problem:  # here, as the error's traceback held on to what the step had allocated
                return done + self._shrink(problem)
            if logits is None:
                return done
            asked = [i for i, row in enumerate(rows) if row.logprobs is not None]
            scores = logits[asked].log_softmax(-1) if asked else None  # the model's own, before any penalty
            picked = self._sampler(rows, logits)
            if scores is not None:
                tokens = self._torch.tensor([[picked[i] or 0] for i in asked], device=scores.device)
                for i, (score,) in zip(asked, scores.gather(1, tokens).tolist(), strict=True):
                    if picked[i] is not None:
                        rows[i].logprobs.append(score)
            self._take_all(rows, picked, done)
        return done

    def partial_texts(self) -> dict[ItemId, str]:
        """The text so far of every running item."""
        return {row.id: row.text.read() for row in self._scheduler.running}

    def token_counts(self) -> dict[ItemId, int]:
        """The tokens so far of every running item."""
        return {row.id: len(row.tokens) for row in self._scheduler.running}

    def close(self) -> None:
        """Forget everything; the model goes with the last reference to this core."""
        self._scheduler = Scheduler(self.room, 0)
        self._take_refused()

    def _add(self, item: BatchItem[Request]) -> None:
        self._wait(self._sequence(item))

    def _sequence(self, item: BatchItem[Request]) -> Sequence:
        sequence = self._intake.row(item, Sequence)
        sequence.processors = self._generation.processors(sequence.prompt, sequence.max_tokens, sequence.sampling)
        return sequence

    def _wait(self, sequence: Sequence) -> None:
        self._runner.register(sequence)
        self._scheduler.add(sequence)

    def _take_all(self, rows: list[Sequence], picked: list[int | None], done: list[BatchResponse[Answer]]) -> None:
        """Add tokens to rows, and what is finished to `done`. A row that guessed comes once more for each guess."""
        ended: list[Sequence] = []
        faulty: list[Sequence] = []
        right: dict[Sequence, int] = {}  # guesses of each row
        over: set[Sequence] = set()  # what comes of them is no more to be heard
        for row, token in zip(rows, picked, strict=True):
            if row in over:
                continue
            if token is None:
                faulty.append(row)
                done.append(broken(row))
            elif reason := self._take(row, token):
                ended.append(row)
                done.append(finished(row, reason, len(row.tokens) - (row.tokens[-1] in row.stop_ids)))
            elif (held := right.get(row, 0)) < len(row.guessed) and row.guessed[held] == token:
                right[row] = held + 1
                continue
            over.add(row)
        for row in over:
            if row.guessed:
                settle(row, right.get(row, 0))
        self._release(faulty, broken=True)
        self._release(ended)

    def _take(self, row: Sequence, token: int) -> str | None:
        """Add a token to a row; the reason why it is finished, if it is."""
        row.tokens.append(token)
        if token in row.stop_ids:
            return "stop"
        row.text.push(token)
        if row.text.stopped or (row.constraint is not None and row.constraint.ended):
            return "stop"
        return "length" if len(row.tokens) >= row.max_tokens else None

    def _shrink(self, problem: str) -> list[BatchResponse[Answer]]:
        """After running out of memory: begin again with half the rows at once; a row that was alone fails."""
        rows = list(self._scheduler.running)
        self._scheduler.finish(rows)
        whole_budget = self._runner.whole_budget
        self._runner = None  # it may have stopped anywhere in its step; its cache goes before there is another
        gc.collect()
        if self._loaded.about["device"] != "cpu":
            self._torch.cuda.empty_cache()  # nothing where there is no such device
        self.room = self._scheduler.max_batch = max(1, len(rows) // 2)
        if whole_budget:  # its cache took all of it, however few the rows
            self._scheduler.cache_tokens //= 2
        self._runner = self._open_runner([])
        self._limit_cache()
        if len(rows) == 1:
            failure = Failure(ErrorClass.EXHAUSTED, f"out of memory with this prompt alone: {problem}")
            return [BatchResponse(rows[0].id, None, error=failure, tokens_input=len(rows[0].prompt))]
        for row in map(self._anew, rows):
            self._wait(row)
        return []

    def _open_runner(self, notes: list[str]) -> Any:
        from batch.engines.torch import runner

        int8 = self._runner_options["int8"]
        text = self._trial_text() if int8 or self._loaded.about["precision"] != "fp32" else None
        model = self._loaded.model
        return runner.open_runner(model, self.room, notes=notes, text=text, key=self._key, **self._runner_options)

    @property
    def _key(self) -> str:
        """The name under which is remembered what trials of the runner say; "" where that is not."""
        options = self._runner_options
        return f"{self._loaded.key}-{options['share']:d}{'-int8' * options['int8']}" if self._loaded.key else ""

    def _trial_text(self) -> list[int]:
        """A real text for runners that round, no longer than the context."""
        from batch.engines.torch.precision import trial_text

        text = trial_text(self._loaded.tokenizer)
        return text if self._loaded.context is None else text[: self._loaded.context]

    def _limit_cache(self) -> None:
        if self._runner.reckons:
            self._runner.limit(self._scheduler.cache_tokens)

    def _anew(self, row: Sequence) -> Sequence:
        """A row as it was before its first token."""
        sampling = row.sampling
        return replace(
            row,
            text=Detokenizer(self._loaded.tokenizer, sampling.stop),
            tokens=[],
            logprobs=None if row.logprobs is None else [],
            constraint=self._intake.constraint(sampling),
            generator=None,
            cache=None,
            filled=0,
            guessed=[],
            lookup=None,
        )

    def _release(self, rows: list[Sequence], *, broken: bool = False) -> None:
        self._runner.release(rows, broken=broken)
        self._scheduler.finish(rows)


def _free_bytes(torch: Any, device: str) -> int:
    """Memory the cache may take: most of what is free on a GPU, a good part of it where others live too."""
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * 0.8)
    return available() // 5 * 2


def open_core(spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> TorchCore:
    """A core from its description: `path`, and where wanted what else `known` names.

    `adapter_path` is a LoRA's folder; `order` is "arrival", or "longest" where answers may come in any order;
    `truncate` is "left" or "right", the end at which a prompt longer than the context is cut instead of refused;
    `share_prefixes: false` computes what prompts have in common for each of them; `kv_cache: int8` keeps keys and
    values in eight bits.
    """
    read = CoreSpec.read("torch", spec, ("precision", "device", "share_prefixes", "order", "adapter_path", "kv_cache"))
    how = spec.get("precision") or "auto", spec.get("device") or "auto", spec.get("adapter_path")
    order = spec.get("order") or "arrival"
    if order not in ("arrival", "longest"):
        raise FatalError(f"order: {order!r} is neither arrival nor longest")

    kv_cache = spec.get("kv_cache") or "auto"
    if kv_cache not in KV_CACHE:
        raise FatalError(f"kv_cache: {kv_cache!r} is none of {', '.join(KV_CACHE)}")

    def core(*, lean: bool) -> TorchCore:
        return TorchCore(
            load(read.path, *how, lean=lean),
            sampling,
            max_batch,
            read.cache_bytes,
            share_prefixes=bool(spec.get("share_prefixes", True)),
            order=order,
            truncate=read.truncate,
            kv_cache=kv_cache,
        )

    made = core(lean=True)
    # Our own modules know packed steps alone; where those are not right, transformers' know slower ways.
    if not made.is_lean or made.about["runner"].startswith("packed"):
        if "transformers" in sys.modules:  # a first start: its tokenizer and ours are made of the same words
            gc.collect()
        trim()  # of a tokenizer's making, and of the trials
        return made
    made.close()
    return core(lean=False)


class TorchEngine(ThreadedEngine):
    """The torch engine within this process: `TorchEngine("path/to/model")`."""

    def __init__(
        self,
        path: str | Path,
        *,
        precision: str = "auto",
        device: str = "auto",
        sampling: SamplingOptions | None = None,
        max_batch: int | None = None,
    ) -> None:
        spec = {"path": str(path), "precision": precision, "device": device}
        super().__init__("torch", lambda: open_core(spec, sampling or SamplingOptions(), max_batch))
