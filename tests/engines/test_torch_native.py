"""The native kernels: compiled into a private folder, checked, and done without where that fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torch.set_num_threads(1)

from batch.engines.local import notices  # noqa: E402
from batch.engines.torch import building, native, recipe  # noqa: E402
from batch.engines.torch.loader import load  # noqa: E402
from batch.engines.torch.native import Rows  # noqa: E402


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, nothing known of compilers, and sources that are compiled quickly."""
    if native.kernels() is None:
        pytest.skip("no native kernels here")
    monkeypatch.setattr(building, "_folder", lambda: tmp_path)
    quick_build(monkeypatch)
    native.forget()
    yield tmp_path
    native.forget()


def quick_build(monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    """Without the cases that take the compiler most of its time."""
    monkeypatch.setattr(recipe, "FLAGS", (*recipe.FLAGS, "-O0", "-DWITHOUT_CASES", *more))
    monkeypatch.setattr(recipe, "PARTS", recipe.PARTS[len(recipe.CASES) :])
    monkeypatch.setattr(building, "WAIT_SECONDS", 100)


def test_it_is_compiled_once_and_says_so(fresh: Path) -> None:
    heard: list[str] = []
    end = notices.listen(heard.append)
    try:
        assert native.kernels() is not None and native.why_not() == ""
        (library,) = fresh.iterdir()
        made = library.stat().st_mtime_ns
        assert heard == ["preparing kernels for this processor, once…"]
        native.forget()
        assert native.kernels() is not None
        assert [path.stat().st_mtime_ns for path in fresh.iterdir()] == [made]
        assert len(heard) == 1
    finally:
        end()


def test_off_is_off(fresh: Path, monkeypatch: pytest.MonkeyPatch, models: Any) -> None:
    monkeypatch.setenv(building.KERNELS, "0")
    assert native.kernels() is None and not list(fresh.iterdir())
    assert load(models("qwen3"), "fp32").about["kernels"] == "torch"
    assert "switched off" in native.why_not()


def test_no_compiler_no_kernels(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fresh))
    assert native.kernels() is None and native.why_not() == "there is no C compiler"


