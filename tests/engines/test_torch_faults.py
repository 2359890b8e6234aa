"""What goes wrong with the torch engine: the job goes on, or stops with the reason.

A process of its own takes seconds to start, so it is where the process is the point: its memory. Its death is in
`test_torch_hosted.py`.
"""

from __future__ import annotations

import json
import mmap
import shutil
import struct
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from batch.engines.base import Engine
from batch.engines.desk import MemoryDesk
from batch.engines.local.core import ThreadedEngine
from batch.engines.local.host import HostedEngine
from batch.errors import ErrorClass, FatalError
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.job import JobStatus
from batch.options import SamplingOptions
from batch.processor import BatchProcessor
from batch.running.run import Run

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torch.set_num_threads(1)

from batch.engines.torch import native  # noqa: E402
from batch.engines.torch.engine import TorchCore, open_core  # noqa: E402
from batch.engines.torch.pages import PageCache  # noqa: E402

DEMO = Path(__file__).resolve().parents[2] / "ai_router" / "demo"
LIMITED = "tests.engines.limited_worker:open_core"  # little memory to load a model in
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of address space, and /proc")


async def collect(engine: Engine[Request, Answer], requests: Iterable[Request]) -> dict[Any, BatchResponse[Answer]]:
    async def items() -> AsyncIterator[BatchItem[Request]]:
        for i, request in enumerate(requests):
            yield BatchItem(i, request)

    try:
        return {r.id: r async for r in engine.answer(items(), MemoryDesk())}
    finally:
        await engine.close()


def within(path: Path, *, max_batch: int = 8, max_tokens: int = 12, **spec: Any) -> ThreadedEngine:
    """The engine without a process of its own."""
    return ThreadedEngine("torch", lambda: opened(path, max_batch, max_tokens, **spec))


def opened(path: Path, max_batch: int, max_tokens: int = 12, **spec: Any) -> TorchCore:
    core = open_core({"path": str(path), **spec}, SamplingOptions(max_tokens=max_tokens), max_batch)
    assert isinstance(core, TorchCore)
    return core


def copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


# -- memory -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`pages(n)`: no memory for a cache of more pages than that."""
    usual = PageCache._resize

    def limit(most: int) -> None:
        def resize(cache: PageCache, wanted: int) -> None:
            if wanted > most:
                raise MemoryError(f"{wanted} pages")
            usual(cache, wanted)

        monkeypatch.setattr(PageCache, "_resize", resize)

    return limit


async def test_out_of_memory_while_running_makes_the_batch_smaller(pages: Callable[[int], None]) -> None:
    words = " ".join(f"item{i}" for i in range(290))
    requests = [Request(f"{n} {words}") for n in range(6)]
    plenty = await collect(within(DEMO, max_batch=6), requests)
    rows: list[int] = []

    def scarce() -> TorchCore:
        core = opened(DEMO, 6)
        shrink, submit, step = core._shrink, core.submit, core.step
        given: list[BatchItem[Request]] = []

        def noted(item: BatchItem[Request]) -> None:
            given.append(item)
            submit(item)

        def logged(problem: str) -> list[BatchResponse[Answer]]:
            rows.append(len(core._scheduler.running))
            return shrink(problem)

        core._shrink = logged  # type: ignore[method-assign]
        core.submit = noted  # type: ignore[method-assign]
        # All are there before the first runs, or one after the other might find room.
        core.step = lambda: step() if len(given) == len(requests) else []  # type: ignore[method-assign]
        return core

    pages(64)
    tight = await collect(ThreadedEngine("torch", scarce), requests)
    assert rows[0] > 1 and len(rows) == len(set(rows))  # it did run out, and went on with fewer
    assert {i: r.data and r.data.text for i, r in tight.items()} == {
        i: r.data and r.data.text for i, r in plenty.items()
    }
    assert all(r.success for r in tight.values())


