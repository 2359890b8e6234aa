"""The whole chain without a network: invent two cities, train a model for each, and give their places semantic IDs.

    python examples/semantic_ids/run.py [FOLDER] [--epochs N] [--vector features|quantized|latent]

FOLDER (`outputs/semantic-ids` unless given) then holds `datasets/`, `models/` and `codebooks/`; `ai-router semantic-ids
run all --from FOLDER` works on it as well. Run again, a training goes on from where it stands.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from city import NYC, TKY, City, write

from batch.semantic_ids.collisions import count_collisions
from batch.semantic_ids.encode import Encoder
from batch.semantic_ids.features import open_features
from batch.semantic_ids.hub import FolderHub
from batch.semantic_ids.manager import BatchInferenceManager
from batch.semantic_ids.task import CodebookOptions
from batch.semantic_ids.train import Epoch, TrainConfig, train

ORG = "comp5331poi"
QUICK = TrainConfig(lr=1e-3, batch_size=256, kmeans_n_init=3, check_every=4)
MODELS = {
    "rqvae-nyc-div0.25-commit0.5-lr1e-3": (NYC, replace(QUICK, codewords=32, commitment_weight=0.5)),
    "rqvae-tky-div0.25-commit0.25-lr1e-3": (TKY, replace(QUICK, codewords=64, commitment_weight=0.25)),
}


def train_model(name: str, city: City, config: TrainConfig, folder: Path) -> None:
    """Write the city and train its model."""
    table = open_features(write(city, folder / "datasets") / "RQVAE Dataset" / "poi_features.pt")
    features = table.read(0, len(table))
    print(f"{name}: {len(table):,} places × {table.width:,} features")
    start = time.monotonic()

    def show(report: Epoch) -> None:
        mark, quality = " *" if report.best else "", report.quality
        found = f"  {quality.gain:.1f} × the mean, collisions {quality.collision_rate:.1%}" if quality else ""
        print(
            f"  epoch {report.epoch}/{report.epochs}  loss {report.loss:.3f}  "
            f"reconstruction {report.reconstruction:.5f} (mean {report.baseline:.5f}){found}{mark}",
            flush=True,
        )

    model = train(features, config, progress=show, folder=folder / "models" / name, resume=True)
    encoder = Encoder(model)
    report = count_collisions(encoder.encode(features).codes, model.codewords)
    used = ", ".join(f"{level.used}/{model.codewords}" for level in report.levels)
    print(f"  {report.unique:,} unique SIDs for {report.items:,} places, collision rate {report.rate:.1%}; ", end="")
    print(f"codewords used {used}; {time.monotonic() - start:.0f} s")


def main() -> int:
    """0 when both models gave every place its ID."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs/semantic-ids"))
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--vector", choices=("features", "quantized", "latent"), default="quantized")
    args = parser.parse_args()
    for name, (city, config) in MODELS.items():
        train_model(name, city, replace(config, epochs=args.epochs), args.folder)
    manager = BatchInferenceManager(
        hub=FolderHub(args.folder), output_dir=args.folder / "codebooks", options=CodebookOptions(vector=args.vector)
    )
    results = manager.process_models([f"{ORG}/{name}" for name in MODELS])
    return 0 if all(result.success for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
