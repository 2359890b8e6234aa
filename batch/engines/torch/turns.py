"""What the engine asks of a runner, and what runners that either fill prompts in or decode have in common."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Protocol

import torch

from batch.engines.torch.sequence import Sequence


class Runner(Protocol):
    """The model over the sequences it was given, until they are released. Logits: [rows, vocabulary], float32."""

    name: str  # for display
    together: bool  # whether rows share a pass
    reckons: bool  # whether it knows the columns that a row takes: `own`
    whole_budget: bool  # whether its cache takes all it may, however few the rows
    rows: list[Sequence]  # in the order of `decode`'s logits

    @property
    def ragged(self) -> bool:
        """Whether a row takes only its own columns of the cache, however long the others are."""
        ...

    @property
    def bytes_per_token(self) -> int:
        """Of cache, measured; 0 where it is not known."""
        ...

    @property
    def bytes_per_row(self) -> int:
        """Of states that a row keeps however long it is, measured; 0 where it keeps none."""
        ...

    def about(self) -> tuple[dict[str, Any], list[str]]:
        """What there is to show of it, and notes."""
        ...

    def find_sizes(self) -> int | None:
        """Measure how many rows are worth a pass, where that can be said."""
        ...

    def footprint(self, sequence: Sequence) -> int:
        """Columns of the cache that a row is to be reckoned with."""
        ...

    def limit(self, tokens: int) -> None:
        """Hear how many tokens the cache may hold."""
        ...

    def register(self, sequence: Sequence) -> None:
        """Hear of a sequence that will come."""
        ...

    def advance(self, newcomers: list[Sequence]) -> tuple[list[Sequence], torch.Tensor | None]:
        """One step: the rows that have a next token, and its logits; newcomers are rows from now on."""
        ...

    def prefill(self, sequences: list[Sequence]) -> torch.Tensor:
        """Take sequences in; logits of each one's first token, in the given order."""
        ...

    def decode(self) -> torch.Tensor:
        """Logits of the next token of every row."""
        ...

    def release(self, sequences: Iterable[Sequence], *, broken: bool = False) -> None:
        """Give up rows; `broken` ones had logits that are not numbers."""
        ...


class InTurns(ABC):
    """Steps that either fill prompts in or decode."""

    together = True
    reckons = ragged = whole_budget = False
    rows: list[Sequence]

    @property
    def bytes_per_row(self) -> int:
        """None."""
        return 0

    def about(self) -> tuple[dict[str, Any], list[str]]:
        """Nothing."""
        return {}, []

    def find_sizes(self) -> int | None:
        """Not measured."""
        return None

    def register(self, sequence: Sequence) -> None:  # noqa: B027 - optional
        """Nothing is prepared."""

    def footprint(self, sequence: Sequence) -> int:
        """Columns to reckon with where such a runner takes the place of one that shares: all it may come to."""
        return sequence.most_tokens

    def limit(self, tokens: int) -> None:  # noqa: B027 - optional
        """The scheduler's reckoning is all there is."""

    def advance(self, newcomers: list[Sequence]) -> tuple[list[Sequence], torch.Tensor | None]:
        """Newcomers by themselves, or else every row."""
        if newcomers:
            return newcomers, self.prefill(newcomers)
        return list(self.rows), self.decode()

    @abstractmethod
    def prefill(self, sequences: list[Sequence]) -> torch.Tensor:
        """Take sequences in; logits of each one's first token, in the given order."""

    @abstractmethod
    def decode(self) -> torch.Tensor:
        """Logits of the next token of every row."""


def forward_options(model: Any) -> dict[str, Any]:
    """Arguments of `forward` that not every model has."""
    takes = inspect.signature(model.forward).parameters
    options: dict[str, Any] = {}
    if "position_ids" in takes:
        options["position_ids"] = True
    if "logits_to_keep" in takes:
        options["logits_to_keep"] = 1  # else a long prompt's logits take prompt × vocabulary floats
    return options
