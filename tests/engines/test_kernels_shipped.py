"""The libraries of a wheel: the best that the processor has, checked once, and what is done where none is right."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from ai_router.models.line import words_of
from batch.engines.local import notices, processor
from batch.engines.torch import building, native, recipe
from batch.engines.torch.loader import load

pytestmark = pytest.mark.model
X86 = recipe.LEVELS["linux-x86"]
FEATURES = sorted(frozenset().union(*(level.needs for level in X86)))


@given(st.frozensets(st.sampled_from(FEATURES)))
def test_the_best_level_that_the_processor_has(features: frozenset[str]) -> None:
    able = [level for level in X86 if level.needs <= features]
    found = recipe.best(features, X86)
    assert found == (able[0] if able else None)
    assert found is None or all(level.needs <= found.needs for level in able)


def test_systems_with_libraries() -> None:
    assert [level.name for level in recipe.levels("Darwin", "arm64")] == ["apple-m1"]
    assert recipe.levels("Linux", "x86_64") == recipe.levels("Linux", "AMD64") == X86
    assert recipe.levels("Linux", "aarch64") == recipe.levels("Windows", "AMD64") == ()


@pytest.mark.parametrize("level", [level for level in recipe.levels() if level in X86], ids=lambda level: level.name)
def test_vectors_of_attention_are_no_wider_than_registers(level: recipe.Level, tmp_path: Path) -> None:
    """Otherwise a compiler keeps them in memory, which takes more than twenty times as long."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    source = tmp_path / "width.c"
    source.write_text('#include "block.h"\n_Static_assert(sizeof(Vector) <= __BIGGEST_ALIGNMENT__, "wider");\n')
    command = [compiler, "-fsyntax-only", *recipe.flags(level.flags), f"-I{recipe.HERE}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:1000]


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a wheel would have its library for this processor, which is there, on a machine without a compiler."""
    if native.kernels() is None:
        pytest.skip(f"no native kernels: {native.why_not()}")
    made = building.library().path
    level = recipe.best(processor.features(), recipe.levels())
    if made is None or level is None:
        pytest.skip("no wheel has a library for this processor")
    folder = tmp_path / "shipped"
    folder.mkdir()
    shutil.copy(made, folder / recipe.library_name(level))
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(recipe, "SHIPPED", str(folder))
    monkeypatch.setattr(building, "_folder", lambda: cache)
    monkeypatch.setenv("PATH", str(cache))
    monkeypatch.delenv("CC", raising=False)
    native.forget()
    yield folder / recipe.library_name(level)
    native.forget()


def test_it_is_used_without_a_compiler_and_checked_once(
    wheel: Path, monkeypatch: pytest.MonkeyPatch, models: Any
) -> None:
    checked: list[Path] = []
    heard: list[str] = []
    monkeypatch.setattr(building, "check", checked.append)
    end = notices.listen(heard.append)
    try:
        for _ in range(2):
            native.forget()
            assert native.kernels() is not None and native.origin().startswith("shipped for ")
        assert checked == [wheel] and heard == ["checking the kernels on this processor, once…"]
    finally:
        end()
    about = load(models("qwen3"), "fp32").about
    assert about["kernels"] == "native" and about["kernels_from"] == native.origin()
    assert words_of({**about, "runner": "packed", "notes": ["x"]}) == [f"packed ({native.origin()})", "x"]


def test_one_that_computes_wrongly_is_not_used_and_not_tried_again(
    wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Path] = []

    def wrong(library: Path) -> None:
        tries.append(library)
        raise building.BuildError("they do not compute what torch computes on this machine")

    monkeypatch.setattr(building, "check", wrong)
    for _ in range(2):
        native.forget()
        assert native.kernels() is None and native.origin() == ""
        assert native.why_not() == (
            "the shipped kernels: they do not compute what torch computes on this machine; there is no C compiler"
        )
    assert tries == [wheel]


def test_a_wheel_without_one_for_this_processor_compiles(wheel: Path) -> None:
    wheel.unlink()
    assert native.kernels() is None and native.why_not() == "there is no C compiler"
