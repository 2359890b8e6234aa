"""A local engine in a process of its own: its imports freeze no screen, and its death costs only a second try."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from batch.engines.desk import Desk
from batch.engines.local import frames
from batch.engines.local.flight import Event, Flight, HostedRun, tick, timing_of
from batch.engines.local.process import ChildProcess, worker_env
from batch.errors import Cause, ErrorClass, Failure, FatalError, MissingExtraError
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions, options_dict

RESENDS = 2  # further tries of an item whose engine died
SUSPECT = 2  # deaths after which an item runs alone, so that only the one at fault is given up
RESTARTS = 3  # in a row, without an answer in between
BACKOFF = (0.2, 1.0, 3.0)  # seconds before each of them
STDERR_SHOWN = 5  # lines in an error message


class HostedEngine:
    """Runs a local engine ("torch", "mlx", or any `module:name` of a CoreFactory) in a process of its own.

    The process starts with the first `answer` and stays for the next ones. One that dies before it is ready is started
    again without native kernels, which its `about` says. When it dies, it is started again, and what
    it held runs again: at most `RESENDS` times an item, which then is a failure of class exhausted. FatalError is
    raised where the model cannot be loaded, or after `RESTARTS` restarts without an answer. One `answer` at a time.
    `timeout` is the seconds an item may take from its sending; overrunning it is a transient failure.
    With `timing` set before the process starts, responses tell when work on them began and their first token came.
    With `elsewhere` the process only hands items on to other machines: no item is to blame for its death, and one that
    follows another is told so (`again` in its spec).
    """

    def __init__(
        self,
        engine: str,
        spec: Mapping[str, Any],
        sampling: SamplingOptions | None = None,
        max_batch: int | None = None,
        *,
        timeout: float | None = None,
        threads: int | None = None,
        log_path: Path | None = None,
        backoff: Sequence[float] = BACKOFF,
        timing: bool = False,
        elsewhere: bool = False,
    ) -> None:
        self.name = engine
        self.timing = timing
        self._elsewhere = elsewhere
        self._load: dict[str, Any] = {
            "op": "load",
            "engine": engine,
            "spec": {name: str(value) if isinstance(value, Path) else value for name, value in spec.items()},
            "sampling": options_dict(sampling or SamplingOptions()),
            "max_batch": max_batch,
        }
        self._timeout = timeout
        self._threads = threads
        self._log_path = log_path
        self._backoff = backoff
        self._numbers = itertools.count()
        # Below: shared with the child's threads, under the lock.
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        self._run: HostedRun | None = None
        self._ready: frames.Frame | None = None  # what the running child said when it had loaded
        self._with_kernels = True  # until a child died before it was ready
        self._status = "stopped"
        self._partials: dict[int, tuple[ItemId, list[str]]] = {}
        self._closed = False
        self._last_room = 1

    @property
    def status(self) -> str:
        """What the engine is doing, for display: "loading model…", "ready", "restarting (1/3)", …; from any thread."""
        return self._status

    @property
    def about(self) -> Mapping[str, Any]:
        """Device, precision, parameters, … once the model is loaded; empty before."""
        ready = self._ready
        return ready["about"] if ready else {}

    @property
    def pid(self) -> int | None:
        """The process's number, while there is one."""
        child = self._child
        return child.pid if child is not None and child.alive else None

    def partial_texts(self) -> Mapping[ItemId, str]:
        """The text so far of items in flight; from any thread."""
        with self._lock:
            return {item_id: "".join(parts) for item_id, parts in self._partials.values()}

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        """Yield one response for every item pulled; see the class for what the engine's death does."""
        run = HostedRun(asyncio.get_running_loop())
        with self._lock:
            if self._closed:
                raise FatalError("the engine is closed")
            if self._run is not None:
                raise FatalError("the engine is answering another run")
            self._run = run
        ticker = asyncio.create_task(tick(run, self._timeout)) if self._timeout else None
        try:
            if self._child is None or not self._child.alive:
                self._start()
            elif self._ready is not None:
                run.open(items, self._room)
            while not run.done:
                event = await run.events.get()
                if event.child is not None and event.child is not self._child:
                    continue  # a late word of one that was replaced
                for response in self._handle(run, items, event):
                    yield response
                if event.what == "died" and not run.done:
                    await self._restart(run)
                self._dispatch(run)
        finally:
            if ticker is not None:
                ticker.cancel()
            await self._detach(run)

    def _room(self) -> int:
        """How many items the child should hold; what it was, while there is none."""
        ready = self._ready
        if ready is not None:
            self._last_room = max(1, int(ready["room"]))
        return self._last_room

    def preload(self) -> None:
        """Start the process, so that the model is loaded before anything is asked; `answer` says what goes wrong."""
        if self._child is None and not self._closed:
            self._start()

    def takes_the_place_of(self, other: HostedEngine) -> bool:
        """Whether this one, which has answered nothing yet, was told the same; then it also waits as long as that."""
        same = (self._load, self._threads, self.timing, self._elsewhere)
        if self._closed or same != (other._load, other._threads, other.timing, other._elsewhere):
            return False
        self._timeout = other._timeout
        return True

    def stop(self) -> None:
        """End the process, within two seconds, from any thread, which waits for it."""
        with self._lock:
            self._closed = True
            child, self._child, self._ready = self._child, None, None
            self._status = "stopped"
            self._post(Event("failed", FatalError("the engine was closed")))
        if child is not None:
            child.stop()

    async def close(self) -> None:
        """End the process, within two seconds."""
        await asyncio.to_thread(self.stop)

    # -- one run, on its event loop -----------------------------------------------------------------------------------

    def _handle(
        self, run: HostedRun, items: AsyncIterator[BatchItem[Request]], event: Event
    ) -> list[BatchResponse[Answer]]:
        """Take in what happened; the responses that follow from it."""
        if event.what == "pulled":
            run.waiting.append(Flight(event.value, time.perf_counter_ns()))
        elif event.what == "ended":
            run.ended = True
        elif event.what == "failed":
            raise event.value
        elif event.what == "died":
            return self._crashed(run, event.value)
        elif event.what == "tick":
            return self._expire(run)
        else:
            return self._hear(run, items, event.value)
        return []

    def _hear(
        self, run: HostedRun, items: AsyncIterator[BatchItem[Request]], frame: frames.Frame
    ) -> list[BatchResponse[Answer]]:
        op = frame["op"]
        if op == "ready" and run.puller is None:
            run.open(items, self._room)
        elif op == "fatal":
            message = frame["message"]
            if frame["extra"]:
                raise MissingExtraError(frame["extra"], message.partition(" needs the ")[0])
            raise FatalError(message)
        elif op in ("done", "failed"):
            flight = run.sent.pop(frame["n"], None)
            if flight is not None:  # else it is of a run that was abandoned
                run.restarts = 0
                return [self._settle(run, flight, frame)]
        return []

    def _settle(self, run: HostedRun, flight: Flight, frame: frames.Frame) -> BatchResponse[Answer]:
        run.release()
        done = frame["op"] == "done"
        duration = time.perf_counter_ns() - flight.pulled_ns
        return BatchResponse(
            flight.item.id,
            Answer(frame["text"], frame["extra"]) if done else None,
            duration_ns=duration,
            error=None
            if done
            else Failure(ErrorClass(frame["class"]), frame["message"], cause=Cause(frame.get("cause", ""))),
            tokens_input=frame["in"],
            tokens_output=frame["out"],
            cost=0,
            timing=timing_of(frame.get("timing"), flight, duration),
        )

    def _crashed(self, run: HostedRun, how: str) -> list[BatchResponse[Answer]]:
        """The child is dead: what it held goes to the front of the queue, or is given up."""
        given_up: list[BatchResponse[Answer]] = []
        again: list[Flight] = []
        for flight in run.sent.values():
            flight.deaths += not self._elsewhere
            if flight.deaths <= RESENDS:
                again.append(flight)
                continue
            message = f"the engine process died {flight.deaths} times while answering this prompt ({how})"
            given_up.append(self._failure(run, flight, ErrorClass.EXHAUSTED, message))
        run.sent.clear()
        run.waiting.extendleft(reversed(again))
        return given_up

    def _expire(self, run: HostedRun) -> list[BatchResponse[Answer]]:
        """Give up what has been with the child for too long."""
        assert self._timeout is not None and self._child is not None
        limit_ns, now = self._timeout * 1e9, time.perf_counter_ns()
        late = [n for n, flight in run.sent.items() if now - flight.sent_ns > limit_ns]
        responses = []
        for n in late:
            self._child.send(frames.encode({"op": "cancel", "n": n}))
            message = f"no answer within {self._timeout:g} s"
            responses.append(self._failure(run, run.sent.pop(n), ErrorClass.TRANSIENT, message))
            with self._lock:
                self._partials.pop(n, None)
        return responses

    def _failure(self, run: HostedRun, flight: Flight, error_class: ErrorClass, message: str) -> BatchResponse[Answer]:
        run.release()
        duration = time.perf_counter_ns() - flight.pulled_ns
        return BatchResponse(flight.item.id, None, duration, Failure(error_class, message), cost=0)

    async def _restart(self, run: HostedRun) -> None:
        child = self._child
        run.restarts += 1
        if run.restarts > RESTARTS:
            how = child.how_it_ended if child else "gone"
            last = child.stderr_tail[-STDERR_SHOWN:] if child else []
            said = "; its last lines: " + " | ".join(line for line in last if line) if any(last) else ""
            raise FatalError(f"the engine process died {run.restarts} times in a row ({how}){said}")
        self._status = f"restarting ({run.restarts}/{RESTARTS})"
        if self._backoff:
            await asyncio.sleep(self._backoff[min(run.restarts, len(self._backoff)) - 1])
        self._start(status=self._status)

    def _dispatch(self, run: HostedRun) -> None:
        """Send what waits. An item that may be what kills the engine is sent when no other could be hit."""
        child = self._child
        if child is None or self._ready is None:
            return
        while run.waiting:
            suspect = run.waiting[0].deaths >= SUSPECT
            if run.sent and (suspect or any(f.deaths >= SUSPECT for f in run.sent.values())):
                return
            flight = run.waiting.popleft()
            self._send(run, child, flight)

    def _send(self, run: HostedRun, child: ChildProcess, flight: Flight) -> None:
        n, item = next(self._numbers), flight.item
        frame = {"op": "add", "n": n, "text": item.data.text, "extra": item.data.extra, "priority": item.priority}
        try:
            data = frames.encode(frame)
        except TypeError as error:
            message = f"the prompt cannot be sent to the engine: {error}"
            failed = {"op": "failed", "n": n, "class": "permanent", "message": message, "in": 0, "out": 0}
            run.events.put_nowait(Event("frame", failed, child))
        else:
            child.send(data)
        flight.sent_ns = time.perf_counter_ns()
        run.sent[n] = flight
        with self._lock:
            self._partials[n] = (item.id, [])

    async def _detach(self, run: HostedRun) -> None:
        """End a run, whatever ended it: a child that is well stays for the next one."""
        with self._lock:
            self._run = None
            self._partials.clear()
            child, usable = self._child, self._ready is not None
        if run.puller is not None:
            await run.puller.stop()
        if child is not None and child.alive and usable:
            for n in run.sent:
                child.send(frames.encode({"op": "cancel", "n": n}))
        elif child is not None:
            with self._lock:
                self._child, self._status = None, "stopped"
            await asyncio.to_thread(child.stop)

    # -- the child, and its threads -----------------------------------------------------------------------------------

    def _start(self, status: str = "starting") -> None:
        with self._lock:
            self._ready = None
            self._status = status
            self._partials.clear()
            env = worker_env(self._threads, kernels=self._with_kernels)
            self._child = ChildProcess(env, self._on_frame, self._on_exit, self._log_path)
            load = {**self._load, "timing": self.timing}
            if self._elsewhere and self._run is not None and self._run.restarts:
                load["spec"] = {**load["spec"], "again": True}
            self._child.send(frames.encode(load))

    def _on_frame(self, child: ChildProcess, frame: frames.Frame) -> None:
        with self._lock:
            if child is not self._child:
                return
            op = frame["op"]
            if op == "partial":
                for n, text in frame["texts"].items():
                    if int(n) in self._partials:
                        self._partials[int(n)][1].append(text)
                return
            if op == "status":
                if not self._status.startswith("restarting"):
                    self._status = frame["text"]
                return
            if op == "about":
                self._ready = frame if self._ready is not None else None
                return
            if op == "ready":
                self._last_room = max(1, frame["room"])
                self._ready, self._status = frame, "ready"
            elif op in ("done", "failed"):
                self._partials.pop(frame["n"], None)
            self._post(Event("frame", frame, child))

    def _on_exit(self, child: ChildProcess) -> None:
        with self._lock:
            if child is not self._child:
                return
            if self._ready is None:  # what it cannot be without is loaded anew, what it can is left out
                self._with_kernels = False
            self._ready = None
            self._status = "stopped"
            self._partials.clear()
            self._post(Event("died", child.how_it_ended, child))

    def _post(self, event: Event) -> None:
        """Hand an event to the run, if there is one; called under the lock."""
        if self._run is not None and not self._run.loop.is_closed():
            self._run.loop.call_soon_threadsafe(self._run.events.put_nowait, event)
