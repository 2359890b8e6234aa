"""Choosing a file: tree, typed path, preview, report, and what may go on."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from driving import footer, on_screen, paste, shown, type_text, until
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot
from textual.widgets import Button, Input

from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.picking import PickDialog
from ai_router.tui.setup.choose_model import ChooseModelScreen
from ai_router.tui.setup.from_file import FromFileScreen
from ai_router.tui.setup.source_view import PreviewPanel, ValidationView
from ai_router.tui.setup.table_columns import place_of, with_column
from ai_router.tui.widgets.file_tree import FileTree, read_folder
from ai_router.tui.widgets.path_input import PathInput, complete, resolve
from batch.sources import FILE_ENDINGS, Source, Validation, validate
from batch.sources.templates import PromptTemplate


@pytest.fixture
def files(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace folder with files, and the working folder in it."""
    root = workspace.root
    examples = root / "examples"
    examples.mkdir()
    (examples / "good.txt").write_text("# questions\n\nWhat is a list?\nWhat is a set?\n日本語の文\n", encoding="utf-8")
    (root / "bad.jsonl").write_text('{"prompt": "one"}\nnot json\n{"prompt": ""}\n{"prompt": "two"}\n')
    (root / "table.csv").write_text("id,question\n1,What is a tuple?\n2,What is a dict?\n")
    (root / "empty.txt").write_text("")
    (root / "latin.txt").write_bytes("café\n".encode("latin-1"))
    (root / "comments.txt").write_text("# nothing\n\n# at all\n")
    (root / ".hidden.txt").write_text("x\n")
    (root / "program.py").write_text("print()\n")
    (root / "[red]name[b].txt").write_text("\x1b[31mred\x1b[0m [bold]not bold[/]\n")
    monkeypatch.chdir(root)
    return root


@asynccontextmanager
async def from_file(workspace: Workspace, size: tuple[int, int] = (100, 30)) -> AsyncIterator[Pilot[int]]:
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        app.push_screen(FromFileScreen())
        await on_screen(pilot, FromFileScreen)
        yield pilot


def screen_of(pilot: Pilot[int]) -> FromFileScreen:
    assert isinstance(pilot.app.screen, FromFileScreen)
    return pilot.app.screen


def report(pilot: Pilot[int]) -> str:
    return screen_of(pilot).query_one(ValidationView).text


async def enter_path(pilot: Pilot[int], text: str) -> None:
    """Type (here: paste) a path and press enter."""
    field = screen_of(pilot).query_one(PathInput)
    field.focus()
    await pilot.press("ctrl+u")
    await paste(pilot, text)
    await pilot.press("enter")
    await until(pilot, lambda: not screen_of(pilot).checking)
    await pilot.pause()


async def test_the_tree_shows_folders_and_prompt_files_with_the_examples_opened(
    workspace: Workspace, files: Path
) -> None:
    async with from_file(workspace) as pilot:
        await until(pilot, lambda: "good.txt" in shown(pilot.app))
        text = shown(pilot.app)
        assert "bad.jsonl" in text and "table.csv" in text
        assert "[red]name[b].txt" in text
        assert ".hidden.txt" not in text and "program.py" not in text
        await pilot.press("down", "full_stop")
        await until(pilot, lambda: ".hidden.txt" in shown(pilot.app) and "program.py" in shown(pilot.app))


