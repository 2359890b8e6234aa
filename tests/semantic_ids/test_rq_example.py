"""The invented city of the example: the published layout, and structure that a model can find."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from batch.semantic_ids.features import open_features

pytestmark = pytest.mark.model

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "semantic_ids"))

from city import NYC, TKY, City, features, write  # noqa: E402

TINY = City("NYC", places=300, categories=20, regions=8, users=60, seed=3)


def test_the_cities_have_the_published_widths() -> None:
    assert (NYC.width, TKY.width) == (1410, 2569)


def test_files_are_laid_out_as_the_published_datasets(tmp_path: Path) -> None:
    folder = write(TINY, tmp_path / "datasets")
    table = open_features(folder / "RQVAE Dataset" / "poi_features.pt")
    metadata = json.loads((folder / "RQVAE Dataset" / "metadata.json").read_text())
    with (folder / "Intermediate Files" / "pid_mapping.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert folder == tmp_path / "datasets" / "NYC"
    assert (table.rows, table.width) == (metadata["num_pois"], metadata["total_dim"]) == (300, 112)
    assert sorted(int(row["Mapped_Pid"]) for row in rows) == list(range(1, 301))
    assert len({row["Original_Pid"] for row in rows}) == 300
    whole = table.read(0, 300)
    for name, ones in (("category", 1), ("region", 1), ("temporal", 10), ("collaborative", 10)):
        first = metadata["feature_offsets"][name]
        assert (whole[:, first : first + metadata["feature_dims"][name]].sum(axis=1) == ones).all()


def test_places_of_a_category_are_busy_at_the_same_hours() -> None:
    found = features(TINY).astype(int)
    assert (found == features(TINY)).all()
    category, hours = found[:, :20].argmax(axis=1), found[:, 28:52]
    common = hours @ hours.T
    alike = category[:, None] == category
    np.fill_diagonal(alike, False)
    assert common[alike].mean() > common[~alike].mean() + 1.5
