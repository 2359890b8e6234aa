"""Runs the model on a GPU: decode steps of fixed shapes, which CUDA graphs can replay, and prompts in packed passes.

A decode step runs rows 0 to n of the slots, n rounded up to one of a few sizes, over so many columns of them, rounded
likewise; rows that are longer or shorter, still at their prompt or not there at all differ only in the numbers of a
static buffer. Prompts run as they are, in one line without padding, when enough of them have gathered to be worth the
launching of a pass. What prompts have in common is computed once and copied to every slot that begins with it: on a
GPU the copy costs next to nothing, and a step then reads every row alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from batch.engines.torch.graphs import Steps, steps_for
from batch.engines.torch.prefix import PrefixStore
from batch.engines.torch.sequence import Sequence
from batch.engines.torch.static_cache import COLUMNS, NAME, ROWS, Reads, StaticSlots, bucket, rounded, set_reads

STEP_TOKENS = 8192  # most tokens of prompts in a pass
MASK_CELLS = 2**27  # most elements of a pass's mask
PREFIX_TOKENS = 32_768  # most of shared prefixes that are kept, beside the slots
PASS_COST = 4  # what launching a pass of prompts costs, as decode steps of all rows
MOST_WAIT = 16  # decode steps that a prompt waits for others to run with


class StaticRunner:
    """Rows over slots in one place; row i has slot i of the cache."""

    name = "static"
    together = reckons = whole_budget = True
    ragged = False  # every slot is as long as the longest row
    bytes_per_row = 0

    def __init__(self, model: Any, max_batch: int, *, share: bool = True, steps: Steps | None = None) -> None:
        self.rows: list[Sequence] = []
        self.step_tokens = STEP_TOKENS
        self.most_wait = MOST_WAIT
        self.steps = steps or steps_for(model.device)
        self.prefixes = PrefixStore(PREFIX_TOKENS) if share else None
        self._model = model
        self._max_batch = max_batch
        self._config = model.config.get_text_config()
        self._cache = StaticSlots(self._config.num_hidden_layers)
        self._group = 1  # query heads a KV head, as the first pass shows
        self._limit: int | None = None  # tokens that the slots may hold together; None: as few as there must be
        self._expected = 0  # the longest that a sequence may become
        self._waited = self._idle = 0  # steps, and rows times steps, since prompts began to wait
        # Token and position of each row.
        self._inputs = torch.zeros(max(max_batch, 2), 2, dtype=torch.long, device=model.device)
        self._logits = torch.empty(0, 0)  # of the decode step, [max batch, vocabulary], float32

    @property
    def bytes_per_token(self) -> int:
        """Of cache, measured; 0 before the first pass."""
        return self._cache.bytes_per_token()

    def about(self) -> tuple[dict[str, Any], list[str]]:
        """How steps are run, and a note where they should have been CUDA graphs."""
        problem = self.steps.problem
        return {"decoding": self.steps.how}, [f"decoding without CUDA graphs: {problem}"] if problem else []

    def find_sizes(self) -> int | None:
        """Not measured on a GPU."""
        return None

    def limit(self, tokens: int) -> None:
        """Let the slots hold so many tokens together; they are taken with the first rows that need them."""
        self._limit = tokens
        if self.prefixes is not None:
            self.prefixes.budget = min(PREFIX_TOKENS, tokens // 16)

    def register(self, sequence: Sequence) -> None:
        """Hear of a sequence that will come: how long it may get, and what it begins with."""
        self._expected = max(self._expected, sequence.most_tokens)
        if self.prefixes is not None:
            self.prefixes.add(sequence.prompt)

    def footprint(self, sequence: Sequence) -> int:
        """One less than the columns that it takes of a slot with all its tokens run; the scheduler adds it."""
        return rounded(_total(sequence)) - 1

    def advance(self, newcomers: list[Sequence]) -> tuple[list[Sequence], torch.Tensor | None]:
        """A token for every row that decodes, and prompts when they have waited long enough for each other."""
        self._admit(newcomers)
        decoding = [i for i, row in enumerate(self.rows) if _decodes(row)]
        filling = [i for i, row in enumerate(self.rows) if not _decodes(row)]
        done: list[Sequence] = []
        logits: list[torch.Tensor] = []
        if decoding:
            logits.append(self._decode(decoding))
            done += [self.rows[i] for i in decoding]
        if filling and not (decoding and self._waits(filling)):
            for parts in self._passes(filling):
                rows, found = self._fill(parts)
                done += rows
                logits += [found] if rows else []
        if not done:
            return done, None
        return done, logits[0] if len(logits) == 1 else torch.cat(logits)

    def prefill(self, sequences: list[Sequence]) -> torch.Tensor:
        """Take sequences in with whole prompts; logits of each one's first token."""
        self._admit(sequences)
        return self._fill([(self.rows.index(s), s.pending) for s in sequences])[1]

    def decode(self) -> torch.Tensor:
        """Logits of the next token of every row."""
        return self._decode(list(range(len(self.rows)))).clone()  # the next step writes there again

    def release(self, sequences: Iterable[Sequence], *, broken: bool = False) -> None:
        """Give up rows; the last row moves into each gap, so that slots stay dense."""
        for sequence in sequences:
            slot, last = self.rows.index(sequence), len(self.rows) - 1
            # Of one that is still at its prompt, or broken as well, nobody knows whether it holds numbers.
            if broken or not _decodes(sequence):
                self._cache.wipe(slot)
            if slot != last:
                moved = self.rows[last]
                self._cache.move(last, slot, moved.filled)
                if not _decodes(moved):
                    self._cache.wipe(last)
                self.rows[slot] = moved
            self.rows.pop()
            sequence.filled = 0

    def _admit(self, newcomers: list[Sequence]) -> None:
        """Rows and slots for newcomers, begun with what they share; the first that has it computes it."""
        first = len(self.rows)
        for sequence in newcomers:
            sequence.filled = 0
            self.rows.append(sequence)
        self._reserve(first)
        if self.prefixes is None:
            return
        for slot, sequence in enumerate(newcomers, first):
            chain, length = self.prefixes.choose(sequence.prompt)
            if not length:
                continue
            prefix = self.prefixes.get(chain)
            if prefix is None:
                while sequence.filled < length:
                    self._fill([(slot, self._most(sequence, length - sequence.filled))])
                self.prefixes.put(chain, self._cache.take_prefix(slot, length))
            else:
                self._cache.put_prefix(slot, prefix)
                sequence.filled = length

    def _reserve(self, used: int) -> None:
        """Slots for all rows, as long as the longest; `used` of them hold something.

        The memory is divided so that it is rarely done again: columns for the longest that is expected, else some more
        than are needed, else just those; and as many slots as that leaves.
        """
        if not self.rows:
            return
        cache, rows = self._cache, len(self.rows)
        needed = rounded(max(map(_total, self.rows)))
        if rows <= cache.slots and needed <= cache.columns:
            return
        keep = used, max((row.filled for row in self.rows), default=0)
        if self._limit is None:
            slots, columns = max(rows, cache.slots), max(needed, cache.columns)
            capacity = slots * columns
        else:
            context = getattr(self._config, "max_position_embeddings", None) or self._expected
            full = rounded(max(needed, min(self._expected, context)))
            some = bucket(needed, COLUMNS, max(needed, rounded(context)))
            fit = full if self._max_batch * full <= self._limit else some
            columns = fit if rows * fit <= self._limit else needed
            slots = max(rows, min(self._max_batch, self._limit // columns))
            capacity = max(slots * columns, min(self._limit, self._max_batch * rounded(context)))
        cache.divide(slots, columns, capacity, keep)
        self.steps.reset()

    def _waits(self, filling: list[int]) -> bool:
        """Whether prompts are left for later while others decode.

        Launching a pass takes as long as some decode steps, however few its tokens. It is put off until the rows that
        wait have missed as many tokens as all rows would have gained in that time.
        """
        self._waited += 1
        self._idle += len(filling)
        waits = (
            sum(self.rows[i].pending for i in filling) < self.step_tokens
            and self._idle < PASS_COST * len(self.rows)
            and self._waited < self.most_wait
        )
        if not waits:
            self._waited = self._idle = 0
        return waits

    def _passes(self, filling: list[int]) -> list[list[tuple[int, int]]]:
        """Rows and how many of their next tokens to run, by pass; rows of like length together."""
        chosen: list[tuple[int, int]] = []
        room = self.step_tokens
        for i in filling:
            if room > 0:
                chosen.append((i, self._most(self.rows[i], min(room, self.rows[i].pending))))
                room -= chosen[-1][1]
        passes: list[list[tuple[int, int]]] = []
        width = 0
        for i, count in sorted(chosen, key=lambda part: part[1]):
            width = max(width, rounded(self.rows[i].filled + count))
            if not passes or (len(passes[-1]) + 1) * count * self._group * width > MASK_CELLS:
                passes.append([])
                width = rounded(self.rows[i].filled + count)
            passes[-1].append((i, count))
        return passes

    def _most(self, row: Sequence, count: int) -> int:
        """So many next tokens of a row, or what one pass can take of them."""
        count = min(count, self.step_tokens)
        return max(1, min(count, MASK_CELLS // (self._group * rounded(row.filled + count))))

    def _fill(self, parts: list[tuple[int, int]]) -> tuple[list[Sequence], torch.Tensor]:
        """Run so many next tokens of these rows; those that reached their newest token, and their logits."""
        line: list[list[int]] = [[], [], [], [], []]  # tokens, positions, slots; row and place in the rectangle
        ends: list[int] = []
        done: list[Sequence] = []
        for at, (slot, count) in enumerate(parts):
            row = self.rows[slot]
            positions = range(row.filled, row.filled + count)
            found = row.known(positions.start, positions.stop), positions, [slot] * count, [at] * count, range(count)
            for values, more in zip(line, found, strict=True):
                values += more
            row.filled += count
            if not row.pending:
                ends.append(len(line[0]) - 1)
                done.append(row)
        width = min(rounded(max(self.rows[i].filled for i, _ in parts)), self._cache.columns)
        tokens, positions_, slots, *places = self._upload(line)
        last = torch.zeros(len(parts), max(count for _, count in parts), dtype=torch.long, device=self._model.device)
        last[places[0], places[1]] = positions_
        first = parts[0][0]
        together = [i for i, _ in parts] == list(range(first, first + len(parts)))
        where = slice(first, first + len(parts)) if together else self._upload([i for i, _ in parts])
        reads = Reads(where, width, last, (places[0], places[1]))
        logits = self._forward(tokens, positions_, slots, reads, self._upload(ends or [0])).float()
        if self._logits.shape[1] != logits.shape[1]:  # at the first pass of all
            self._logits = logits.new_zeros(len(self._inputs), logits.shape[1])
        return done, logits

    def _decode(self, decoding: list[int]) -> torch.Tensor:
        """Logits of the next token of these rows, in the memory that the next step writes them to."""
        self._reserve(len(self.rows))
        count = bucket(decoding[-1] + 1, ROWS, self._cache.slots)
        width = bucket(max(self.rows[i].filled + 1 for i in decoding), COLUMNS, self._cache.columns)
        # A row that does not decode writes where its next token comes anyway, or to a slot that is free.
        values = [[0, row.filled] for row in self.rows[:count]]
        values += [[0, 0]] * (count - len(values))
        for i in decoding:
            row = self.rows[i]
            values[i] = [row.last_token, row.filled]
            row.filled += 1
        fresh = torch.tensor(values, pin_memory=self._model.device.type == "cuda")
        self.steps((count, width), lambda: self.decode_step(count, width), self._inputs[:count], fresh)
        logits = self._logits[: len(decoding)]
        return logits if decoding[-1] + 1 == len(decoding) else self._logits[self._upload(decoding)]

    def decode_step(self, count: int, width: int) -> None:
        """One token of the first `count` slots: static inputs to static logits, with nothing waited for in between."""
        tokens, positions = self._inputs[:count].unbind(1)
        slots = torch.arange(count, device=self._inputs.device)
        reads = Reads(slice(0, count), width, positions.unsqueeze(1))
        self._logits[:count].copy_(self._forward(tokens, positions, slots, reads, 0))

    def _forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        reads: Reads,
        ends: torch.Tensor | int,
    ) -> torch.Tensor:
        """Logits at `ends`, [ends, vocabulary], 0 for everywhere; the head runs over no other token."""
        self._cache.writes = slots, positions
        usual = self._config._attn_implementation
        set_reads(reads)
        self._config._attn_implementation = NAME
        try:
            out = self._model(
                input_ids=tokens.unsqueeze(0),
                position_ids=positions.unsqueeze(0),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=ends,
            )
        finally:
            self._config._attn_implementation = usual
            set_reads(None)
            self._group = max(self._group, reads.group)
        logits: torch.Tensor = out.logits[0]
        return logits

    def _upload(self, values: list[Any]) -> torch.Tensor:
        device = self._model.device
        return torch.tensor(values, pin_memory=device.type == "cuda").to(device, non_blocking=True)


def _decodes(row: Sequence) -> bool:
    """Whether only its newest token is to be run."""
    return bool(row.tokens) and row.pending == 1


def _total(row: Sequence) -> int:
    return len(row.prompt) + len(row.tokens)
