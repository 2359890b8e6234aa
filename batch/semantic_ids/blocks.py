"""Blocks of rows as items of a job: the core that answers them with codes, and codes as a checkpoint keeps them.

An answer's extra: {"codes": base64 of little-endian integers [rows, levels], "type": "<i2" or "<i4", "levels",
"codewords", "vector_dim", "bad": rows of the block that could not be encoded, "quantization_error",
"reconstruction_error": sums over the rows, "exact": rows decided in float64}. Its tokens_input is the block's rows.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.errors import EngineError, ErrorClass, Failure, FatalError
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.task import Task, open_task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from batch.semantic_ids.encode import Codes, Encoder
    from batch.semantic_ids.features import FeatureTable

ROOM = 4  # blocks held, so that the next one is there when one is done
SHOWN_SIDS = 3


class BlockCore:
    """Encodes the rows `first` to `last` of an item's extra; one block a step."""

    room = ROOM

    def __init__(self, task: Task, encoder: Encoder, table: FeatureTable, codewords: int, about: Mapping[str, Any]):
        self.about = about
        self._task = task
        self._encoder = encoder
        self._table = table
        self._codewords = codewords
        self._waiting: deque[BatchItem[Request]] = deque()

    @property
    def busy(self) -> bool:
        """Whether a block waits."""
        return bool(self._waiting)

    def submit(self, item: BatchItem[Request]) -> None:
        """Take a block."""
        self._waiting.append(item)

    def cancel(self, item_id: ItemId) -> None:
        """Forget a block that was not begun."""
        self._waiting = deque(item for item in self._waiting if item.id != item_id)

    def step(self) -> list[BatchResponse[Answer]]:
        """Encode the oldest block."""
        if not self._waiting:
            return []
        item = self._waiting.popleft()
        try:
            return [self._encode(item)]
        except (EngineError, MemoryError) as error:
            kind = ErrorClass.EXHAUSTED if isinstance(error, MemoryError) else error.error_class
            return [BatchResponse(item.id, None, error=Failure(kind, str(error) or "out of memory"))]
        except SemanticIdError as error:
            return [BatchResponse(item.id, None, error=Failure(ErrorClass.PERMANENT, str(error)))]

    def _encode(self, item: BatchItem[Request]) -> BatchResponse[Answer]:
        extra = item.data.extra or {}
        try:
            first, stop = int(extra["first"]), int(extra["last"]) + 1
        except (KeyError, TypeError, ValueError):
            raise SemanticIdError(f"{item.data.text!r} names no rows") from None
        table = self._table
        table.prefetch(stop, min(2 * stop - first, table.rows))
        codes = self._encoder.encode(table.read(first, stop), reconstruction=True)
        table.release(first, stop)
        answer = pack(codes, self._codewords)
        return BatchResponse(item.id, answer, tokens_input=len(codes.codes))

    def partial_texts(self) -> dict[ItemId, str]:
        """A block comes whole."""
        return {}

    def close(self) -> None:
        """Drop what waits, and end the encoder's threads."""
        self._waiting.clear()
        self._encoder.close()


def open_core(spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> BlockCore:
    """The core of a job's details, for the process that hosts it; FatalError where model and features do not fit."""
    task = Task.of_details(spec)
    try:
        model, encoder, table = open_task(task)
    except SemanticIdError as error:
        raise FatalError(str(error)) from error
    about = {
        "device": "cpu",
        "precision": "fp32",
        "input_dim": model.input_dim,
        "levels": model.levels,
        "codewords": model.codewords,
        "parameters": sum(tensor.numel() for tensor in model.parameters()),
    }
    return BlockCore(task, encoder, table, model.codewords, about)


def pack(codes: Codes, codewords: int) -> Answer:
    """A block's codes as an answer, its text for people."""
    from batch.semantic_ids.collisions import sid_text

    array = codes.codes
    kind = "<i2" if codewords <= 1 << 15 else "<i4"
    sids = [sid for sid in sid_text(array[: SHOWN_SIDS + len(codes.bad)]) if sid][:SHOWN_SIDS]
    text = " ".join(sids) + (" …" if len(array) > len(sids) else "")
    if codes.bad:
        text = f"{len(codes.bad):,} of {len(array):,} rows have no numbers; {text}"
    extra = {
        "codes": base64.b64encode(array.astype(kind).tobytes()).decode("ascii"),
        "type": kind,
        "levels": array.shape[1],
        "codewords": codewords,
        "bad": [int(row) for row in codes.bad],
        "quantization_error": codes.quantization_error_sum,
        "reconstruction_error": codes.reconstruction_error_sum,
        "exact": codes.exact,
    }
    return Answer(text, extra)


def unpack(extra: Mapping[str, Any]) -> NDArray[np.int32]:
    """The codes of an answer, int32 [rows, levels], −1 for rows without; SemanticIdError where they are damaged."""
    import numpy as np

    try:
        kind, levels = extra["type"], int(extra["levels"])
        if kind not in ("<i2", "<i4"):
            raise ValueError(f"codes of type {kind!r}")
        flat = np.frombuffer(base64.b64decode(extra["codes"], validate=True), dtype=kind)
        return flat.reshape(-1, levels).astype(np.int32)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise SemanticIdError(f"The codes of a block are damaged: {error}") from error


@dataclass(slots=True)
class StoredCodes:
    """All codes of a job, int32 [rows, levels], −1 where there is none: `bad` rows, and rows of `missing` blocks."""

    codes: NDArray[np.int32]
    codewords: int
    bad: list[int] = field(default_factory=list)
    missing: int = 0
    encoded: int = 0
    quantization_error_sum: float = 0.0
    reconstruction_error_sum: float = 0.0
    exact: int = 0


def stored_codes(checkpoint: Path, task: Task) -> StoredCodes:
    """Read a job's codes; SemanticIdError where it has none yet. Twelve bytes a row at three levels."""
    import numpy as np

    from batch.checkpoint import CheckpointStore

    found: StoredCodes | None = None
    blocks = 0
    with CheckpointStore(checkpoint) as store:
        for result in store.iter_results(part="done"):
            extra = result.extra or {}
            part, rows = unpack(extra), task.block(result.prompt_index)
            if found is None:
                levels = part.shape[1]
                found = StoredCodes(np.full((task.rows, levels), -1, np.int32), int(extra["codewords"]))
            if len(part) != len(rows) or part.shape[1] != found.codes.shape[1]:
                raise SemanticIdError(f"Block {result.prompt_index} of {checkpoint} holds other rows than it should")
            found.codes[rows.start : rows.stop] = part
            found.bad += [rows.start + int(row) for row in extra["bad"]]
            found.encoded += len(rows) - len(extra["bad"])
            found.quantization_error_sum += float(extra["quantization_error"])
            found.reconstruction_error_sum += float(extra["reconstruction_error"] or 0.0)
            found.exact += int(extra["exact"])
            blocks += 1
    if found is None:
        raise SemanticIdError(f"Job {checkpoint.stem.removeprefix('batch_')} has no codes yet")
    found.missing = task.blocks - blocks
    return found
