"""A step of fixed shapes, run as it is or recorded once as a CUDA graph and replayed.

A CUDA graph launches all kernels of a step in one call, which on a GPU takes a fraction of the time that Python and the
driver need to launch them one by one. It replays what was recorded: the same kernels, shapes and addresses. So what
changes from step to step lies in static buffers, and there is a graph for every shape. Nothing recorded may wait for
the GPU or depend on values there (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch

Function = Callable[[], None]


class Steps(Protocol):
    """Runs steps: copies what is new into the static buffer, then runs the function, which reads it there."""

    problem: str  # why steps are not recorded after all; "" where they are, or were never to be

    @property
    def how(self) -> str:
        """How steps are run, for display."""
        ...

    def __call__(self, key: Hashable, function: Function, static: torch.Tensor, fresh: torch.Tensor) -> None:
        """One step. Steps of one key differ in nothing but what the buffers hold."""
        ...

    def reset(self) -> None:
        """Forget what was recorded: buffers have moved."""
        ...


class PlainSteps:
    """Every step as it is."""

    how = "plain"
    problem = ""

    def __call__(self, key: Hashable, function: Function, static: torch.Tensor, fresh: torch.Tensor) -> None:
        """Copy and run."""
        static.copy_(fresh, non_blocking=True)
        function()

    def reset(self) -> None:
        """Nothing is kept."""


class Recorded(Protocol):
    """A recorded step, such as `torch.cuda.CUDAGraph`."""

    def replay(self) -> None:
        """Run it again over the same addresses."""
        ...


class Recorder(Protocol):
    """What records steps."""

    def warm_up(self, function: Function) -> None:
        """Run a step where it will be recorded, so that libraries have what they allocate at their first call."""
        ...

    def record(self, function: Function) -> Recorded:
        """Record a step without running it; raises RuntimeError where it does what cannot be recorded."""
        ...


class CudaRecorder:
    """Records on a stream of its own; the graphs share a memory pool, since no two of them run at a time.

    Graphs of one recorder are dropped together: destroying one frees the cuBLAS workspaces of its stream, which the
    others point to (pytorch issue 193402), and a pool whose last graph has gone takes no new one.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, function: Function) -> None:
        """Run it on the side stream; what comes next on the current one waits for that."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            function()
        current.wait_stream(self._stream)

    def record(self, function: Function) -> Recorded:
        """As a CUDA graph; other threads may go on using the GPU."""
        graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            function()
        recorded: Recorded = graph
        return recorded


class GraphSteps:
    """Records a key's step at its second call; the first one runs as it is, and is the warm-up of the second.

    The first key of all is recorded at once, so that what cannot be recorded shows at load. When recording fails, all
    steps run as they are from then on, and `problem` says why.
    """

    def __init__(self, recorder: Callable[[], Recorder]) -> None:
        self.problem = ""
        self._new_recorder = recorder
        self._recorder: Recorder | None = None
        self._warm: set[Hashable] = set()
        self._graphs: dict[Hashable, Recorded] = {}

    @property
    def how(self) -> str:
        """What is used."""
        return "plain" if self.problem else "CUDA graphs"

    def __call__(self, key: Hashable, function: Function, static: torch.Tensor, fresh: torch.Tensor) -> None:
        """Copy, then replay, record or run."""
        static.copy_(fresh, non_blocking=True)
        if self.problem:
            function()
            return
        if key in self._graphs:
            self._graphs[key].replay()
            return
        if self._recorder is None:
            self._recorder = self._new_recorder()
        if key not in self._warm:
            self._warm.add(key)
            self._recorder.warm_up(function)
            if len(self._warm) > 1:
                return
        try:
            self._graphs[key] = self._recorder.record(function)
        except RuntimeError as error:
            self.reset()
            self.problem = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            function()
        else:
            self._graphs[key].replay()

    def reset(self) -> None:
        """Drop all graphs, and with them their stream and their memory."""
        self._graphs.clear()
        self._warm.clear()
        self._recorder = None


def steps_for(device: torch.device) -> Steps:
    """CUDA graphs where there are any."""
    return GraphSteps(lambda: CudaRecorder(device)) if device.type == "cuda" else PlainSteps()
