"""What a model's codes amount to, in figures and as a picture for the terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.semantic_ids.errors import SemanticIdError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from batch.semantic_ids.blocks import StoredCodes
    from batch.semantic_ids.collisions import Collisions, LevelUse

BARS = " ▁▂▃▄▅▆▇█"
UNUSED = "·"
WIDEST_BAR = 3  # cells a codeword, in a wide terminal
SHOWN_BAD = 20


@dataclass(frozen=True, slots=True)
class CodesReport:
    """The figures of one model. The errors are means over the encoded rows, None where they are not known."""

    name: str
    rows: int
    codewords: int
    collisions: Collisions
    bad: tuple[int, ...]  # rows of the features with NaN or infinite numbers; row + 1 is the Pid
    missing: int = 0  # blocks not encoded yet
    quantization_error: float | None = None
    reconstruction_error: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it; `bad_pids` are Pids."""
        levels = [{**asdict(level), "counts": list(level.counts)} for level in self.collisions.levels]
        c = self.collisions
        return {
            "model": self.name,
            "rows": self.rows,
            "encoded": c.items,
            "bad_pids": [row + 1 for row in self.bad],
            "missing_blocks": self.missing,
            "codewords": self.codewords,
            "unique_sid": c.unique,
            "collided_sid_buckets": c.collided_sids,
            "collided_pois": c.collided_items,
            "largest_bucket": c.largest,
            "collision_rate": c.rate,
            "total_pois": c.items,
            "quantization_error": self.quantization_error,
            "reconstruction_error": self.reconstruction_error,
            "levels": levels,
        }

    def figures(self, *, brief: bool = False) -> list[tuple[str, str]]:
        """Names and values, for a table; `brief` in as few lines as can be."""
        c = self.collisions
        share = c.collided_items / c.items if c.items else 0.0
        rows = [
            ("items", f"{c.items:,}" + (f" of {self.rows:,}" if c.items != self.rows else "")),
            ("unique SIDs", f"{c.unique:,}  ({_percent(c.unique / c.items if c.items else 0.0)} of the items)"),
            ("collisions", f"{c.collided_items:,} items share {c.collided_sids:,} SIDs  ({_percent(share)})"),
        ]
        if not brief:
            rows.append(("most on a SID", f"{c.largest:,}"))
        if brief and self.reconstruction_error is not None and self.quantization_error is not None:
            errors = f"{self.reconstruction_error:.4g} reconstruction, {self.quantization_error:.4g} quantisation"
            rows.append(("errors", errors))
        elif self.reconstruction_error is not None:
            rows.append(("reconstruction", f"{self.reconstruction_error:.6g} mean squared error"))
        if not brief and self.quantization_error is not None:
            rows.append(("quantisation", f"{self.quantization_error:.6g} mean squared distance"))
        if self.bad:
            what = "row holds" if len(self.bad) == 1 else "rows hold"
            rows.append(("not encoded", f"{len(self.bad):,} {what} NaN or infinity: Pid {_some(self.bad)}"))
        if self.missing:
            rows.append(("not done", f"{self.missing:,} block{'s' * (self.missing != 1)} of rows"))
        return rows

    def lacking(self) -> str:
        """What has no codes, as part of a sentence; nothing where all have."""
        parts = [f"{len(self.bad):,} rows with NaN or infinity are left out"] if self.bad else []
        parts += [f"{self.missing:,} blocks of rows are not encoded yet"] if self.missing else []
        return ", ".join(parts)

    def lines(self, width: int = 80) -> list[str]:
        """Figures, then codebook use level by level, in at most `width` cells."""
        lines = [self.name]
        lines += [f"  {name:<15}{value}" for name, value in self.figures()]
        for number, level in enumerate(self.collisions.levels):
            lines.append("  " + level_line(number, level))
            lines += ["  " + line for line in use_picture(level.counts, width - 2)]
        return [line if len(line) <= width else line[: max(0, width - 1)] + "…" for line in lines]


def report_of(name: str, stored: StoredCodes) -> CodesReport:
    """The report of a job's codes."""
    from batch.semantic_ids.collisions import count_collisions

    encoded = max(1, stored.encoded)
    return CodesReport(
        name=name,
        rows=len(stored.codes),
        codewords=stored.codewords,
        collisions=count_collisions(stored.codes, stored.codewords),
        bad=tuple(stored.bad),
        missing=stored.missing,
        quantization_error=stored.quantization_error_sum / encoded,
        reconstruction_error=stored.reconstruction_error_sum / encoded,
    )


def report_of_file(path: Path, codewords: int | None = None) -> CodesReport:
    """The report of a file of codebooks, whoever wrote it; without `codewords`, the least power of two that holds all.

    A fourth number, which tells items of one SID apart, is left out. SemanticIdError where the file is no such table.
    """
    from batch.semantic_ids.collisions import count_collisions

    codes = read_codebooks(path)
    highest = int(codes.max()) + 1
    size = codewords or 1 << max(0, math.ceil(math.log2(max(2, highest))))
    if highest > size:
        raise SemanticIdError(f"{path} holds the code {highest - 1}, so there are more than {size} codewords")
    return CodesReport(path.stem.removeprefix("codebooks-"), len(codes), size, count_collisions(codes, size), ())