async def test_keyboard_alone_from_the_tree_to_the_models(workspace: Workspace, files: Path) -> None:
    async with from_file(workspace) as pilot:
        assert isinstance(pilot.app.focused, PathInput)  # a path can be typed at once
        await until(pilot, lambda: "good.txt" in shown(pilot.app))
        await pilot.press("down")
        assert isinstance(pilot.app.focused, FileTree)
        await pilot.press("down", "down")
        await until(pilot, lambda: "3 prompts" in report(pilot))  # looked at while the cursor is on it
        assert screen_of(pilot).query_one(PathInput).value == "examples/good.txt"
        preview = screen_of(pilot).query_one(PreviewPanel).text
        assert "What is a set?" in preview and "日本語の文" in preview
        assert "1 comment" in report(pilot) and "1 blank line" in report(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.focused, Button))
        await pilot.press("enter")
        screen = await on_screen(pilot, ChooseModelScreen)
        assert screen.total == 3


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no/such.txt", "Prompts file not found: no/such.txt"),
        ("empty.txt", "empty.txt is empty"),
        ("latin.txt", "UTF-8"),
        ("comments.txt", "There are no prompts in comments.txt"),
        ("bad.jsonl", "1 line is malformed: line 2"),
        ("table.csv", "question"),
    ],
)
async def test_a_file_that_cannot_run_says_why_and_goes_no_further(
    workspace: Workspace, files: Path, path: str, said: str
) -> None:
    async with from_file(workspace) as pilot:
        await enter_path(pilot, path)
        assert said in " ".join(report(pilot).split())
        assert "✗" in report(pilot)
        assert screen_of(pilot).query_one("#continue", Button).disabled
        await pilot.press("f2")
        await pilot.pause()
        assert isinstance(pilot.app.screen, FromFileScreen)


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
async def test_no_permission_is_said(workspace: Workspace, files: Path) -> None:
    (files / "secret.txt").write_text("x\n")
    (files / "secret.txt").chmod(0)
    async with from_file(workspace) as pilot:
        await enter_path(pilot, "secret.txt")
        assert "No permission to read secret.txt" in report(pilot)


async def test_invalid_entries_can_be_left_out_and_taken_back(workspace: Workspace, files: Path) -> None:
    async with from_file(workspace) as pilot:
        await enter_path(pilot, "bad.jsonl")
        screen = screen_of(pilot)
        assert "leave out invalid" in footer(pilot.app)  # type: ignore[arg-type]
        assert pilot.app.focused is screen.query_one("#invalid", Button)
        await pilot.press("enter")
        await until(pilot, lambda: screen.report is not None and screen.report.ok)
        assert "2 prompts" in report(pilot)
        assert "left out" in report(pilot)
        assert screen.source is not None
        assert [request.text for request in screen.source.requests()] == ["one", "two"]
        await pilot.press("f4")
        await until(pilot, lambda: screen.report is not None and not screen.report.ok)


async def test_the_column_of_a_table_can_be_named(workspace: Workspace, files: Path) -> None:
    async with from_file(workspace) as pilot:
        await enter_path(pilot, "table.csv")
        column = screen_of(pilot).query_one("#column", Input)
        assert column.display and "column" in shown(pilot.app)
        await until(pilot, lambda: column.has_focus)  # the only way on
        await type_text(pilot, "question")
        await pilot.press("enter")
        await until(pilot, lambda: "2 prompts" in report(pilot))


async def test_a_template_shows_the_first_rows_with_their_values_marked(workspace: Workspace, files: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"title": ["Sea", "", "Hill"], "note": ["wet", "", None]}), files / "rows.parquet")
    (files / "ask.j2").write_text("About {{ title }}: {{ note }}", "utf-8")
    async with from_file(workspace) as pilot:
        await enter_path(pilot, "rows.parquet")
        column = screen_of(pilot).query_one("#column", Input)
        await until(pilot, lambda: column.display)
        column.focus()
        await paste(pilot, "Is {{ title }} good?")
        await pilot.press("enter")
        await until(pilot, lambda: "2 prompts" in report(pilot))
        assert "Is «Sea» good?" in shown(pilot.app) and "Is «Hill» good?" in shown(pilot.app)
        column.value = "ask.j2"
        await until(pilot, lambda: "About «Sea»: «wet»" in shown(pilot.app))
        await until(pilot, lambda: screen_of(pilot).source is not None)
        source = screen_of(pilot).source
        assert source is not None and [r.text for r in source.requests()] == ["About Sea: wet", "About Hill: "]
        column.value = "Is {{ titel }} good?"
        await until(pilot, lambda: "title" in report(pilot))
        assert screen_of(pilot).query_one("#continue", Button).disabled


async def test_tab_completes_a_path(workspace: Workspace, files: Path) -> None:
    async with from_file(workspace) as pilot:
        field = screen_of(pilot).query_one(PathInput)
        field.focus()
        await type_text(pilot, "ex")
        await until(pilot, lambda: field._suggestion == f"examples{os.sep}")
        await pilot.press("tab")
        await until(pilot, lambda: field._suggestion == os.path.join("examples", "good.txt"))
        await pilot.press("tab")
        await until(pilot, lambda: "3 prompts" in report(pilot))
        await pilot.press("tab")
        assert pilot.app.focused is not field


