"""Keys and values in eight bits, beside plain torch over the same numbers out of their pages."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from batch.errors import FatalError
from batch.items import BatchItem, Request
from batch.options import SamplingOptions

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torch.set_num_threads(1)

from batch.engines.torch import lookup, native, recipe, runner  # noqa: E402
from batch.engines.torch.engine import TorchCore, open_core  # noqa: E402
from batch.engines.torch.kv_int8 import unpacked  # noqa: E402
from batch.engines.torch.loader import load  # noqa: E402
from batch.engines.torch.native import CACHE_DTYPES, INT8, Columns, Kernels, Rows  # noqa: E402
from batch.engines.torch.packed_native import NativePackedRunner  # noqa: E402
from batch.engines.torch.packed_plain import PlainPackedRunner  # noqa: E402
from batch.engines.torch.pages import PageCache  # noqa: E402
from batch.engines.torch.sequence import Sequence  # noqa: E402
from batch.engines.torch.slots import SlotCache  # noqa: E402
from batch.engines.torch.structs import LETTERS  # noqa: E402
from batch.engines.torch.text import Detokenizer  # noqa: E402

RUNS = [(0, 300, 1, -1), (1, 3, 1, 0), (2, 9, 1, 0), (3, 0, 50, 0), (4, 70, 9, -1)]  # as in `Rows.of`
ROW_PAGES, PREFIX = 10, 200


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    found = native.kernels()
    if found is None:
        pytest.skip("no native kernels here")
    return found


def pages_of(kernels: Kernels, x: Any, *, values: bool) -> Any:
    """Pages with these numbers in eight bits; x: [pages, heads, page, size]."""
    count, heads, page, size = x.shape
    made = torch.randint(0, 255, (count, heads, page, kernels.cell(INT8, size)), dtype=torch.uint8)
    places = torch.arange(count * page)
    kernels.write_pages(x.transpose(1, 2).flatten(0, 1), places // page, places % page, made, values=values)
    return made


def in_line(pages: Any) -> Any:
    return pages.transpose(0, 1).flatten(1, 2)


def drawn(kernels: Kernels, group: int, size: int, queries: int = 0) -> tuple[Any, Columns, Rows]:
    """Queries of `RUNS`, and what they see: keys with a channel that is far larger than all others."""
    generator = torch.Generator().manual_seed(size * 10 + group)
    heads, page = 2, kernels.page
    parts = []
    for count in (len(RUNS) * ROW_PAGES, -(-PREFIX // page)):
        keys, values = (torch.randn(count, heads, page, size, generator=generator) for _ in range(2))
        keys[..., size // 3] += 20
        parts.append([pages_of(kernels, keys, values=False), pages_of(kernels, values, values=True)])
    table = torch.randperm(len(RUNS) * ROW_PAGES, generator=generator).view(len(RUNS), ROW_PAGES)
    far = tuple(in_line(part)[None].contiguous() for part in parts[1])
    rows = Rows.of(RUNS, (queries or kernels.lanes) // group, longest=310)
    q = torch.randn(len(rows.rows), heads * group, size, generator=generator)
    return q, Columns(*parts[0], table, [far], [PREFIX]), rows


@pytest.mark.parametrize("size", [64, 80, 128, 12, 256])
@pytest.mark.parametrize("group", [1, 3, 7, 9])
def test_attention_is_that_over_the_numbers_in_the_pages(kernels: Kernels, group: int, size: int) -> None:
    """Single tokens with a prefix and without, and runs; all of it, a window, softened scores, sinks and slopes."""
    q, cache, rows = drawn(kernels, group, size)
    heads = 2 * group
    own = [unpacked(part, size, values=i > 0) for i, part in enumerate((cache.keys, cache.values))]
    far = [
        in_line(unpacked(part[0].unflatten(1, (-1, kernels.page)).transpose(0, 1), size, values=i > 0))
        for i, part in enumerate(cache.prefixes[0])
    ]
    before = PREFIX * (rows.which + 1)
    ways = ((999, None, None, None), (40, 6.0, torch.randn(heads), None), (120, None, None, torch.randn(heads) / 50))
    for window, cap, sinks, slopes in ways:
        first, out = (before + rows.lengths - window).clamp(min=0), torch.empty_like(q)
        kernels.attend(q, 0.1, cache, rows, first, out, cap=cap, sinks=sinks, slopes=slopes)
        for t in range(len(q)):
            seen = slice(int(first[t]), int(before[t] + rows.lengths[t]))
            k, v = (
                torch.cat([a[:, : int(before[t])], in_line(b[cache.table[rows.rows[t]]])], 1)[:, seen].double()
                for a, b in zip(far, own, strict=True)
            )
            scores = q[t].view(2, group, size).double() @ k.transpose(1, 2) * 0.1
            scores = scores if cap is None else cap * (scores / cap).tanh()
            if slopes is not None:
                scores = scores + slopes.view(2, group, 1) * torch.arange(1 - k.shape[1], 1)
            if sinks is not None:
                scores = torch.cat([scores, sinks.view(2, group, 1).double()], -1)
            exact = (scores.softmax(-1)[..., : k.shape[1]] @ v).view(heads, size)
            assert float((out[t] - exact).abs().max()) < 2e-3, (t, window)


def test_what_is_written_is_within_half_a_step(kernels: Kernels) -> None:
    x = torch.randn(6, 3, kernels.page, 80) * torch.logspace(-20, 3, 6)[:, None, None, None]
    x[0, 0, 3], x[1, 0, 4] = 0.0, 7.5
    for values in (False, True):
        again = unpacked(pages_of(kernels, x, values=values), 80, values=values)
        block = 80 if values else 32
        for part, back in zip(x.split(block, -1), again.split(block, -1), strict=True):
            low, high = part.amin(-1, keepdim=True), part.amax(-1, keepdim=True)
            step = (high - low + low.abs() / 128) / 255  # the least number is rounded to bfloat16
            assert bool(((part - back).abs() <= 0.51 * step * (1 + 2**-7) + 1e-30).all())


def test_what_is_not_a_number_stays_with_its_row(kernels: Kernels) -> None:
    """Two rows, of which one has NaN or infinity in its past; and what stands behind a row's end is not looked at."""
    for broken in (float("nan"), float("inf")):
        for values in (False, True):
            x = torch.randn(2, 1, kernels.page, 64)
            x[0, 0, 5, 9] = broken
            x[1, 0, 12:] = float("nan")
            parts = [pages_of(kernels, x if which == values else x.nan_to_num(0, 0), values=which) for which in (0, 1)]
            rows = Rows.of([(0, 11, 1, -1), (1, 11, 1, -1)], 16, 40)
            q, first = torch.randn(2, 3, 64), torch.zeros(2, dtype=torch.int64)
            out = torch.empty_like(q)
            kernels.attend(q, 0.1, Columns(*parts, torch.tensor([[0], [1]]), []), rows, first, out)
            assert out[0].isnan().all() and not out[1].isnan().any()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_any_processor_gives_the_same(kernels: Kernels, tmp_path: Path) -> None:
    """The same sources without this processor's instructions: the same bytes, and sums of them."""
    library = tmp_path / "plain.so"
    sources = [str(recipe.HERE / name) for name in ("attention.c", "kv_int8.c", "kernels.c")]
    command = ["cc", "-O1", "-std=gnu11", "-fPIC", "-fopenmp", "-DWITHOUT_CASES", "-shared", *sources, "-lm"]
    subprocess.run([*command, "-o", str(library)], check=True, capture_output=True)
    plain = Kernels.__new__(Kernels)
    plain.__dict__.update(vars(kernels), _functions={})
    for name in ("attend", "write_pages"):
        function = plain._functions[name] = getattr(ctypes.CDLL(str(library)), name)
        function.argtypes, function.restype = [LETTERS[x] for x in native._FUNCTIONS[name]], ctypes.c_int
    for size in (64, 20):
        x = torch.randn(3, 2, kernels.page, size)
        for values in (False, True):
            torch.manual_seed(0)
            ours = pages_of(kernels, x, values=values)
            torch.manual_seed(0)
            theirs = pages_of(plain, x, values=values)
            back, again = (unpacked(pages, size, values=values) for pages in (ours, theirs))
            assert torch.allclose(back, again, rtol=0, atol=0.05) and float((back == again).float().mean()) > 0.999
        q, cache, rows = drawn(kernels, 3, size, queries=32)  # of a block: the most without AVX-512
        found = [torch.empty_like(q), torch.empty_like(q)]
        for each, out in zip((kernels, plain), found, strict=True):
            each.attend(q, 0.1, cache, rows, torch.zeros(len(q), dtype=torch.int64), out)
        assert float((found[0] - found[1]).abs().max()) < 2e-4


