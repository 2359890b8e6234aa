"""torch imported in a process that is ours alone, without what only its compiler and its exporter need.

More than half of what `import torch` takes in Python goes into its compiler's graphs, quantised layers, tables for
tensors without numbers, distributions and the like. Here they are left out until anything of torch is touched or
imported that is not there yet; then all of it comes, in torch's own order. Its library is loaded in a thread meanwhile
(`ahead`). A process that is not ours alone gets torch as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

TRIED = ("2.13.",)  # versions of torch that were seen to do without
# What torch's own __init__ imports and nothing in this engine's packed steps touches. They import each other in many
# circles, so the order is that in which torch comes to them.
LATER = (
    *("torchgen.model", "torch.utils.data", "torch.distributions", "torch.hub", "torch.fx", "torch.nested"),
    *("torch.optim", "torch.profiler", "torch.ao", "torch.nn.intrinsic", "torch.nn.qat", "torch.nn.quantizable"),
    *("torch.nn.quantized", "torch.quantization", "torch.masked", "torch.export", "torch.func"),
    *("torch._higher_order_ops", "torch.distributed._meta_registrations", "torch._meta_registrations"),
    *("torch.fx.experimental.sym_node", "torch.fx.operator_schemas", "torch.compiler", "torch._logging"),
    "torch._native",
)

_alone = False
_ahead: threading.Thread | None = None
_one_at_a_time = threading.RLock()


def _called(module: str, name: str) -> Callable[..., Any]:
    """A function that is looked for when it is called."""
    return lambda *args, **kwargs: getattr(_real(module), name)(*args, **kwargs)


class DynamicInt(int):
    """What torch's own functions look among their arguments for, from the first on; nobody here makes one."""


# What torch's own __init__ takes out of them, or its library while it must not be entered again. Logs are set up when
# there is somebody to write them.
STAND_INS: dict[tuple[str, str], Any] = {
    ("torch._higher_order_ops", "cond"): _called("torch._higher_order_ops", "cond"),
    ("torch._higher_order_ops", "while_loop"): _called("torch._higher_order_ops", "while_loop"),
    ("torch.func", "vmap"): _called("torch.func", "vmap"),
    ("torch.fx.experimental.sym_node", "DynamicInt"): DynamicInt,
    ("torch.fx.operator_schemas", "_SCHEMA_TO_SIGNATURE_CACHE"): {},
    ("torch._logging", "_init_logs"): lambda *args: None,
}
PARTLY = frozenset(module for module, _ in STAND_INS)


class Later(ModuleType):
    """A module whose code runs when something of it is asked for; it stays the same object."""

    def __getattr__(self, name: str) -> Any:
        if (self.__name__, name) in STAND_INS:
            return STAND_INS[self.__name__, name]
        if name.startswith("__") and (name != "__path__" or not self._is_entered()):
            raise AttributeError(name)
        found = _real(self.__name__)
        if name not in vars(found) and hasattr(found, "__path__"):  # a module within, which `from` would import
            with contextlib.suppress(ImportError):
                importlib.import_module(f"{self.__name__}.{name}")
        return getattr(found, name)

    def _is_entered(self) -> bool:
        """Whether a module within is wanted; `from … import` asks for a path as well, to see if it is a package."""
        return self.__name__ not in PARTLY or sys._getframe(2).f_code.co_filename.startswith("<frozen importlib")


