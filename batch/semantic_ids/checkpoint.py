"""Model files: `.pt` and `.safetensors`, the shape of the model read from the weights themselves."""

from __future__ import annotations

from pathlib import Path

from batch.semantic_ids.model import RQVAE


def load_rqvae(path: Path) -> RQVAE:
    """The model in `path`, in eval mode; SemanticIdError when the file is damaged or holds something else.

    A `.pt` file is either a bare state dict or `{"model_state_dict": …}`; it is read with `weights_only=True`.
    """
    raise NotImplementedError


def save_rqvae(model: RQVAE, path: Path) -> None:
    """Write the weights to `path` (`.pt` with `model_state_dict`, or `.safetensors`); the file appears whole."""
    raise NotImplementedError
