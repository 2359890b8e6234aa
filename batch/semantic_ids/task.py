"""One model and the dataset it encodes: found, fetched and checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.errors import MissingExtraError
from batch.items import Request
from batch.options import build_options, option, options_dict
from batch.semantic_ids import layout
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.hub import Hub
from batch.semantic_ids.parser import ModelConfig, ModelConfigParser

if TYPE_CHECKING:
    from batch.semantic_ids.encode import Encoder
    from batch.semantic_ids.features import FeatureTable
    from batch.semantic_ids.model import RQVAE

VECTORS = ("features", "quantized", "latent")


@dataclass(slots=True)
class CodebookOptions:
    """What is made of a model's codes."""

    vector: str = option("features", "what the column Vector holds", choices=VECTORS)
    suffix: bool = option(False, "number the Pids that share a SID, as in GNPR: a 4th code 0, 1, 2 …")
    sid: bool = option(False, "a column SID beside the others: <a_4><b_17><c_25>")
    parquet: bool = option(False, "a Parquet file beside the CSV")
    block_rows: int = option(8192, "rows encoded at once", minimum=1, maximum=1_000_000, metavar="N", advanced=True)


@dataclass(frozen=True, slots=True)
class Task:
    """Files on this machine, and what is to be done with them. `rows` is the number of Pids, 1 … rows."""

    model: str
    config: ModelConfig
    checkpoint: Path
    features: Path
    mapping: Path
    rows: int
    source: str  # the hub they come from, for people to read
    options: CodebookOptions
    stamps: Mapping[str, tuple[int, int]]  # size and time of checkpoint and features when the task was made

    @property
    def blocks(self) -> int:
        """How many blocks of rows there are."""
        return -(-self.rows // self.options.block_rows)

    def block(self, number: int) -> range:
        """The rows of a block."""
        first = number * self.options.block_rows
        return range(first, min(self.rows, first + self.options.block_rows))

    def requests(self) -> Iterator[Request]:
        """The blocks as items of a job."""
        for number in range(self.blocks):
            rows = self.block(number)
            text = f"rows {rows.start}–{rows.stop - 1}"
            yield Request(text, {"first": rows.start, "last": rows.stop - 1})

    def as_details(self) -> dict[str, Any]:
        """The task as the JSON that a job keeps."""
        return {
            "model": self.model,
            "checkpoint": str(self.checkpoint),
            "features": str(self.features),
            "mapping": str(self.mapping),
            "rows": self.rows,
            "block_rows": self.options.block_rows,
            "from": self.source,
            "options": options_dict(self.options),
            "stamps": {name: list(stamp) for name, stamp in self.stamps.items()},
        }

    @classmethod
    def of_details(cls, details: Mapping[str, Any]) -> Task:
        """The task of a job; SemanticIdError where its details are not of this kind."""
        try:
            options = {**details["options"], "block_rows": details["block_rows"]}
            return cls(
                model=details["model"],
                config=ModelConfigParser.parse(details["model"]),
                checkpoint=Path(details["checkpoint"]),
                features=Path(details["features"]),
                mapping=Path(details["mapping"]),
                rows=int(details["rows"]),
                source=str(details["from"]),
                options=build_options(CodebookOptions, options),
                stamps={name: (int(stamp[0]), int(stamp[1])) for name, stamp in details["stamps"].items()},
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise SemanticIdError(f"This job's details are damaged: {type(error).__name__}: {error}") from error

    def check_unchanged(self) -> None:
        """Raise where a file is not what it was when the job was made: blocks of two models would stand in one file."""
        for file in (self.checkpoint, self.features):
            if not file.is_file():
                raise SemanticIdError(f"{file} is gone; this job encodes it")
            if _stamp(file) != self.stamps.get(file.name):
                raise SemanticIdError(f"{file} has changed since this job was made; make a new job of it")


def prepare(model: str, hub: Hub, options: CodebookOptions | None = None) -> Task:
    """Find and fetch all that a model needs, and check the mapping; SemanticIdError says what is missing.

    Reads no tensor: that the features fit the model is checked where the model is loaded, in `open_task`.
    """
    config = ModelConfigParser.parse(model)
    dataset = layout.dataset_repo(config.dataset_name)
    checkpoint = _fetch_first(hub, model, "model", layout.MODEL_FILES, "a checkpoint")
    held = set(hub.files(dataset, "dataset"))
    features = _first(layout.FEATURE_FILES, held, layout.FEATURE_FOLDER)
    mapping = _first(layout.MAPPING_FILES, held)
    if features is None:
        place = hub.address(dataset, f"{layout.FEATURE_FOLDER}/{layout.FEATURE_FILES[0]}", "dataset")
        raise SemanticIdError(f"The dataset {config.dataset_name} has no features: there is no {place}")
    if mapping is None:
        place = hub.address(dataset, layout.MAPPING_FILES[0], "dataset")
        raise SemanticIdError(
            f"The dataset {config.dataset_name} has no {place}; it says which Pid a row of features belongs to"
        )
    mapping_file = hub.fetch(dataset, mapping, "dataset")
    rows = layout.read_mapping(mapping_file)
    if layout.METADATA_FILE in held:
        known = layout.read_metadata(hub.fetch(dataset, layout.METADATA_FILE, "dataset")).get("num_pois")
        if isinstance(known, int) and known != rows:
            raise SemanticIdError(f"{mapping_file} names {rows:,} Pids, but metadata.json of the dataset {known:,}")
    feature_file = hub.fetch(dataset, features, "dataset")
    stamps = {file.name: _stamp(file) for file in (checkpoint, feature_file)}
    return Task(
        model=model,
        config=config,
        checkpoint=checkpoint.absolute(),
        features=feature_file.absolute(),
        mapping=mapping_file.absolute(),
        rows=rows,
        source=hub.name,
        options=options or CodebookOptions(),
        stamps=stamps,
    )


def open_table(task: Task) -> FeatureTable:
    """The features of a task, checked against the mapping."""
    try:
        from batch.semantic_ids.features import open_features
    except ImportError as error:
        raise MissingExtraError("local", "Encoding semantic IDs") from error
    task.check_unchanged()
    table = open_features(task.features)
    if table.rows != task.rows:
        raise SemanticIdError(
            f"{task.features} has {table.rows:,} rows, but {task.mapping.name} names {task.rows:,} Pids"
        )
    return table


def open_task(task: Task) -> tuple[RQVAE, Encoder, FeatureTable]:
    """The model, its encoder and the features of a task, checked against each other. Imports torch."""
    table = open_table(task)
    try:
        from batch.semantic_ids.checkpoint import load_rqvae
        from batch.semantic_ids.encode import Encoder
    except ImportError as error:
        raise MissingExtraError("local", "Encoding semantic IDs") from error
    model = load_rqvae(task.checkpoint)
    if table.width != model.input_dim:
        raise SemanticIdError(
            f"{task.features} has {table.width:,} features an item, but the model {task.config.run_name} takes "
            f"{model.input_dim:,}"
        )
    return model, Encoder(model), table


def _fetch_first(hub: Hub, repo: str, kind: Any, names: Iterable[str], what: str) -> Path:
    names = tuple(names)
    found = _first(names, set(hub.files(repo, kind)))
    if found is None:
        raise SemanticIdError(f"{repo} on {hub.name} holds no {what.partition(' ')[2]}: none of {', '.join(names)}")
    return hub.fetch(repo, found, kind)


def _first(names: Iterable[str], held: set[str], folder: str = "") -> str | None:
    paths = (f"{folder}/{name}" if folder else name for name in names)
    return next((path for path in paths if path in held), None)


def _stamp(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns
