"""Whether an adapter fits its model, from the headers of both files alone: nothing is loaded."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from batch.errors import BatchError

CONFIG = "adapter_config.json"
FILES = ("adapters.safetensors", "adapter_model.safetensors")  # of mlx-lm, and of PEFT
_NAME = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.(?P<part>lora_[abAB])(?:\.default)?(?:\.weight)?$")
_LONGEST_HEADER = 100_000_000

Shape = tuple[int, ...]


class AdapterError(BatchError):
    """An adapter that cannot be used; the text names what is missing, or the tensor and the shapes."""


def check_adapter(adapter: Path, model: Path) -> str:
    """A line about an adapter that fits a model's folder. Raises AdapterError for one that does not.

    The shapes of LoRA pairs are held against the matrices [out, in] they change; other kinds of adapters, and weights
    that are no safetensors, are left for the engine to judge.
    """
    if not adapter.is_dir():
        raise AdapterError(f"There is no adapter folder {adapter}")
    weights = next((adapter / name for name in FILES if (adapter / name).is_file()), None)
    if not (adapter / CONFIG).is_file():
        raise AdapterError(f"{adapter} is not an adapter folder: it has no {CONFIG}")
    if weights is None:
        raise AdapterError(f"{adapter} has no weights: neither {FILES[0]} nor {FILES[1]}")
    tensors = dict(_shapes(weights))
    if not tensors:
        raise AdapterError(f"{weights} holds no tensors")
    matrices, packed = _matrices(model)
    ranks: set[int] = set()
    changed: set[str] = set()
    for name, shape in tensors.items():
        found = _NAME.match(name)
        if found is None:
            continue
        changed.add(found["module"])
        first = found["part"] in ("lora_a", "lora_A")
        # mlx-lm keeps [in, rank] and [rank, out], PEFT [rank, in] and [out, rank].
        swapped = found["part"] in ("lora_A", "lora_B")
        if len(shape) != 2:
            raise AdapterError(f"{adapter} does not fit: the tensor {name} has the shape {shape}, not two dimensions")
        size, rank = (shape[1], shape[0]) if first == swapped else (shape[0], shape[1])
        ranks.add(rank)
        _compare(adapter, model, name, shape, size, found["module"], matrices, packed, inner=first)
    if not changed:
        return f"{len(tensors)} tensors"
    return f"LoRA rank {'/'.join(map(str, sorted(ranks)))} on {len(changed)} matrices"


def _compare(
    adapter: Path,
    model: Path,
    name: str,
    shape: Shape,
    size: int,
    module: str,
    matrices: dict[str, Shape],
    packed: set[str],
    *,
    inner: bool,
) -> None:
    if not matrices:
        return
    matrix = matrices.get(module)
    if matrix is None:
        raise AdapterError(f"{adapter} does not fit {model}: it changes {module}, which the model does not have")
    if inner and module in packed:  # quantised weights lie packed along their inputs
        return
    if size != matrix[1 if inner else 0]:
        raise AdapterError(
            f"{adapter} does not fit {model}: its tensor {name} has the shape {list(shape)}, and the model's {module} "
            f"is {list(matrix)} (out, in)"
        )


def _matrices(model: Path) -> tuple[dict[str, Shape], set[str]]:
    found: dict[str, Shape] = {}
    packed: set[str] = set()
    for file in sorted(model.glob("*.safetensors")):
        for name, shape in _shapes(file):
            if name.endswith(".weight") and len(shape) == 2:
                found[name.removesuffix(".weight")] = shape
            elif name.endswith(".scales"):
                packed.add(name.removesuffix(".scales"))
    return found, packed


def _shapes(file: Path) -> Iterator[tuple[str, Shape]]:
    """The header of a safetensors file: 8 bytes of length, then JSON."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, _LONGEST_HEADER)))
        for name, tensor in header.items():
            if name != "__metadata__":
                yield name, tuple(int(size) for size in tensor["shape"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        raise AdapterError(f"{file} is no safetensors file that can be read") from None
