"""A workspace with jobs for the screens, and ways to look at what they show."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from textual.app import App

from ai_router.settings import Settings, Workspace
from batch.job import BatchJob, BatchResult
from batch.processor import BatchProcessor

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2025, 3, 1, 12, 0, 0)
SIZES = ((80, 24), (140, 40))

NASTY = "\x1b]52;c;aGk=\x07 [bold red]not bold[/] \x00 \u202eabc\u202c \x1b[31mred\x1b[0m"
JAPANESE = "日本語の文を直してください。私は学校を行きます。"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes what is seen."""
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


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace."""
    root = tmp_path / "work"
    root.mkdir()
    return Workspace(root, Settings(theme="dark"))


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are a fixed time old."""
    monkeypatch.setattr("ai_router.tui.jobview.now", lambda: NOW)


def make_job(
    folder: Path,
    prompts: Sequence[str],
    answers: dict[int, str | None] | None = None,
    *,
    job_id: str = "",
    model: str = "demo",
    source: str = "prompts.txt",
    status: str = "running",
    at: str = "2025-03-01T10:00:00",
) -> Path:
    """A job on disk; an answer of None is a failure, a missing one is pending."""
    import sqlite3

    processor = BatchProcessor(folder)
    job: BatchJob = processor.create_job(model, list(prompts), config={"source": source})
    assert job.checkpoint_file is not None
    results = [
        BatchResult(
            index,
            prompts[index],
            text or "",
            tokens_input=len(prompts[index]) // 4,
            tokens_output=len(text or "") // 4,
            duration=0.25 + index % 8 * 0.125,
            success=text is not None,
            error_message=None if text is not None else "the server closed the connection",
            error_class=None if text is not None else "transient",
        )
        for index, text in (answers or {}).items()
    ]
    job.status = status
    processor.save_checkpoint(job, results)
    path = job.checkpoint_file
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE job SET status = ?, created_at = ?, updated_at = ?, started_at = ?, elapsed = 42.5",
            (status, at, at, at),
        )
        if job_id:
            connection.execute("UPDATE job SET job_id = ?", (job_id,))
    connection.close()
    if job_id:
        path = path.rename(folder / f"batch_{job_id}.db")
    return path


async def wait_until(condition: Callable[[], object], pilot: Any, seconds: float = 8.0) -> None:
    """Let the app go on until something holds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        if loop.time() > end:
            raise AssertionError(f"not reached within {seconds} s:\n{screen_text(pilot.app)}")
        await pilot.pause(0.02)


def screen_text(app: App[Any]) -> str:
    """What is on the screen, line by line, without trailing spaces."""
    from textual.geometry import Region

    width, height = app.size
    lines = ["" for _ in range(height)]
    for screen in app.screen_stack[-2:] if app.screen.is_modal else [app.screen]:
        strips = screen._compositor.render_full_update(simplify=False).strips
        del strips
    strips = app.screen._compositor.render_strips(Region(0, 0, width, height).size)
    lines = [strip.text.rstrip() for strip in strips]
    return "\n".join(lines) + "\n"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Iterator[Callable[[App[Any], str], None]]:
    """`golden(app, name)` compares the screen with `golden/<name>-<width>x<height>.txt`."""

    def check(app: App[Any], name: str) -> None:
        path = GOLDEN / f"{name}-{app.size.width}x{app.size.height}.txt"
        seen = screen_text(app)
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(seen, encoding="utf-8")
            return
        wanted = path.read_text(encoding="utf-8")
        if seen != wanted:
            difference = difflib.unified_diff(wanted.splitlines(), seen.splitlines(), "golden", "seen", lineterm="")
            pytest.fail("\n".join(difference) + "\n(--update-golden accepts what is seen)", pytrace=False)

    yield check
