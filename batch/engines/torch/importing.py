"""torch imported in a process that is ours alone, without what only its compiler and its exporter need.

A third of the time of `import torch` goes into tables for tensors without numbers, distributions, nested tensors and
export. Here they are left for whoever touches them first, and `whole` fetches what nobody would touch by name. A
process that is not ours alone gets torch as it is.
"""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from types import ModuleType
from typing import Any

# What torch's own __init__ imports and nothing in this engine's packed steps touches.
LATER = ("torch.export", "torch.distributions", "torch.nested")
# Registers itself and is never touched by name: transformers' models may need it.
TABLES = "torch._meta_registrations"
TRIED = ("2.13.",)  # versions of torch that were seen to do without

_alone = False


class Later(ModuleType):
    """A module that is imported when something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


def alone() -> None:
    """Say that this process is ours alone, before torch is imported."""
    global _alone
    _alone = True


def torch() -> Any:
    """torch; raises what its import raises."""
    if not _alone or "torch" in sys.modules or not _version().startswith(TRIED):
        return importlib.import_module("torch")
    for name in (*LATER, TABLES):
        sys.modules[name] = Later(name)
    found = importlib.import_module("torch")
    try:  # which the tables do too: without it there is no generator of random numbers
        base = importlib.import_module("torch._opaque_base")
        found._C._set_generator_metaclass(base.OpaqueBaseMeta)
    except (ImportError, AttributeError):
        whole()
    return found


def whole() -> None:
    """Fetch what was left out, for code that is not ours."""
    for name in (TABLES, *LATER):
        if isinstance(sys.modules.get(name), Later):
            _real(name)


def _version() -> str:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""


def _real(name: str) -> ModuleType:
    """The module itself, imported where that has not been done."""
    if isinstance(sys.modules.get(name), Later):
        del sys.modules[name]
    return importlib.import_module(name)
