"""What came out of a job: the table, one text, copies, exports."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driving import footer, on_screen, shown, until
from pace_engine import PaceEngine
from stored import JAPANESE, NASTY, make_job
from textual.pilot import Pilot
from textual.widgets import Input, Static

from ai_router.settings import Workspace
from ai_router.tui import clipboard
from ai_router.tui.app import RouterApp
from ai_router.tui.dialogs import ConfirmDialog, PromptDialog
from ai_router.tui.help import HelpScreen
from ai_router.tui.results.data import Search
from ai_router.tui.results.export import ExportDialog
from ai_router.tui.results.reading import ReadingScreen
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.run.screen import RunScreen
from ai_router.tui.widgets.choice import ChoiceLine
from ai_router.tui.widgets.table import VirtualTable
from ai_router.tui.widgets.tabs import CountTabs
from ai_router.tui.widgets.text_view import TextView
from batch.checkpoint import CheckpointStore, JobLock, checkpoint_path
from batch.job import BatchJob

MIXED: dict[int, str | None] = {0: "An answer", 1: None, 2: "私は学校に行きます。", 3: NASTY, 5: "Zebra stripes"}
PROMPTS = ["What is a deque?", "Fail", JAPANESE, NASTY, "Wait", "Zebra?"]


@pytest.fixture
def path(workspace: Workspace) -> Path:
    """Six items: four answers, a failure, one pending."""
    return make_job(workspace.checkpoints, PROMPTS, MIXED, job_id="aaaaaaaa")


async def opened(pilot: Pilot[Any], path: Path) -> ResultsScreen:
    """The screen with its first page read."""
    app = pilot.app
    assert isinstance(app, RouterApp)
    app.open_results(path)
    screen = await on_screen(pilot, ResultsScreen)
    await until(pilot, lambda: screen.query_one(VirtualTable).row(0) is not None)
    return screen


def column(screen: ResultsScreen, number: int = 0) -> list[str]:
    """A column as text."""
    table = screen.query_one(VirtualTable)
    rows = [table.row(index) for index in range(table.count)]
    return ["…" if row is None else row[number] if isinstance(row[number], str) else row[number][0] for row in rows]


async def numbers(pilot: Pilot[Any], screen: ResultsScreen, wanted: list[str]) -> None:
    """Wait until these items are shown."""
    await until(pilot, lambda: column(screen) == wanted)


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_how_it_looks(
    workspace: Workspace, path: Path, size: tuple[int, int], golden: Callable[..., None]
) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("down", "down", "down")
        await until(pilot, lambda: "bold red" in screen.query_one(TextView).plain)
        await pilot.pause()
        golden(app, "results")


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_how_one_text_looks(
    workspace: Workspace, path: Path, size: tuple[int, int], golden: Callable[..., None]
) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        await opened(pilot, path)
        await pilot.press("down", "down", "enter")
        await on_screen(pilot, ReadingScreen)
        await until(pilot, lambda: "ANSWER" in shown(app))
        golden(app, "reading")


async def test_parts_by_key_and_mouse(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await numbers(pilot, screen, ["1", "2", "3", "4", "5", "6"])
        for key, wanted in (("f", "1346"), ("f", "2"), ("f", "5"), ("f", "123456"), ("3", "2"), ("2", "1346")):
            await pilot.press(key)
            await numbers(pilot, screen, list(wanted))
        await pilot.click(CountTabs, offset=(45, 0))
        await until(pilot, lambda: screen.part == "pending")
        await numbers(pilot, screen, ["5"])
        assert column(screen, 1) == ["◌ pending"]


async def test_nothing_of_a_kind_says_so(workspace: Workspace) -> None:
    path = make_job(workspace.checkpoints, ["a"], {0: "b"}, status="completed")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await opened(pilot, path)
        await pilot.press("3")
        await until(pilot, lambda: "Nothing has failed." in shown(app))


async def test_search(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, path)
        await pilot.press("slash", *"ZEBRA", "enter")
        await numbers(pilot, screen, ["6"])
        assert "1 match" in shown(app)
        await pilot.press("3")  # the search goes on within the kind
        await until(pilot, lambda: "Nothing holds that text" in shown(app))
        await pilot.press("1")
        await numbers(pilot, screen, ["6"])
        await pilot.press("escape")
        await numbers(pilot, screen, ["1", "2", "3", "4", "5", "6"])
        assert not screen.query_one(Input).display
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not screen)


async def test_errors_are_searched_too(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, path)
        await pilot.press("slash", *"server", "enter")
        await numbers(pilot, screen, ["2"])


async def test_a_search_can_be_stopped(workspace: Workspace, path: Path) -> None:
    search = Search(path, "all", "a", 6)
    search.stop()
    assert list(search.run(lambda: None).found) == []
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, path)
        screen._begin_search("zebra")
        screen._busy["ids"] = "searching"
        screen.action_back()
        assert screen._search is not None and screen._search.stopped
        await until(pilot, lambda: not screen._is_searching)


async def test_go_to_a_number(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, path)
        await pilot.press("number_sign")
        await on_screen(pilot, PromptDialog)
        await pilot.press("5", "enter")
        await until(pilot, lambda: screen.query_one(VirtualTable).cursor == 4)
        await pilot.press("3")
        await numbers(pilot, screen, ["2"])
        await pilot.press("number_sign", "9", "9", "enter")
        await until(pilot, lambda: screen.query_one(VirtualTable).cursor == 0)


async def test_errors_by_cause(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, path)
        await pilot.press("x")
        await on_screen(pilot, ConfirmDialog)
        assert "1  transient: the server closed" in shown(app)
        await pilot.press("s")
        await numbers(pilot, screen, ["2"])


async def test_reading_goes_through_the_list(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(notifications=True) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("2")
        await numbers(pilot, screen, ["1", "3", "4", "6"])
        await pilot.press("enter")
        reading = await on_screen(pilot, ReadingScreen)
        await pilot.press("p")
        await until(pilot, lambda: "first item" in shown(app))
        await pilot.press("n", "n", "n", "n")
        await until(pilot, lambda: "last item" in shown(app))
        await until(pilot, lambda: "Zebra stripes" in shown(app))
        assert reading.crumbs[-1] == "# 6"
        await pilot.press("escape")
        await on_screen(pilot, ResultsScreen)
        assert screen.query_one(VirtualTable).cursor == 3


async def test_a_long_text_scrolls_and_is_copied_whole(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"line {i}\n" for i in range(200_000))
    path = make_job(workspace.checkpoints, ["long"], {0: text}, status="completed")
    copied: list[str] = []
    monkeypatch.setattr(clipboard, "copy", lambda text, *_: copied.append(text) or "done")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await opened(pilot, path)
        await pilot.press("enter")
        screen = await on_screen(pilot, ReadingScreen)
        await until(pilot, lambda: "line 3" in shown(app))
        await pilot.press("j", "space", "G")
        await until(pilot, lambda: screen.query_one(TextView).max_scroll_y > 199_000)
        await pilot.press("G")
        await until(pilot, lambda: "line 199999" in shown(app))
        await pilot.press("g", "c")
        await until(pilot, lambda: copied)
        assert copied == [text]
        assert screen.query_one("#reading").scroll_offset.y == 0


async def test_what_is_copied(workspace: Workspace, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(clipboard, "copy", lambda text, *_: copied.append(text) or "Copied it with a test")
    app = RouterApp(workspace)
    async with app.run_test(notifications=True) as pilot:
        await opened(pilot, path)
        await pilot.press("c")
        await until(pilot, lambda: copied == ["An answer"])
        await until(pilot, lambda: "Copied it with a test" in shown(app))
        await pilot.press("down", "c")
        await until(pilot, lambda: copied[1:] == ["the server closed the connection"])
        await pilot.press("down", "Y")
        await until(pilot, lambda: len(copied) == 3)
        record = json.loads(copied[2])
        assert (record["prompt_index"], record["prompt"], record["success"]) == (2, JAPANESE, True)
        await pilot.press("enter")
        await on_screen(pilot, ReadingScreen)
        await until(pilot, lambda: "ANSWER" in shown(app))
        await pilot.press("P")
        await until(pilot, lambda: copied[3:] == [JAPANESE])


class TestClipboard:
    def test_commands_are_chosen_by_the_session(self) -> None:
        def names(**env: str) -> list[str]:
            return [argv[0] for argv in clipboard.commands(env, "linux")]

        assert names() == []
        assert names(WAYLAND_DISPLAY="w", DISPLAY=":0") == ["wl-copy", "xclip", "xsel"]
        assert names(WSL_DISTRO_NAME="u") == ["clip.exe"]
        assert names(DISPLAY=":0", TMUX="x") == ["xclip", "xsel", "tmux"]
        assert [argv[0] for argv in clipboard.commands({}, "darwin")] == ["pbcopy"]
        assert [argv[0] for argv in clipboard.commands({}, "win32")] == ["clip.exe"]

    def test_a_command_that_works_is_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        given: list[tuple[tuple[str, ...], bytes]] = []

        def run(argv: tuple[str, ...], *, input: bytes, **_: object) -> subprocess.CompletedProcess[bytes]:  # noqa: A002
            given.append((argv, input))
            return subprocess.CompletedProcess(argv, 1 if argv[0] == "wl-copy" else 0)

        monkeypatch.setattr(clipboard, "commands", lambda: [("wl-copy",), ("xclip", "-in")])
        monkeypatch.setattr("shutil.which", lambda name: name)
        monkeypatch.setattr("subprocess.run", run)
        said = clipboard.copy("日本\ud800", lambda _: None, tmp_path / "x")
        assert said == "Copied 3 characters with xclip"
        assert given[1] == (("xclip", "-in"), "日本?".encode())

    def test_then_the_terminal(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(clipboard, "commands", lambda: [])
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("VTE_VERSION", raising=False)
        codes: list[str] = []
        assert "OSC 52" in clipboard.copy("hello", codes.append, tmp_path / "x")
        assert codes == ["\x1b]52;c;aGVsbG8=\x07"]

    @pytest.mark.parametrize("env", [{"TERM": "linux"}, {"TERM": "xterm", "VTE_VERSION": "7000"}])
    def test_then_a_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, env: dict[str, str]) -> None:
        monkeypatch.setattr(clipboard, "commands", lambda: [])
        monkeypatch.delenv("TMUX", raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        target = tmp_path / "outputs" / "copied.txt"
        said = clipboard.copy("hello", pytest.fail, target)
        assert said == f"No clipboard here; wrote 5 characters to {target}"
        assert target.read_text() == "hello"

    def test_what_is_too_long_for_a_terminal_goes_to_the_file(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(clipboard, "commands", lambda: [])
        monkeypatch.setenv("TERM", "xterm-256color")
        clipboard.copy("x" * 80_000, pytest.fail, tmp_path / "copied.txt")
        assert (tmp_path / "copied.txt").stat().st_size == 80_000


async def test_live_while_the_job_runs(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_router.tui.results.screen.LIVE_SECONDS", 0.1)
    engine = PaceEngine(held=True)
    monkeypatch.setattr("ai_router.jobs.make_engine", lambda *_, **__: engine)
    path = make_job(workspace.checkpoints, ["a", "b", "c"], {0: "first"})
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, path)
        await pilot.press("r")
        await on_screen(pilot, RunScreen)
        app.pop_screen()
        await until(pilot, lambda: screen.job_is_running())
        assert "▶ running" in shown(app)
        await pilot.press("2")
        await numbers(pilot, screen, ["1"])
        engine.held = False
        await numbers(pilot, screen, ["1", "2", "3"])
        await until(pilot, lambda: not screen.job_is_running())


async def test_retry_failed(workspace: Workspace, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = PaceEngine()
    monkeypatch.setattr("ai_router.jobs.make_engine", lambda *_, **__: engine)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await opened(pilot, path)
        await pilot.press("t")
        await on_screen(pilot, RunScreen)
        await until(pilot, lambda: all(run.wait(0) for run in app.runs.values()))
    assert sorted(map(int, engine.answered)) == [1, 4]


async def test_a_job_another_process_runs_is_watched(workspace: Workspace, path: Path) -> None:
    lock = JobLock(path)
    lock.acquire()
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await opened(pilot, path)
        await pilot.press("r")
        await on_screen(pilot, RunScreen)
    lock.release()


async def test_a_damaged_job_is_a_message(workspace: Workspace, path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0 no")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        app.open_results(path)
        await on_screen(pilot, ConfirmDialog)
        assert "Damaged checkpoint" in shown(app)
        await pilot.press("b")
        await on_screen(pilot, ResultsScreen)
        await pilot.press("c", "Y", "e", "enter", "f", "x", "r", "t")
        await pilot.press("escape")


async def test_a_million_rows_open_at_once(workspace: Workspace) -> None:
    """The figures are those of the store; what matters is that nothing here reads them all."""
    job = BatchJob("abcdefab", "demo", [], 0)
    CheckpointStore.create(workspace.checkpoints, job, (f"Prompt {i}" for i in range(200_000))).close()
    path = checkpoint_path(workspace.checkpoints, "abcdefab")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, path)
        table = screen.query_one(VirtualTable)
        assert table.count == 200_000
        await pilot.press("G")
        await until(pilot, lambda: "Prompt 199999" in shown(app))
        assert screen._pages is not None
        assert sum(map(len, screen._pages._pages.values())) < 1000


async def test_help_lists_the_keys_of_the_screen(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 90)) as pilot:
        await opened(pilot, path)
        await pilot.press("question_mark")
        await on_screen(pilot, HelpScreen)
        await until(pilot, lambda: "Copy the row as JSON" in shown(app))
        for text in ("Results", "Tables", "Everywhere", "Find text in prompts", "retry failed", "^o"):
            assert text in shown(app)
        await pilot.press("escape")
        await on_screen(pilot, ResultsScreen)
        assert footer(app)[-2:] == ["back", "help"]


# -- export -----------------------------------------------------------------------------------------------------------


async def dialog(pilot: Pilot[Any], path: Path) -> ExportDialog:
    """The export dialog with the job read."""
    pilot.app.push_screen(ExportDialog(path))
    found = await on_screen(pilot, ExportDialog)
    await until(pilot, lambda: found.query_one("#export-path", Input).value)
    return found


def said(found: ExportDialog) -> str:
    """The outcome."""
    return str(found.query_one("#export-said", Static).render())


async def test_export_says_where_it_went(workspace: Workspace, path: Path, golden: Callable[..., None]) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        found = await dialog(pilot, path)
        assert "5 results of 6 prompts; 1 still without one" in said(found)
        await pilot.press("enter")
        await until(pilot, lambda: "✓ 5 results" in said(found))
        target = workspace.outputs / "batch_aaaaaaaa.json"
        assert str(target) in said(found).replace("\n", "")
        assert len(json.loads(target.read_text())["results"]) == 5
        await pilot.press("enter")  # the focus is on Close
        await until(pilot, lambda: not isinstance(app.screen, ExportDialog))


@pytest.mark.parametrize(("presses", "suffix", "rows"), [(1, ".csv", 5), (2, ".jsonl", 5), (3, ".openai.jsonl", 5)])
async def test_every_format(workspace: Workspace, path: Path, presses: int, suffix: str, rows: int) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        found = await dialog(pilot, path)
        found.query_one("#export-format", ChoiceLine).focus()
        await pilot.press(*["right"] * presses)
        field = found.query_one("#export-path", Input)
        await until(pilot, lambda: field.value.endswith(f"batch_aaaaaaaa{suffix}"))
        assert found.query_one("#export-clip-line").display == (suffix == ".csv")
        field.focus()
        await pilot.press("enter")
        await until(pilot, lambda: f"✓ {rows} results" in said(found))


async def test_only_failures(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        found = await dialog(pilot, path)
        found.query_one("#export-part", ChoiceLine).value = "failures"
        await pilot.pause()
        found.action_export()
        await until(pilot, lambda: "✓ 1 result," in said(found))


async def test_an_existing_file_is_replaced_only_with_a_word(workspace: Workspace, path: Path, tmp_path: Path) -> None:
    target = tmp_path / "there.json"
    target.write_text("old")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        found = await dialog(pilot, path)
        found.query_one("#export-path", Input).value = str(target)
        await until(pilot, lambda: "it will be replaced" in said(found))
        assert str(found.query_one("#export-go").render()).strip() == "Replace"
        assert target.read_text() == "old"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("checkpoints/batch_aaaaaaaa.db", "not written over"),
        ("checkpoints", "is a folder"),
        ("file/x.json", "is a file, not a folder"),
    ],
)
async def test_what_cannot_be_written(workspace: Workspace, path: Path, name: str, text: str) -> None:
    (workspace.root / "file").write_text("")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        found = await dialog(pilot, path)
        found.query_one("#export-path", Input).value = str(workspace.root / name)
        await pilot.pause()  # what is said of the path while it is typed comes first
        found.action_export()
        await until(pilot, lambda: text in said(found).replace("\n", " "))
    assert sqlite3.connect(path).execute("SELECT count(*) FROM items").fetchone() == (6,)


async def test_a_bad_clip_is_said(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        found = await dialog(pilot, path)
        found.query_one("#export-format", ChoiceLine).value = "csv"
        await pilot.pause()
        found.query_one("#export-clip", Input).value = "0"
        found.action_export()
        await until(pilot, lambda: "whole number above 0" in said(found))
