"""A folder with two datasets and models of them, small enough to make for each test."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from batch.semantic_ids.checkpoint import save_rqvae
from batch.semantic_ids.model import RQVAE, Layout

NYC = "rqvae-nyc-div0.25-commit0.5-lr5e-5"
TKY = "rqvae-tky-div0.25-commit0.25-lr5e-5"
WIDTH = {"NYC": 12, "TKY": 16}
CODEWORDS = {"NYC": 8, "TKY": 16}


def make_city(root: Path, rows: int = 60, models: tuple[str, ...] = (NYC, TKY)) -> Path:
    """Datasets below `datasets/`, models below `models/`, laid out as the published ones are."""
    for name in models:
        dataset = "NYC" if "nyc" in name else "TKY"
        make_model(root / "models" / name / "rqvae_best.pt", WIDTH[dataset], CODEWORDS[dataset])
        make_dataset(root, dataset, rows)
    return root


def make_model(path: Path, width: int, codewords: int = 8, seed: int = 1) -> RQVAE:
    torch.manual_seed(seed)
    model = RQVAE(Layout(input_dim=width, hidden=(10, 6), vector_dim=4, levels=3, codewords=codewords)).eval()
    with torch.no_grad():
        for level in model.quantizer.quantizers:
            level.vectors.weight.mul_(0.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_rqvae(model, path)
    return model


def make_dataset(root: Path, dataset: str, rows: int, width: int = 0) -> NDArray[np.float32]:
    folder = root / "datasets" / dataset
    features = make_features(rows, width or WIDTH[dataset])
    (folder / "RQVAE Dataset").mkdir(parents=True, exist_ok=True)
    (folder / "Intermediate Files").mkdir(exist_ok=True)
    torch.save(torch.from_numpy(features), folder / "RQVAE Dataset" / "poi_features.pt")
    write_mapping(root, dataset, list(range(1, rows + 1)))
    return features


def make_features(rows: int, width: int) -> NDArray[np.float32]:
    """Of every third row there is another one like it, so that SIDs collide."""
    features = np.random.default_rng(7).random((rows, width), np.float32)
    features[2::3] = features[1::3][: len(features[2::3])]
    return features


def write_mapping(root: Path, dataset: str, pids: list[int], originals: list[int] | None = None) -> Path:
    """A mapping in an order of its own: nothing may depend on where a line stands."""
    path = root / "datasets" / dataset / "Intermediate Files" / "pid_mapping.csv"
    lines = [f"{original},{pid}" for original, pid in zip(originals or [pid * 10 for pid in pids], pids, strict=True)]
    random.Random(3).shuffle(lines)
    path.write_text("Original_Pid,Mapped_Pid\n" + "\n".join(lines) + "\n")
    return path
