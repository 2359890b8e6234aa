"""Decode steps that are recorded once and replayed: buffers that stay, nothing waited for, and when it cannot be."""

from __future__ import annotations

import copy
import inspect
import random
from pathlib import Path
from typing import Any

import pytest

from batch.items import BatchItem, Request
from batch.options import SamplingOptions

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torch.set_num_threads(1)

from batch.engines.torch import linear, rectangle, runner, static  # noqa: E402
from batch.engines.torch.engine import TorchCore  # noqa: E402
from batch.engines.torch.graphs import CudaRecorder, GraphSteps  # noqa: E402
from batch.engines.torch.loader import load  # noqa: E402
from batch.engines.torch.sampler import Sampler  # noqa: E402
from batch.engines.torch.sequence import Sequence  # noqa: E402
from batch.engines.torch.static import StaticRunner  # noqa: E402
from batch.engines.torch.text import Detokenizer  # noqa: E402
from tests.engines.recorders import Recorders, Recording  # noqa: E402
from tests.engines.test_torch_packed import WORDS, arrive, excused, reference  # noqa: E402

KINDS = ["qwen3", "qwen3-wide", "llama", "mistral", "gpt2"]


# -- steps that are recorded ------------------------------------------------------------------------------------------


def test_a_key_is_recorded_once_and_inputs_come_before_it_is_replayed() -> None:
    recorders = Recorders()
    steps = GraphSteps(recorders)
    static_input = torch.zeros(4, dtype=torch.long)
    seen: list[tuple[int, int]] = []

    def step() -> None:
        seen.append((static_input.data_ptr(), int(static_input.sum())))

    address = static_input.data_ptr()
    for i in range(1, 5):
        steps("a", step, static_input, torch.full((4,), i))
    (recorder,) = recorders
    # The first key of all: as it is, then recorded, so that it shows at once whether that goes.
    assert recorder.warmed == 1 and len(recorder.recordings) == 1 and recorder.recordings[0].replays == 4
    assert seen == [(address, 4), (address, 4), (address, 8), (address, 12), (address, 16)]
    seen.clear()
    for i in range(3):
        steps("b", step, static_input[:2], torch.full((2,), 100 * i))
    assert recorder.warmed == 2 and len(recorder.recordings) == 2 and recorder.recordings[1].replays == 2
    assert [total for _, total in seen] == [8, 208, 408]
    steps("a", step, static_input, torch.zeros(4, dtype=torch.long))
    assert len(recorder.recordings) == 2 and seen[-1] == (address, 0)
    steps.reset()
    steps("a", step, static_input, torch.ones(4, dtype=torch.long))
    assert len(recorders) == 2 and seen[-1] == (address, 4) and steps.how == "CUDA graphs"


@pytest.mark.parametrize("refuses", [0, 2])
def test_what_cannot_be_recorded_runs_as_it_is(qwen3: Path, on_gpu: Any, refuses: int) -> None:
    """At load it is said in `about`; later on the step at hand is still done, and nothing is recorded again."""
    recorders = Recorders(refuses)
    on_gpu(lambda: GraphSteps(recorders))
    core = TorchCore(load(qwen3, "fp32", lean=False), SamplingOptions(), 3)
    seen = arrive(core, random.Random(4), 9, [12, 25])
    assert excused(qwen3, seen.values()) <= 1
    steps = core._runner.steps
    assert steps.how == "plain" and steps.problem == "operation not permitted when stream is capturing"
    if refuses == 0:
        assert core.about["decoding"] == "plain"
        assert f"decoding without CUDA graphs: {steps.problem}" in core.about["notes"]
        assert len(recorders) == 1 and recorders[0].warmed == 1


def prepared(model: Any, rows: int, columns: int) -> StaticRunner:
    """A runner with so many rows at their first answer token."""
    found = StaticRunner(model, rows, share=False)
    sequences = [
        Sequence(i, [3 + i] * columns, SamplingOptions(), 40, Detokenizer(None, []))
        for i in range(rows)  # type: ignore[arg-type]
    ]
    found.prefill(sequences)
    for sequence in sequences:
        sequence.tokens.append(7)
    return found


