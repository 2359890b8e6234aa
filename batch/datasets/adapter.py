"""Whether an adapter fits its model, from the headers of both files alone: nothing is loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batch.engines.adapters.settings import CONFIG, MLX_FILE, PEFT_FILE, PEFT_PICKLE, read_settings
from batch.engines.adapters.tensors import ROWS, sort_names, sort_tensors
from batch.errors import BatchError, FatalError

_LONGEST_HEADER = 100_000_000
# Models whose matrices lie [in, out] (Conv1D of transformers).
_TURNED = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")

Shape = tuple[int, ...]


class AdapterError(BatchError):
    """An adapter that cannot be used; the text names the feature, what is missing, or the tensor and the shapes."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor's name and shape, enough to be sorted like one."""

    name: str
    shape: Shape

    @property
    def T(self) -> _Tensor:
        return _Tensor(self.name, self.shape[::-1])


def check_adapter(adapter: Path, model: Path) -> str:
    """A line about an adapter that fits a model's folder. Raises AdapterError for one that does not.

    Its settings and the kinds of its tensors are judged as the engines judge them, and the shapes of LoRA pairs are
    held against the matrices they change; weights that are no safetensors are left for the engine to judge.
    """
    if not adapter.is_dir():
        raise AdapterError(f"There is no adapter folder {adapter}")
    weights = next((adapter / name for name in (MLX_FILE, PEFT_FILE) if (adapter / name).is_file()), None)
    if not (adapter / CONFIG).is_file():
        raise AdapterError(f"{adapter} is not an adapter folder: it has no {CONFIG}")
    if weights is None and (adapter / PEFT_PICKLE).is_file():
        return f"weights in {PEFT_PICKLE}"
    if weights is None:
        raise AdapterError(f"{adapter} has no weights: neither {MLX_FILE} nor {PEFT_FILE}")
    tensors = {name: _Tensor(name, shape) for name, shape in _shapes(weights)}
    if not tensors:
        raise AdapterError(f"{weights} holds no tensors")
    matrices = _Matrices(model)
    try:
        settings = read_settings(adapter)
        for module, parts in sort_names(settings, tensors).modules.items():
            for half in ("down", "up"):
                if half not in parts:
                    continue
                matrices.compare(adapter, module, parts[half], inner=half == "down")
        found = sort_tensors(settings, tensors)
    except FatalError as error:
        raise AdapterError(str(error)) from None
    pairs = [parts for parts in found.modules.values() if ROWS not in parts]
    if not pairs:
        return f"{len(tensors)} tensors"
    ranks = sorted({parts["down"].shape[0] for parts in pairs})
    kind = "DoRA" if settings.method == "dora" else "LoRA"
    return f"{kind} rank {'/'.join(map(str, ranks))} on {len(pairs)} matrices"


class _Matrices:
    """The shapes of a model's matrices, from the headers of its files."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.shapes: dict[str, Shape] = {}
        self.packed: set[str] = set()
        for file in sorted(model.glob("*.safetensors")):
            for name, shape in _shapes(file):
                if name.endswith(".weight") and len(shape) == 2:
                    self.shapes[name.removesuffix(".weight")] = shape
                elif name.endswith(".scales"):
                    self.packed.add(name.removesuffix(".scales"))
        try:
            kind = json.loads((model / "config.json").read_bytes()).get("model_type")
        except (OSError, ValueError, AttributeError):
            kind = None
        self.turned = kind in _TURNED

    def find(self, module: str) -> str | None:
        """The name a matrix has in the files; some models' files leave the first part of names out."""
        if module in self.shapes:
            return module
        return next((name for name in self.shapes if module.endswith(f".{name}")), None)

    def compare(self, adapter: Path, module: str, half: _Tensor, *, inner: bool) -> None:
        """Raise where half a pair does not fit its matrix; `inner` is the half [rank, in], the other is [out, rank]."""
        of_mlx = half.name.endswith(("lora_a", "lora_b"))
        shown = half.shape[::-1] if of_mlx else half.shape
        if len(half.shape) != 2:
            raise AdapterError(
                f"{adapter} does not fit: the tensor {half.name} has the shape {shown}, not two dimensions"
            )
        name = self.find(module)
        if name is None:
            if not self.shapes or module.rpartition(".")[2] == "lm_head":  # a tied head is in no file
                return
            raise AdapterError(
                f"{adapter} does not fit {self.model}: it changes {module}, which the model does not have"
            )
        if inner and name in self.packed:  # quantised weights lie packed along their inputs
            return
        out, width = self.shapes[name]
        size = half.shape[1] if inner else half.shape[0]
        turned = self.turned or "embed" in module or "embedding" in half.name
        if size not in ((width if inner else out), (out if inner else width) if turned else None):
            raise AdapterError(
                f"{adapter} does not fit {self.model}: its tensor {half.name} has the shape {list(shown)}, and the "
                f"model's {module} is {[out, width]} (out, in)"
            )


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
