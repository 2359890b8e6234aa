"""Which of two engines runs a GGUF file, why, and what `models test` has shown of it: all on the model's line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_router.models import ModelSpec, describe
from ai_router.trial import Trial, _remember
from batch.engines import registry
from batch.engines.gguf import measured, row
from batch.engines.torch import row as torch_row
from tests.engines.test_gguf_header import written
from tests.test_models_found import home

pytest.importorskip("gguf")
__all__ = ["home"]  # a fixture: measurements go where nothing is


@pytest.fixture
def file(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that both engines run."""
    for where in (row, registry):
        monkeypatch.setattr(where, "_installed", lambda module: True)
    for where in (row, torch_row):
        monkeypatch.setattr(where, "unknown", lambda header: "")
    return written(home / "m.gguf")


def line(file: Path, engine: str | None = None) -> tuple[str, str]:
    spec = describe(file, engine=engine, source="found")
    return spec.engine, spec.notes


def asked(file: Path, engine: str, rate: float, precision: str = "", failed: bool = False) -> None:
    spec = ModelSpec("m", "m", engine, file, "found")
    trial = Trial(seconds=2.0, tokens=int(rate * 2), about={"precision": precision})
    if failed:
        trial.failures.append("no memory")
    _remember(spec, trial)


def test_the_line_says_what_was_measured_and_the_faster_one_is_taken(file: Path) -> None:
    assert line(file) == ("torch", "torch: fits in memory as int8 or fp32")
    asked(file, "torch", 900, "int8")
    asked(file, "gguf", 5000, failed=True)
    assert line(file) == ("torch", "torch int8: fits in memory (900 tokens/s here)")
    asked(file, "gguf", 300)
    faster = "torch int8: fits in memory, and is faster here than llama.cpp (900 and 300 tokens/s)"
    assert line(file) == ("torch", faster)
    measured.keep(file, "gguf", 9000, together=4)  # of which nothing follows beside rates with others at once
    assert line(file) == ("torch", "torch int8: fits in memory (900 tokens/s here)")
    asked(file, "gguf", 1000)
    assert line(file)[1].endswith("about as quick here as llama.cpp (900 and 1,000 tokens/s)")
    asked(file, "gguf", 2000)
    assert line(file)[0] == "gguf"
    assert "F32 kept, and is faster here than torch (2,000 and 900 tokens/s)" in line(file)[1]
    assert line(file, "torch")[1].endswith("slower here than llama.cpp (900 and 2,000 tokens/s)")
    written(file, tokens=9)  # another model by that name
    assert line(file) == ("torch", "torch: fits in memory as int8 or fp32")


def test_the_line_says_why_torch_does_not_run_a_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row, "available", lambda: 1000)
    engine, said = line(file)
    assert engine == "gguf" and "kept; torch would take 0 MB as int8, more than half of the 0 MB" in said
    monkeypatch.setattr(row, "unknown", lambda header: "runs no warp out of a GGUF file")
    assert line(file)[1].endswith("kept; torch runs no warp out of a GGUF file")


def test_what_is_told_otherwise_or_cannot_be_kept_is_not_remembered(file: Path, home: Path) -> None:
    other = ModelSpec("m", "m", "torch", file, "found", engine_options={"precision": "fp32"})
    _remember(other, Trial(seconds=1.0, tokens=10))
    assert measured.find(file) == {}
    measured.keep(home / "gone.gguf", "torch", 5.0)
    assert measured.find(home / "gone.gguf") == {}
    measured.keep(file, "torch", 5.0, "int8")
    kept = next((home / ".cache" / "ai-router" / "trials").glob("measured-*.json"), None)
    if kept is not None:  # elsewhere on other systems
        kept.write_text('{"torch": {"rate": "much"}, "gguf": 7}')
        assert measured.find(file) == {}
