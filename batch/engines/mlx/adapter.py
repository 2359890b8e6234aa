"""An adapter over a model of mlx-lm: its own format through mlx-lm, PEFT's as PEFT's forward pass has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.tuner.dora import DoRALinear
from mlx_lm.tuner.lora import LoRALinear
from mlx_lm.utils import load_adapters

from batch.engines.adapters.settings import MERGED, MLX_FILE, PEFT_FILE, PEFT_PICKLE, Settings, read_settings
from batch.engines.adapters.tensors import PREFIX, ROWS, sort_tensors, token_rows
from batch.errors import FatalError

HEADS = ("lm_head", "embed_out", "output")  # names of the layer that scores the next token
TRUNK = "transformer"  # what transformers calls the layers of GPT-2 and its like, and mlx-lm of some "model"
QUANTISED = nn.QuantizedLinear | nn.QuantizedEmbedding
MATRICES = nn.Linear | nn.Embedding | QUANTISED


class Untied(nn.Module):  # type: ignore[misc]
    """An embedding whose model scores tokens by it too, but by another matrix than it looks them up in."""

    def __init__(self, embedding: Any, head: Any) -> None:
        super().__init__()
        self.embedding, self.head = embedding, head

    def __call__(self, x: Any) -> Any:
        return self.embedding(x)

    def as_linear(self, x: Any) -> Any:
        """x: [..., width]; the scores of all tokens."""
        return self.head.as_linear(x)


def adapt(model: Any, folder: Path) -> None:
    """Put an adapter over a model; a fault is a FatalError of one sentence."""
    settings = read_settings(folder)
    if not settings.mlx:
        _Peft(model, settings, _weights(folder)).apply()
        return
    if not (folder / MLX_FILE).is_file():
        raise FatalError(f"{folder}: not an adapter in mlx-lm's format, nor in PEFT's; it has no {MLX_FILE}")
    try:
        load_adapters(model, str(folder))
    except Exception as error:  # settings that are not there, and shapes that do not fit
        raise FatalError(f"{folder}: the adapter cannot be applied: {_line(error)}") from error
    weights: Any = mx.load(str(folder / MLX_FILE))
    lost = weights.keys() - dict(tree_flatten(model.parameters())).keys()
    if lost:
        raise FatalError(f"{folder}: the adapter changes {min(lost)}, which the model does not have")


def _weights(folder: Path) -> dict[str, Any]:
    path = next((folder / name for name in (PEFT_FILE, MLX_FILE) if (folder / name).is_file()), None)
    if path is None and (folder / PEFT_PICKLE).is_file():
        raise FatalError(f"{folder}: MLX reads no {PEFT_PICKLE}; save the adapter as safetensors")
    if path is None:
        raise FatalError(f"{folder}: no weights, neither {PEFT_FILE} nor {MLX_FILE}")
    try:
        found: Any = mx.load(str(path))
        return dict(found)
    except Exception as error:  # the library raises RuntimeError and others
        raise FatalError(f"{path}: the adapter's weights cannot be read: {_line(error)}") from error


class _Peft:
    """An adapter of PEFT's on its way into a model."""

    def __init__(self, model: Any, settings: Settings, weights: dict[str, Any]) -> None:
        self.model, self.settings, self.folder = model, settings, settings.folder
        self.modules: dict[str, Any] = dict(model.named_modules())
        self.tensors = sort_tensors(settings, self._renamed(weights))
        embeddings = [n for n, m in self.modules.items() if isinstance(m, nn.Embedding | nn.QuantizedEmbedding)]
        self.input = min(embeddings, key=len, default="")
        heads = [name for name in self.modules if name.rpartition(".")[2] in HEADS]
        self.tied = bool(self.input) and not heads
        self.head: Any = None  # of a tied model: an embedding of its own, once there is one

    def apply(self) -> None:
        """Put everything in its place."""
        self._untie()
        for name, tensor in self.tensors.whole.items():
            self._replace(name, tensor)
        for module, parts in self.tensors.modules.items():
            if ROWS in parts:
                self._replace_rows(module, parts[ROWS])
            else:
                self._change(module, parts)
        if self.head is not None:
            self._put(self.input, Untied(self._module(self.input), self.head))
        there = {name.rpartition(".")[0] for name in self.tensors.whole}
        for said in self.settings.config.get("modules_to_save") or ():
            meant = [name for name in self.modules if name == said or name.endswith(f".{said}")]
            if not all(any(m == name or m.startswith(f"{name}.") for m in there) for name in meant):
                raise FatalError(f"{self.folder}: modules_to_save names {said}, and the adapter lacks its weights")

    def _renamed(self, weights: dict[str, Any]) -> dict[str, Any]:
        """The tensors by the names of mlx-lm's model, where that keeps as `model` what transformers calls another name.

        GPT-2 is such a one; what it keeps the other way round, as it does that one's matrices, is turned as the model
        turns it.
        """
        if any(name.startswith(f"{TRUNK}.") for name in self.modules):
            return weights
        found: dict[str, Any] = {}
        for name, tensor in weights.items():
            inside = name.removeprefix(PREFIX)
            plain = inside.removeprefix(f"{TRUNK}.")
            module = f"model.{plain.rpartition('.')[0]}"
            if plain == inside or not any(module == m or module.startswith(f"{m}.") for m in self.modules if m):
                found[name] = tensor
            elif module in self.modules and hasattr(self.model, "sanitize"):  # a whole parameter
                found |= {f"{PREFIX}{key}": value for key, value in self.model.sanitize({plain: tensor}).items()}
            else:
                found[f"{PREFIX}model.{plain}"] = tensor
        return found

    def _is_head(self, module: str) -> bool:
        return self.tied and module.rpartition(".")[2] in HEADS

    def _untie(self) -> None:
        """Give a tied head its own matrix where only it, or only the embedding, is changed (as PEFT does)."""
        if not self.tied:
            return
        whole, tensors = self.tensors.whole, self.tensors
        changed = {module for module, parts in tensors.modules.items() if ROWS not in parts}
        if self.settings.init and any(module == self.input or self._is_head(module) for module in changed):
            raise FatalError(
                f"{self.folder}: the adapter was begun by {self.settings.init} over an embedding that is tied to its "
                f"head; {MERGED}"
            )
        changed |= {name.rpartition(".")[0] for name in whole if name not in tensors.shared}
        ends = sum(module == self.input or self._is_head(module) for module in changed)
        if ends == 2 or (ends and not self.settings.ties):
            self.head = _embedding(_dense(self.modules[self.input]))

    def _module(self, name: str) -> Any:
        """The module of a name; a tied head is the embedding, or the matrix that was put apart from it."""
        if self._is_head(name):
            return self.modules[self.input] if self.head is None else self.head
        return self.modules.get(name)

    def _put(self, name: str, module: Any) -> None:
        if self._is_head(name) and self.head is not None:
            self.head = module
            return
        name = self.input if self._is_head(name) else name
        self.modules[name] = module
        self.model.update_modules(tree_unflatten([(name, module)]))

    def _replace(self, name: str, tensor: Any) -> None:
        """Put a whole parameter in the place of the model's."""
        module, _, parameter = name.rpartition(".")
        found = self._module(module)
        if found is None or (parameter not in found and parameter != "bias"):
            raise FatalError(
                f"{self.folder}: the adapter comes with {module} trained as a whole, and the model has no {name}"
            )
        if not self._is_head(module) and not self._is_kept(name, tensor):
            raise FatalError(f"{self.folder}: mlx-lm turns {name} as it loads, so the adapter's cannot be put there")
        matrix = isinstance(found, MATRICES) and parameter == "weight"
        shape = _dense(found).shape if matrix else found[parameter].shape if parameter in found else tensor.shape
        if tuple(shape) != tuple(tensor.shape):
            raise FatalError(
                f"{self.folder}: the adapter's {name} has the shape {tuple(tensor.shape)}, the model's {tuple(shape)}"
            )
        if matrix:
            self._put(module, _with_matrix(found, tensor.astype(_dtype(found))))
        else:
            found[parameter] = tensor.astype(_dtype(found))

    def _is_kept(self, name: str, tensor: Any) -> bool:
        """Whether mlx-lm takes a tensor of this name as it is; some of its models add to norms, or turn matrices."""
        if not hasattr(self.model, "sanitize"):
            return True
        try:
            found = self.model.sanitize({name: tensor})
            return list(found) == [name] and bool(mx.array_equal(found[name], tensor))
        except Exception:  # a model's own code, which expects all weights at once
            return False

    def _replace_rows(self, module: str, rows: Any) -> None:
        found = self._module(module)
        indices = token_rows(self.settings, module, module == self.input)
        matrix = _dense(found) if isinstance(found, MATRICES) else None
        if matrix is None or rows.shape != (len(indices), matrix.shape[1]) or max(indices) >= matrix.shape[0]:
            raise FatalError(f"{self.folder}: the adapter's trained tokens do not fit the model's {module}")
        if self._is_head(module):
            raise FatalError(f"{self.folder}: trained tokens of a head that is tied to its embedding; {MERGED}")
        matrix[mx.array(indices)] = rows.astype(matrix.dtype)
        self._put(module, _with_matrix(found, matrix))

    def _change(self, name: str, parts: dict[str, Any]) -> None:
        """Put the parts of one module into it."""
        found = self._module(name)
        if not isinstance(found, MATRICES):
            raise FatalError(f"{self.folder}: the adapter changes {name}, which the model has no matrix for")
        matrix = _dense(found)
        # PEFT's matrix of an embedding is [width, vocabulary]
        lookup = isinstance(found, nn.Embedding | nn.QuantizedEmbedding) and not self._is_head(name)
        shape = tuple(matrix.shape)[::-1] if lookup else tuple(matrix.shape)
        down, up = parts["down"], parts["up"]
        if down.shape[0] != up.shape[1] or (up.shape[0], down.shape[1]) != shape:
            raise FatalError(
                f"{self.folder}: the adapter's {name} has the shapes {tuple(down.shape)} and {tuple(up.shape)}, "
                f"which do not fit the model's {tuple(matrix.shape)}"
            )
        scale = self.settings.scale(name, down.shape[0])
        if "up_bias" in parts:
            change = (scale * parts["up_bias"]).astype(_dtype(found))
            found["bias"] = found["bias"] + change if "bias" in found else change
        quantised = isinstance(found, QUANTISED)
        # A matrix that came with the adapter, as PEFT saves heads and embeddings, is already without its beginning.
        init = None if f"{name}.weight" in self.tensors.whole else self.settings.init
        if init and quantised:
            raise FatalError(f"{self.folder}: the adapter was begun by {init}, and the model is quantised; {MERGED}")
        if isinstance(found, nn.Linear | nn.QuantizedLinear) and (quantised or not ("magnitude" in parts or init)):
            self._put(name, _layer(found, down, up, scale, parts.get("magnitude")))
            return
        matrix = (matrix.T if lookup else matrix).astype(mx.float32)
        if init:
            matrix = matrix - beginning(matrix, down.shape[0], scale, init)
        matrix = matrix + scale * (up.astype(mx.float32) @ down.astype(mx.float32))
        if "magnitude" in parts:
            norm = mx.linalg.norm(matrix, axis=1)
            matrix = matrix * (parts["magnitude"].astype(mx.float32).flatten() / norm)[:, None]
        self._put(name, _with_matrix(found, (matrix.T if lookup else matrix).astype(_dtype(found))))


