"""Adapters merged into a model as it loads: mlx-lm's format and PEFT's, whose forward pass is the standard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batch.engines.adapters.settings import FILES, MERGED, PEFT_PICKLE, Settings, read_settings
from batch.engines.adapters.tensors import ROWS, Tensors, sort_tensors, token_rows
from batch.errors import FatalError


def merge_adapter(model: Any, folder: Path) -> str:
    """Put an adapter into a model's weights; returns a line about it. A fault is a FatalError of one sentence."""
    settings = read_settings(folder)
    tensors = sort_tensors(settings, _weights(folder))
    target = _Target(model, settings)
    _untie(target, tensors)
    for name, tensor in tensors.whole.items():
        _replace(target, name, tensor)
    ranks: set[int] = set()
    for module, parts in tensors.modules.items():
        if ROWS in parts:
            _replace_rows(target, module, parts[ROWS])
        else:
            ranks.add(_merge(target, module, parts, begun=f"{module}.weight" not in tensors.whole))
    _check_saved(target, tensors)
    kind = "DoRA" if settings.method == "dora" else "LoRA"
    pairs = sum(ROWS not in parts for parts in tensors.modules.values())
    rows = len(tensors.modules) - pairs
    said = [f"{kind} rank {'/'.join(map(str, sorted(ranks)))} on {pairs} matrices"] if pairs else []
    said += [f"{len(tensors.whole)} whole weights"] if tensors.whole else []
    said += ["trained tokens"] if rows else []
    return ", ".join(said)


class _Target:
    """The model that an adapter goes into."""

    def __init__(self, model: Any, settings: Settings) -> None:
        self.model, self.settings, self.folder = model, settings, settings.folder
        self.modules: dict[str, Any] = dict(model.named_modules())
        self.input, self.head = model.get_input_embeddings(), model.get_output_embeddings()

    @property
    def tied(self) -> bool:
        return self.head is not None and self.head.weight is self.input.weight

    def ends(self, module: str) -> bool:
        """Whether a module is the embedding or the head, whose weights may be one."""
        found = self.modules.get(module)
        return found is not None and (found is self.input or found is self.head)


def _weights(folder: Path) -> dict[str, Any]:
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise FatalError(f"{folder}: no weights, neither {', '.join(FILES[:-1])} nor {FILES[-1]}")
    try:
        if path.name == PEFT_PICKLE:
            import torch

            found = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
                raise ValueError("it holds other things than tensors")
            return found
        from safetensors.torch import load_file

        loaded: dict[str, Any] = load_file(path)
        return loaded
    except Exception as error:  # safetensors, pickle, torch and the system each raise their own
        from batch.engines.torch.loader import read_problem

        raise FatalError(f"{path}: the adapter's weights cannot be read: {read_problem(error)}") from error


def _untie(target: _Target, tensors: Tensors) -> None:
    """Give the head a weight of its own where only the embedding or only the head is changed.

    PEFT changes the module that is named, and not what shares its weight; trained tokens and saved embeddings are the
    exceptions, and `ensure_weight_tying` and mlx-lm's format, which knows no head beside a tied embedding.
    """
    if not target.tied:
        return
    changed = {module for module, parts in tensors.modules.items() if ROWS not in parts}
    if target.settings.init and any(map(target.ends, changed)):
        raise FatalError(
            f"{target.folder}: the adapter was begun by {target.settings.init} over an embedding that is tied to its "
            f"head; {MERGED}"
        )
    changed |= {name.rpartition(".")[0] for name in tensors.whole if name not in tensors.shared}
    ends = sum(map(target.ends, changed))
    if ends == 2 or (ends and not target.settings.ties):
        import torch

        target.head.weight = torch.nn.Parameter(target.head.weight.detach().clone(), requires_grad=False)
        target.model.config.tie_word_embeddings = False


def _replace(target: _Target, name: str, tensor: Any) -> None:
    """Put a whole parameter in the place of the model's (modules_to_save, trained biases, saved embeddings)."""
    module, _, parameter = name.rpartition(".")
    found = target.modules.get(module)
    there = getattr(found, parameter, None)
    if there is None or not hasattr(there, "shape"):
        raise FatalError(
            f"{target.folder}: the adapter comes with {module} trained as a whole, and the model has no {name}"
        )
    if tuple(there.shape) != tuple(tensor.shape):
        if target.ends(module) and there.shape[1:] == tensor.shape[1:]:
            raise FatalError(
                f"{target.folder}: the adapter was trained with a vocabulary of {tensor.shape[0]:,} tokens, and the "
                f"model has {there.shape[0]:,}; {MERGED}"
            )
        raise FatalError(
            f"{target.folder}: the adapter's {name} has the shape {tuple(tensor.shape)}, the model's "
            f"{tuple(there.shape)}"
        )
    there.data.copy_(tensor)