def logits_of(runner: Any, prompts: list[list[int]], joined: list[int]) -> list[Any]:
    """Logits of a few steps, the same tokens said in all: rows join, one leaves, another takes its place."""
    rows, late = (
        [Sequence(i, prompt, SamplingOptions(), 40, Detokenizer(None, []), logprobs=[]) for i, prompt in each]
        for each in (enumerate(prompts), [("late", joined)])
    )
    for row in (*rows, *late):
        runner.register(row)
    found, said = [], 3
    newcomers = rows
    for step in range(14):
        done, logits = runner.advance(newcomers)
        newcomers = []
        for i, row in enumerate(done):
            found.append((row.id, len(row.tokens), logits[i].clone()))
            row.tokens.append(said := (said * 7 + 5) % 90)
        if step == 8:
            runner.release([rows[1]])
            newcomers = late
    runner.release(list(runner.rows))
    return found


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("kind", ["qwen3", "mistral", "gpt2", "bloom"])
def test_a_step_is_that_of_torch_over_rounded_keys_and_values(
    kernels: Kernels, models: Any, monkeypatch: pytest.MonkeyPatch, kind: str, share: bool
) -> None:
    """All layers in one call (Qwen3, Mistral with its window) and layer by layer (GPT-2, BLOOM with its slopes)."""

    def put(self: Any, held: Any, new: Any, *, values: bool = False) -> None:
        tile = torch.zeros(len(new), new.shape[1], kernels.page, kernels.cell(INT8, new.shape[2]), dtype=torch.uint8)
        tokens = torch.arange(len(new))
        kernels.write_pages(new.contiguous(), tokens, torch.zeros_like(tokens), tile, values=values)
        slot, column = self.writes
        held[slot, :, column] = unpacked(tile, new.shape[2], values=values)[:, :, 0]

    path, common = models(kind), [5 + i % 70 for i in range(50)]
    prompts = [[*common, 9, 8, 7], [*common, 30, 31], list(range(3, 90)), [4]]
    found = []
    for make, rounded in ((NativePackedRunner, False), (PlainPackedRunner, True), (PlainPackedRunner, False)):
        with torch.inference_mode(), monkeypatch.context() as patch:
            if rounded:
                patch.setattr(SlotCache, "put", put)
            options = {"cache_dtype": INT8} if make is NativePackedRunner else {}
            made = make(load(path, "fp32").model, 6, share=share, **options)
            made.step_tokens, made._may_guess = 40, lambda: False
            found.append(logits_of(made, prompts, [*common, 60]))
    ours, theirs, exact = found
    assert [x[:2] for x in ours] == [x[:2] for x in theirs] and len(ours) > 30
    largest = max(float(x[2].abs().max()) for x in exact)
    apart, lost = (
        sorted(float((a[2] - b[2]).abs().max()) / largest for a, b in zip(ours, others, strict=True))
        for others in (theirs, exact)
    )
    # A number in the middle between two steps may go to either, as sums before it are in another order.
    assert apart[-1] < 6e-3 and apart[len(apart) // 2] < lost[len(lost) // 2] / 4, (apart, lost)


def test_guesses_that_are_taken_back_leave_nothing(
    kernels: Kernels, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    for most in (lookup.MOST_ROWS, 0):
        monkeypatch.setattr(lookup, "MOST_ROWS", most)
        core = TorchCore(load(models("qwen3"), "fp32"), SamplingOptions(max_tokens=60), 3, kv_cache="int8")
        for i, text in enumerate(("a b a b a b a b", "the list and say the list and say", "日本語 日本語")):
            core.submit(BatchItem(i, Request(text)))
        answers = {}
        while core.busy:
            answers |= {response.id: response.data for response in core.step()}
        said.append([answers[i] for i in range(3)])
    assert said[0] == said[1]


def test_it_is_told_counted_and_measured(kernels: Kernels, models: Any) -> None:
    loaded = load(models("qwen3-wide"), "fp32")
    usual, narrow = (TorchCore(loaded, None, 4, 2**20, kv_cache=kv) for kv in ("auto", "int8"))
    assert usual.about.get("kv_cache") is None and narrow.about["kv_cache"] == "int8"
    (note,) = (note for note in narrow.about["notes"] if note.startswith("kv_cache int8: "))
    assert "KL 0.00" in note and "of tokens the same after" in note
    assert usual._runner.bytes_per_token == 3 * 2 * 2 * 32 * 4  # layers, keys and values, heads, size, bytes
    assert narrow._runner.bytes_per_token == 3 * 2 * 2 * (32 + 4)
    assert narrow._scheduler.cache_tokens == 2**20 // (12 * 36)
    with pytest.raises(FatalError, match="kv_cache: 'fp8' is none of auto, int8"):
        open_core({"path": models("qwen3"), "kv_cache": "fp8"}, SamplingOptions(), None)


def test_where_it_cannot_be_the_line_says_so(kernels: Kernels, models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    core = TorchCore(load(models("mamba"), "fp32"), None, 2, kv_cache="int8")
    assert "kv_cache" not in core.about
    assert "kv_cache int8 is not used: it keeps states, and neither keys nor values" in core.about["notes"]
    with pytest.raises(ValueError, match="of one size each"):  # latents, which are keys and values at once
        PageCache(INT8, 2, kernels).cells((40, 0))
    real = NativePackedRunner._forward

    def wrong(self: Any, *arguments: Any) -> Any:
        logits = real(self, *arguments)
        return logits.flip(-1) if self._pages.dtype is INT8 else logits

    monkeypatch.setattr(NativePackedRunner, "_forward", wrong)
    core = TorchCore(load(models("qwen3"), "fp32"), None, 2, kv_cache="int8")
    assert core.about["runner"] == "packed, native kernels" and "kv_cache" not in core.about
    assert any("kv_cache int8 is not used: logits differ by" in note for note in core.about["notes"])
    monkeypatch.setattr(runner, "kernels", lambda: None)
    monkeypatch.setattr(runner, "why_not", lambda: "there is no C compiler")
    core = TorchCore(load(models("qwen3"), "fp32"), None, 2, kv_cache="int8")
    said = "kv_cache int8 is not used: it needs the native kernels, there is no C compiler"
    assert core.about["runner"] == "packed" and said in core.about["notes"]


def test_the_kinds_of_caches_are_in_the_order_of_the_sources() -> None:
    text = (recipe.HERE / "kv_int8.h").read_text()
    assert "enum { FLOATS, HALVES, BYTES }" in text
    assert (torch.float32, torch.bfloat16, INT8) == CACHE_DTYPES
