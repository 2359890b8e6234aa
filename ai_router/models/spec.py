"""What is known of a model before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ai_router.models import reckoning
from batch.engines import registry as engines
from batch.engines.registry import Place
from batch.errors import BatchError, FatalError
from batch.options import AS_MODEL, RunOptions

CHOICES = ("precision", "truncate")  # of a run, what goes over what models.yaml says
PROVIDER_CHOICES = ("lane", "deadline")  # and that of a provider's model alone


class NoFolderError(BatchError):
    """A folder is asked of a model that is a server's."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that may be chosen. `ready` says whether it can run here; `why` says why not.

    `place` is a folder, a file, or (as a text) the URL of a server; "" where the engine knows it by itself.
    """

    id: str
    name: str
    engine: str
    place: Place
    source: str  # "built in", "models.yaml" or "found"
    parameters: int | None = None
    size_bytes: int | None = None
    context: int | None = None
    quantisation: str = ""  # as GGUF names it (`Q4_K_M`), or the checkpoint's own word; "" where nothing is known
    license: str = ""
    cache_bytes_per_token: int | None = None  # keys and values in 16 bits
    cache_bytes_per_row: int | None = None  # states, however short an answer is
    embeddings: int | None = None  # of the parameters, those of the table that tokens are looked up in
    held: int | None = None  # those that torch holds where it leaves that table in the file; None where it does not
    notes: str = ""
    ready: bool = True
    why: str = ""
    only_here: bool = False  # whether `why` is about this machine alone: on another one it may well be ready
    sampling: Mapping[str, Any] = field(default_factory=dict)  # defaults of this model
    adapter: Path | None = None  # a folder with an adapter to put over the weights
    engine_options: Mapping[str, Any] = field(default_factory=dict)  # of the engine's options, what models.yaml says

    resources: Mapping[str, Any] = field(default_factory=dict)  # of a cluster's node, what one copy of it takes
    fallback: tuple[str, ...] = ()  # models that answer where this one cannot, in this order
    pass_filtered: bool = False  # whether they may have what its content filter holds back
    cluster: str | None = None  # of a run: where it runs instead of here
    ship: bool = False  # of a run: whether its folder is sent to the nodes
    also: tuple[str, ...] = ()  # other names that the same weights were found by
    hub: str = ""  # `ORG/MODEL`, where it is named as of the hub: nodes of a cluster have or fetch it there

    @property
    def path(self) -> Path:
        """The folder or file; raises NoFolderError for a server's model."""
        if isinstance(self.place, str):
            raise NoFolderError(f"Model {self.id} is a server's, at {self.place}; it has no folder here")
        return self.place

    @property
    def is_remote(self) -> bool:
        """Whether it is a server's or a provider's."""
        return isinstance(self.place, str)

    def goes_by(self, name: str) -> bool:
        """Whether this is its id, or one of the other names of its line."""
        return name == self.id or name in self.also

    @property
    def parameters_text(self) -> str:
        """`12.5 k`, `4.7 M`, `0.6 B`, or `—`."""
        if not self.parameters:
            return "—"
        if self.parameters < 1e5:
            return f"{self.parameters / 1e3:.1f} k"
        millions = self.parameters / 1e6
        return f"{millions / 1000:.1f} B" if millions >= 500 else f"{millions:.1f} M"

    def memory(self, width: int = 1) -> int | None:
        """Bytes that it takes to run with `width` answers at once; None where that is unknown."""
        return reckoning.needed(self, width)

    def configured(self, run: RunOptions) -> ModelSpec:
        """This model with a run's own choices, where it says any; a provider's lane is one."""
        names = (*CHOICES, *PROVIDER_CHOICES) if self.engine == "provider" else CHOICES
        changes = {name: value for name in names if (value := getattr(run, name)) not in (AS_MODEL, None)}
        made = replace(self, engine_options={**self.engine_options, **changes}) if changes else self
        if not run.cluster:
            return made
        made = replace(made, cluster=run.cluster, ship=run.ship_model)
        # What is missing here may be there; what is to be sent along may not.
        return replace(made, ready=True, why="") if made.only_here and not run.ship_model else made


def with_choices(spec: ModelSpec, *, adapter: str | Path | None = None, engine: str | None = None) -> ModelSpec:
    """A model with another adapter over its weights, or on another engine, where these are given."""
    if adapter:
        spec = replace(spec, adapter=Path(adapter))
    if engine and engine != spec.engine:
        missing = missing_engine(engine)
        spec = replace(spec, engine=engine, ready=not missing, why=missing)
    return spec


def missing_engine(engine: str) -> str:
    """Why no engine of that name can run here, else ""."""
    try:
        return engines.find(engine).missing()
    except FatalError as error:
        return str(error)
