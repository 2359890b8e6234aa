"""A model that loads while one still says how it is to run: its engine, ready for the run that begins next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ai_router.models import ModelSpec, make_engine
from batch.engines.base import Engine
from batch.engines.local import memory
from batch.engines.local.host import HostedEngine
from batch.errors import BatchError
from batch.items import Answer, Request
from batch.options import SamplingOptions

AnyEngine = Engine[Request, Answer]


@dataclass(frozen=True)
class Wanted:
    """What an engine is told: as a run of these would tell it."""

    spec: ModelSpec
    sampling: SamplingOptions
    workers: int | None = None
    timeout: float | None = None


class Preloaded:
    """What was loaded ahead, if anything: used in an engine's place, or ended."""

    def __init__(self, engine: HostedEngine | None = None) -> None:
        self._engine = engine

    def instead_of(self, engine: AnyEngine) -> AnyEngine:
        """It, where it was told what this engine is told, which must not have been started; else that one."""
        ready = self._engine
        if ready is None or not isinstance(engine, HostedEngine) or not ready.takes_the_place_of(engine):
            return engine
        self._engine = None
        return ready

    def end(self) -> None:
        """Stop it, where it is not in use; takes up to two seconds."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.stop()


class Preloading:
    """At most one engine of a model that runs on this machine, and fits into what is free of its memory.

    `want` returns at once: what takes time happens in a thread, and only for what is wanted by then.
    """

    def __init__(self, make: Callable[..., AnyEngine] = make_engine) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._wanted: Wanted | None = None
        self._held: tuple[Wanted, HostedEngine] | None = None
        self._thread: threading.Thread | None = None

    def want(self, wanted: Wanted | None) -> None:
        """Have this one loaded, and no other; None gives up what there is."""
        with self._lock:
            self._wanted = wanted
            if self._thread is None and wanted != self._loaded():
                self._thread = threading.Thread(target=self._follow, name="preloading", daemon=True)
                self._thread.start()

    def claim(self) -> Preloaded:
        """The engine, loaded or still loading, for a run that begins now; nothing is wanted any more."""
        with self._lock:
            self._wanted = None
            held, self._held = self._held, None
        return Preloaded(held[1] if held is not None else None)

    def wait(self, seconds: float) -> None:
        """Until there is what is wanted, or it was found not to be worth it."""
        if (thread := self._thread) is not None:
            thread.join(seconds)

    @property
    def status(self) -> str:
        """What the engine that is loaded ahead does, `ready` at the end; nothing where there is none."""
        held = self._held
        return held[1].status if held is not None else ""

    def _loaded(self) -> Wanted | None:
        return self._held[0] if self._held is not None else None

    def _follow(self) -> None:
        tried: Wanted | None = None
        while True:
            with self._lock:
                wanted, held = self._wanted, self._held
                if wanted in (self._loaded(), tried) and (held is None or held[0] == wanted):
                    self._thread = None
                    return
                self._held = None
            if held is not None:
                held[1].stop()  # first, as two models may not fit
            tried = wanted
            engine = self._opened(wanted) if wanted is not None else None
            with self._lock:
                if engine is not None and self._wanted == wanted:
                    engine.preload()
                    assert wanted is not None
                    self._held = (wanted, engine)

    def _opened(self, wanted: Wanted) -> HostedEngine | None:
        """Its engine, not yet started; None where nothing is to be loaded ahead."""
        spec = wanted.spec
        if not spec.ready or spec.is_remote or spec.cluster is not None:
            return None
        needed = spec.memory()
        if needed is None or needed >= memory.available():
            return None
        with suppress(BatchError, OSError):  # which the run will say
            engine = self._make(spec, wanted.sampling, workers=wanted.workers, timeout=wanted.timeout)
            return engine if isinstance(engine, HostedEngine) else None
        return None
