"""Trained on the same invented city: the model in closed form, and ResidualVQ of vector-quantize-pytorch.

`python -m benchmarks.semantic_id_training [--epochs 24]`, after `pip install vector-quantize-pytorch`. Both have 3 × 32
codewords of width 64 and are judged on the table they were trained on: reconstruction after quantising beside
predicting the mean, and collisions. The peer stands between an encoder of 1024, 512 and 128 units and its mirror, with
its own defences against collapse (k-means start, moving averages, dead codes replaced): Adam, 1e-3, batches of 256.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from batch.semantic_ids.collisions import count_collisions
from batch.semantic_ids.model import RQVAE, Layout
from batch.semantic_ids.quality import baseline_of, quality_of
from batch.semantic_ids.train import TrainConfig, train

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "semantic_ids"))

from city import NYC, features

CODEWORDS, LEVELS, BATCH = 32, 3, 256


def peer(table: Any, epochs: int) -> tuple[float, float]:
    """Error and collision rate of ResidualVQ between our encoder and decoder."""
    from vector_quantize_pytorch import ResidualVQ

    torch.manual_seed(0)
    model = RQVAE(Layout(input_dim=table.shape[1]), dropout=0.0)
    middle = ResidualVQ(
        dim=64,
        num_quantizers=LEVELS,
        codebook_size=CODEWORDS,
        kmeans_init=True,
        kmeans_iters=20,
        threshold_ema_dead_code=2,
    )
    x = torch.from_numpy(table.astype(np.float32))
    optimiser = torch.optim.Adam([*model.encoder.parameters(), *model.decoder.parameters()], lr=1e-3)
    scale = float(x.var(0, unbiased=False).mean())
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            words, _, commitment = middle(model.encoder(x[rows])[None])
            loss = F.mse_loss(model.decoder(words[0]), x[rows]) / scale + commitment.sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model.eval()
    middle.eval()
    with torch.no_grad():
        words, codes, _ = middle(model.encoder(x)[None])
        error = float(F.mse_loss(model.decoder(words[0]), x))
    return error, count_collisions(codes[0].numpy(), CODEWORDS).rate


def main() -> int:
    """A line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=24)
    args = parser.parse_args()
    table = features(NYC)
    baseline = baseline_of(table)
    start = time.process_time()
    error, rate = peer(table, args.epochs)
    spent = time.process_time() - start
    print(f"ResidualVQ, {args.epochs} epochs: {baseline.error / error:.2f} × the mean, {rate:.1%}; {spent:.0f} CPU s")
    start = time.process_time()
    found = quality_of(train(table, TrainConfig(codewords=CODEWORDS, kmeans_n_init=3)), table, baseline)
    spent = time.process_time() - start
    print(f"in closed form: {found.gain:.2f} × the mean, {found.collision_rate:.1%} collisions; {spent:.0f} CPU s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
