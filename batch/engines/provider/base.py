"""What a provider is: a page that says how its batches are made, looked at, read, cancelled and found again.

A page knows nothing of retries, of what is on the disk or of other pages; `engine` does, for all of them. Its methods
block, and let their library's exceptions go through: `faults` knows them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from batch.engines.http.server import PRESETS, is_loopback
from batch.engines.http.wire import Reply
from batch.errors import Failure, FatalError
from batch.items import Request
from batch.options import SamplingOptions
from batch.prices import Price
from batch.values import value

PREFIX = "air"  # what every batch that was made here is called by, first


@dataclass(frozen=True, slots=True)
class Settings:
    """A model at a provider as a user describes it. Times are seconds."""

    provider: str
    model: str
    api_key_env: str | None = None  # None: as the provider's is called
    base_url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)  # further keys of every request
    bucket: str | None = None  # Vertex: for the files
    project: str | None = None
    location: str | None = None
    most_requests: int | None = None  # in one batch, below the provider's own limit
    most_bytes: int | None = None
    window: str | None = None
    lane: str = "batch"  # batch, now, auto
    deadline: float | None = None
    poll: float = 30.0
    grace: float = 120.0  # until a batch whose creation was not answered is taken for not made
    timeout: float = 60.0  # of one call; uploads have ten times as long
    price: Price | None = None


def key_of(settings: Settings) -> str:
    """The secret from the environment. Raises FatalError that names the variable.

    A gateway on this machine needs none, and is sent none that was not named.
    """
    name = settings.api_key_env
    if name is None and settings.provider == "gateway" and is_loopback(str(settings.base_url)):
        return "none"
    if name is None and settings.provider == "gemini":
        name = "GOOGLE_API_KEY" if os.environ.get("GOOGLE_API_KEY") else "GEMINI_API_KEY"
    name = name or str(PRESETS.get(settings.provider, {}).get("api_key_env") or "OPENAI_API_KEY")
    value = os.environ.get(name, "").strip()
    if not value:
        raise FatalError(f"{settings.model} needs a key: set the environment variable {name}")
    return value


def project_of(settings: Settings) -> tuple[str, str]:
    """Vertex AI's project and location. Raises FatalError that names what is missing."""
    found = []
    for name, said in (("project", settings.project), ("location", settings.location)):
        variable = f"GOOGLE_CLOUD_{name.upper()}"
        value = said or os.environ.get(variable, "").strip()
        if not value:
            raise FatalError(f"Vertex AI needs a {name}: say it, or set the environment variable {variable}")
        found.append(value)
    return found[0], found[1]


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one batch may hold."""

    requests: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Remote:
    """A batch as its provider tells of it. Counts are None where the provider does not count yet.

    `over`: nothing more will come. `untried`: its items without an answer were never tried (it expired, was cancelled,
    or was refused as a whole), so that they are simply pending again. `results` say where its answers are.
    """

    id: str
    word: str  # its state, in the provider's word
    over: bool = False
    untried: bool = False
    done: int | None = None
    failed: int | None = None
    total: int | None = None
    results: tuple[str, ...] = ()
    inline: Any = None  # answers that came with it
    error: str = ""
    code: str = ""  # the provider's, of the error
    expires: float | None = None  # seconds since the epoch


@value(frozen=True, slots=True)
class Result:
    """One line of a batch's results. Neither `reply` nor `failure`: the item was not tried."""

    custom_id: str
    reply: Reply | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a look for a batch has brought: it, or those it may be, or the certainty that there is none."""

    remote: Remote | None = None
    maybe: tuple[str, ...] = ()
    sure: bool = True  # where nothing was found: that there is nothing


@dataclass(frozen=True, slots=True)
class Lookup:
    """What is known of a batch whose creation was not answered."""

    key: str
    file: str | None  # what `upload` said
    since: float  # seconds since the epoch, when the creation began
    count: int
    known: frozenset[str] = frozenset()  # batches that are others of ours


class Page(Protocol):
    """A provider."""

    limits: Limits
    uploads: bool  # whether requests go into a file first
    cancels: bool

    def line(self, custom_id: str, request: Request, options: SamplingOptions, left_out: Any) -> dict[str, Any]:
        """A request as its line of a batch file."""
        ...

    def upload(self, path: Path, key: str) -> str:
        """Send the file; its name there."""
        ...

    def create(self, path: Path, file: str | None, key: str) -> Remote:
        """Make the batch; asked exactly once for a key."""
        ...

    def check(self, remote_id: str) -> Remote:
        """How it stands."""
        ...

    def results(self, remote: Remote) -> Iterator[Result]:
        """Its answers, one at a time, as they are read."""
        ...

    def cancel(self, remote_id: str) -> None:
        """Ask for its end; what is done stays."""
        ...

    def find(self, lookup: Lookup) -> Found:
        """A batch whose creation was not answered."""
        ...

    def models(self) -> list[str]:
        """The models that the key may use."""
        ...

    def close(self) -> None:
        """Free the client."""
        ...