class Gate(MetaPathFinder, Loader):
    """Sees all of torch come before the first module that is not there yet, and no module of it run twice.

    The second, as a module may come with its package when its own import has only begun.
    """

    def __init__(self) -> None:
        self.open = True  # for modules that are not there yet: within torch's own __init__, and when all of it comes
        self.fetching = False  # whether it does

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """One that gives what is there already, if it is; None, for other finders."""
        if target is not None or not fullname.startswith("torch."):
            return None
        if not self.open:
            whole()
        there = sys.modules.get(fullname)
        if there is None or isinstance(there, Later):
            return None
        found = spec_from_loader(fullname, self)
        assert found is not None
        found.loader_state = there, there.__spec__
        there.__spec__ = found  # which is taken in the place of ours, and would have it run again
        return found

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself."""
        there: ModuleType = spec.loader_state[0]
        return there

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is to be run; it keeps what it said of itself."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state[1]


_gate = Gate()


def alone() -> None:
    """Say that this process is ours alone, before torch is imported."""
    global _alone
    _alone = True


def ahead() -> None:
    """Have torch's library loaded in a thread, which takes about as long as importing its Python does.

    Whoever loads another library waits until that is done; Python's own modules need not.
    """
    global _ahead
    folder = _folder() if _ahead is None and _is_lean() else None
    library = folder / "lib" / "libtorch_cpu.so" if folder else None
    if sys.platform != "linux" or library is None or not library.is_file():
        return
    open_library = ctypes.CDLL(None).dlopen  # a foreign function, during which others may run
    open_library.restype = ctypes.c_void_p
    _ahead = threading.Thread(target=open_library, args=(str(library).encode(), os.RTLD_LAZY), daemon=True)
    _ahead.start()


def torch() -> Any:
    """torch; raises what its import raises."""
    if _ahead is not None:
        _ahead.join()
    if not _is_lean():
        return importlib.import_module("torch")
    sys.meta_path.insert(0, _gate)
    for name in LATER:
        sys.modules[name] = Later(name)
    found = importlib.import_module("torch")
    try:  # which the tables do too: without it there is no generator of random numbers
        base = importlib.import_module("torch._opaque_base")
        found._C._set_generator_metaclass(base.OpaqueBaseMeta)
        _gate.open = False
    except (ImportError, AttributeError):
        whole()
    return found


def whole() -> None:
    """Fetch what was left out, for code that is not ours."""
    with _one_at_a_time:
        left = [name for name in LATER if isinstance(sys.modules.get(name), Later)]
        if _gate.fetching or not left:
            return
        _gate.open = _gate.fetching = True
        for name in left:
            _run(name)
        _gate.fetching = False
        torch = sys.modules["torch"]
        sys.modules["torch._logging"]._init_logs()
        for (module, name), stand_in in STAND_INS.items():
            if vars(torch).get(name) is stand_in:
                setattr(torch, name, getattr(sys.modules[module], name))


def _is_lean() -> bool:
    """Whether torch is still to be imported, and may be without what nobody here needs."""
    asks = any(name.startswith(("TORCH_LOGS", "TORCH_TRACE")) for name in os.environ)
    return _alone and not asks and "torch" not in sys.modules and _version().startswith(TRIED)


def _folder() -> Path | None:
    try:
        found = find_spec("torch")
    except (ImportError, ValueError):
        return None
    return Path(found.origin).parent if found is not None and found.origin else None


def _version() -> str:
    """As its own file has it: the library that reads packages' metadata takes a while to import."""
    folder = _folder()
    try:
        text = (folder / "version.py").read_text(encoding="utf-8") if folder else ""
    except OSError:
        return ""
    found = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    return found[1] if found else ""


def _real(name: str) -> ModuleType:
    """The module, its code run where that has not been done."""
    with _one_at_a_time:
        if _gate.open:  # what touches it is torch, in its own order
            return _run(name)
    whole()
    return importlib.import_module(name)


def _run(name: str) -> ModuleType:
    """Run a module's code in the object that stands for it, as the import of it would have."""
    parent, _, leaf = name.rpartition(".")
    package = importlib.import_module(parent)
    module = sys.modules.get(name)
    if not isinstance(module, Later):  # it came with its package, or another brought it
        return importlib.import_module(name)
    del sys.modules[name]  # as there is no looking for what is there
    try:
        spec = find_spec(name)
    finally:
        sys.modules[name] = module
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    module.__class__ = ModuleType  # type: ignore[assignment]
    module.__spec__, module.__loader__, module.__file__ = spec, spec.loader, spec.origin
    module.__package__ = name if spec.submodule_search_locations is not None else parent
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    spec.loader.exec_module(module)
    setattr(package, leaf, module)
    return module