def test_what_failed_is_not_tried_again_until_something_changes(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools, tries = fresh / "tools", fresh / "tries"
    tools.mkdir()
    broken = tools / "cc"
    script = (
        f"#!/bin/sh\nif [ $1 = --version ]; then echo 1; exit; fi\necho x >> {tries}\necho no such luck >&2\nexit 1\n"
    )
    broken.write_text(script)
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.delenv("CC", raising=False)
    for _ in range(2):
        native.forget()
        assert native.kernels() is None and "no such luck" in native.why_not()
    once = len(tries.read_text())
    assert 0 < once <= 2 * len(recipe.PARTS)
    broken.write_text(script.replace("echo 1;", "echo 2;"))  # another compiler
    native.forget()
    assert native.kernels() is None and len(tries.read_text()) > once


@pytest.mark.parametrize(
    "link",
    [
        "echo 'collect2: fatal error: ld terminated with signal 9 [Killed]' >&2; exit 1",
        "kill -9 $$",
        "echo '/tmp/x: No space left on device' >&2; exit 1",
    ],
)
def test_a_link_that_was_ended_by_others_is_tried_again(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    """Neither the sources nor the compiler are at fault, so nothing is noted against them."""
    tools = fresh / "tools"
    tools.mkdir()
    script = (
        f'case "$*" in *--version*) echo 1; exit;; *-shared*) {link};; esac\n'
        "while [ $1 != -o ]; do shift; done; : > $2\n"
    )
    (tools / "cc").write_text(f"#!/bin/sh\n{script}")
    (tools / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.delenv("CC", raising=False)
    assert native.kernels() is None and not list(fresh.rglob("*.failed"))
    assert len(list(fresh.rglob("*.o"))) == len(recipe.PARTS) and not list(fresh.rglob("tmp-*"))
    native.forget()
    (tools / "cc").write_text("#!/bin/sh\ncase $1 in --version) echo 1; exit;; esac\necho no such luck >&2; exit 1\n")
    assert native.kernels() is None and "no such luck" in native.why_not()
    assert len(list(fresh.rglob("*.failed"))) == 1


def test_a_slow_compiler_is_not_waited_for(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(building, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(building, "build", lambda *args: go.wait(60) and None)
    assert native.kernels() is None and "the next start has them" in native.why_not()
    go.set()


@pytest.mark.parametrize(
    ("code", "says"), [("raise(11)", "die on this machine"), ("for (;;) {}", "do not come to an end")]
)
def test_what_dies_or_hangs_takes_nobody_along(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, says: str
) -> None:
    library, source = tmp_path / "bad.so", tmp_path / "bad.c"
    source.write_text(f"#include <signal.h>\n__attribute__((constructor)) void begin(void) {{ {code}; }}\n")
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    monkeypatch.setattr(building, "CHECK_SECONDS", 30 if "raise" in code else 0.5)
    with pytest.raises(building.BuildError, match=says):
        building.check(library)


def test_a_check_that_cannot_be_run_says_nothing_against_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = subprocess.run  # a Python that finds torch only where PYTHONPATH says
    bare = [sys.executable, "-S"]
    monkeypatch.setattr(building.subprocess, "run", lambda command, **how: run([*bare, *command[1:]], **how))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(OSError, match=r"their check cannot be run: ModuleNotFoundError: No module named"):
        building.check(tmp_path / "none.so")
    monkeypatch.setenv("PYTHONPATH", str(Path(torch.__file__).parents[1]))
    with pytest.raises(building.BuildError, match="do not compute what torch computes"):
        building.check(tmp_path / "none.so")


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("kernels.h", "rintf(x * 1.4426", "rintf(x * 1.5426"),
        pytest.param(
            *("gemm.c", "if (p->residual) value = _mm512_add_ps(value", "if (p->residual) value = _mm512_sub_ps(value"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_computes_wrongly_is_not_used(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, right: str, wrong: str
) -> None:
    usual = native.kernels()
    if usual is not None and not usual.panel and name == "gemm.c":
        pytest.skip("no AVX-512 VNNI here")
    request.getfixturevalue("fresh")
    sources = tmp_path / "batch" / "engines" / "torch"
    shutil.copytree(recipe.HERE.parents[1], tmp_path / "batch", ignore=shutil.ignore_patterns("__pycache__"))
    text = (sources / name).read_text()
    assert text.count(right) == 1
    (sources / name).write_text(text.replace(right, wrong))
    monkeypatch.setattr(recipe, "HERE", sources)
    assert native.kernels() is None and "do not compute what torch computes" in native.why_not()


def test_what_does_not_fit_is_refused() -> None:
    """Extents that lie, through every entry: nothing is touched, and the caller hears of it."""
    kernels = native.kernels()
    if kernels is None:
        pytest.skip("no native kernels here")
    x, cache = torch.randn(4, 64), torch.zeros(3, 1, kernels.page, 64)
    with pytest.raises(ValueError, match="does not do these shapes"):
        kernels.rms_norm(x, torch.ones(63), 1e-6)
    with pytest.raises(ValueError, match="does not do these shapes"):
        kernels.rescale(x, torch.ones(4), torch.ones(65))
    with pytest.raises(ValueError, match="strides"):
        kernels.largest(x.t())
    turn, table = torch.ones(4, 64), torch.tensor([[0, 1], [2, 0]])
    places = torch.tensor([0, 1, 2, 0])
    qkv = torch.randn(4, 4 * 64)
    assert kernels.set_cache(qkv, None, (turn, turn), places, places, cache, cache.clone()).shape == (4, 2, 64)
    for slots, columns in [(places + 1, places), (places - 1, places), (places, places + kernels.page)]:
        with pytest.raises(ValueError, match="does not do these shapes"):
            kernels.set_cache(qkv, None, (turn, turn), slots, columns, cache, cache.clone())
    for slots, columns in [
        (places + 1, places),
        (places - 1, places),
        (places, places + kernels.page),
        (places[1:],) * 2,
    ]:
        with pytest.raises(ValueError, match="does not do these shapes"):
            kernels.write_pages(x.view(4, 1, 64), slots, columns, cache)
        with pytest.raises(ValueError, match="does not do these shapes"):
            kernels.set_cache(qkv, None, (turn, turn), slots, columns, cache, cache.clone())
    with pytest.raises(ValueError, match="do not write"):
        kernels.write_pages(x.t().contiguous().t().view(4, 1, 64), places, places, cache)
    with pytest.raises(ValueError, match="do not write"):
        kernels.write_pages(x.view(4, 1, 64).double(), places, places, cache)
    rows = Rows.of([(0, 3, 1, -1), (1, 5, 1, -1)], 16, 64)
    held = native.Columns(cache, cache, table, [])
    q = torch.randn(2, 2, 64)
    first = torch.zeros(2, dtype=torch.int64)
    kernels.attend(q, 0.1, held, rows, first, torch.empty_like(q))
    wide = torch.randn(2, kernels.lanes + 1, 64)  # query heads over one of keys: more than there are lanes
    for bad in (
        (wide, held, rows, first),
        (q, held, Rows.of([(0, 3, 1, -1), (2, 5, 1, -1)], 16, 64), first),  # a row that the table lacks
        (q, held, Rows.of([(0, 3, 1, -1), (1, 70, 1, -1)], 16, 90), first),  # columns beyond its pages
        (q, held, Rows.of([(0, 3, 1, 0), (1, 5, 1, 0)], 16, 64), first),  # a prefix that is not there
        (q, held, Rows.of([(0, 3, 1, -1), (1, 5, 1, -1)], 16, 4), first),  # more keys than `longest`
        (q, native.Columns(cache, cache, table + 9, []), rows, first),  # pages that the cache lacks
        (q, held, rows, first + 7),
        (q, held, rows, first - 1),
    ):
        with pytest.raises(ValueError, match="does not do these shapes"):
            kernels.attend(bad[0], 0.1, bad[1], bad[2], bad[3], torch.empty_like(bad[0]))


def test_a_folder_open_to_others_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    folder = building._folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(PermissionError):
        building._folder()


def test_broken_numbers_stay_visible() -> None:
    kernels = native.kernels()
    if kernels is None:
        pytest.skip("no native kernels here")
    x = torch.randn(3, 64)
    x[1, 7] = float("nan")
    _, scales = kernels.quantise(x)
    assert scales.isnan().tolist() == [False, True, False]
    assert kernels.rms_norm(x, torch.ones(64), 1e-6)[1].isnan().all()
    assert kernels.swiglu(x)[1].isnan().any() and not kernels.swiglu(x)[[0, 2]].isnan().any()


def test_the_largest_of_each_row() -> None:
    kernels = native.kernels()
    if kernels is None:
        pytest.skip("no native kernels here")
    x = torch.randn(9, 3000)
    x[1, 2500] = float("nan")
    x[2, 2999] = float("inf")
    x[3] = float("-inf")
    x[4] = 1.0  # the first of equals
    x[5, :2000] = float("-inf")
    x[6, [1500, 2600]] = 90.0
    expected = x.argmax(-1)
    expected[[1, 2, 3]] = -1
    assert kernels.largest(x).tolist() == expected.tolist() and expected[[4, 6]].tolist() == [0, 1500]
    assert kernels.largest(torch.full((1, 1), -3.0)).tolist() == [0]


def test_runs_become_blocks() -> None:
    runs = [
        (4, 9, 1, -1),
        (0, 3, 1, 0),
        (5, 3, 1, 0),
        (2, 5, 20, 0),
        (1, 0, 1, -1),
        *((6 + i, 1, 1, -1) for i in range(9)),
    ]
    rows = Rows.of(runs, block=8, longest=30)
    assert len(rows.rows) == 33
    assert rows.begins.tolist() == [0, 1, 3, 11, 19, 23, 31] and rows.ends.tolist() == [1, 3, 11, 19, 23, 31, 33]
    assert rows.lengths.tolist() == [10, 4, 4, *range(6, 26), 1, *[2] * 9]
    assert rows.which.tolist() == [-1, 0, 0, *[0] * 20, -1, *[-1] * 9]


@pytest.mark.parametrize("prefix", [1, 27, 32, 95, 200])
def test_a_run_behind_a_prefix_that_ends_within_a_tile(prefix: int) -> None:
    """Its columns and the run's own are no whole number of tiles together."""
    kernels = native.kernels()
    if kernels is None:
        pytest.skip("no native kernels here")
    torch.manual_seed(prefix)
    before, tokens, heads, size = 150, 20, 3, 64
    pages = -(-(before + tokens) // kernels.page)
    own = [torch.randn(pages, 1, kernels.page, size).bfloat16() for _ in range(2)]
    shared = [torch.randn(1, 1, prefix, size).bfloat16() for _ in range(2)]
    q = torch.randn(tokens, heads, size).bfloat16().float()
    columns = native.Columns(*own, torch.arange(pages).view(1, -1), [(shared[0], shared[1])], [prefix])
    rows = Rows.of([(0, before, tokens, 0)], kernels.lanes // heads, prefix + before + tokens)
    out = torch.empty_like(q)
    kernels.attend(q, 0.2, columns, rows, torch.zeros(tokens, dtype=torch.int64), out)
    keys, values = (torch.cat((a[0, 0], b[:, 0].flatten(0, 1))).double() for a, b in zip(shared, own, strict=True))
    scores = torch.einsum("ths,cs->thc", q.double(), keys) * 0.2
    hidden = torch.arange(len(keys)).view(1, 1, -1) > prefix + before + torch.arange(tokens).view(-1, 1, 1)
    exact = scores.masked_fill_(hidden, -float("inf")).softmax(-1) @ values
    assert float((out - exact).abs().max()) < 0.02


@pytest.mark.parametrize(("group", "size"), [(1, 32), (3, 64), (5, 96), (2, 128), (9, 160), (16, 256), (24, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_in_any_blocks(group: int, size: int, dtype: torch.dtype) -> None:
    """Each query has the exact answer nearly, and the same one to the last bit whatever others are in its block."""
    kernels = native.kernels()
    if kernels is None:
        pytest.skip("no native kernels here")
    torch.manual_seed(size)
    before, tokens, heads, prefix = 75, 24, 2 * group, 41
    count = before + tokens
    pages = -(-count // kernels.page)
    own = [torch.randn(pages, 2, kernels.page, size).to(dtype) for _ in range(2)]
    for part in own:
        part[-1, :, count % kernels.page :] = float("nan")  # what nobody has written
    far = [torch.randn(1, 2, prefix, size).to(dtype) for _ in range(2)]
    columns = native.Columns(*own, torch.arange(pages).view(1, -1), [(far[0], far[1])], [prefix])
    q = torch.randn(tokens, heads, size).to(dtype).float()
    last = prefix + before + torch.arange(1, tokens + 1)
    keys, values = (
        torch.cat((a[0], b.transpose(0, 1).flatten(1, 2)), 1)[:, : prefix + count].double()
        for a, b in zip(far, own, strict=True)
    )
    place = torch.arange(prefix + count)
    for window, cap, sinks, slopes in (
        (500, None, None, None),
        (50, None, torch.randn(heads), None),
        (100, 3.0, None, None),
        (7, None, None, torch.rand(heads) / 4),
    ):
        first, outs = (last - window).clamp(min=0), []
        most = min(kernels.lanes // group, tokens)
        for block in (most, max(most // 2, 2), 2):
            rows = Rows.of([(0, before, tokens, 0)], min(block, most), prefix + count)
            outs.append(torch.empty_like(q))
            kernels.attend(q, 0.2, columns, rows, first, outs[-1], cap=cap, sinks=sinks, slopes=slopes)
            assert torch.equal(outs[-1], outs[0])
        scores = torch.einsum("tkgs,kcs->tkgc", q.double().view(tokens, 2, group, size), keys) * 0.2
        scores = scores if cap is None else cap * (scores / cap).tanh()
        if slopes is not None:
            away = (place - last.view(-1, 1) + 1).view(tokens, 1, 1, -1)
            scores = scores + slopes.double().view(2, group, 1) * away
        unseen = (place < first.view(-1, 1)) | (place >= last.view(-1, 1))
        scores = scores.masked_fill(unseen.view(tokens, 1, 1, -1), -float("inf"))
        if sinks is not None:
            nothing = sinks.double().view(1, 2, group, 1).expand(tokens, -1, -1, -1)
            scores = torch.cat((scores, nothing), -1)
        exact = torch.einsum("tkgc,kcs->tkgs", scores.softmax(-1)[..., : prefix + count], values)
        limit = 0.04 if dtype == torch.bfloat16 else 1e-4
        assert float((outs[0] - exact.reshape(tokens, heads, size)).abs().max()) < limit


@pytest.mark.parametrize(("group", "size"), [(1, 32), (3, 64), (7, 96), (2, 128), (10, 256)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_beside_each_other_share_a_prefix(group: int, size: int, dtype: torch.dtype) -> None:
    """A new token each, in blocks of many: nearly exact, and the same to the last bit in blocks of other sizes."""
    kernels = native.kernels()
    if kernels is None:
        pytest.skip("no native kernels here")
    torch.manual_seed(size)
    count, heads, prefix = 30, 2 * group, 141
    own = [torch.randn(count, 2, kernels.page, size).to(dtype) for _ in range(2)]
    far = [torch.randn(1, 2, prefix, size).to(dtype) for _ in range(2)]
    columns = native.Columns(*own, torch.arange(count).view(-1, 1), [(far[0], far[1])], [prefix])
    q = torch.randn(count, heads, size).to(dtype).float()
    lengths = torch.arange(count) % 9 + 1
    most = kernels.lanes // group
    for window, cap, sinks in ((500, None, None), (130, 4.0, torch.randn(heads))):
        first, outs = (prefix + lengths - window).clamp(min=0), []
        for block in (most, most // 2, most - 1):
            rows = Rows.of([(i, int(n) - 1, 1, 0) for i, n in enumerate(lengths)], block, prefix + 9)
            if block < 2 or (rows.ends - rows.begins).min() * group < 8:  # so few are attended to one by one
                continue
            outs.append(torch.empty_like(q))
            kernels.attend(q, 0.2, columns, rows, first, outs[-1], cap=cap, sinks=sinks)
            assert torch.equal(outs[-1], outs[0])
        for t in range(count) if outs else ():
            seen = slice(int(first[t]), prefix + int(lengths[t]))
            keys, values = (torch.cat((a[0], b[t]), 1)[:, seen].double() for a, b in zip(far, own, strict=True))
            scores = q[t].double().view(2, group, size) @ keys.transpose(1, 2) * 0.2
            scores = scores if cap is None else cap * (scores / cap).tanh()
            if sinks is not None:
                scores = torch.cat((scores, sinks.double().view(2, group, 1)), -1)
            exact = scores.softmax(-1)[..., : keys.shape[1]] @ values
            limit = 0.04 if dtype == torch.bfloat16 else 1e-4
            assert float((outs[0][t] - exact.reshape(heads, size)).abs().max()) < limit


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sinks", [False, True])
def test_a_run_whose_scores_grow(dtype: torch.dtype, sinks: bool) -> None:
    """What was added up of the columns before is put on the scale of the larger scores behind them."""
    kernels = native.kernels()
    if kernels is None:
        pytest.skip("no native kernels here")
    torch.manual_seed(0)
    before, tokens, heads, size = 290, 37, 3, 64
    pages = -(-(before + tokens) // kernels.page)
    keys, values = (torch.randn(pages, 1, kernels.page, size) for _ in range(2))
    keys *= torch.linspace(0.1, 9.0, pages).view(-1, 1, 1, 1)  # scores from about 1 to about 90
    keys, values = keys.to(dtype), values.to(dtype)
    table = torch.arange(pages).view(1, -1)
    q = torch.randn(tokens, heads, size).to(dtype).float()
    q[5, 1, 7] = float("nan")
    extra = torch.tensor([3.0, -float("inf"), 40.0]) if sinks else None
    rows = Rows.of([(0, before, tokens, -1)], kernels.lanes // heads, before + tokens)
    first, out = torch.zeros(tokens, dtype=torch.int64), torch.empty_like(q)
    kernels.attend(q, 1.0, native.Columns(keys, values, table, []), rows, first, out, sinks=extra)
    flat, held = keys[:, 0].flatten(0, 1).double(), values[:, 0].flatten(0, 1).double()
    scores = torch.einsum("ths,cs->thc", q.double(), flat)
    hidden = torch.arange(len(flat)).view(1, 1, -1) > before + torch.arange(tokens).view(-1, 1, 1)
    scores.masked_fill_(hidden, -float("inf"))
    if extra is not None:
        scores = torch.cat((scores, extra.double().view(1, -1, 1).expand(tokens, -1, 1)), -1)
    expected = scores.softmax(-1)[..., : len(flat)] @ held
    assert out[5, 1].isnan().all()
    out[5, 1] = expected[5, 1] = 0
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=2e-2 if dtype == torch.bfloat16 else 1e-4)


def test_scores_without_digits_are_no_numbers() -> None:
    kernels = native.kernels()
    if kernels is None:
        pytest.skip("no native kernels here")
    cache, table = torch.full((2, 1, kernels.page, 64), 1e4).bfloat16(), torch.tensor([[0, 1]])
    q, first = torch.full((40, 1, 64), 1e4), torch.zeros(40, dtype=torch.int64)
    q[:20] = 1.0
    rows = Rows.of([(0, 0, 40, -1)], kernels.lanes, 40)
    out = torch.empty_like(q)
    kernels.attend(q, 1.0, native.Columns(cache, cache, table, []), rows, first, out)
    assert out[:20].isfinite().all()
    assert out[20:].isnan().all() or torch.allclose(out[20:], cache[0, 0, 0].float(), rtol=1e-2)
