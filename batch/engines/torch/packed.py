"""Runs the model over a packed step: new tokens of all rows in one line, prompts in chunks beside rows that decode."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import torch

from batch.engines.torch.attention import CALL_BYTES, NAME, Native, Plan, Segment, group_slots, set_plan
from batch.engines.torch.native import CACHE_DTYPES, kernels
from batch.engines.torch.pages import PageCache
from batch.engines.torch.prefix import PrefixStore
from batch.engines.torch.sequence import Sequence
from batch.engines.torch.slots import Prefix, SlotCache

PREFIX_TOKENS = 32_768  # of shared prefixes that are kept, at most
LEAST_CHUNK = 128  # tokens of prompts from which on a pass is bound by arithmetic
STEP_TOKENS = 256  # least tokens of prompts in a pass
SIZES = (64, 128, 256)  # that are tried for the width of a batch
WORTHWHILE = 0.95  # of a token's cost: a larger size must bring it below this
TRIAL_SECONDS = 0.5  # after which no larger size is tried


class PackedRunner:
    """All rows in one forward pass without padding; row i is row i of the cache."""

    together = reckons = True
    whole_budget = False

    def __init__(
        self,
        model: Any,
        max_batch: int,
        *,
        share: bool = True,
        step_tokens: int = STEP_TOKENS,
        cache_dtype: torch.dtype | None = None,
        native: bool = True,
    ) -> None:
        self.rows: list[Sequence] = []
        self._model = model
        self.step_tokens = step_tokens
        dtypes = {model.dtype, cache_dtype or model.dtype}
        fits = model.device.type == "cpu" and model.dtype == torch.float32 and dtypes <= {*CACHE_DTYPES}
        config = self._model.config.get_text_config()
        quick = self._kernels = kernels() if fits and native else None
        self.name = "packed" if quick is None else "packed, native kernels"
        self._cache = (
            SlotCache(cache_dtype, max_batch) if quick is None else PageCache(cache_dtype, max_batch, quick.page)
        )
        windows = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        self.prefixes = PrefixStore(PREFIX_TOKENS) if share and not windows else None

    @property
    def bytes_per_token(self) -> int:
        """Of cache, measured; 0 before the first pass."""
        return self._cache.bytes_per_token()

    def about(self) -> tuple[dict[str, Any], list[str]]:
        """Nothing beyond its name."""
        return {}, []

    @property
    def ragged(self) -> bool:
        """Whether a row takes only its own columns of the cache, however long the others are."""
        return self._kernels is not None

    def limit(self, tokens: int, warm: int = 0) -> None:
        """Hear how many tokens the cache may hold, and bytes to take now; one row may always be as long as it is."""
        self._cache.limit = tokens
        if isinstance(self._cache, PageCache):
            self._cache.warm(min(warm, tokens * self.bytes_per_token // 4))
        if self.prefixes is not None:
            self.prefixes.budget = min(PREFIX_TOKENS, tokens // 4)

    def register(self, sequence: Sequence) -> None:
        """Hear of a sequence that will come, so that what it shares is known before the first of its kind runs."""
        if self.prefixes is not None:
            self.prefixes.add(sequence.prompt)

    def footprint(self, sequence: Sequence) -> int:
        """Columns of the cache that it takes with all its tokens run; what it shares is not counted, or not again."""
        tokens = len(sequence.prompt) + len(sequence.tokens)
        if sequence.cache is None and self.prefixes is not None and not sequence.filled:
            return self._cache.takes(tokens - self.prefixes.choose(sequence.prompt)[1])
        return self._cache.takes(_unshared(sequence, tokens))

    def advance(self, newcomers: list[Sequence]) -> tuple[list[Sequence], torch.Tensor | None]:
        """One pass: a token for every row that decodes, and as much of the newcomers' prompts as fits beside them."""
        self._admit(newcomers)
        parts = [(i, 1) for i, row in enumerate(self.rows) if _decodes(row)]
        room = self._chunk()
        for i, row in enumerate(self.rows):
            if room > 0 and not _decodes(row):
                count = min(room, row.pending)
                parts.append((i, count))
                room -= count
        return self._pass(parts)

    def _chunk(self) -> int:
        """Tokens of prompts beside those that decode.

        While there is place for more rows nobody waits for these: their prompts are spread over the steps that the
        longest answer takes anyway, so that fewer steps are left in which the weights are read for a few rows.
        """
        if len(self.rows) >= self._cache.rows:
            return self.step_tokens
        pending = sum(row.pending for row in self.rows if not _decodes(row))
        left = max(row.max_tokens - len(row.tokens) for row in self.rows)
        return min(self.step_tokens, max(LEAST_CHUNK, -(-pending // max(left, 1))))

    def prefill(self, sequences: list[Sequence]) -> torch.Tensor:
        """Take sequences in with whole prompts; logits of each one's first token."""
        self._admit(sequences)
        logits = self._pass([(self.rows.index(s), s.pending) for s in sequences])[1]
        assert logits is not None
        return logits

    def decode(self) -> torch.Tensor:
        """Logits of the next token of every row."""
        logits = self._pass([(i, 1) for i in range(len(self.rows))])[1]
        assert logits is not None
        return logits

    def release(self, sequences: Iterable[Sequence], *, broken: bool = False) -> None:
        """Give up rows; the last row moves into each gap, so that they stay dense."""
        for sequence in sequences:
            row = self.rows.index(sequence)
            moved = self.rows.pop()
            self._cache.drop(row, len(self.rows))
            if moved is not sequence:
                self.rows[row] = moved
            if sequence.cache is not None:
                sequence.cache.users -= 1
                sequence.cache = None
            sequence.filled = 0

    def _admit(self, newcomers: list[Sequence]) -> None:
        """Rows for newcomers; a prefix that others share is computed before the first of them."""
        for sequence in newcomers:
            prefix = self._prefix_of(sequence)
            if prefix is not None:
                prefix.users += 1
                sequence.cache, sequence.filled = prefix, prefix.length
            else:
                sequence.cache, sequence.filled = None, 0
            self.rows.append(sequence)

    def _prefix_of(self, sequence: Sequence) -> Prefix | None:
        if self.prefixes is None:
            return None
        chain, length = self.prefixes.choose(sequence.prompt)
        if not length:
            return None
        prefix = self.prefixes.get(chain)
        if prefix is None:
            for first in range(0, length, self.step_tokens):
                self._run_alone(sequence.prompt[first : min(first + self.step_tokens, length)], first)
            row = len(self.rows)
            prefix = self._cache.take_prefix(row, length)
            self._cache.drop(row, row)
            self.prefixes.put(chain, prefix)
        return prefix

    def _run_alone(self, tokens: list[int], first: int) -> None:
        """Tokens of a row beyond all others, from this column on, in a pass of their own."""
        row, end = len(self.rows), first + len(tokens)
        self._cache.grow([*(_unshared(other, other.filled) for other in self.rows), end])
        columns = list(range(first, end))
        native, segments = None, []
        if self._kernels is not None:
            native = self._step([(row, first, len(tokens), -1)], end, [])
        else:
            segments.append(Segment(0, len(tokens), row, [end], decode=False, width=end))
        self._forward(tokens, columns, [row] * len(tokens), columns, segments, [], [len(tokens) - 1], native)

    def find_sizes(self) -> int:
        """The width of a batch: tokens in a pass from which on more make none of them cheaper. Sets the chunk as well.

        Measured on passes of growing size, for about a second at most.
        """
        cheapest = float("inf")
        width = SIZES[0]
        spent = 0.0
        for count in SIZES:
            times = []
            for _ in range(2):
                start = time.perf_counter()
                self._run_alone([0] * count, 0)
                self._cache.drop(0, 0)
                times.append(time.perf_counter() - start)
            if min(times) / count > cheapest * WORTHWHILE:
                break
            cheapest, width = min(times) / count, count
            spent += sum(times)
            if spent > TRIAL_SECONDS:
                break
        self.step_tokens = max(width, STEP_TOKENS)
        self._cache.rows = min(width, self._cache.rows)
        return self._cache.rows

    def _pass(self, parts: list[tuple[int, int]]) -> tuple[list[Sequence], torch.Tensor | None]:
        """Run so many next tokens of these rows; the rows that reached their newest token, and their logits."""
        needed = [_unshared(row, row.filled) for row in self.rows]
        for i, count in parts:
            needed[i] += count
        self._cache.grow(needed)
        tokens: list[int] = []
        positions: list[int] = []
        places: list[int] = []
        columns: list[int] = []
        ends: list[int] = []  # the newest tokens' places in the line
        done: list[Sequence] = []
        decoding = [i for i, _ in parts if _decodes(self.rows[i])]  # they come first
        native = self._native(parts)
        segments = self._decode_segments(decoding) if native is None else []
        shared: dict[Prefix, list[int]] = {}
        for i, count in parts:
            row = self.rows[i]
            first = row.filled
            single = _decodes(row)
            at = len(tokens)
            if native is None:
                if not single:
                    end = _unshared(row, first + count)
                    segments.append(Segment(at, at + count, i, [end], decode=False, width=end))
                if row.cache is not None:
                    shared.setdefault(row.cache, []).extend(range(at, at + count))
            tokens += row.known(first, first + count)
            positions += range(first, first + count)
            places += [i] * count
            columns += range(_unshared(row, first), _unshared(row, first + count))
            row.filled += count
            if not row.pending:
                ends.append(len(tokens) - 1)
                done.append(row)
        groups = [
            (prefix, slice(where[0], where[-1] + 1) if where[-1] - where[0] == len(where) - 1 else torch.tensor(where))
            for prefix, where in shared.items()
        ]
        logits = self._forward(tokens, positions, places, columns, segments, groups, ends or [0], native)
        return done, logits if done else None

    def _native(self, parts: list[tuple[int, int]]) -> Native | None:
        """What the native kernels are told of the step; None without them."""
        if self._kernels is None:
            return None
        prefixes: dict[Prefix | None, int] = {None: -1}
        runs = []
        for i, count in parts:
            row = self.rows[i]
            place = prefixes.setdefault(row.cache, len(prefixes) - 1)
            runs.append((i, _unshared(row, row.filled), count, place))
        longest = max(self.rows[i].filled + count for i, count in parts)
        return self._step(runs, longest, [prefix for prefix in prefixes if prefix is not None])

    def _step(self, runs: list[tuple[int, int, int, int]], longest: int, prefixes: list[Prefix]) -> Native:
        assert self._kernels is not None and isinstance(self._cache, PageCache)
        table = torch.from_numpy(self._cache.table)
        return Native(self._kernels, table, runs, longest, prefixes)

    def _decode_segments(self, slots: list[int]) -> list[Segment]:
        lengths = [_unshared(self.rows[i], self.rows[i].filled + 1) for i in slots]
        # Products of bf16 copy what is not in one piece, so they read whole slots.
        whole = self._cache.dtype is not None
        call_cost = CALL_BYTES * len(self._cache.layers) / max(self._cache.bytes_per_token(), 1)
        if whole:
            call_cost = float("inf")
        return [
            Segment(
                first,
                last,
                slots[first],
                lengths[first:last],
                decode=True,
                width=self._cache.columns if whole else max(lengths[first:last]),
            )
            for first, last in group_slots(slots, lengths, call_cost)
        ]

    def _forward(
        self,
        tokens: list[int],
        positions: list[int],
        rows: list[int],
        columns: list[int],
        segments: list[Segment],
        shared: list[tuple[Prefix, torch.Tensor | slice]],
        ends: list[int],
        native: Native | None = None,
    ) -> torch.Tensor:
        """Logits at `ends`, [ends, vocabulary]; the head runs over no other token."""
        device = self._model.device
        self._cache.place(rows, columns, device)
        config = self._model.config.get_text_config()
        usual = config._attn_implementation
        set_plan(Plan(self._cache, segments, shared, native))
        config._attn_implementation = NAME
        try:
            out = self._model(
                input_ids=torch.tensor([tokens], device=device),
                position_ids=torch.tensor([positions], device=device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=torch.tensor(ends, device=device),
            )
        finally:
            config._attn_implementation = usual
            set_plan(None)
        logits: torch.Tensor = out.logits[0].float()
        return logits


def _decodes(row: Sequence) -> bool:
    """Whether only its newest token is to be run."""
    return bool(row.tokens) and row.pending == 1


def _unshared(sequence: Sequence, tokens: int) -> int:
    """So many tokens of a sequence, without those of its shared prefix."""
    return tokens - (sequence.cache.length if sequence.cache is not None else 0)
