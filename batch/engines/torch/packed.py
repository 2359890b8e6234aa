"""Runs the model over a packed step: new tokens of all rows in one line, prompts in chunks beside rows that decode."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch

from batch.engines.torch.attention import NAME, Plan, register, set_plan
from batch.engines.torch.lookup import guess
from batch.engines.torch.own import adapt, counts_itself
from batch.engines.torch.prefix import PrefixStore
from batch.engines.torch.sequence import Sequence
from batch.engines.torch.slots import Prefix, SlotCache

PREFIX_TOKENS = 32_768  # of shared prefixes that are kept, at most
LEAST_CHUNK = 256  # tokens of prompts from which on a pass is bound by arithmetic
STEP_TOKENS = 256  # least tokens of prompts in a pass
SIZES = (64, 128, 256)  # that are tried for the width of a batch
WORTHWHILE = 0.95  # of a token's cost: a larger size must bring it below this
TRIAL_SECONDS = 0.5  # after which no larger size is tried, where what is found is not remembered


class PackedRunner(ABC):
    """All rows in one forward pass without padding; row i is row i of the cache.

    What a step attends to is for those who attend: `packed_native` over pages, `packed_plain` with torch over slots.
    """

    name: str
    together = reckons = True
    whole_budget = ragged = False

    def __init__(self, model: Any, cache: SlotCache, *, share: bool = True, step_tokens: int = STEP_TOKENS) -> None:
        register()
        adapt(model)
        self.rows: list[Sequence] = []
        self._model = model
        self._positions = not counts_itself(model)
        self.step_tokens = step_tokens
        self._cache = cache
        self.prefixes = PrefixStore(PREFIX_TOKENS) if share else None

    @abstractmethod
    def _plan(self, parts: list[tuple[int, int]]) -> Plan:
        """What a step of so many next tokens of these rows attends to; the rows do not have them yet."""

    @abstractmethod
    def _plan_alone(self, row: int, first: int, count: int) -> Plan:
        """The same of tokens of one row, which stands beyond all others, from column `first` on."""

    @property
    def bytes_per_token(self) -> int:
        """Of cache, measured; 0 before the first pass."""
        return self._cache.bytes_per_token()

    @property
    def bytes_per_row(self) -> int:
        """Of states, which a model of attention alone has none of."""
        return 0

    def about(self) -> tuple[dict[str, Any], list[str]]:
        """Nothing beyond its name."""
        return {}, []

    def limit(self, tokens: int) -> None:
        """Hear how many tokens the cache may hold; one row may always be as long as it is."""
        self._cache.limit = tokens
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
        return self._cache.takes(unshared(sequence, tokens))

    def advance(self, newcomers: list[Sequence]) -> tuple[list[Sequence], torch.Tensor | None]:
        """One pass: a token for every row that decodes, and as much of the newcomers' prompts as fits beside them.

        Where rows want nothing of their logits but the likeliest token, that stands in their place: int64, [rows].
        """
        self._admit(newcomers)
        if not newcomers and (found := self._guessed()) is not None:
            return found
        parts = [(i, 1) for i, row in enumerate(self.rows) if decodes(row)]
        room = self._chunk()
        for i, row in enumerate(self.rows):
            if room > 0 and not decodes(row):
                count = min(room, row.pending)
                parts.append((i, count))
                room -= count
        return self._pass(parts, brief=True)

    def _may_guess(self) -> bool:
        """Whether rows may have a few tokens more than they need."""
        return False

    def _guessed(self) -> tuple[list[Sequence], torch.Tensor | None] | None:
        """A pass over newest tokens and guesses at those after them, where there are any.

        A row comes once for each of its tokens that were run; the logits of one hold if all guesses before it do.
        """
        if not self._may_guess() or not guess(self.rows):
            return None
        # Each by itself: attention gives a token what it would give it alone.
        return self._pass([(i, 1) for i, row in enumerate(self.rows) for _ in range(row.pending)], brief=True)

    def _chunk(self) -> int:
        """Tokens of prompts beside those that decode.

        While there is place for more rows nobody waits for these: their prompts are spread over the steps that the
        longest answer takes anyway, so that fewer steps are left in which the weights are read for a few rows.
        """
        if len(self.rows) >= self._cache.rows:
            return self.step_tokens
        pending = sum(row.pending for row in self.rows if not decodes(row))
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
            self._drop(row, len(self.rows))
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
                self._begin(len(self.rows), prefix)
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
            for first, end in self._pieces(length):
                self._run_alone(sequence.prompt[first:end], first)
            row = len(self.rows)
            prefix = self._take_prefix(row, length)
            self._drop(row, row)
            self.prefixes.put(chain, prefix)
        return prefix

    def _pieces(self, length: int) -> list[tuple[int, int]]:
        """From where to where the passes go that so many tokens of one row are run in."""
        step = self.step_tokens
        return [(first, min(first + step, length)) for first in range(0, length, step)]

    def _begin(self, row: int, prefix: Prefix) -> None:  # noqa: B027 - optional
        """Hear that a row begins with this prefix."""

    def _take_prefix(self, row: int, length: int) -> Prefix:
        return self._cache.take_prefix(row, length)

    def _drop(self, row: int, last: int) -> None:
        """Forget a row; the last one moves into the gap."""
        self._cache.drop(row, last)

    def _run_alone(self, tokens: list[int], first: int) -> torch.Tensor:
        """Tokens of a row beyond all others, from this column on, in a pass of their own; logits of the last."""
        row, end = len(self.rows), first + len(tokens)
        self._cache.grow([*(unshared(other, other.filled) for other in self.rows), end])
        columns = list(range(first, end))
        plan = self._plan_alone(row, first, len(tokens))
        return self._forward(tokens, columns, [row] * len(tokens), columns, [len(tokens) - 1], plan)

    def find_sizes(self, seconds: float = TRIAL_SECONDS) -> int:
        """The width of a batch: tokens in a pass from which on more make none of them cheaper. Sets the chunk as well.

        Measured on passes of growing size; after so many seconds no larger one is tried.
        """
        cheapest = float("inf")
        width = SIZES[0]
        spent = 0.0
        for count in SIZES:
            times = []
            for _ in range(2):
                start = time.perf_counter()
                self._run_alone([0] * count, 0)
                self._drop(0, 0)
                times.append(time.perf_counter() - start)
            if min(times) / count > cheapest * WORTHWHILE:
                break
            cheapest, width = min(times) / count, count
            spent += sum(times)
            if spent > seconds:
                break
        return self.set_sizes(width)

    def set_sizes(self, width: int) -> int:
        """Take what `find_sizes` found; the most rows there will be."""
        self.step_tokens = max(width, STEP_TOKENS)
        self._cache.rows = min(width, self._cache.rows)
        return self._cache.rows

    def _pass(self, parts: list[tuple[int, int]], *, brief: bool = False) -> tuple[list[Sequence], torch.Tensor | None]:
        """Run so many next tokens of these rows; the rows that reached their newest token, and their logits.

        brief: as in `advance`.
        """
        needed = [unshared(row, row.filled) for row in self.rows]
        for i, count in parts:
            needed[i] += count
        self._cache.grow(needed)
        tokens: list[int] = []
        positions: list[int] = []
        places: list[int] = []
        columns: list[int] = []
        ends: list[int] = []  # the newest tokens' places in the line
        done: list[Sequence] = []
        plan = self._plan(parts)
        for i, count in parts:
            row = self.rows[i]
            first = row.filled
            tokens += row.known(first, first + count)
            positions += range(first, first + count)
            places += [i] * count
            columns += range(unshared(row, first), unshared(row, first + count))
            row.filled += count
            if row.filled >= len(row.prompt) + len(row.tokens):
                ends.append(len(tokens) - 1)
                done.append(row)
        brief = brief and getattr(self._model, "finds_likeliest", False) and all(row.takes_likeliest for row in done)
        only = {"likeliest": True} if brief else {}
        logits = self._forward(tokens, positions, places, columns, ends, plan, **only)
        return done, logits if done else None

    def _forward(
        self,
        tokens: list[int],
        positions: list[int],
        rows: list[int],
        columns: list[int],
        ends: list[int],
        plan: Plan,
        **only: bool,
    ) -> torch.Tensor:
        """Logits at `ends`, [ends, vocabulary], or there the likeliest tokens; the head runs over no other token."""
        self._cache.place(rows, columns, self._model.device)
        config = self._model.config.get_text_config()
        usual = config._attn_implementation
        set_plan(plan)
        config._attn_implementation = NAME
        try:
            return self._logits(tokens, positions, ends, **only)
        finally:
            config._attn_implementation = usual
            set_plan(None)

    def _logits(self, tokens: list[int], positions: list[int], ends: list[int], **only: bool) -> torch.Tensor:
        """The model over the step's line."""
        device = self._model.device
        out = self._model(
            input_ids=torch.tensor([tokens], device=device),
            **({"position_ids": torch.tensor([positions], device=device)} if self._positions else {}),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=torch.tensor(ends or [0], device=device),
            **only,
        )
        logits: torch.Tensor = out.logits[0]
        return logits if only else logits.float()


def decodes(row: Sequence) -> bool:
    """Whether only its newest token is to be run."""
    return bool(row.tokens) and row.pending == 1


def unshared(sequence: Sequence, tokens: int) -> int:
    """So many tokens of a sequence, without those of its shared prefix."""
    return tokens - before(sequence)


def before(sequence: Sequence) -> int:
    """Tokens of its shared prefix."""
    return sequence.cache.length if sequence.cache is not None else 0