def read_codebooks(path: Path) -> NDArray[np.int32]:
    """The codes of a `codebooks-*.csv` or `.parquet`, int32 [rows, levels], in the file's order; each Pid once."""
    import numpy as np

    lists, pids = _parquet_codes(path) if path.suffix == ".parquet" else _csv_codes(path)
    if not lists:
        raise SemanticIdError(f"{path} holds no codes")
    if len(set(pids)) != len(pids):
        twice, _ = Counter(pids).most_common(1)[0]
        raise SemanticIdError(f"{path}: Pid {twice} stands twice")
    levels = min(map(len, lists))
    if not levels or max(map(len, lists)) > levels + 1:
        raise SemanticIdError(f"{path}: the column Codebook holds lists of different lengths")
    codes = np.array([row[:levels] for row in lists], np.int64)
    if codes.min() < 0 or codes.max() >= 1 << 31:
        raise SemanticIdError(f"{path}: a code is no whole number from 0 on")
    return codes.astype(np.int32)


def _csv_codes(path: Path) -> tuple[list[list[int]], list[int]]:
    import csv
    import sys

    import orjson

    csv.field_size_limit(min(sys.maxsize, 1 << 30))
    lists: list[list[int]] = []
    pids: list[int] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = next(reader, [])
            if "Pid" not in columns or "Codebook" not in columns:
                raise SemanticIdError(f"{path} is no file of codebooks: it has no columns Pid and Codebook")
            pid, code = columns.index("Pid"), columns.index("Codebook")
            for row in reader:
                try:
                    value = orjson.loads(row[code])
                    if not isinstance(value, list) or not all(type(number) is int for number in value):
                        raise ValueError
                    lists.append(value)
                    pids.append(int(row[pid]))
                except (ValueError, IndexError):
                    raise SemanticIdError(
                        f"{path}, line {reader.line_num}: the row has no Pid with a list of codes"
                    ) from None
    except FileNotFoundError:
        raise SemanticIdError(f"There is no {path}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SemanticIdError(f"{path} is no CSV file: {error}") from None
    except OSError as error:
        raise SemanticIdError(f"{path} cannot be read: {error.strerror or error}") from error
    return lists, pids


def _parquet_codes(path: Path) -> tuple[list[list[int]], list[int]]:
    from batch.errors import MissingExtraError

    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("tables", "Parquet") from None
    try:
        table = pq.read_table(path, columns=["Codebook", "Pid"])
        return table["Codebook"].to_pylist(), table["Pid"].to_pylist()
    except FileNotFoundError:
        raise SemanticIdError(f"There is no {path}") from None
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise SemanticIdError(f"{path} is no file of codebooks: {' '.join(str(error).split())[:160]}") from error


def level_line(number: int, level: LevelUse) -> str:
    """`level a  used 30 of 32  entropy 4.71 of 5.00 bits  perplexity 26.2`."""
    size = len(level.counts)
    most = math.log2(size) if size > 1 else 0.0
    return (
        f"level {level_letter(number)}  used {level.used:,} of {size:,}  "
        f"entropy {level.entropy:.2f} of {most:.2f} bits  perplexity {level.perplexity:.1f}"
    )


def level_letter(number: int) -> str:
    """a, b, c …, as the text form of a SID names its levels."""
    return chr(ord("a") + number) if number < 26 else f"l{number}"


def use_picture(counts: Sequence[int], width: int, height: int = 1) -> list[str]:
    """How often each codeword was chosen, as bars: `height` lines of at most `width` cells, first codeword first.

    The longest bar is the most chosen; `·` marks codewords that were never chosen. Where there are more codewords
    than cells, a bar stands for several and shows their mean.
    """
    width, height = max(1, width), max(1, height)
    each = max(1, min(WIDEST_BAR, width // max(1, len(counts))))
    group = max(1, -(-len(counts) // (width // each)))
    means = [sum(part) / len(part) for part in (counts[i : i + group] for i in range(0, len(counts), group))]
    highest = max(means, default=0.0)
    eighths = [max(1, round(mean / highest * height * 8)) if mean else 0 for mean in means]
    lines = []
    for line in range(height - 1, -1, -1):
        cells = [BARS[max(0, min(8, value - line * 8))] if value or line else UNUSED for value in eighths]
        lines.append("".join(cell * (each - 1) + " " if each > 1 else cell for cell in cells).rstrip())
    return lines


def _percent(share: float) -> str:
    return f"{share * 100:.2f} %"


def _some(rows: Sequence[int]) -> str:
    shown = ", ".join(f"{row + 1:,}" for row in rows[:SHOWN_BAD])
    return shown + (" …" if len(rows) > SHOWN_BAD else "")
