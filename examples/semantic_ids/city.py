"""Invents a city: places with a category, a region, the hours they are busy and the users who visit them.

There is structure in it, so that similar places can get similar IDs: a place's hours follow its kind (a bar's are
late, an office's early), and its visitors live near it or share a taste for its kind. Files are laid out as the
published datasets are: `{root}/NYC/RQVAE Dataset/{metadata.json,poi_features.pt}` and
`{root}/NYC/Intermediate Files/pid_mapping.csv`; the row of a place is its Mapped_Pid − 1.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

HOURS = 24
BUSY_HOURS = 10  # of a place, set in its features
VISITORS = 10
KINDS = 12  # groups of categories with common hours and a common crowd


@dataclass(frozen=True)
class City:
    """How many places, and how wide each part of their features is."""

    name: str
    places: int
    categories: int
    regions: int
    users: int
    seed: int

    @property
    def width(self) -> int:
        """Of the features."""
        return self.categories + self.regions + HOURS + self.users


NYC = City("NYC", places=5135, categories=210, regions=92, users=1084, seed=1)
TKY = City("TKY", places=4000, categories=191, regions=60, users=2294, seed=2)


def features(city: City) -> NDArray[np.uint8]:
    """[places, width] of zeros and ones: category (1 set), region (1), hours (10), users (10)."""
    rng = np.random.default_rng(city.seed)
    kind_of = rng.integers(0, KINDS, city.categories)
    category = rng.choice(city.categories, city.places, p=_zipf(city.categories))
    kind = kind_of[category]
    region = rng.choice(city.regions, city.places, p=_zipf(city.regions))
    at = rng.random((city.regions, 2))  # where the regions lie

    centre = rng.uniform(0, HOURS, KINDS)
    away = np.abs(np.arange(HOURS)[None] - centre[:, None])
    away = np.minimum(away, HOURS - away)
    hours = _draw(rng, -(away[kind] ** 2) / 12, BUSY_HOURS)

    home = rng.choice(city.regions, city.users, p=_zipf(city.regions))
    taste = rng.normal(0, 1.5, (KINDS, city.users))
    travel = np.linalg.norm(at[:, None] - at[home][None], axis=2)  # [regions, users]
    visitors = _draw(rng, 2 * taste[kind] - 12 * travel[region], VISITORS)

    found = np.zeros((city.places, city.width), dtype=np.uint8)
    place = np.arange(city.places)
    found[place, category] = 1
    found[place, city.categories + region] = 1
    found[place[:, None], city.categories + city.regions + hours] = 1
    found[place[:, None], city.categories + city.regions + HOURS + visitors] = 1
    return found


def write(city: City, root: Path) -> Path:
    """The dataset's files under `root`; returns the city's folder."""
    folder = root / city.name
    data, files = folder / "RQVAE Dataset", folder / "Intermediate Files"
    data.mkdir(parents=True, exist_ok=True)
    files.mkdir(exist_ok=True)
    table = features(city)
    torch.save(torch.from_numpy(table), data / "poi_features.pt")
    widths = {"category": city.categories, "region": city.regions, "temporal": HOURS, "collaborative": city.users}
    offsets = dict(zip(widths, np.cumsum([0, *widths.values()])[:-1].tolist(), strict=True))
    metadata = {
        "num_pois": city.places,
        "num_categories": city.categories,
        "num_regions": city.regions,
        "num_users": city.users,
        "num_time_bins": HOURS,
        "total_dim": city.width,
        "feature_dims": widths,
        "feature_offsets": offsets,
    }
    (data / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    rng = np.random.default_rng(city.seed)
    with (files / "pid_mapping.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Original_Pid", "Mapped_Pid"])
        writer.writerows((rng.bytes(12).hex(), pid) for pid in range(1, city.places + 1))
    return folder


def _zipf(count: int) -> NDArray[np.float64]:
    """Shares that fall with the rank, as those of categories and regions do."""
    weights = 1 / np.arange(2, count + 2) ** 0.8
    return weights / weights.sum()


def _draw(rng: np.random.Generator, liking: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """For each row `count` different columns, likelier the higher their value (the Gumbel top-k trick)."""
    return np.argpartition(-(liking + rng.gumbel(size=liking.shape)), count, axis=1)[:, :count]