def test_the_engine_replays_over_the_same_addresses(qwen3: Path, on_gpu: Any) -> None:
    """Inputs, cache and logits of every step of a key lie where they lay when it was recorded."""
    recorders = Recorders()
    on_gpu(lambda: GraphSteps(recorders))
    core = TorchCore(load(qwen3, "fp32", lean=False), SamplingOptions(), 4)
    found = core._runner
    places: dict[Any, set[Any]] = {}
    original = found.decode_step

    def step(count: int, width: int) -> None:
        tensors = [found._inputs, found._logits, *found._cache.views()]
        where = tuple((tensor.data_ptr(), tensor.stride()) for tensor in tensors)
        places.setdefault((len(recorders), count, width), set()).add(where)
        original(count, width)

    found.decode_step = step
    for i in range(8):
        core.submit(BatchItem(i, Request(WORDS[i] * (1 if i < 4 else 9), {"params": {"max_tokens": 9 + 5 * i}})))
        core.step()
    while core.busy:
        core.step()
    assert len(recorders) >= 3  # at the trial, and twice as the memory was divided
    assert len(places) >= 4 and all(len(found_at) == 1 for found_at in places.values())
    assert len({where for found_at in places.values() for where in found_at}) == len(recorders)


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_decode_step_waits_for_nothing(models: Any, kind: str, fuse: bool) -> None:
    """Over tensors without values any `.item()` or shape that hangs on values raises: so it can be recorded."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    model = copy.deepcopy(reference(models(kind)))
    if fuse:
        linear.fuse(model)
    with torch.inference_mode():
        found = prepared(model, 4, 20)
        before = found._logits.clone()
        with FakeTensorMode(allow_non_fake_inputs=True):
            found.decode_step(4, 64)
            with pytest.raises(DataDependentOutputException):
                found._logits[0].argmax().item()
        assert torch.equal(found._logits, before)


def test_a_step_that_waits_is_found_out(qwen3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above would not pass a model that looks at its numbers."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    model = copy.deepcopy(reference(qwen3))
    layer = model.model.layers[1].mlp
    original = layer.forward
    monkeypatch.setattr(layer, "forward", lambda x: original(x) if bool((x > 0).any()) else x)
    with torch.inference_mode():
        found = prepared(model, 2, 5)
        with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(DataDependentOutputException):
            found.decode_step(2, 64)


def test_a_greedy_step_comes_to_the_host_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choices and the check for NaN in one transfer."""
    transfers: list[int] = []
    tolist = torch.Tensor.tolist

    def counted(self: Any) -> Any:
        transfers.append(self.numel())
        return tolist(self)

    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    for name in ("item", "__bool__", "__float__", "__int__", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, lambda self: pytest.fail("another wait"))
    rows = [Sequence(i, [1], SamplingOptions(), 4, Detokenizer(None, [])) for i in range(5)]  # type: ignore[arg-type]
    logits = torch.zeros(5, 30)
    logits[:, 3:8].fill_diagonal_(1.0)
    logits[2, 20] = float("nan")
    assert Sampler()(rows, logits) == [3, 4, None, 6, 7]
    assert transfers == [5]


def test_cuda_graphs_are_recorded_where_they_were_warmed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls to torch.cuda, and that the installed torch takes them: one stream and one pool for all graphs."""
    calls: list[Any] = []
    signature = inspect.signature(torch.cuda.graph.__init__)

    class Stream:
        def __init__(self, device: Any) -> None:
            self.device = device

        def wait_stream(self, other: Any) -> None:
            calls.append((self, "waits for", other))

    class Block:
        def __init__(self, *enters: Any) -> None:
            self._enters = enters

        def __enter__(self) -> None:
            calls.append(("in", *self._enters))

        def __exit__(self, *error: Any) -> None:
            calls.append(("out", *self._enters))

    def graph(cuda_graph: Any, **options: Any) -> Block:
        signature.bind(None, cuda_graph, **options)
        assert options["capture_error_mode"] == "thread_local"
        return Block(cuda_graph, options["pool"], options["stream"])

    main = Stream(0)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(torch.cuda, "stream", Block)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Recording(lambda: None))
    recorder = CudaRecorder(0)  # type: ignore[arg-type]
    side = recorder._stream
    recorder.warm_up(lambda: calls.append("step"))
    assert calls == [
        (side, "waits for", main),
        ("in", side),
        "step",
        ("out", side),
        (main, "waits for", side),
    ]
    for _ in range(2):
        calls.clear()
        made = recorder.record(lambda: calls.append("step"))
        assert calls == [("in", made, "pool", side), "step", ("out", made, "pool", side)]


# -- choosing it ------------------------------------------------------------------------------------------------------


class OnCuda:
    """A model that says it is on a GPU."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.device = torch.device("cuda", 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@pytest.mark.parametrize("agrees", [0, 1, 2, 3])
def test_it_is_chosen_on_cuda_where_it_agrees(qwen3: Path, agrees: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With graphs, else without them, else the rectangle, else rows one by one."""
    tried: list[str] = []

    def made(name: str) -> Any:
        return lambda *args, **options: tried.append(name + str(type(options.get("steps")).__name__)) or name

    monkeypatch.setattr(static, "StaticRunner", made("static "))
    monkeypatch.setattr(rectangle, "BatchRunner", made("rectangle "))
    monkeypatch.setattr(runner, "SingleRunner", lambda model, **options: "single")

    class Judge:
        measured = ""

        def check_generate(self, tolerance: float) -> None:
            """As the model's own generate has it."""

        def agrees(self, found: Any, tolerance: float) -> bool:
            return found == "single" or len(tried) == agrees + 1

    monkeypatch.setattr(runner, "Trial", lambda model, text: Judge())
    found = runner.open_runner(OnCuda(reference(qwen3)), 4)
    order = ["static NoneType", "static PlainSteps", "rectangle NoneType"]
    assert tried == order[: agrees + 1]
    assert found == ["static ", "static ", "rectangle ", "single"][agrees]  # type: ignore[comparison-overlap]
