"""What lives as long as the program: runs, quitting, keys, theme, errors, the first frame."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from driving import on_screen, shown, until
from pace_engine import PaceEngine
from stored import NASTY, make_job
from textual.binding import Binding

from ai_router import jobs
from ai_router.settings import Workspace
from ai_router.tui.actions import ACTIONS, unknown_actions
from ai_router.tui.app import RouterApp
from ai_router.tui.base import BaseScreen
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.jobs.screen import JobsScreen
from ai_router.tui.menu import MenuScreen
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.run.leave import LeaveDialog
from ai_router.tui.run.screen import RunScreen
from ai_router.tui.widgets.chrome import Breadcrumb, KeyFooter
from batch.checkpoint import CheckpointStore
from batch.running.live import Watch
from batch.running.run import Run


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> PaceEngine:
    """In the place of every model; it holds its answers back."""
    engine = PaceEngine(held=True)
    monkeypatch.setattr("ai_router.jobs.make_engine", lambda *_, **__: engine)
    return engine


def start(app: RouterApp, count: int = 3) -> Run:
    """A job that runs."""
    path = make_job(app.workspace.checkpoints, [f"Question {i}" for i in range(count)], {})
    return app.start_run(jobs.open_job(app.workspace, str(path)))


async def test_what_a_screen_is_about_is_said_in_whole_parts(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        bar = app.screen.query_one(Breadcrumb)
        bar.context = "SmolLM2-135M-Instruct · torch · cpu int8 · 134.5 M · packed, native kernels"
        bar.crumbs = ("Batch", "prompts.txt")
        await pilot.pause()
        assert str(bar.render()).endswith(" SmolLM2-135M-Instruct · torch · cpu int8")


async def test_a_run_goes_on_while_screens_change(workspace: Workspace, engine: PaceEngine) -> None:
    app = RouterApp(workspace)
    async with app.run_test(notifications=True) as pilot:
        run = start(app)
        assert run.job.checkpoint_file is not None
        assert app.handle_of(run.job.checkpoint_file) is run
        assert app.live_runs() == [run]
        for place in ("jobs", "models", "home"):
            app.go(place)
            await pilot.pause()
        engine.held = False
        await until(pilot, lambda: run.wait(0))
        await until(pilot, lambda: "completed" in shown(app))  # its end is told wherever one is
        assert app.live_runs() == []


async def test_a_job_of_another_process_is_watched(workspace: Workspace) -> None:
    path = make_job(workspace.checkpoints, ["a"], {})
    app = RouterApp(workspace)
    async with app.run_test():
        assert isinstance(app.handle_of(path), Watch)


async def test_quitting_without_runs(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running or app.return_value == 0)
    assert app.return_value == 0


async def test_ctrl_c_twice(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(notifications=True) as pilot:
        await pilot.press("ctrl+c")
        await until(pilot, lambda: "Press ctrl+c again" in shown(app))
        assert app.return_value is None
        await pilot.press("ctrl+c")
        await until(pilot, lambda: app.return_value == 0)


async def test_quitting_with_a_run_asks(workspace: Workspace, engine: PaceEngine) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        run = start(app)
        await until(pilot, lambda: run.snapshot().in_flight)
        await pilot.press("q")
        await on_screen(pilot, LeaveDialog)
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)
        assert app.live_runs() == [run]
        app._leave("now")
        await until(pilot, lambda: app.return_value is not None)
    assert app.return_value == 130
    assert run.job.checkpoint_file is not None
    with CheckpointStore(run.job.checkpoint_file) as store:
        assert store.job().status == "running"  # which means: resumable


async def test_draining_finishes_what_is_in_flight(workspace: Workspace, engine: PaceEngine) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        run = start(app, 2)
        await until(pilot, lambda: run.snapshot().in_flight == 2)
        app._leave("drain")
        engine.held = False
        await until(pilot, lambda: app.return_value is not None)
    assert app.return_value == 0
    assert run.job.completed == 2


async def test_the_background_takes_over(
    workspace: Workspace, engine: PaceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    monkeypatch.setattr("ai_router.detaching.detach", lambda workspace, job, *_: taken.append(job.job_id))
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        run = start(app)
        await until(pilot, lambda: run.snapshot().in_flight)
        app._leave("background")
        await until(pilot, lambda: app.return_value == 0)
    assert taken == [run.job.job_id]


async def test_a_background_that_fails_is_a_message_and_one_stays(
    workspace: Workspace, engine: PaceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr("ai_router.detaching.detach", refuse)
    app = RouterApp(workspace)
    async with app.run_test(notifications=True) as pilot:
        start(app)
        app._leave("background")
        await until(pilot, lambda: "no more processes" in shown(app))
        assert app.return_value is None


async def test_errors_are_messages(workspace: Workspace) -> None:
    again: list[int] = []
    app = RouterApp(workspace)
    async with app.run_test(notifications=True) as pilot:
        app.show_error(RuntimeError("[bold]odd[/] \x1b[31m"))
        await until(pilot, lambda: "RuntimeError: [bold]odd[/] ␛[31m" in shown(app))
        app.show_error("gone", retry=lambda: again.append(1))
        await on_screen(pilot, ConfirmDialog)
        await pilot.press("enter")
        await until(pilot, lambda: again == [1])


async def test_what_fails_in_a_thread_is_a_message(workspace: Workspace) -> None:
    app = RouterApp(workspace)

    def fail() -> None:
        raise ZeroDivisionError("by nought")

    async with app.run_test(notifications=True) as pilot:
        screen = app.screen
        assert isinstance(screen, BaseScreen)
        screen.in_thread(fail, pytest.fail, group="test")  # not "read": the menu reads too, and the last call wins
        await until(pilot, lambda: "by nought" in shown(app))


async def test_a_long_wait_is_shown(workspace: Workspace) -> None:
    import threading

    release = threading.Event()
    done: list[object] = []
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = app.screen
        assert isinstance(screen, BaseScreen)
        screen.in_thread(release.wait, done.append, busy="counting sheep", group="x")
        await until(pilot, lambda: "counting sheep" in shown(app))
        release.set()
        await until(pilot, lambda: done and "counting sheep" not in shown(app))


async def test_the_last_call_of_a_group_wins(workspace: Workspace) -> None:
    import threading

    first = threading.Event()
    done: list[str] = []
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = app.screen
        assert isinstance(screen, BaseScreen)
        screen.in_thread(lambda: first.wait() and "first", done.append, group="x")
        screen.in_thread(lambda: "second", done.append, group="x")
        await until(pilot, lambda: done)
        first.set()
        await pilot.pause(0.1)
        assert done == ["second"]


async def test_keys_are_remapped_by_id(workspace: Workspace) -> None:
    workspace.settings.keymap = {"app.quit": "f10", "menu.jobs": "j,3", "no.such": "x"}
    app = RouterApp(workspace)
    async with app.run_test(notifications=True) as pilot:
        await until(pilot, lambda: "no such action: no.such" in shown(app))
        await pilot.press("q")
        assert app.return_value is None
        await pilot.press("3")
        await on_screen(pilot, JobsScreen)
        await pilot.press("f10")
        await until(pilot, lambda: app.return_value == 0)


async def test_the_footer_is_short_clickable_and_fits(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        for place in ("jobs", "models", "settings", "ask", "home"):
            app.go(place)
            await pilot.pause()
            footer = app.screen.query_one(KeyFooter)
            entries = footer.entries()
            assert len(entries) <= 6
            assert entries[-1].label == "help"
            assert sum(entry.cells for entry in entries) <= 80
        footer = app.screen.query_one(KeyFooter)
        end = sum(entry.cells for entry in footer.entries())
        await pilot.click(KeyFooter, offset=(end - 4, 0))
        await until(pilot, lambda: "Help" in shown(app))


async def test_the_name_leads_home(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        app.go("jobs")
        await on_screen(pilot, JobsScreen)
        await pilot.click(Breadcrumb, offset=(3, 0))
        await on_screen(pilot, MenuScreen)


async def test_a_long_path_keeps_both_ends(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(60, 24)) as pilot:
        screen = app.screen
        assert isinstance(screen, BaseScreen)
        screen.crumbs = ("Batch", "A very long name of something", "日本語" * 10, "Options")
        screen.context_text = "demo · torch"
        await pilot.pause()
        line = shown(app).splitlines()[0]
        assert line.startswith(" ai-router › … › ") and "Options" in line and line.rstrip().endswith("demo · torch")


async def test_what_stands_at_the_right_has_all_the_room_there_is(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 24)) as pilot:
        screen = app.screen
        assert isinstance(screen, BaseScreen)
        screen.context_text = "demo · torch · cpu fp32 · packed · slower than it could be: no compiler was found here"
        await pilot.pause()
        assert shown(app).splitlines()[0].rstrip().endswith(screen.context_text)


async def test_resizing_is_survived_everywhere(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        for place in ("jobs", "models", "settings", "ask", "batch", "home"):
            app.go(place)
            for size in ((24, 6), (120, 34)):
                await pilot.resize_terminal(*size)
                await pilot.pause()


def test_every_action_has_words_and_an_id() -> None:
    for name, action in ACTIONS.items():
        assert action.id == name and action.label and action.help and action.group
        assert isinstance(action.binding(), Binding)
        assert not action.help.endswith(".")
    assert unknown_actions(["app.quit", "nope"]) == ["nope"]


@pytest.mark.parametrize("no_color", [False, True])
async def test_status_is_words_not_colour(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, no_color: bool
) -> None:
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    make_job(workspace.checkpoints, ["a", "b"], {0: None})
    app: Any = RouterApp(workspace)
    assert app.no_color is no_color
    async with app.run_test() as pilot:
        app.go("jobs")
        await until(pilot, lambda: "◌ to resume" in shown(app))


def test_the_first_frame_imports_little(tmp_path: Path) -> None:
    """Counted in modules, not in seconds."""
    code = """
