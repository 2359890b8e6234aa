"""Where things stand: models, datasets and the files in them, and what their repositories are called.

On the hub a model is the repository `ORG/NAME`, a dataset the dataset repository `ORG/nyc`. In a folder both stand
below it, datasets as `datasets/NYC/RQVAE Dataset/poi_features.pt` and so on.
"""

from __future__ import annotations

import csv
import json
from array import array
from pathlib import Path
from typing import Any

from batch.semantic_ids.errors import SemanticIdError

ORG = "comp5331poi"
NYC_MODELS = (
    f"{ORG}/rqvae-nyc-div0.0-commit0.5-lr5e-5",
    f"{ORG}/rqvae-nyc-div0.25-commit0.5-lr5e-5",
    f"{ORG}/rqvae-nyc-div0.25-commit0.5-lr5e-5-without_L_quant",
    f"{ORG}/rqvae-nyc-div0.5-commit0.5-lr5e-5",
    f"{ORG}/rqvae-nyc-div0.75-commit0.5-lr5e-5",
)
TKY_MODELS = (
    f"{ORG}/rqvae-tky-div0.0-commit0.25-lr5e-5",
    f"{ORG}/rqvae-tky-div0.25-commit0.25-lr5e-5",
    f"{ORG}/rqvae-tky-div0.25-commit0.25-lr5e-5-without_L_quant",
    f"{ORG}/rqvae-tky-div0.5-commit0.25-lr5e-5",
    f"{ORG}/rqvae-tky-div0.75-commit0.25-lr5e-5",
)

MODEL_FILES = ("rqvae_best.pt", "rqvae_best.safetensors", "model.safetensors", "rqvae_checkpoint.pt")
FEATURE_FILES = ("poi_features.pt", "poi_features.safetensors", "poi_features.npy")
FEATURE_FOLDER = "RQVAE Dataset"
MAPPING_FILES = ("Intermediate Files/pid_mapping.csv", "LLM Dataset/Intermediate Files/pid_mapping.csv")
METADATA_FILE = f"{FEATURE_FOLDER}/metadata.json"
UPLOAD_FOLDER = "LLM Dataset/Intermediate Files"
PID_COLUMN, ORIGINAL_COLUMN = "Mapped_Pid", "Original_Pid"


def dataset_repo(dataset: str) -> str:
    """The dataset repository of a dataset: `comp5331poi/nyc`."""
    return f"{ORG}/{dataset.lower()}"


def upload_path(output_name: str) -> str:
    """Where a file of codebooks goes in the dataset repository."""
    return f"{UPLOAD_FOLDER}/{output_name}"


def read_mapping(path: Path) -> int:
    """Check that a `pid_mapping.csv` names each of Mapped_Pid 1 … N once, and each Original_Pid once; returns N.

    The features of Mapped_Pid p are row p − 1, so anything else would give Pids the codes of others. Raises
    SemanticIdError that names the line.
    """
    mapped, originals = array("q"), array("q")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = next(reader, [])
            if PID_COLUMN not in columns:
                raise SemanticIdError(
                    f"{path} has no column {PID_COLUMN}; it must have {ORIGINAL_COLUMN} and {PID_COLUMN}"
                )
            place = columns.index(PID_COLUMN)
            original = columns.index(ORIGINAL_COLUMN) if ORIGINAL_COLUMN in columns else None
            for row in reader:
                if not row:
                    continue
                try:
                    mapped.append(int(row[place]))
                    if original is not None:
                        originals.append(hash(row[original]))
                except (ValueError, IndexError, OverflowError):
                    raise SemanticIdError(
                        f"{path}, line {reader.line_num}: {','.join(row)[:60]!r} has no whole number as {PID_COLUMN}"
                    ) from None
    except FileNotFoundError:
        raise SemanticIdError(f"There is no {path}; it says which Pid a row of features belongs to") from None
    except UnicodeDecodeError:
        raise SemanticIdError(f"{path} is not UTF-8 text") from None
    except csv.Error as error:
        raise SemanticIdError(f"{path} is not a CSV file: {error}") from None
    except OSError as error:
        raise SemanticIdError(f"{path} cannot be read: {error.strerror or error}") from error
    _check_permutation(path, mapped)
    if len(set(originals)) != len(originals):
        _find_twice(path, ORIGINAL_COLUMN)
    return len(mapped)


def _check_permutation(path: Path, mapped: array[int]) -> None:
    total = len(mapped)
    if not total:
        raise SemanticIdError(f"{path} names no Pids")
    seen = bytearray(total + 1)
    for number, pid in enumerate(mapped):
        if not 1 <= pid <= total:
            raise SemanticIdError(
                f"{path}: {PID_COLUMN} {pid} in row {number + 1:,} is not within 1 to {total:,}, the number of rows"
            )
        if seen[pid]:
            first = mapped.index(pid) + 1
            raise SemanticIdError(f"{path}: {PID_COLUMN} {pid} stands twice, in rows {first:,} and {number + 1:,}")
        seen[pid] = 1


def _find_twice(path: Path, column: str) -> None:
    """Name a value that stands twice; equal hashes alone prove nothing."""
    seen: dict[str, int] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 1):
            value = row[column]
            if value in seen:
                raise SemanticIdError(f"{path}: {column} {value} stands twice, in rows {seen[value]:,} and {number:,}")
            seen[value] = number


def read_metadata(path: Path) -> dict[str, Any]:
    """A dataset's `metadata.json` (num_pois, total_dim, feature_dims, …); SemanticIdError where it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SemanticIdError(f"{path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise SemanticIdError(f"{path} is not a dataset's metadata: it holds no object")
    return data
