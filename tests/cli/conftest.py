"""The program under test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from program import HERE, Program


@pytest.fixture
def program(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    made = Program(tmp_path, capsys)
    for name in ("PYTHONPATH", "AI_ROUTER_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, made.env[name])
    monkeypatch.setattr("ai_router.jobs.make_engine", made.make_engine)
    monkeypatch.setattr("ai_router.cli.ask.make_engine", made.make_engine)
    monkeypatch.setattr("ai_router.cli.compare.make_engine", made.make_engine)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.communicate()
