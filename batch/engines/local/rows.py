"""What cores that hold rows share: taking items, refusing what cannot be a row, and what becomes of a finished one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from batch.engines.local.intake import Row
from batch.engines.schema import unfinished_json
from batch.errors import EngineError, ErrorClass, Failure, FatalError, classify
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import TRUNCATE

NOT_A_NUMBER = "the model's output for this prompt is not a number (NaN)"


class RowCore(ABC):
    """Takes items; one that cannot be a row comes back, failed, from the next step."""

    def __init__(self) -> None:
        self._refused: list[BatchResponse[Answer]] = []

    @abstractmethod
    def _add(self, item: BatchItem[Request]) -> None:
        """Let an item wait for its turn. Raises EngineError where it cannot be answered."""

    def submit(self, item: BatchItem[Request]) -> None:
        """Take an item; what is wrong with it comes back from the next `step`."""
        try:
            self._add(item)
        except EngineError as error:
            self._refused.append(BatchResponse(item.id, None, error=classify(error)))

    def _take_refused(self) -> list[BatchResponse[Answer]]:
        refused, self._refused = self._refused, []
        return refused

    def _forget_refused(self, item_id: ItemId) -> None:
        self._refused = [response for response in self._refused if response.id != item_id]


def broken(row: Row) -> BatchResponse[Answer]:
    """The failure of a row whose logits are no numbers."""
    failure = Failure(ErrorClass.PERMANENT, NOT_A_NUMBER)
    return BatchResponse(row.id, None, error=failure, tokens_input=len(row.prompt))


def finished(row: Row, reason: str, count: int) -> BatchResponse[Answer]:
    """A row's answer of `count` tokens, the end token not among them; an empty one is a failure."""
    text = row.text.finish()
    problem = ""
    if not text.strip():
        problem = "the model gave an empty answer"
    elif row.constraint is not None and not row.constraint.complete:
        problem = unfinished_json(row.constraint, reason, row.max_tokens)
    if problem:
        failure = Failure(ErrorClass.PERMANENT, problem)
        return BatchResponse(row.id, None, error=failure, tokens_input=len(row.prompt), tokens_output=count)
    extra: dict[str, Any] = {"finish_reason": "stop" if row.text.stopped else reason}
    if row.logprobs is not None:
        extra["logprobs"] = row.logprobs[:count]
        extra["logprob_tokens"] = row.text.pieces(len(extra["logprobs"]))
    if row.ignored:
        extra["ignored_params"] = row.ignored
    return BatchResponse(row.id, Answer(text, extra), tokens_input=len(row.prompt), tokens_output=count)


@dataclass(frozen=True, slots=True)
class CoreSpec:
    """What descriptions of all such cores may say."""

    path: str
    truncate: str | None  # the end at which a prompt longer than the context is cut; None: it is refused
    cache_bytes: int | None

    @classmethod
    def read(cls, engine: str, spec: Mapping[str, Any], known: Iterable[str]) -> CoreSpec:
        """From a description: `path`, and where wanted `truncate`, `cache_gb`, what is `known`. Raises FatalError."""
        names = {"path", "cache_gb", "truncate", *known}
        if "path" not in spec or set(spec) - names:
            raise FatalError(
                f"the {engine} engine needs a path and knows {', '.join(sorted(names))}; given: {dict(spec)}"
            )
        truncate = spec.get("truncate") or "never"
        if truncate not in TRUNCATE:
            raise FatalError(f"truncate: {truncate!r} is none of {', '.join(TRUNCATE)}")
        cache = spec.get("cache_gb")
        return cls(spec["path"], None if truncate == "never" else truncate, int(cache * 2**30) if cache else None)
