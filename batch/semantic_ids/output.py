"""Codebooks as files: `Pid,Codebook,Vector` as CSV and as Parquet, written row by row, and whole or not at all.

Pid is the Mapped_Pid (row + 1), Codebook a list of whole numbers, Vector a list of floats; both are read by
`ast.literal_eval` and by JSON. Rows without codes are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from batch.errors import MissingExtraError
from batch.export.atomic import atomic_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from batch.semantic_ids.blocks import StoredCodes
    from batch.semantic_ids.task import CodebookOptions, Task

SLICE_ROWS = 4096  # vectors held at once
CSV_ROWS = 512  # put together before a write


@dataclass(frozen=True, slots=True)
class Written:
    """The files, and how many rows stand in each."""

    files: tuple[Path, ...]
    rows: int


def output_files(task: Task, folder: Path, options: CodebookOptions | None = None) -> tuple[Path, ...]:
    """The files that `write_codebooks` makes: codebooks-NAME.csv, and .parquet where it is wanted."""
    csv = folder / task.config.output_name
    parquet = (options or task.options).parquet
    return (csv, csv.with_name(csv.name.removesuffix(".csv") + ".parquet")) if parquet else (csv,)


def write_codebooks(
    task: Task,
    stored: StoredCodes,
    folder: Path,
    options: CodebookOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Write a task's codebooks into a folder; `progress` is called with the rows written so far.

    Vectors are made a slice of rows at a time: features are read from their file, quantised latents are the sums of
    codewords, latents are encoded again.
    """
    from batch.semantic_ids.collisions import sid_text, suffixes

    options = options or task.options
    vectors = _vectors(task, options.vector)
    numbers = suffixes(stored.codes, stored.codewords) if options.suffix else None
    files = output_files(task, folder, options)
    done = 0
    with ExitStack() as opened:
        writers: list[_CsvWriter | _ParquetWriter] = []
        for file in files:
            stream = opened.enter_context(atomic_file(file))
            parquet = file.suffix == ".parquet"
            writer = _ParquetWriter(stream, options.sid) if parquet else _CsvWriter(stream, options.sid)
            opened.callback(writer.close)
            writers.append(writer)
        for first in range(0, task.rows, SLICE_ROWS):
            rows = range(first, min(task.rows, first + SLICE_ROWS))
            part = _Part.of(rows, stored.codes[rows.start : rows.stop], numbers)
            if len(part.pids):
                part.vectors = vectors(rows, part)
                part.sids = sid_text(part.codes, part.numbers) if options.sid else None
                for writer in writers:
                    writer.write(part)
            done += len(part.pids)
            if progress is not None:
                progress(done)
    return Written(files, done)


@dataclass(slots=True)
class _Part:
    """The encoded rows of a slice; `keep` marks them among its rows."""

    pids: NDArray[np.int64]
    codes: NDArray[np.int32]
    keep: NDArray[np.bool_]
    numbers: NDArray[np.int32] | None
    vectors: Any = None
    sids: list[str] | None = None

    @classmethod
    def of(cls, rows: range, codes: NDArray[np.int32], numbers: NDArray[np.int32] | None) -> _Part:
        import numpy as np

        keep = codes[:, 0] >= 0
        pids = np.arange(rows.start + 1, rows.stop + 1, dtype=np.int64)[keep]
        return cls(pids, codes[keep], keep, None if numbers is None else numbers[rows.start : rows.stop][keep])

    def lists(self) -> Iterator[list[int]]:
        """The codes a row, with the number that tells it from those of the same SID."""
        codes: list[list[int]] = self.codes.tolist()
        if self.numbers is None:
            yield from codes
            return
        for row, number in zip(codes, self.numbers.tolist(), strict=True):
            yield row if number < 0 else [*row, number]


def _vectors(task: Task, kind: str) -> Callable[[range, _Part], Any]:
    """What makes the vectors of a slice."""
    from batch.semantic_ids.task import open_table, open_task

    if kind == "features":  # no model is loaded for these
        features = open_table(task)
        return lambda rows, part: features.read(rows.start, rows.stop)[part.keep]
    _, encoder, table = open_task(task)
    if kind == "quantized":
        return lambda rows, part: encoder.quantized(part.codes)
    return lambda rows, part: encoder.latent(table.read(rows.start, rows.stop)[part.keep])


class _CsvWriter:
    def __init__(self, stream: BinaryIO, sid: bool) -> None:
        self._stream = stream
        self._stream.write(b"Pid,Codebook,Vector,SID\n" if sid else b"Pid,Codebook,Vector\n")

    def write(self, part: _Part) -> None:
        import orjson

        lines: list[bytes] = []
        sids = part.sids or [""] * len(part.pids)
        rows = zip(part.pids.tolist(), part.lists(), _plain(part.vectors), sids, strict=True)
        for pid, codes, vector, sid in rows:
            # Numbers, brackets, commas: nothing in them needs an escape.
            cells = orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).replace(b",", b", ")
            end = f",{sid}\n".encode("ascii") if part.sids else b"\n"
            lines.append(b'%d,"%s","%s"%s' % (pid, str(codes).encode("ascii"), cells, end))
            if len(lines) >= CSV_ROWS:
                self._stream.write(b"".join(lines))
                lines.clear()
        self._stream.write(b"".join(lines))

    def close(self) -> None:
        """All is written."""


class _ParquetWriter:
    def __init__(self, stream: BinaryIO, sid: bool) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise MissingExtraError("tables", "Parquet") from None
        self._pa = pa
        columns = [("Pid", pa.int64()), ("Codebook", pa.list_(pa.int32())), ("Vector", pa.list_(pa.float32()))]
        self._schema = pa.schema([*columns, ("SID", pa.string())] if sid else columns)
        self._writer = pq.ParquetWriter(stream, self._schema, compression="zstd")

    def write(self, part: _Part) -> None:
        import numpy as np

        pa = self._pa
        vectors = np.ascontiguousarray(part.vectors, dtype=np.float32)
        offsets = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
        columns = [
            pa.array(part.pids),
            pa.array(list(part.lists()), pa.list_(pa.int32())),
            pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.reshape(-1))),
        ]
        if part.sids:
            columns.append(pa.array(part.sids, pa.string()))
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        """Write the file's end, where its tables are listed."""
        self._writer.close()


def _plain(vectors: Any) -> Any:
    """Vectors of a type that is written as numbers."""
    import numpy as np

    kind = np.uint8 if vectors.dtype == np.bool_ else np.float32 if vectors.dtype == np.float16 else vectors.dtype
    return np.ascontiguousarray(vectors, dtype=kind)