async def test_tab_looks_for_a_completion_that_has_not_come_yet(
    workspace: Workspace, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with from_file(workspace) as pilot:
        field = screen_of(pilot).query_one(PathInput)
        monkeypatch.setattr(PathInput, "_suggestion", property(lambda self: "", lambda self, value: None))  # none comes
        await type_text(pilot, "tab")
        await pilot.press("tab")
        await until(pilot, lambda: field.value == "table.csv" and field.has_focus)
        await pilot.press("tab")
        await until(pilot, lambda: not field.has_focus)


async def test_what_is_longer_than_a_field_is_seen_at_its_end(workspace: Workspace, files: Path) -> None:
    """No bar of the field stands over its text."""
    async with from_file(workspace, (80, 24)) as pilot:
        await paste(pilot, "/nowhere/" + "long/" * 30 + "end.tx")
        await type_text(pilot, "t")
        await until(pilot, lambda: "long/end.txt" in shown(pilot.app).splitlines()[2])


async def test_a_folder_opens_in_the_tree(workspace: Workspace, files: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "deep.txt").write_text("x\n")
    async with from_file(workspace) as pilot:
        field = screen_of(pilot).query_one(PathInput)
        field.focus()
        await paste(pilot, str(other))
        await pilot.press("enter")
        await until(pilot, lambda: "deep.txt" in shown(pilot.app))
        assert isinstance(pilot.app.focused, FileTree)


async def test_hostile_text_is_shown_and_not_obeyed(workspace: Workspace, files: Path) -> None:
    async with from_file(workspace) as pilot:
        await enter_path(pilot, "[red]name[b].txt")
        assert "1 prompt" in report(pilot)
        text = shown(pilot.app)
        assert "␛[31mred␛[0m [bold]not bold[/]" in text
        assert "\x1b" not in text


async def test_a_big_file_is_previewed_at_once_and_a_newer_choice_ends_its_check(
    workspace: Workspace, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "big.txt").write_text("".join(f"question number {n}\n" for n in range(300)))
    ended = []

    def endless(source: Source, *, progress: Callable[[int], None]) -> Validation:
        if source.name != "big.txt":
            return validate(source, progress=progress)
        try:
            for read in itertools.count(4096, 4096):
                progress(read)
                time.sleep(0.005)
        finally:
            ended.append(source.name)
        raise AssertionError

    monkeypatch.setattr("ai_router.tui.setup.from_file.validate", endless)
    async with from_file(workspace) as pilot:
        screen = screen_of(pilot)
        screen.query_one(PathInput).focus()
        await paste(pilot, "big.txt")
        await pilot.press("enter")
        await until(pilot, lambda: "question number 3" in shown(pilot.app))
        await until(pilot, lambda: "entries read" in report(pilot))
        assert screen.checking and not ended  # the screen draws and takes keys while the file is read
        await pilot.press("ctrl+u")
        await paste(pilot, "examples/good.txt")
        await pilot.press("enter")
        await until(pilot, lambda: "3 prompts" in report(pilot))
        await until(pilot, lambda: ended)


async def test_three_hundred_thousand_lines(workspace: Workspace, files: Path) -> None:
    with (files / "big.txt").open("w") as file:
        file.writelines(f"question number {n}\n" for n in range(300_000))
    async with from_file(workspace) as pilot:
        await enter_path(pilot, "big.txt")
        assert "300,000 prompts" in report(pilot)
        assert "question number 3" in shown(pilot.app)


async def test_small_terminal_shows_all_parts(workspace: Workspace, files: Path) -> None:
    async with from_file(workspace, (80, 24)) as pilot:
        await enter_path(pilot, "examples/good.txt")
        text = shown(pilot.app)
        assert all(part in text for part in ("Prompts file", "Files", "Check", "Prompts", "Continue", "3 prompts"))
        await pilot.resize_terminal(140, 40)
        await pilot.pause()
        assert "What is a set?" in shown(pilot.app)


def test_complete_keeps_what_was_typed(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(files))
    assert complete("~/ta", [files]) == "~/table.csv"
    assert complete("ta", [files / "nowhere", files]) == "table.csv"
    assert complete(str(files) + "/ex", []) is None or complete(str(files) + "/ex", [files]) == f"{files}/examples/"
    assert complete(".h", [files]) == ".hidden.txt"
    assert complete("", [files]) is None
    assert complete("zz", [files]) is None


def test_resolve_takes_the_first_base_that_has_it(files: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert resolve("table.csv", [other, files]) == files / "table.csv"
    assert resolve("'table.csv'", [files]) == files / "table.csv"
    assert resolve("missing", [other, files]) == other / "missing"
    assert resolve(str(files / "x"), [other]) == files / "x"


def test_read_folder_sorts_folders_first(files: Path) -> None:
    names = [entry.path.name for entry in read_folder(files)]
    assert names == ["examples", "[red]name[b].txt", "bad.jsonl", "comments.txt", "empty.txt", "latin.txt", "table.csv"]


def test_only_files_of_prompts_complete_a_path(tmp_path: Path) -> None:
    for name in ("prompts.py", "prompts.txt", "pr.d.csv", "prompt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "prom.folder").mkdir()
    assert complete("prompts", [tmp_path], FILE_ENDINGS) == "prompts.txt"
    assert complete("prompts.py", [tmp_path], FILE_ENDINGS) is None
    assert complete("prom", [tmp_path], FILE_ENDINGS) == "prom.folder/"
    assert complete("prompts.p", [tmp_path]) == "prompts.py"


async def test_a_message_leaves_the_way_on_free(workspace: Workspace, files: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(60, 20), notifications=True) as pilot:
        app.go("file")
        screen = await on_screen(pilot, FromFileScreen)
        app.notify("A message of some length that takes two lines at least in here")
        await pilot.pause(0.2)
        toast = app.screen.query_one("Toast").region
        assert toast.height and not toast.overlaps(screen.query_one("#continue").region)
        assert toast.bottom < app.size.height - 1


async def test_columns_are_chosen_from_a_list(workspace: Workspace, files: Path) -> None:
    (files / "wide.csv").write_text('title,unit price,text\nA book,"3,5",long ago\nA pen,1,blue\n')
    async with from_file(workspace, (110, 30)) as pilot:
        await type_text(pilot, "wide.csv")
        screen = screen_of(pilot)
        column = screen.query_one("#column", Input)
        await until(pilot, lambda: "columns" in footer(pilot.app))
        await pilot.press("f3")
        await until(pilot, lambda: isinstance(pilot.app.screen, PickDialog) and "A book · A pen" in shown(pilot.app))
        await pilot.press("end", "enter")
        await until(pilot, lambda: column.value == "text" and "2 prompts" in report(pilot))
        await pilot.press("f3")
        await until(pilot, lambda: isinstance(pilot.app.screen, PickDialog))
        await pilot.press("down", "space")
        await until(pilot, lambda: "«3,5»" in shown(pilot.app))
        assert column.value == '{{ text }} {{ row["unit price"] }}'


@given(st.lists(st.text(min_size=1, max_size=8).filter(str.strip), min_size=2, max_size=4, unique_by=str.strip))
def test_a_template_of_any_columns_holds_their_cells(names: list[str]) -> None:
    said = ""
    for name in names:
        said = with_column(said, name) if said else place_of(name)
    row = {name: f"cell{at}" for at, name in enumerate(names)}
    assert PromptTemplate(said, names).render(row) == " ".join(row.values())


async def test_a_file_of_another_kind_is_taken_by_the_line_and_said_to_be(workspace: Workspace, files: Path) -> None:
    async with from_file(workspace) as pilot:
        await type_text(pilot, "program.py")
        await until(pilot, lambda: "1 prompt" in report(pilot))
        assert ".py is no kind of file" in report(pilot)


async def test_an_empty_prompt_is_said_to_be_empty(workspace: Workspace, files: Path) -> None:
    async with from_file(workspace, (110, 30)) as pilot:
        await enter_path(pilot, str(files / "bad.jsonl"))
        await until(pilot, lambda: "✗ 3  empty" in shown(pilot.app))
