"""Logits to tokens, every row by its own options and its own random numbers."""

from __future__ import annotations

from collections.abc import Sequence as Rows

import torch

from batch.engines.torch.native import kernels
from batch.engines.torch.sequence import Sequence


class Sampler:
    """Picks one token a row; a row's choice depends on nothing but its logits, its options and its seed."""

    def __call__(self, rows: Rows[Sequence], logits: torch.Tensor) -> list[int | None]:
        """The next token of each row, None where the logits are not numbers.

        logits: [rows, vocabulary], float32; or int64, [rows], of rows that `takes_likeliest`: it, -1 for no numbers.
        """
        if logits.dim() == 1:
            return [None if token < 0 else token for token in logits.tolist()]
        picked = _largest(logits)
        broken = picked < 0
        changed = [self._process(rows, logits), self._penalise(rows, logits), self._constrain(rows, logits)]
        if any(changed):
            picked = logits.argmax(dim=-1)
        drawn = [i for i, row in enumerate(rows) if row.sampling.temperature > 0 and row.sampling.top_p > 0]
        if drawn:
            # A row that is not a number would only raise in the sort's company; it is None in the end.
            where = torch.tensor(drawn, device=logits.device)
            picked[where] = self._draw([rows[i] for i in drawn], torch.nan_to_num(logits[where]))
        # The only wait for the device of a greedy step.
        found = [None if token < 0 else token for token in picked.masked_fill_(broken, -1).tolist()]
        for row, taken in zip(rows, found, strict=True):
            if row.constraint is not None and taken is not None:
                row.constraint.take(taken)
        return found

    @staticmethod
    def _process(rows: Rows[Sequence], logits: torch.Tensor) -> bool:
        """What the model's generation config asks for, by transformers' own processors; in place. Whether any does."""
        held = [(i, row) for i, row in enumerate(rows) if row.processors]
        for i, row in held:
            known = torch.tensor([row.known(0, len(row.prompt) + len(row.tokens))], device=logits.device)
            logits[i] = row.processors(known, logits[i : i + 1].clone())[0]
        return bool(held)

    @staticmethod
    def _constrain(rows: Rows[Sequence], logits: torch.Tensor) -> bool:
        """Leave only the tokens that a row's schema allows next; in place. Whether a row has one."""
        held = [(i, row.constraint) for i, row in enumerate(rows) if row.constraint is not None]
        if not held:
            return False
        # [held, bytes], then a bit a token; a model's table may have more rows than its tokenizer has tokens
        masks = torch.frombuffer(bytearray(b"".join(c.mask() for _, c in held)), dtype=torch.uint8)
        bits = masks.view(len(held), -1, 1) >> torch.arange(8, dtype=torch.uint8) & 1
        allowed = bits.view(len(held), -1)[:, : logits.shape[1]].bool()
        allowed = torch.nn.functional.pad(allowed, (0, logits.shape[1] - allowed.shape[1])).to(logits.device)
        where = torch.tensor([i for i, _ in held], device=logits.device)
        logits[where] = logits[where].masked_fill(~allowed, float("-inf"))
        return True

    @staticmethod
    def _penalise(rows: Rows[Sequence], logits: torch.Tensor) -> bool:
        """Repetition penalty of CTRL (Keskar 2019): seen tokens' logits divided, or multiplied below 0; in place.

        Whether a row has one.
        """
        # Processors have the penalty in its place among them.
        held = [
            (i, row, penalty)
            for i, row in enumerate(rows)
            if (penalty := row.sampling.repetition_penalty) not in (None, 1.0) and not row.processors
        ]
        for i, row, penalty in held:
            seen = torch.tensor(sorted({*row.prompt, *row.tokens}), device=logits.device)
            scores = logits[i, seen]
            logits[i, seen] = torch.where(scores < 0, scores * penalty, scores / penalty)
        return bool(held)

    @staticmethod
    def _draw(rows: Rows[Sequence], logits: torch.Tensor) -> torch.Tensor:
        """One draw a row after top-k, top-p and min-p, in that order, as transformers applies them; [rows]."""

        def column(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, device=logits.device, dtype=logits.dtype).unsqueeze(1)  # [rows, 1]

        options = [row.sampling for row in rows]
        probs = torch.softmax(logits / column([o.temperature for o in options]), dim=-1)
        order = None
        if any(o.top_k or o.top_p < 1 or o.min_p for o in options):
            probs, order = probs.sort(dim=-1, descending=True, stable=True)
            rank = torch.arange(probs.shape[-1], device=probs.device)
            probs = probs.masked_fill(rank >= column([o.top_k or probs.shape[-1] for o in options]), 0.0)
            probs = probs / probs.sum(dim=-1, keepdim=True)
            before = probs.cumsum(dim=-1) - probs  # probability of all likelier tokens
            top_p = column([o.top_p for o in options])
            probs = probs.masked_fill((before >= top_p) & (top_p < 1), 0.0)  # at 1 rounding must drop nothing
            probs = probs.masked_fill(probs < column([o.min_p for o in options]) * probs[:, :1], 0.0)
        cumulative = probs.double().cumsum(dim=-1)
        # Inverse of the distribution function at a uniform draw: the first token past u times the total.
        uniform = torch.tensor([_uniform(row) for row in rows], dtype=torch.float64, device=probs.device)
        total = cumulative[:, -1:]
        target = torch.minimum(uniform.unsqueeze(1) * total, torch.nextafter(total, torch.zeros_like(total)))
        index = torch.searchsorted(cumulative, target, right=True)
        return (index if order is None else order.gather(1, index)).squeeze(1)


def _largest(logits: torch.Tensor) -> torch.Tensor:
    """Each row's likeliest token, or -1 where its logits are not numbers; [rows]."""
    quick = kernels() if logits.device.type == "cpu" else None
    if quick is not None and logits.dtype == torch.float32 and logits.is_contiguous():
        return quick.largest(logits)
    # amax is NaN if any is
    return logits.argmax(dim=-1).masked_fill_(~torch.isfinite(logits.amax(dim=-1)), -1)


def _uniform(row: Sequence) -> float:
    """The row's next random number in [0, 1)."""
    if row.generator is None:
        row.generator = torch.Generator()
        if row.sampling.seed is None:
            row.generator.seed()
        else:
            row.generator.manual_seed(row.sampling.seed % 2**63)
    return float(torch.rand((), generator=row.generator, dtype=torch.float64))