async def test_a_prompt_that_no_memory_is_enough_for_fails_alone(tmp_path: Path, pages: Callable[[int], None]) -> None:
    folder = copied(DEMO, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8192}))
    requests = [Request("What is a stack?"), Request("item " * 3500), Request("What is a queue?")]
    pages(64)
    found = await collect(within(folder, max_batch=3), requests)
    error = found[1].error
    assert error and error.error_class is ErrorClass.EXHAUSTED
    assert "out of memory with this prompt alone" in error.message
    assert found[0].success and found[2].success


@linux
async def test_out_of_memory_at_load_ends_the_job_with_the_reason(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = copied(DEMO, tmp_path / "large")
    config = json.loads((folder / "config.json").read_text())
    size = 60_000
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": size}))
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] = torch.zeros(size, config["hidden_size"], dtype=torch.float16)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(FatalError, match="not enough memory for the model"):
        await collect(HostedEngine(LIMITED, {"path": folder, "spare_mb": 50}, threads=1), [Request("x")])


# -- the model's files ------------------------------------------------------------------------------------------------


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(header: dict[str, Any], body: bytes, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def damage(folder: Path, how: str) -> None:
    """Do to a model in several files what disks and downloads do."""
    shards = sorted(folder.glob("model-*.safetensors"))
    first, last = shards[0], shards[-1]
    header, body = header_of(first.read_bytes())
    name = next(n for n in header if n != "__metadata__")
    if how == "missing":
        last.unlink()
    elif how == "truncated":
        first.write_bytes(first.read_bytes()[:-100])
    elif how == "empty":
        last.write_bytes(b"")
    elif how == "no index":
        (folder / "model.safetensors.index.json").unlink()
    elif how == "index":
        (folder / "model.safetensors.index.json").write_text("{")
    elif how == "a page instead of a file":
        first.write_text("<!DOCTYPE html><html>Not found</html>")
    elif how == "length":
        first.write_bytes(with_header(header, body, length=2**60))
    elif how == "offsets":
        start, end = header[name]["data_offsets"]
        header[name]["data_offsets"] = [start + 10**9, end + 10**9]
        first.write_bytes(with_header(header, body))
    elif how == "shape":
        header[name]["shape"] = [*header[name]["shape"], 7]
        first.write_bytes(with_header(header, body))
    elif how == "type":
        header[name]["dtype"] = "F99"
        first.write_bytes(with_header(header, body))
    else:
        header["other.weight"] = header.pop(name)
        first.write_bytes(with_header(header, body))


@pytest.fixture(scope="module")
def sharded(qwen3: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoModelForCausalLM

    folder = copied(qwen3, tmp_path_factory.mktemp("sharded") / "model")
    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(qwen3).save_pretrained(folder, max_shard_size="60KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    return folder


@pytest.mark.parametrize(
    "how",
    [
        "missing",
        "truncated",
        "empty",
        "no index",
        "index",
        "a page instead of a file",
        "length",
        "offsets",
        "shape",
        "type",
        "name",
    ],
)
def test_damaged_weights_are_refused_in_one_sentence(sharded: Path, tmp_path: Path, how: str) -> None:
    from batch.engines.torch.loader import load

    assert load(sharded).about["parameters"]
    folder = copied(sharded, tmp_path / "model")
    damage(folder, how)
    with pytest.raises(FatalError) as caught:
        load(folder)
    text = str(caught.value)
    assert text.startswith(f"{folder}: ") and "\n" not in text and len(text) < 500
    assert any(words in text for words in ("the weights cannot be read", "the weights lack", "no weights")), text


def test_a_job_with_damaged_weights_stops_and_can_be_resumed(sharded: Path, tmp_path: Path) -> None:
    folder = copied(sharded, tmp_path / "model")
    job = BatchProcessor(tmp_path / "jobs").create_job("tiny", ["one", "two"])
    damage(folder, "truncated")
    run = Run(job, within(folder)).start()
    assert run.wait(60) and isinstance(run.error, FatalError)
    assert job.status == JobStatus.FAILED and job.reason and "the weights cannot be read" in job.reason
    assert job.processed == 0
    again = Run(job, within(sharded)).start()
    assert again.wait(60) and again.error is None and job.processed == 2


# -- prompts and answers ----------------------------------------------------------------------------------------------


async def test_without_a_chat_template_a_text_is_continued_and_that_is_said(models: Any) -> None:
    engine = within(models("gpt2"), max_tokens=4)
    notes: list[str] = []

    async def items() -> AsyncIterator[BatchItem[Request]]:
        yield BatchItem(0, Request("the quick brown"))

    async for response in engine.answer(items(), MemoryDesk()):
        notes = engine.about["notes"]
        assert response.tokens_input > 0
    await engine.close()
    assert notes == ["no chat template: it continues the text of a prompt"]


async def test_a_prompt_beyond_the_context_fails_alone_or_is_cut(qwen3: Path) -> None:
    requests = [Request("fox " * 400), Request("the quick fox")]
    refused = await collect(within(qwen3), requests)
    error = refused[0].error
    assert error and error.error_class is ErrorClass.PERMANENT and "context is 160" in error.message
    cut = await collect(within(qwen3, truncate="left"), requests)
    assert cut[0].error is None or cut[0].error.message == "the model gave an empty answer"
    assert cut[0].tokens_input == 160 - 12
    assert cut[1].data == refused[1].data


async def test_output_that_is_no_number_fails_its_item_alone(models: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    folder = copied(models("llama"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    bad = AutoTokenizer.from_pretrained(folder).encode("\x07", add_special_tokens=False)[0]
    weights["model.embed_tokens.weight"][bad] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    requests = [Request("fox"), Request("the\x07 fox"), Request("search the list")]
    found = await collect(within(folder), requests)
    error = found[1].error
    assert error and error.error_class is ErrorClass.PERMANENT and "NaN" in error.message
    assert all(found[i].error is None or "NaN" not in str(found[i].error) for i in (0, 2))


async def test_a_model_that_never_ends_is_bounded(models: Any, tmp_path: Path) -> None:
    """No end token, and no context either: tokens bound it. Time does too, in `test_host.py`."""
    folder = copied(models("bloom"), tmp_path / "model")
    for file in ("config.json", "generation_config.json"):
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**values, "eos_token_id": None}))
    tokens = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**tokens, "eos_token": None}))
    endless = Request("again", {"params": {"max_tokens": 300}})
    brief = [Request(f"again {i}", {"params": {"max_tokens": 8}}) for i in range(3)]
    found = await collect(within(folder), [endless, *brief])
    assert [found[i].tokens_output for i in range(4)] == [300, 8, 8, 8]


