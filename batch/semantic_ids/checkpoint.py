"""Model files: `.pt` and `.safetensors`, the shape of the model read from the weights themselves."""

from __future__ import annotations

import itertools
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from batch.export.atomic import atomic_file
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.model import RQVAE, Layout

NESTED = ("model_state_dict", "state_dict", "model")  # where training scripts keep the weights, besides the top
WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before each name
LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(\w+)")


def load_rqvae(path: Path) -> RQVAE:
    """The model in `path`, in eval mode; SemanticIdError when the file is damaged or holds something else.

    A `.pt` file is either a bare state dict or `{"model_state_dict": …}`; it is read with `weights_only=True`.
    """
    state = _state_dict(path, _read(path))
    layout = _layout(path, state)
    model = RQVAE(layout)
    _check(path, state, model.state_dict())
    model.load_state_dict(state)
    model.eval()
    return model


def save_rqvae(model: RQVAE, path: Path) -> None:
    """Write the weights to `path` (`.pt` with `model_state_dict`, or `.safetensors`); the file appears whole."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic_file(path) as file:
        if path.suffix == ".safetensors":
            from safetensors.torch import save

            file.write(save(state))
        else:
            torch.save({"model_state_dict": state}, file)


def read_pt(path: Path, *, mmap: bool = False) -> Any:
    """What a `.pt` file holds, tensors and plain containers only; SemanticIdError when it is anything else."""
    _check_readable(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of foreign pickles; they are refused below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise SemanticIdError(
                f"{path} holds Python objects beside tensors, which are not loaded; save the state dict alone"
            ) from None
        raise SemanticIdError(f"{path} is not a file that torch.save wrote, or it is damaged") from None
    except Exception:  # damaged bytes make the unpickler raise nearly anything
        raise SemanticIdError(f"{path} is cut off or damaged: copy or download it again") from None


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise SemanticIdError(f"{path} does not exist") from None
    except OSError as error:
        raise SemanticIdError(f"{path} cannot be read: {error.strerror or error}") from None


def _read(path: Path) -> Any:
    if path.suffix != ".safetensors":
        return read_pt(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _check_readable(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError):
        raise SemanticIdError(f"{path} is cut off or damaged: copy or download it again") from None


def _state_dict(path: Path, held: Any) -> dict[str, Any]:
    """The weights by name, out of whatever the file wraps them in."""
    for key in NESTED:
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in held.items()
    ):
        raise SemanticIdError(f"{path} holds no state dict: names with tensors, or `model_state_dict` with them")
    state = dict(held)
    for prefix in WRAPPERS:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _layout(path: Path, state: Mapping[str, Any]) -> Layout:
    """The model's shape, from its names and sizes; how layers are numbered tells whether it has dropout."""

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        value = state.get(name)
        if value is None:
            raise SemanticIdError(f"{path} is not an RQ-VAE: it has no {name}")
        if value.dim() != dimensions or 0 in value.shape:
            raise SemanticIdError(f"{path} is not an RQ-VAE: {name} has the shape {list(value.shape)}")
        return tuple(value.shape)

    linear: dict[str, list[int]] = {"encoder": [], "decoder": []}
    norms = 0
    for name, value in state.items():
        if (match := LAYER.fullmatch(name)) is None:
            continue
        if match[3] == "weight" and value.dim() == 2:
            linear[match[1]].append(int(match[2]))
        norms += match[3] == "running_mean"
    for indices in linear.values():
        indices.sort()
    hidden = [shape(f"encoder.layers.{i}.weight", 2)[0] for i in linear["encoder"]]
    back = [shape(f"decoder.layers.{i}.weight", 2)[0] for i in linear["decoder"]]
    vector_dim, width = shape("encoder.proj.weight", 2)
    input_dim = shape(f"encoder.layers.{linear['encoder'][0]}.weight", 2)[1] if hidden else width
    levels = sum(1 for name in state if re.fullmatch(r"quantizer\.quantizers\.\d+\.vectors\.weight", name))
    sizes = {shape(f"quantizer.quantizers.{level}.vectors.weight", 2) for level in range(max(1, levels))}
    if len(sizes) > 1:
        raise SemanticIdError(f"{path}: its levels have codebooks of different sizes, {sorted(sizes)}")
    step = next((b - a for indices in linear.values() for a, b in itertools.pairwise(indices)), 0)
    batch_norm = norms > 0
    return Layout(
        input_dim=input_dim,
        hidden=tuple(hidden),
        vector_dim=vector_dim,
        levels=levels,
        codewords=sizes.pop()[0],
        batch_norm=batch_norm,
        dropout=step == 3 + batch_norm,
        ema="quantizer.quantizers.0.ema_w" in state,
        decoder_hidden=None if back == hidden[::-1] else tuple(back),
    )


def _check(path: Path, state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Every weight there, in its size, and a number."""
    if missing := [name for name in expected if name not in state]:
        raise SemanticIdError(f"{path} is not a whole RQ-VAE: {missing[0]} is missing{_more(missing)}")
    if foreign := [name for name in state if name not in expected]:
        raise SemanticIdError(f"{path} holds weights that an RQ-VAE does not have: {foreign[0]}{_more(foreign)}")
    for name, value in state.items():
        if value.shape != expected[name].shape:
            shapes = f"{list(value.shape)} instead of {list(expected[name].shape)}"
            raise SemanticIdError(f"{path} is not an RQ-VAE: {name} has the shape {shapes}")
        if not bool(torch.isfinite(value).all()):
            raise SemanticIdError(f"{path} cannot be used: {name} holds NaN or infinite weights")


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