def beginning(matrix: Any, rank: int, scale: float, init: str) -> Any:
    """What PiSSA or OLoRA began with and took out of a matrix [out, in]; see the torch engine's function."""
    if init == "pissa":
        left, values, right = mx.linalg.svd(matrix, stream=mx.cpu)
        return (left[:, :rank] * values[:rank]) @ right[:rank]
    q, r = mx.linalg.qr(matrix, stream=mx.cpu)
    return scale * (q[:, :rank] @ r[:rank])


def _layer(linear: Any, down: Any, up: Any, scale: float, magnitude: Any) -> Any:
    """mlx-lm's layer of LoRA or DoRA over a linear one."""
    kind = LoRALinear if magnitude is None else DoRALinear
    layer: Any = kind.from_base(linear, r=down.shape[0], scale=scale)
    layer.lora_a, layer.lora_b = down.T, up.T
    if magnitude is not None:
        layer.m = magnitude.flatten()
    return layer


def _dense(module: Any) -> Any:
    """A module's matrix, whatever bits it lies in."""
    if isinstance(module, QUANTISED):
        return mx.dequantize(
            module.weight, module.scales, module.get("biases"), module.group_size, module.bits, mode=module.mode
        )
    return module.weight


def _dtype(module: Any) -> Any:
    return module.scales.dtype if isinstance(module, QUANTISED) else module.weight.dtype


def _with_matrix(module: Any, matrix: Any) -> Any:
    """A module of the same kind with another matrix, in no fewer bits than the matrix has."""
    if isinstance(module, nn.Embedding | nn.QuantizedEmbedding):
        return _embedding(matrix)
    made = nn.Linear(1, 1, bias="bias" in module)
    made.weight = matrix
    if "bias" in module:
        made.bias = module.bias
    return made


def _embedding(matrix: Any) -> Any:
    made = nn.Embedding(1, 1)
    made.weight = matrix
    return made


def _line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(text.split())[:300]
