"""Results as an explorer: the filter line, order, columns, marks, copies, finding in one text, Markdown."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from driving import on_screen, shown, until
from hypothesis import given
from hypothesis import strategies as st
from stored import NASTY, make_job
from test_results import column, numbers, opened
from textual.pilot import Pilot
from textual.widgets import Button, Input, OptionList

from ai_router.memory import Memory
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.picking import PickDialog
from ai_router.tui.results.bench import JobsPane
from ai_router.tui.results.columns import ColumnsDialog
from ai_router.tui.results.data import COLUMNS, TITLES, Order, Search
from ai_router.tui.results.layout import KEY, Layout, kept_layout
from ai_router.tui.results.query import Query, QueryError, parse_query
from ai_router.tui.results.reading import ReadingScreen, result_blocks
from ai_router.tui.results.taking import FORMATS, as_csv, as_json, as_markdown, read_results
from ai_router.tui.widgets.columns import GAP
from ai_router.tui.widgets.find_input import Complaint
from ai_router.tui.widgets.markdown import code_blocks
from ai_router.tui.widgets.table import VirtualTable
from ai_router.tui.widgets.text import hits
from ai_router.tui.widgets.text_view import TextView
from batch.checkpoint import CheckpointStore
from batch.checkpoint.selecting import Condition
from batch.export.formats import ExportOptions
from batch.export.page import page_pieces
from batch.job import BatchResult
from batch.prices import dollars
from batch.processor import BatchProcessor

WORDS = ["alpha beta", "gamma", "alpha | pipe\nline", "", NASTY]


@pytest.fixture
def path(workspace: Workspace) -> Path:
    """Twelve items of two models: every fourth fails, the last two wait."""
    processor = BatchProcessor(workspace.checkpoints)
    job = processor.create_job("qwen-small", [f"prompt {at} {WORDS[at % 5]}" for at in range(12)])
    results = [
        BatchResult(at, job.prompts[at], f"answer {at} " * (at + 1), at, (at * 7) % 10 * 30, at / 4, at % 4 != 0,
                    "timeout of the server" if at % 4 == 0 else None, "transient" if at % 4 == 0 else None,
                    attempts=1 + at % 3, model=("qwen-small", "Llama")[at % 2], cost=at * 10**6)
        for at in range(10)
    ]  # fmt: skip
    processor.save_checkpoint(job, results)
    assert job.checkpoint_file is not None
    return job.checkpoint_file


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("", Query()),
        ('failed tokens>200 model=qwen "two words"',
         Query("failed", (Condition("tokens", ">", 200.0), Condition("model", "=", "qwen")), ("two words",))),
        ("time>=1.5s cost<$0.01 tries!=1", Query(None, (Condition("time", ">=", 1.5), Condition("cost", "<", 0.01),
                                                        Condition("tries", "!=", 1.0)))),
        ('-without -"this too" With "unclosed', Query(None, (), ("with", "unclosed"), ("without", "this too"))),
        ("a=b x>y - \"\"", Query(None, (), ("a=b", "x>y", "-"))),
    ],
)  # fmt: skip
def test_a_line_is_read(line: str, wanted: Query) -> None:
    assert parse_query(line) == wanted


@pytest.mark.parametrize("line", ["token>3", "tokens>many", "model>3", "tim=4"])
def test_a_word_that_is_nearly_a_condition_is_said(line: str) -> None:
    with pytest.raises(QueryError):
        parse_query(line)


@given(st.text())
def test_any_line_is_a_filter_or_says_why_not(line: str) -> None:
    try:
        parse_query(line)
    except QueryError as error:
        assert str(error)


def part_of(row: BatchResult) -> str:
    """What a row is."""
    return "pending" if not row.attempts else "done" if row.success else "failed"


@given(st.integers(1, 10**15))
def test_no_cost_is_cut(nanos: int) -> None:
    width = next(column.width for column, _ in COLUMNS if column.title == "Cost")
    assert len(dollars(nanos)) <= width


LINES = ["", "failed", "done tokens>100", "pending", "model=QWEN", "model!=llama", "error~TIMEOUT", "time<=1 alpha",
         "alpha -beta", "tokens>=60 -alpha", "tries=2", "cost>0.004", "id<=3", "class=transient in>2"]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("order", [Order(), Order("tokens", True), Order("id", True), Order("model")])
def test_what_is_found_is_what_the_rows_say(path: Path, line: str, order: Order) -> None:
    """The oracle reads every row and asks in Python."""
    query = parse_query(line)
    with CheckpointStore(path) as store:
        rows = store.results(limit=99)

    def value(row: BatchResult, field: str) -> Any:
        if not row.attempts and field != "id":
            return "" if field in ("model", "class", "error") else None
        values = {"id": row.prompt_index + 1, "in": row.tokens_input, "tokens": row.tokens_output,
                  "time": row.duration, "tries": row.attempts, "cost": (row.cost or 0) / 1e9, "model": row.model or "",
                  "class": row.error_class or "", "error": row.error_message or ""}  # fmt: skip
        return values[field]

    def meets(row: BatchResult, condition: Condition) -> bool:
        found, wanted = value(row, condition.field), condition.value
        if isinstance(wanted, str):
            return (wanted.lower() in found.lower()) is (condition.operator != "!=")
        if found is None:
            return False
        compare = {"=": found == wanted, "~": found == wanted, "!=": found != wanted, "<": found < wanted}
        return {**compare, "<=": found <= wanted, ">": found > wanted, ">=": found >= wanted}[condition.operator]

    parts = {None: True, "all": True}
    wanted = [
        row for row in rows
        if parts.get(query.part) or query.part == part_of(row)
        if all(meets(row, condition) for condition in query.conditions) and query.holds(row)
    ]  # fmt: skip
    if order.by != "id":
        have = [row for row in wanted if row.attempts]
        have.sort(key=lambda row: value(row, order.by), reverse=order.descending)
        wanted = have + [row for row in wanted if not row.attempts]
    elif order.descending:
        wanted.reverse()
    search = Search(path, "all", line, 12, order).run(lambda: None)
    assert list(search.found) == [row.prompt_index for row in wanted]
    assert search.percent == 100


async def test_what_is_wrong_with_a_filter_stands_below_it_as_long_as_it_is_wrong(
    workspace: Workspace, path: Path
) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 24)) as pilot:
        screen = await opened(pilot, path)
        wrong = screen.query_one(Complaint)
        await pilot.press("slash", *"tokns", "greater_than_sign", *"1", "enter")
        await until(pilot, lambda: "✗ tokns is no field; did you mean tokens?" in shown(app))
        assert not app._notifications
        await pilot.press(*["left"] * 4, "e")
        await until(pilot, lambda: not wrong.display)
        await pilot.press("backspace")
        await pilot.pause()
        assert not wrong.display  # nothing is said before Enter asks
        await pilot.press("enter")
        await until(pilot, lambda: wrong.display)
        await pilot.press("escape")
        await until(pilot, lambda: not wrong.display)


async def test_again_takes_the_rows_that_were_marked_or_else_found(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)

    def first() -> str:
        return str(app.screen.query(Button).first().label)

    async with app.run_test(size=(100, 24)) as pilot:
        await opened(pilot, path)
        await pilot.press("slash", *"alpha", "enter")
        await until(pilot, lambda: "5 matches" in shown(app))
        await pilot.press("a")
        await on_screen(pilot, ConfirmDialog)
        assert first() == "Found 5"
        await pilot.press("escape", "space", "a")
        await on_screen(pilot, ConfirmDialog)
        assert first() == "Marked 1"


async def test_filter_sort_and_columns_on_the_screen(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("z")  # the whole width for the table
        assert column(screen, 4)[1] == "Llama" and column(screen, 7)[1] == "$0.0010"
        await pilot.press("slash", *"failed", "space", *"tokens", "greater_than_sign", *"100", "enter")
        await numbers(pilot, screen, ["5", "9"])
        assert screen.part == "failed"
        await pilot.press("escape", "1")
        await numbers(pilot, screen, [str(n) for n in range(1, 13)])
        screen._sort_by(next(place for place, (_, by) in enumerate(COLUMNS) if by == "tokens"))
        await numbers(pilot, screen, ["8", "5", "2", "9", "6", "3", "10", "7", "4", "1", "11", "12"])
        await until(pilot, lambda: "Tokens▼" in shown(app))
        await pilot.press("slash", *"alpha", "enter")
        await until(pilot, lambda: "matches" in shown(app))
        await pilot.press("escape", "S")
        await numbers(pilot, screen, ["1", "4", "7", "10", "3", "6", "9", "2", "5", "8", "11", "12"])
        await pilot.press("C")
        dialog = await on_screen(pilot, ColumnsDialog)
        assert "no room here" not in shown(app)
        dialog.query_one(OptionList).highlighted = TITLES.index("Cost")
        await pilot.press("space", "end", "K", "K", "plus", "enter")  # no costs; the time before the tries, wider
        await until(pilot, lambda: app.screen is screen and "Cost" not in shown(app))
        assert titles(screen)[-3:] == ["Tokens", "Time", "Tries"]
        table = screen.query_one("#results", VirtualTable)
        x = dict(ends(table))[TITLES.index("Model")] + 2
        await pilot.mouse_down(table, offset=(x, 1))
        await pilot.hover(table, offset=(x + 6, 1))
        await pilot.mouse_up(table, offset=(x + 6, 1))
        await until(pilot, lambda: screen.layout_of_columns.widths == {"Time": 14, "Model": 20})
    again = RouterApp(workspace)
    async with again.run_test(size=(140, 24)) as pilot:
        await opened(pilot, path)
        await pilot.press("z")
        await until(pilot, lambda: "Model" in shown(again))
        screen = again.screen
        assert titles(screen)[-3:] == ["Tokens", "Time", "Tries"]
        assert kept_layout(Memory(workspace.checkpoints)).widths == {"Time": 14, "Model": 20}


async def test_a_part_that_the_line_named_goes_with_it(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot, path)
        for line, part in (("failed", "failed"), ("tokens>0", "all"), ("done tokens>0", "done")):
            await pilot.press("slash")
            screen.query_one("#results-search", Input).value = line
            await pilot.press("enter")
            await until(pilot, lambda line=line, part=part: (screen.filter_text, screen.part) == (line, part))  # type: ignore[misc]
        await pilot.press("escape")
        await until(pilot, lambda: screen.part == "all" and "Results ─" in shown(app))


async def test_a_job_of_several_models_is_headed_by_none_of_them(workspace: Workspace) -> None:
    path = make_job(workspace.checkpoints, ["a", "b"], {0: "x"}, config={"lanes": ["other"]})
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot, path)
        await until(pilot, lambda: screen.context_text == "2 models")
    with CheckpointStore(path) as store:
        assert "2 models · job" in "".join(page_pieces(store.job(), (), ExportOptions()))


async def test_a_column_that_is_chosen_and_finds_no_room_says_so(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        assert "Model" not in titles(screen)
        await pilot.press("C")
        dialog = await on_screen(pilot, ColumnsDialog)
        await until(pilot, lambda: "● Model     no room here" in shown(app))
        dialog.query_one(OptionList).highlighted = TITLES.index("Model")
        await pilot.press("0", "plus")  # a width that is given is kept to
        await until(pilot, lambda: "● Model     14 cells" in shown(app))
        await pilot.press("enter")
        await until(pilot, lambda: "Model" in titles(screen))


@pytest.mark.parametrize("width", [140, 120, 60, 40])
async def test_no_figure_in_the_title_of_a_text_is_cut(workspace: Workspace, path: Path, width: int) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(width, 40)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("down", "down")
        view = screen.query_one(TextView)
        await until(pilot, lambda: "# 3 · ✓ done" in shown(app))
        title = str(view.border_title)
        assert f" {title} ─" in shown(app) and "…" not in title
        await pilot.resize_terminal(180, 40)
        await until(pilot, lambda: "# 3 · ✓ done · 2 tokens in, 120 out · 0.50 s · $0.0020 ─" in shown(app))


def titles(screen: Any) -> list[str]:
    """The titles that are shown, in their order."""
    table = screen.query_one("#results", VirtualTable)
    return [column.title for _, column, _ in table.layout_columns(table.text_width)]


def ends(table: VirtualTable) -> list[tuple[int, int]]:
    """Where columns end, by their places in a row."""
    found, start = [], 0
    for place, _, cells in table.layout_columns(table.text_width):
        found.append((place, start + cells))
        start += cells + GAP
    return found


@given(st.lists(st.tuples(st.sampled_from(TITLES), st.sampled_from(["toggled", "moved", "widened"]),
                          st.integers(-300, 300)), max_size=12))  # fmt: skip
def test_a_layout_keeps_all_columns_and_is_read_back(steps: list[tuple[str, str, int]]) -> None:
    layout = Layout()
    for title, what, number in steps:
        layout = layout.toggled(title) if what == "toggled" else getattr(layout, what)(title, number)
        assert sorted(layout.places) == list(range(len(TITLES))) and not layout.hidden & {"#", "Status"}
    kept: dict[str, Any] = {}
    memory: Any = SimpleNamespace(keep=kept.__setitem__, recall=lambda key, default=None: kept.get(key, default))
    layout.keep(memory)
    assert kept_layout(memory) == layout


@pytest.mark.parametrize("said", [None, [], {"order": 3, "hidden": [1, "Cost", "#"], "widths": {"Cost": "x", "no": 4}}])
def test_a_layout_of_another_version_is_read_as_far_as_it_is_one(said: object) -> None:
    memory: Any = SimpleNamespace(recall=lambda key, default=None: said if key == KEY else default)
    assert kept_layout(memory) == (Layout(hidden=frozenset({"Cost"})) if isinstance(said, dict) else Layout())


async def test_marked_rows_are_copied_in_any_form(
    workspace: Workspace, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr("ai_router.tui.clipboard.copy", lambda text, *_: copied.append(text) or "Copied")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, path)
        await pilot.press("down", "space", "space")
        assert screen.marked == {1, 2}
        await until(pilot, lambda: "● done" in shown(app) and "2 rows marked" in shown(app))
        await pilot.press("w")
        await on_screen(pilot, ConfirmDialog)
        await pilot.press("2")  # "2 marked rows"
        await until(pilot, lambda: app.screen.query("#button-markdown"))
        await pilot.press("m")
        await until(pilot, lambda: copied)
    assert copied[0] == as_markdown(read_results(path, [1, 2]))


async def test_all_that_is_shown_is_marked_and_a_cell_is_copied(
    workspace: Workspace, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr("ai_router.tui.clipboard.copy", lambda text, *_: copied.append(text) or "Copied")
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("3")
        await numbers(pilot, screen, ["1", "5", "9"])
        await pilot.press("A")
        assert screen.marked == {0, 4, 8}
        await pilot.press("1")  # marks stay, and are said, whatever is shown and in whatever order
        await numbers(pilot, screen, [str(n) for n in range(1, 13)])
        await pilot.press(*"ssssss")
        await until(pilot, lambda: "Results · by time ▼ · 3 rows marked" in shown(app))
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.focused, Button) and "3 marked rows" in str(app.focused.label))
        await pilot.press("o")  # "One cell"
        await on_screen(pilot, PickDialog)
        await pilot.press("down", "enter")  # behind the answer
        await until(pilot, lambda: copied)
        await pilot.press("A", "A")
        assert not screen.marked
    assert copied[0] == read_results(path, [9])[0].prompt


def test_copies_are_read_back_as_they_were(path: Path) -> None:
    results = read_results(path, [3, 1, 0, 11])
    assert [json.loads(line)["prompt_index"] for line in as_json(results).splitlines()] == [3, 1, 0, 11]
    rows = list(csv.DictReader(io.StringIO(as_csv(results))))
    assert [row["prompt"] for row in rows] == [result.prompt for result in results]
    lines = as_markdown(results).splitlines()
    assert len(lines) == 6 and all(line.count("|") - line.count("\\|") == 5 for line in lines)
    assert set(FORMATS) == {"text", "csv", "markdown", "json"}


def test_an_error_stands_above_a_long_prompt() -> None:
    result = BatchResult(0, "x" * 10_000, "", success=False, error_message="it broke", error_class="transient")
    assert [block.text for block in result_blocks(result)][:2] == ["✗ FAILED · transient", "it broke"]


@given(st.text(), st.lists(st.text(min_size=1), max_size=3))
def test_hits_are_in_order_and_hold_a_word(text: str, words: list[str]) -> None:
    end = 0
    for start, stop in hits(text, tuple(words)):
        assert end <= start < stop <= len(text)
        end = stop


async def find(pilot: Pilot[Any], text: str) -> ReadingScreen:
    """Look for a text in the item that is read."""
    screen = await on_screen(pilot, ReadingScreen)
    await until(pilot, lambda: "PROMPT" in shown(pilot.app))
    await pilot.press("slash")
    screen.query_one("#reading-find", Input).value = text
    await pilot.press("enter")
    return screen


async def test_find_in_a_text_and_markdown(workspace: Workspace) -> None:
    code = "# Title\n\n```python\nprint('x')\n```\n\n[link](http://127.0.0.1:9/)\n"
    text = "\n".join(f"line {n}" for n in range(60)) + "\n\n" + code
    path = make_job(workspace.checkpoints, ["a", "b"], {0: text, 1: None}, job_id="abababab")
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, path)
        await pilot.press("enter")
        screen = await find(pilot, "LINE 5")
        await until(pilot, lambda: screen.context_text.startswith("hit line 1 of 11"))
        await pilot.press("n", "n")
        assert screen.context_text.startswith("hit line 3 of 11") and screen.place == 0
        await pilot.press("N")
        assert screen.context_text.startswith("hit line 2 of 11")
        await pilot.press("G")
        assert "```python" in shown(app)  # as it came, while something is looked for
        await pilot.press("escape", "G")
        await until(pilot, lambda: "link (http://127.0.0.1:9/)" in shown(app) and "```" not in shown(app))
        assert "Markdown · m as it came" in shown(app)
        await pilot.press("g")
        assert "PROMPT" in shown(app)
        await pilot.press("m", "G")
        await until(pilot, lambda: "[link](http" in shown(app) and "```python" in shown(app))
        assert "as it came" not in shown(app)
        await pilot.press("n")  # nothing is looked for any more: the next item
        await until(pilot, lambda: screen.place == 1)
        await pilot.press("escape")
        assert app.screen.query_one(VirtualTable).cursor == 1
        await until(pilot, lambda: not app.screen.query("#reading"))
        await pilot.press("up")

        def ends_in(text: str) -> bool:
            app.screen.query_one("#results-preview", TextView).scroll_end(animate=False)
            return text in shown(app)

        await until(pilot, lambda: ends_in("[link](http"))  # the choice holds here, too
        await pilot.press("M")
        await until(pilot, lambda: ends_in("link (http://127.0.0.1:9/)"))
        await pilot.press("M")
    assert code_blocks(text) == [("python", "print('x')\n")]
    assert RouterApp(workspace).markdown is False  # and is remembered


async def test_jobs_results_and_answer_stand_side_by_side(workspace: Workspace, path: Path) -> None:
    other = make_job(workspace.checkpoints, ["elsewhere"], {0: "over there"}, job_id="cdcdcdcd", source="other.txt")
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 30)) as pilot:
        screen = await opened(pilot, path)
        await until(pilot, lambda: ("other.txt" in shown(app) and "ANSWER" in shown(app)) or "FAILED" in shown(app))
        assert screen.query_one(TextView).region.y == screen.query_one("#results").region.y
        width = screen.query_one(TextView).region.width
        await pilot.press("less_than_sign")
        await until(pilot, lambda: screen.query_one(TextView).region.width > width)
        await pilot.press("z")
        await until(
            pilot, lambda: not screen.query_one(TextView).display and screen.query_one("#results").size.width > 130
        )
        await pilot.press("z", "b")
        await until(pilot, lambda: not screen.query_one(JobsPane).display and screen.query_one(TextView).display)
        await pilot.press("b")
        pane = screen.query_one(JobsPane)
        await until(pilot, lambda: pane.display and len(pane.view.lines) == 2)
        pane.query_one(VirtualTable).focus()
        pane.query_one(VirtualTable).cursor = [line.info.file for line in pane.view.lines].index(other)
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is not screen and "over there" in shown(app))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: not app.screen.query_one(JobsPane).display)


async def test_hits_are_marked_in_the_list_and_gone_through(workspace: Workspace) -> None:
    texts = ["one needle", "nothing", "Needle " + "x\n" * 60 + "a needle at the end", "long " * 40 + "NEEDLE"]
    path = make_job(workspace.checkpoints, texts, {at: f"answer {at}" for at in range(4)})
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 30)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("n")
        await until(pilot, lambda: any("/ begins a search" in note.message for note in app._notifications))
        await pilot.press("slash", *"needle", "enter")
        await numbers(pilot, screen, ["1", "3", "4"])
        await until(pilot, lambda: "NEEDLE" in column(screen, 2)[2])  # brought into sight
        line = screen.table.render_line(1)
        assert [part.text for part in line if part.style and part.style.underline] == ["needle"]
        preview = screen.query_one("#results-preview", TextView)
        await until(pilot, lambda: len(preview.lines_with("hit")) == 1)
        await pilot.press("n")
        await until(pilot, lambda: len(preview.lines_with("hit")) == 2 and screen.table.cursor == 1)
        await until(pilot, lambda: screen._hit_line == preview.lines_with("hit")[0])
        await pilot.press("n")
        await until(pilot, lambda: preview.scroll_offset.y > 20 and screen.table.cursor == 1)
        await pilot.press("n")
        await until(pilot, lambda: screen.table.cursor == 2 and preview.scroll_offset.y < 20)
        await until(pilot, lambda: screen._hit_line in preview.lines_with("hit"))
        await pilot.press("N")
        await until(pilot, lambda: screen.table.cursor == 1 and preview.scroll_offset.y > 20)
        await pilot.press("escape")
        await until(pilot, lambda: not screen.table.words)


@pytest.mark.parametrize("extra", [{"reasoning": "a secret plan"}, None])
async def test_thinking_is_folded_until_it_is_asked_for(workspace: Workspace, extra: dict[str, str] | None) -> None:
    processor = BatchProcessor(workspace.checkpoints)
    job = processor.create_job("thinker", ["Why?"])
    text = "**So** it is" if extra else "<think>\na secret plan\n</think>\n\n**So** it is"
    result = BatchResult(0, "Why?", text, extra=extra, model="thinker")
    processor.save_checkpoint(job, [result])
    assert job.checkpoint_file is not None
    app = RouterApp(workspace)
    async with app.run_test(size=(110, 30)) as pilot:
        screen = await opened(pilot, job.checkpoint_file)
        await until(pilot, lambda: screen.query_one("#results-preview", TextView).plain.endswith("**So** it is"))
        assert "secret" not in shown(app) and "think>" not in shown(app) and "thinking, 13 characters" in shown(app)
        await pilot.press("enter")
        await on_screen(pilot, ReadingScreen)
        await until(pilot, lambda: "thinking, 13 characters (t shows it)" in shown(app))
        assert "secret" not in shown(app)
        await pilot.press("t")
        await until(pilot, lambda: "a secret plan" in shown(app) and "**So**" not in shown(app))
        await pilot.press("m")
        await until(pilot, lambda: "a secret plan" in shown(app) and "**So** it is" in shown(app))
        await pilot.press("t")
        await until(pilot, lambda: "a secret plan" not in shown(app))
        found = await find(pilot, "secret")  # what is looked for is found in it too
        await until(pilot, lambda: "a secret plan" in shown(app) and found.context_text == "hit line 1 of 1")
    (kept,) = read_results(job.checkpoint_file, [0])
    folded = "<details><summary>thinking</summary>a secret plan</details>**So** it is"
    assert f"| 1 | Why? | {folded} | thinker |" in as_markdown([kept])
    assert FORMATS["text"][1]([kept]) == "**So** it is"
    assert "a secret plan" in as_json([kept])