def _check_saved(target: _Target, tensors: Tensors) -> None:
    """Raise where settings name a module that was trained as a whole, and its weights are not there."""
    there = {name.rpartition(".")[0] for name in tensors.whole}
    for said in target.settings.config.get("modules_to_save") or ():
        meant = [name for name in target.modules if name == said or name.endswith(f".{said}")]
        for name in meant:
            has = any(True for _ in target.modules[name].parameters())
            if has and not any(module == name or module.startswith(f"{name}.") for module in there):
                raise FatalError(f"{target.folder}: modules_to_save names {said}, and the adapter lacks {name}")


def _replace_rows(target: _Target, module: str, rows: Any) -> None:
    found = target.modules.get(module)
    weight = getattr(found, "weight", None)
    indices = token_rows(target.settings, module, found is target.input)
    if weight is None or rows.shape != (len(indices), weight.shape[-1]) or max(indices) >= weight.shape[0]:
        raise FatalError(f"{target.folder}: the adapter's trained tokens do not fit the model's {module}")
    if target.tied and found is target.head:
        raise FatalError(f"{target.folder}: trained tokens of a head that is tied to its embedding; {MERGED}")
    weight.data[indices] = rows.to(weight.dtype).to(weight.device)


def _merge(target: _Target, name: str, parts: dict[str, Any], *, begun: bool) -> int:
    """Merge the parts of one module; its rank.

    begun: whether the matrix is the model's, out of which PiSSA's and OLoRA's beginning is still to be taken, and not
    one that came with the adapter, as PEFT saves heads and embeddings: from that it was taken in training.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    found = target.modules.get(name)
    weight = getattr(found, "weight", None)
    if found is None or weight is None or weight.dim() != 2:
        raise FatalError(f"{target.folder}: the adapter changes {name}, which the model has no matrix for")
    # The matrix is [out, in]; Conv1D holds it the other way, an embedding is one of [width, vocabulary].
    turned = isinstance(found, Conv1D | torch.nn.Embedding)
    matrix = (weight.T if turned else weight).detach().float()
    down, up = parts["down"].float(), parts["up"].float()
    if down.shape[0] != up.shape[1] or (up.shape[0], down.shape[1]) != tuple(matrix.shape):
        raise FatalError(
            f"{target.folder}: the adapter's {name} has the shapes {_shown(parts, target.settings.mlx)}, "
            f"which do not fit the model's {tuple(weight.shape)}"
        )
    rank = int(down.shape[0])
    scale = target.settings.scale(name, rank)
    if target.settings.init:
        if target.settings.init == "olora" and turned:
            raise FatalError(f"{target.folder}: the adapter was begun by OLoRA over {name}, whose kind PEFT refuses")
        if begun:
            matrix = matrix - beginning(matrix, rank, scale, target.settings.init)
    matrix = matrix + scale * (up.to(matrix.device) @ down.to(matrix.device))
    if "magnitude" in parts:
        magnitude = parts["magnitude"].float().to(matrix.device).flatten()
        axis = 0 if target.settings.mlx and isinstance(found, torch.nn.Embedding) else 1
        if magnitude.shape[0] != matrix.shape[1 - axis]:
            raise FatalError(f"{target.folder}: DoRA's magnitudes of {name} do not fit the model's matrix")
        matrix = matrix * (magnitude / torch.linalg.norm(matrix, dim=axis)).unsqueeze(axis)
    new = (matrix.T if turned else matrix).to(weight.dtype).contiguous()
    weight.data.copy_(new)
    if "up_bias" in parts:
        change = (parts["up_bias"].float() * scale).to(weight.dtype).to(weight.device)
        found.bias = torch.nn.Parameter(change if found.bias is None else found.bias.data + change, requires_grad=False)
    return rank


def beginning(matrix: Any, rank: int, scale: float, init: str) -> Any:
    """Scale · B · A as the training began with them, which PEFT takes out of the model's matrix [out, in].

    PiSSA (Meng 2024): the part of the `rank` largest singular values, whatever the scale. OLoRA (Büyükakyüz 2024): the
    first columns of Q times the first rows of R.
    """
    import torch

    if init == "pissa":
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        return (left[:, :rank] * values[:rank]) @ right[:rank]
    q, r = torch.linalg.qr(matrix)
    return scale * (q[:, :rank] @ r[:rank])


def _shown(parts: dict[str, Any], mlx: bool) -> str:
    shapes = [tuple((part.T if mlx else part).shape) for part in (parts["down"], parts["up"])]
    return f"{shapes[0]} and {shapes[1]}"