import asyncio, sys
from ai_router.settings import load_workspace
from ai_router.tui.app import RouterApp
async def main():
    app = RouterApp(load_workspace(sys.argv[1]))
    app._begin = None
    async with app.run_test() as pilot:
        pass
asyncio.run(main())
heavy = [m for m in ("torch", "transformers", "tokenizers", "numpy", "yaml", "textual.widgets._text_area",
    "textual.widgets._markdown", "textual.widgets._data_table", "asyncio.subprocess_") if m in sys.modules]
print(heavy)
"""
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.model
async def test_a_job_left_half_done_is_found_finished_read_and_exported(workspace: Workspace) -> None:
    """With the keyboard alone, on the real model."""
    prompts = ["What is a deque?", "What is a deadlock?", "What is a primary key?"]
    make_job(workspace.checkpoints, prompts, {0: "answered before"}, job_id="aaaaaaaa")
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "1 to resume" in shown(app))
        await pilot.press("3")
        await until(pilot, lambda: "◌ to resume" in shown(app))
        await pilot.press("r")
        run_screen = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: run_screen.snapshot is not None and run_screen.snapshot.state.over, seconds=300)
        await pilot.press("escape")
        await on_screen(pilot, JobsScreen)
        await until(pilot, lambda: "✓ done" in shown(app))
        await pilot.press("o")
        await on_screen(pilot, ResultsScreen)
        await until(pilot, lambda: "answered before" in shown(app) and shown(app).count("✓ done") >= 4)
        await pilot.press("e")
        await until(pilot, lambda: "3 results of 3 prompts" in shown(app))
        await pilot.press("enter")
        await until(pilot, lambda: "✓ 3 results" in shown(app) and not app.live_runs())
        await pilot.press("escape", "q")
        await until(pilot, lambda: app.return_value == 0)
    exported = json.loads((workspace.outputs / "batch_aaaaaaaa.json").read_text(encoding="utf-8"))
    answers = [result["response_text"] for result in exported["results"]]
    assert answers[0] == "answered before" and "wait" in answers[1] and all(answers)


@pytest.mark.terminal
@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_a_real_terminal(workspace: Workspace, tmp_path: Path) -> None:
    """First frame, keys, a resize, and the exit code, under tmux."""
    make_job(workspace.checkpoints, ["日本語"], {0: NASTY}, status="completed")
    socket, log = f"ai-router-{os.getpid()}", tmp_path / "code"
    program = f"{shlex.quote(sys.executable)} -m ai_router --workspace {shlex.quote(str(workspace.root))}"
    root = Path(__file__).parents[2]

    # A size in the environment would count for more than the terminal's own.
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "TMUX")}

    def tmux(*arguments: str) -> str:
        argv = ["tmux", "-L", socket, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=True, env=env).stdout

    def wait_for(text: str) -> None:
        end = time.monotonic() + 120
        while text not in (seen := tmux("capture-pane", "-p")):
            assert time.monotonic() < end, seen
            time.sleep(0.05)

    command = f"cd {shlex.quote(str(root))} && {program}; echo $? > {shlex.quote(str(log))}"
    tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", command)
    try:
        wait_for("1 of 6")  # the tour of the first start
        tmux("send-keys", "Escape")
        wait_for("[5]  Batch Processing Mode")
        wait_for("✓ done")
        tmux("send-keys", "3")
        wait_for("1 job ─╯")  # the list has been read: home's keys name the results as well
        tmux("send-keys", "Enter")
        wait_for("[1 ≡ all 1]")
        tmux("resize-window", "-x", "140", "-y", "40")
        wait_for("PROMPT")
        tmux("send-keys", "q")
        end = time.monotonic() + 120
        while not log.exists() or not log.read_text().strip():
            assert time.monotonic() < end
            time.sleep(0.05)
        assert log.read_text().strip() == "0"
    finally:
        subprocess.run(["tmux", "-L", socket, "kill-server"], capture_output=True, check=False)


async def test_what_is_selected_is_copied_and_said_how(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal multiplexer the terminal's own way is dropped without a word."""
    copied: list[str] = []
    monkeypatch.setattr("ai_router.tui.clipboard.copy", lambda text, *_: copied.append(text) or "Copied with tmux")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        app.copy_to_clipboard("some text")
        await until(pilot, lambda: any(note.message == "Copied with tmux" for note in app._notifications))
        assert copied == ["some text"]
