"""The one table of engines: what each is called, how it is made, what it needs, what it may be told.

Adding an engine is one file with an `EngineRow` in it and one line in `TABLE`. Importing this, and the files that the
table names, imports nothing heavy.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

from batch.engines.base import Engine
from batch.errors import FatalError
from batch.items import Answer, Request
from batch.options import SamplingOptions, nearest

Place = Path | str  # a folder or a file; a text is a URL

# Where each engine describes itself, the first that suits a model's place is what it runs on where nobody says.
TABLE: Mapping[str, str] = {
    "mlx": "batch.engines.mlx.row:ROW",
    "ray": "batch.engines.ray.row:ROW",
    "server": "batch.engines.http.row:ROW",
    "gguf": "batch.engines.gguf.row:ROW",
    "provider": "batch.engines.provider.row:ROW",
    "vllm": "batch.engines.vllm.row:ROW",
    "torch": "batch.engines.torch.row:ROW",
}


@dataclass(frozen=True, slots=True)
class EngineOption:
    """One thing an engine may be told in `models.yaml`; the value is checked before anything is loaded."""

    help: str
    type: type = str  # str, int, float, bool, list or dict
    choices: Sequence[str] = ()
    minimum: float | None = None
    or_text: bool = False  # a single text will do as well


class EngineFactory(Protocol):
    """What makes an engine that runs in this process (a server's client, a provider, a cluster)."""

    def __call__(
        self, spec: Mapping[str, Any], sampling: SamplingOptions, *, workers: int | None, timeout: float | None
    ) -> Engine[Request, Answer]:
        """An engine, not yet connected; `spec` has `path` or `url`, and what else an entry says of its `options`."""
        ...


@dataclass(frozen=True, slots=True)
class EngineRow:
    """What is to be known of an engine before it is imported.

    `core` ("module:name" of a `CoreFactory`) is opened in a process of its own; `factory` ("module:name" of an
    `EngineFactory`) makes what runs in this one. One of the two is given. `forms` are the forms of a place (see
    `batch.engines.places`) that it takes. `needs` are the keys an entry of models.yaml must have. `modules` must be
    installed, by the extra `extra`. `suits` says whether a place is best run on it here; `refuses` why one of its forms
    cannot be run on it, else "".
    """

    name: str
    where: str  # "local", "server", "provider" or "cluster"
    describes: str
    core: str = ""
    factory: str = ""
    extra: str = ""
    modules: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    needs: tuple[str, ...] = ("path",)
    options: Mapping[str, EngineOption] = field(default_factory=dict)
    suits: Callable[[Place], bool] = lambda place: False
    refuses: Callable[[Place], str] = lambda place: ""
    check: Callable[[Mapping[str, Any]], str] = lambda spec: ""  # what is wrong with an entry's options together
    lacks: Callable[[Mapping[str, Any]], str] = lambda spec: ""  # what it needs of this machine and has not: a key

    @property
    def external(self) -> bool:
        """Whether it is a module of the user's own, of which nothing is known."""
        return ":" in self.name

    def missing(self) -> str:
        """What has to be installed before it can run here, as a sentence with the command; else ""."""
        if self.external:
            module = self.name.partition(":")[0]
            return "" if _installed(module) else f"there is no module {module!r} to take the engine from"
        if all(_installed(module) for module in self.modules):
            return ""
        return f'needs {self.name}: pip install "ai-router[{self.extra}]"'


def names() -> list[str]:
    """The engines there are, in the order of preference."""
    return list(TABLE)


@cache
def _described(place: str) -> EngineRow:
    module, _, name = place.partition(":")
    return cast(EngineRow, getattr(importlib.import_module(module), name))


def rows() -> list[EngineRow]:
    """All rows of the table."""
    return [_described(place) for place in TABLE.values()]


def find(name: str) -> EngineRow:
    """An engine by its name, or one of the user's own as `package.module:name`. Raises FatalError."""
    if name in TABLE:
        return _described(TABLE[name])
    if ":" in name:
        return EngineRow(name, "local", "an engine of your own", core=name, forms=("folder", "gguf"))
    near = nearest(name, TABLE)
    raise FatalError(f"unknown engine {name!r}; " + (f"did you mean {near}?" if near else f"known: {', '.join(TABLE)}"))


def load(place: str) -> Any:
    """What a "module:name" names; imports the module."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def default_engine(place: Place) -> str:
    """The name of the engine that suits a model best where nobody says; the last of the table where none does."""
    return next((row.name for row in rows() if row.suits(place)), names()[-1])


def takers(form: str) -> list[EngineRow]:
    """The engines that take a form of model."""
    return [row for row in rows() if form in row.forms]


def option_names(engines: Iterable[EngineRow] | None = None) -> list[str]:
    """The options of these engines, or of all, each once."""
    return list(dict.fromkeys(name for row in (rows() if engines is None else engines) for name in row.options))


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
