"""Feature tables on disk, read block by block: never more of one in memory than asked for."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batch.semantic_ids.errors import SemanticIdError

NAMES = ("features", "poi_features", "embeddings", "x")  # of the table, in a file that holds several tensors
KINDS = "fiub"  # numpy's for real numbers and booleans


class FeatureTable:
    """A table [rows, width] that stays on disk; `dtype` is the one it is stored in."""

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: str,
        read: Callable[[int, int], NDArray[Any]],
        advise: Callable[[int, int, bool], None] | None = None,
    ) -> None:
        self.rows, self.width = shape
        self.dtype = dtype
        self._read = read
        self._advise = advise

    def __len__(self) -> int:
        return self.rows

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` as they are stored (bfloat16 as float32); it may be a view of the file."""
        return self._read(start, stop)

    def release(self, start: int, stop: int) -> None:
        """Give back the memory that the pages of these rows took: they are on disk and will not be read again soon."""
        if self._advise is not None:
            self._advise(start, stop, False)

    def prefetch(self, start: int, stop: int) -> None:
        """Let the system begin to read these rows while others are worked on."""
        if self._advise is not None:
            self._advise(start, stop, True)


def from_array(features: NDArray[Any]) -> FeatureTable:
    """A table over an array in memory, or over numpy's own memory map."""
    return _table("The array", features, None)


def open_features(path: Path) -> FeatureTable:
    """Open `.npy`, `.pt` or `.safetensors`; SemanticIdError when there is no table of numbers [rows, width] in it."""
    if not path.is_file():
        raise SemanticIdError(f"{path} does not exist")
    if path.suffix == ".npy":
        return _open_npy(path)
    if path.suffix in (".pt", ".pth"):
        return _open_pt(path)
    if path.suffix == ".safetensors":
        return _open_safetensors(path)
    raise SemanticIdError(f"{path} is no feature table: .npy, .pt and .safetensors are read")


def _open_npy(path: Path) -> FeatureTable:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # a writable map is refused when it is larger than RAM
    except (ValueError, EOFError, OSError) as error:
        why = "Python objects are not loaded" if "objects" in str(error) else "it is cut off or damaged"
        raise SemanticIdError(f"{path} cannot be read: {why}") from None
    return _table(str(path), array, _adviser(array))


def _open_pt(path: Path) -> FeatureTable:
    import torch

    from batch.semantic_ids.checkpoint import read_pt

    held = read_pt(path, mmap=_is_zip(path))
    if isinstance(held, dict):
        tensors = {str(name): value for name, value in held.items() if isinstance(value, torch.Tensor)}
        held = tensors[_pick(path, {name: value.dim() for name, value in tensors.items()})]
    if not isinstance(held, torch.Tensor):
        raise SemanticIdError(f"{path} holds no tensor")
    if held.layout != torch.strided:
        raise SemanticIdError(f"{path} holds a sparse tensor: save it with .to_dense()")
    tensor = held.detach()
    kind = "f" if tensor.is_floating_point() else "c" if tensor.is_complex() else "i"
    _check(str(path), tuple(tensor.shape), kind)

    def read(start: int, stop: int) -> NDArray[Any]:
        part = tensor[start:stop]
        array: NDArray[Any] = (part.float() if part.dtype == torch.bfloat16 else part).numpy()
        return array

    return FeatureTable(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), read)


def _open_safetensors(path: Path) -> FeatureTable:
    from safetensors import SafetensorError, safe_open

    try:
        file: Any = safe_open(path, framework="pt")
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError):
        raise SemanticIdError(f"{path} is cut off or damaged: copy or download it again") from None
    name = _pick(path, {name: len(shape) for name, shape in shapes.items()})
    part = file.get_slice(name)
    _check(str(path), tuple(shapes[name]), "f")

    def read(start: int, stop: int) -> NDArray[Any]:
        import torch

        rows = part[start:stop]
        array: NDArray[Any] = (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()
        return array

    rows, width = shapes[name]
    return FeatureTable((rows, width), str(part.get_dtype()).lower(), read)


def _table(what: str, array: NDArray[Any], advise: Callable[[int, int, bool], None] | None) -> FeatureTable:
    _check(what, array.shape, array.dtype.kind)
    plain = array.view(np.ndarray)  # each slice of a numpy.memmap is one again, which costs more than the slice
    return FeatureTable(
        (array.shape[0], array.shape[1]), str(array.dtype), lambda start, stop: plain[start:stop], advise
    )


def _pick(path: Path, dimensions: dict[str, int]) -> str:
    """The one tensor that is a table, or the one that is named as such."""
    tables = [name for name, count in dimensions.items() if count == 2]
    for name in NAMES:
        if name in tables:
            return name
    if len(tables) != 1:
        found = ", ".join(sorted(dimensions)) or "nothing"
        raise SemanticIdError(f'{path} holds {found}: name the table [rows, width] "features"')
    return tables[0]


def _check(what: str, shape: tuple[int, ...], kind: str) -> None:
    if len(shape) != 2:
        raise SemanticIdError(f"{what} has the shape {list(shape)}: features are a table [rows, width]")
    if kind not in KINDS:
        raise SemanticIdError(f"{what} holds no real numbers")


def _is_zip(path: Path) -> bool:
    """Whether torch can map this file; what torch wrote before 1.6 it can only read whole."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _adviser(array: NDArray[Any]) -> Callable[[int, int, bool], None] | None:
    """How to tell the system which rows of a memory map come next and which are done; None where one cannot."""
    mapped = getattr(array, "_mmap", None)
    if not isinstance(mapped, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED") or not array.flags.c_contiguous:
        return None
    offset = getattr(array, "offset", 0) % mmap.ALLOCATIONGRANULARITY  # numpy maps from the last boundary before it
    row = array.strides[0]

    def advise(start: int, stop: int, soon: bool) -> None:
        first = (offset + start * row) // mmap.PAGESIZE * mmap.PAGESIZE
        last = offset + stop * row
        if not soon:  # the page that the next row begins on stays
            last = last // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            with contextlib.suppress(OSError, ValueError):  # advice; nothing depends on it
                mapped.madvise(mmap.MADV_WILLNEED if soon else mmap.MADV_DONTNEED, first, last - first)

    return advise
