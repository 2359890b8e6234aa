"""The native kernels: compiled into a private folder, checked, and done without where that fails."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torch.set_num_threads(1)

from batch.engines.torch import native  # noqa: E402
from batch.engines.torch.loader import load  # noqa: E402
from batch.engines.torch.native import Rows  # noqa: E402


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and nothing known of compilers."""
    if native.kernels() is None:
        pytest.skip("no native kernels here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "_folder", lambda: tmp_path)
    native.kernels.cache_clear()
    yield tmp_path
    native.kernels.cache_clear()


def test_it_is_compiled_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.kernels() is not None
    (library,) = fresh.iterdir()
    made = library.stat().st_mtime_ns
    native.kernels.cache_clear()
    assert native.kernels() is not None
    assert [path.stat().st_mtime_ns for path in fresh.iterdir()] == [made]


def test_off_is_off(fresh: Path, monkeypatch: pytest.MonkeyPatch, models: Any) -> None:
    monkeypatch.setenv(native.SWITCH, "0")
    assert native.kernels() is None and not list(fresh.iterdir())
    assert load(models("qwen3"), "fp32").about["kernels"] == "torch"


def test_no_compiler_no_kernels(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fresh))
    assert native.kernels() is None
    broken = fresh / "cc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    native.kernels.cache_clear()
    assert native.kernels() is None


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("kernels.h", "rintf(x * 1.4426", "rintf(x * 1.5426"),
        ("gemm.c", "value = _mm512_add_ps(value", "value = _mm512_sub_ps(value"),
    ],
)
def test_what_computes_wrongly_is_not_used(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, right: str, wrong: str
) -> None:
    usual = native.kernels()
    if usual is not None and not usual.panel and name == "gemm.c":
        pytest.skip("no AVX-512 VNNI here")
    request.getfixturevalue("fresh")
    for source in (*native.HEADERS, *native.SOURCES):
        shutil.copy(native.HERE / source, tmp_path)
    text = (tmp_path / name).read_text()
    assert text.count(right) == 1
    (tmp_path / name).write_text(text.replace(right, wrong))
    monkeypatch.setattr(native, "HERE", tmp_path)
    assert native.kernels() is None


def test_a_folder_open_to_others_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    folder = native._folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(PermissionError):
        native._folder()


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
    rows = Rows.of(runs, group=4, longest=30)
    assert len(rows.rows) == 33
    assert rows.begins.tolist() == [0, 1, 3, 11, 19, 23, 31] and rows.ends.tolist() == [1, 3, 11, 19, 23, 31, 33]
    assert rows.lengths.tolist() == [10, 4, 4, *range(6, 26), 1, *[2] * 9]
    assert rows.which.tolist() == [-1, 0, 0, *[0] * 20, -1, *[-1] * 9]
