"""The whole chain without a network: invent two cities, train a model for each, and give their places semantic IDs.

    python examples/semantic_ids/run.py [FOLDER] [--held-out SHARE] [--vector features|quantized|latent]

FOLDER (`outputs/semantic-ids` unless given) then holds `datasets/`, `models/` and `codebooks/`; `ai-router semantic-ids
run all --from FOLDER` works on it as well. Run again, the models that are there stay. `--held-out 0.2` first trains
on the rest of the places and prints what such a model makes of those that it has not seen.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from city import NYC, TKY, City, write

from batch.semantic_ids.features import open_features
from batch.semantic_ids.hub import FolderHub
from batch.semantic_ids.manager import BatchInferenceManager
from batch.semantic_ids.quality import Quality, baseline_of, quality_of
from batch.semantic_ids.task import CodebookOptions
from batch.semantic_ids.train import TrainConfig, train

ORG = "comp5331poi"
MODELS = {
    "rqvae-nyc-staged": (NYC, TrainConfig(codewords=32, kmeans_n_init=3)),
    "rqvae-tky-staged": (TKY, TrainConfig(codewords=64, kmeans_n_init=3)),
}


def train_model(name: str, city: City, config: TrainConfig, folder: Path, held_out: float) -> None:
    """Write the city and train its model."""
    table = open_features(write(city, folder / "datasets") / "RQVAE Dataset" / "poi_features.pt")
    features = table.read(0, len(table))
    print(f"{name}: {len(table):,} places × {table.width:,} features", flush=True)
    if held_out:
        order = np.random.default_rng(0).permutation(len(features))
        apart = order[: round(held_out * len(features))]
        start = time.monotonic()
        seen = features[np.setdiff1d(order, apart)]
        model = train(seen, config)
        show(f"{len(seen):,} of them", quality_of(model, seen, baseline_of(seen)), start)
        show(f"the {len(apart):,} others", quality_of(model, features[apart], baseline_of(features[apart])), start)
    start = time.monotonic()
    model = train(features, config, folder=folder / "models" / name, resume=True)
    show("all of them", quality_of(model, features, baseline_of(features)), start)


def show(what: str, found: Quality, start: float) -> None:
    """One line of what a model makes of some places."""
    print(
        f"  {what}: error {found.error:.2g} where predicting the mean gives {found.baseline:.2g}: {found.gain:.1f} × "
        f"smaller; collisions {found.collision_rate:.1%}; {time.monotonic() - start:.0f} s",
        flush=True,
    )


def main() -> int:
    """0 when both models gave every place its ID."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs/semantic-ids"))
    parser.add_argument("--held-out", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--vector", choices=("features", "quantized", "latent"), default="quantized")
    args = parser.parse_args()
    for name, (city, config) in MODELS.items():
        train_model(name, city, config, args.folder, args.held_out)
    manager = BatchInferenceManager(
        hub=FolderHub(args.folder), output_dir=args.folder / "codebooks", options=CodebookOptions(vector=args.vector)
    )
    results = manager.process_models([f"{ORG}/{name}" for name in MODELS])
    return 0 if all(result.success for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
