"""The child of a hosted engine: `python -m batch.engines.local.worker` answers frames on stdin with frames on stdout.

In:  {"op": "load", "engine", "spec", "sampling", "max_batch", "timing"}, once and first;
     {"op": "add", "n", "text", "extra", "priority"} and {"op": "cancel", "n"}, `n` the number of the sending.
Out: {"op": "status", "text"}, {"op": "ready", "room", "about"} or {"op": "fatal", "message", "extra"};
     {"op": "done", "n", "text", "extra", "in", "out"} or
     {"op": "failed", "n", "class", "cause", "message", "in", "out"},
     both with "timing", [queue, first token] in ns, where `load` asked for it;
     {"op": "about", "room", "about"} where either has changed since;
     {"op": "partial", "texts": {n: new text}}, ten times a second at most.

The process ends when stdin does, whatever it is doing: a parent that is gone reads no answers.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
import traceback
from typing import Any, BinaryIO, cast

from batch.engines import registry
from batch.engines.local import frames, notices
from batch.engines.local.core import PARTIAL_SECONDS, CoreFactory, LocalCore, StepClock
from batch.engines.torch import importing
from batch.errors import BatchError, FatalError, MissingExtraError
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import SamplingOptions, build_options

PARENT_SECONDS = 1.0
NICE, LEAST_PRIORITY = "AI_ROUTER_NICE", 19


def find_core(engine: str) -> CoreFactory:
    """What opens an engine's core: a known name, or any `package.module:name`."""
    row = registry.find(engine)
    if not row.core:
        raise FatalError(f"the {engine} engine is no local one: it does not run in a process of its own")
    return cast(CoreFactory, registry.load(row.core))


class Worker:
    """Steps a core, and carries items and answers between it and the two streams."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._inbox: queue.SimpleQueue[frames.Frame] = queue.SimpleQueue()
        self._shown: dict[int, int] = {}  # characters of each item's partial text that were sent
        self._partials_at = 0.0
        self._told: tuple[int, dict[str, Any]] = (0, {})  # room and about, as last said

    def run(self) -> int:
        """Load, then serve until stdin ends, which ends the process from the thread that reads it."""
        threading.Thread(target=self._read, daemon=True).start()
        load = self._inbox.get()
        self._send({"op": "status", "text": "loading model…"})
        try:
            sampling = build_options(SamplingOptions, load["sampling"])
            core = self._open(load, sampling)
        except MissingExtraError as error:
            self._send({"op": "fatal", "message": str(error), "extra": error.extra})
            return 3
        except BatchError as error:
            self._send({"op": "fatal", "message": str(error), "extra": None})
            return 3
        except Exception as error:  # a second try would meet it again, so it is told rather than died of
            traceback.print_exc()
            text = f"the {load['engine']} engine cannot start: {type(error).__name__}: {error}"
            self._send({"op": "fatal", "message": text, "extra": None})
            return 3
        self._told = core.room, dict(core.about)
        self._send({"op": "ready", "room": self._told[0], "about": self._told[1]})
        try:
            self._serve(core, load)
        except FatalError as error:  # another try would meet it again
            self._send({"op": "fatal", "message": str(error), "extra": None})
        return 3

    def _serve(self, core: LocalCore, load: frames.Frame) -> None:
        stepper = StepClock(core) if load.get("timing") else core
        while True:
            self._take(core, stepper)
            for response in stepper.step():
                self._answer(response)
            now = time.monotonic()
            if now - self._partials_at >= PARTIAL_SECONDS:
                self._partials_at = now
                self._show(core)
                if (told := (core.room, dict(core.about))) != self._told:
                    self._told = told
                    self._send({"op": "about", "room": told[0], "about": told[1]})

    def _open(self, load: frames.Frame, sampling: SamplingOptions) -> LocalCore:
        # For as long as it lives: what runs elsewhere has more to say than that it is ready.
        notices.listen(lambda text: self._send({"op": "status", "text": text}))
        return find_core(load["engine"])(load["spec"], sampling, load["max_batch"])

    def _read(self) -> None:
        while (frame := frames.read(self._source)) is not None:
            self._inbox.put(frame)
        os._exit(0)  # not sys.exit: the main thread may be within a long step

    def _take(self, core: LocalCore, stepper: LocalCore | StepClock) -> None:
        """Hand what has come in to the core; wait for something where it has nothing to do."""
        while not core.busy or not self._inbox.empty():
            frame = self._inbox.get()
            n = frame["n"]
            if frame["op"] == "add":
                stepper.submit(BatchItem(n, Request(frame["text"], frame["extra"]), priority=frame["priority"]))
            else:
                stepper.cancel(n)
                self._shown.pop(n, None)

    def _answer(self, response: BatchResponse[Answer]) -> None:
        self._shown.pop(int(response.id), None)
        frame: dict[str, Any] = {"n": response.id, "in": response.tokens_input, "out": response.tokens_output}
        if response.timing is not None:
            frame["timing"] = [response.timing.queue_ns, response.timing.first_token_ns]
        if response.data is not None:
            self._send({"op": "done", **frame, "text": response.data.text, "extra": response.data.extra})
        elif response.error is not None:
            error = response.error
            said = {"class": error.error_class.value, "cause": error.cause.value, "message": error.message}
            self._send({"op": "failed", **frame, **said})

    def _show(self, core: LocalCore) -> None:
        texts: dict[str, str] = {}
        for item_id, text in core.partial_texts().items():
            n = int(item_id)
            if len(text) > self._shown.get(n, 0):
                texts[str(n)] = text[self._shown.get(n, 0) :]
                self._shown[n] = len(text)
        if texts:
            self._send({"op": "partial", "texts": texts})

    def _send(self, frame: frames.Frame) -> None:
        self._sink.write(frames.encode(frame))
        self._sink.flush()


def _take_stdio() -> tuple[BinaryIO, BinaryIO]:
    """stdin and stdout for frames alone: whoever prints from now on prints to stderr, whoever reads reads nothing."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return source, sink


def _watch_parent() -> None:
    """End with the parent also where a sibling that inherited the pipe keeps stdin open."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def give_way() -> None:
    """Let other processes go first where AI_ROUTER_NICE says so: a screen has to answer keys while all cores compute.

    Before the threads of a library are there, as each has a priority of its own.
    """
    wanted = os.environ.get(NICE, "")
    if wanted.isdecimal() and os.nice(0) < int(wanted) <= LEAST_PRIORITY:
        os.nice(int(wanted) - os.nice(0))


def main() -> int:
    """Serve one parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    source, sink = _take_stdio()
    importing.alone()
    if os.name == "posix":  # elsewhere a process keeps its dead parent's number
        _watch_parent()
        give_way()
    try:
        return Worker(source, sink).run()
    except BrokenPipeError:  # the parent is gone
        return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # nothing to tidy up, and a library's threads could hold the exit back
