"""A workspace for the screens, away from the person who runs the tests; and screens kept as text."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from driving import shown
from settling import parsed_once, settled
from textual.app import App

from ai_router.settings import Settings, Workspace

KERNELS = platformdirs.user_cache_path("ai-router") / "kernels"
GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2025, 3, 1, 12, 0, 0)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes what is seen (give the folder: `pytest tests/tui --update-golden`)."""
    parser.addoption("--update-golden", action="store_true", help="write the golden screens of tests/tui anew")


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No home folder, model cache, colour wish or workspace of the person who runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("COLORFGBG", "15;0")
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    for name in ("NO_COLOR", "HF_HUB_CACHE", "AI_ROUTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    # A form in a test is not filled in for long enough to be worth a process of its own.
    monkeypatch.setattr("ai_router.preloading.Preloading._opened", lambda preloading, wanted: None)
    here = platformdirs.user_cache_path("ai-router") / "kernels"
    if os.name == "posix" and here != KERNELS:  # to compile them takes longer than the whole test
        KERNELS.mkdir(mode=0o700, parents=True, exist_ok=True)
        here.parent.mkdir(parents=True)
        here.symlink_to(KERNELS, target_is_directory=True)


@pytest.fixture(scope="session", autouse=True)
def _quick_programs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textual.pilot.wait_for_idle", settled)
        patch.setattr("textual.app.wait_for_idle", settled)
        patch.setattr("textual.css.stylesheet.Stylesheet._parse_rules", parsed_once)
        patch.setattr("ai_router.tui.app.get_ready", lambda app: None)  # all screens, for each program
        yield


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace."""
    root = tmp_path / "work"
    root.mkdir()
    return Workspace(root, Settings(theme="dark"))


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are a fixed time old."""
    monkeypatch.setattr("ai_router.tui.jobs.view.now", lambda: NOW)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[App[Any], str], None]:
    """`golden(app, name)` compares the screen with `golden/<name>-<width>x<height>.txt`."""

    def check(app: App[Any], name: str) -> None:
        path = GOLDEN / f"{name}-{app.size.width}x{app.size.height}.txt"
        seen = shown(app) + "\n"
        if request.config.getoption("--update-golden", default=False):
            path.parent.mkdir(exist_ok=True)
            path.write_text(seen, encoding="utf-8")
            return
        wanted = path.read_text(encoding="utf-8")
        if seen != wanted:
            difference = difflib.unified_diff(wanted.splitlines(), seen.splitlines(), "golden", "seen", lineterm="")
            pytest.fail("\n".join(difference) + "\n(--update-golden accepts what is seen)", pytrace=False)

    return check