@pytest.mark.parametrize("layers", [0, 8])
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the most memory is told by /proc")
def test_pages_that_move_are_not_all_there_twice(layers: int) -> None:
    def held(what: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))

    if native.kernels() is None:
        pytest.skip("no native kernels here")
    cache = PageCache(torch.float32, 2, native.kernels(), layers)
    cache.slots, like = 64, torch.zeros(1, 16, 1, 64)
    cache.layers = [cache.new_layer() for _ in range(8)]
    places = slice(None, 64 * cache.apart, cache.apart)
    for layer in cache.layers:
        layer.lazy_initialization(like, like)
        layer.keys[places], layer.values[places] = 1, 2
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    cache._resize(256)
    assert all(bool((layer.keys[places] == 1).all() and (layer.values[places] == 2).all()) for layer in cache.layers)
    assert held("VmHWM") - before < 60  # of 128 MB


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_a_few_pages_of_many_layers_take_no_large_page_each() -> None:
    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE / 2**20

    if native.kernels() is None:
        pytest.skip("no native kernels here")
    cache, like = PageCache(torch.bfloat16, 64, native.kernels(), 40), torch.zeros(1, 2, 1, 64)
    cache.limit = 2**16
    cache.grow([1])
    before = resident()
    for number in range(40):
        layer = cache.layer(number, 2, 64, like)
        layer.keys[cache.table[0, 0]], layer.values[cache.table[0, 0]] = number, -number
    assert all(bool((cache.layers[n].keys[cache.table[0, 0]] == n).all()) for n in range(40))
    assert all(bool((cache.layers[n].values[cache.table[0, 0]] == -n).all()) for n in range(40))
    assert resident() - before < 12  # and not 160
    with pytest.raises(ValueError, match="alike"):
        cache.layer(40, 2, 64, like)
