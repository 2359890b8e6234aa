"""Panes: which of them stand where, at any size; edges by key and mouse; what is remembered; jump mode."""

from __future__ import annotations

from pathlib import Path

import pytest
from driving import footer, on_screen, shown, until
from hypothesis import given
from hypothesis import strategies as st
from stored import make_job
from textual.pilot import Pilot

from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.jump import LETTERS, JumpScreen, labels, targets_of
from ai_router.tui.menu import MenuScreen
from ai_router.tui.models.screen import ModelsScreen
from ai_router.tui.panes.layout import Flow, Pane, cells_of, flow_of, least_of, moved, shown_panes
from ai_router.tui.panes.mode import PanesMode
from ai_router.tui.panes.panes import Panes
from ai_router.tui.results.bench import ANSWER, JOBS, PANES, RESULTS
from ai_router.tui.results.screen import ResultsScreen

FLOWS: st.SearchStrategy[Flow] = st.sampled_from(["side", "stacked"])


@given(
    st.integers(1, 300),
    st.integers(1, 100),
    st.sets(st.sampled_from([pane.id for pane in PANES])),
    st.dictionaries(st.sampled_from([pane.id for pane in PANES]), st.integers(1, 500)),
    FLOWS,
    st.integers(-300, 300),
)
def test_panes_fill_any_space(
    width: int, height: int, hidden: set[str], shares: dict[str, int], flow: Flow, step: int
) -> None:
    there = shown_panes(PANES, hidden, width, height, flow)
    assert there and len(there) <= (3 if width >= 120 else 2 if width >= 80 or flow == "stacked" else 1)
    assert not {pane.id for pane in there} & hidden or len(there) == 1
    room = width if flow == "side" else height
    cells = cells_of(there, shares, room, flow)
    assert sum(cells.values()) == room and list(cells) == [pane.id for pane in there]
    least = {pane.id: least_of(pane, room, flow) for pane in there}
    if room >= sum(least.values()):
        assert all(cells[name] >= least[name] for name in cells)
    if len(there) > 1 and (flow == "side" or room >= 10):
        after = moved(there, cells, there[0].id, step, flow)
        assert sum(after.values()) == room and min(after.values()) >= min(0, *cells.values())
        assert cells_of(there, after, room, flow) == after or room < sum(least.values())


@pytest.mark.parametrize(
    ("size", "there", "flow"),
    [
        ((140, 40), [JOBS, RESULTS, ANSWER], "side"),
        ((120, 10), [JOBS, RESULTS, ANSWER], "side"),
        ((110, 30), [RESULTS, ANSWER], "side"),
        ((80, 24), [RESULTS, ANSWER], "stacked"),
        ((80, 12), [RESULTS, ANSWER], "side"),
        ((79, 40), [RESULTS, ANSWER], "stacked"),
        ((40, 12), [RESULTS, ANSWER], "stacked"),
        ((40, 7), [RESULTS], "stacked"),
    ],
)
def test_as_many_as_there_is_room_for(size: tuple[int, int], there: list[str], flow: Flow) -> None:
    assert flow_of(*size) == flow
    assert [pane.id for pane in shown_panes(PANES, (), *size, flow)] == there
    assert [pane.id for pane in shown_panes(PANES, (), *size, flow, zoomed=ANSWER)] == [ANSWER]


def test_a_hidden_pane_makes_room_for_the_next() -> None:
    panes = [Pane("a", "a"), Pane("b", "b", rank=1), Pane("c", "c", rank=2)]
    assert [pane.id for pane in shown_panes(panes, {"b"}, 90, 40, "side")] == ["a", "c"]
    assert [pane.id for pane in shown_panes(panes, {"a", "b", "c"}, 90, 40, "side")] == ["a"]  # never none


@pytest.fixture
def path(workspace: Workspace) -> Path:
    """A job of a few rows."""
    return make_job(workspace.checkpoints, ["One", "Two", "Three"], {0: "first", 1: "second"})


async def opened(pilot: Pilot[int], app: RouterApp, path: Path) -> ResultsScreen:
    """The results, read."""
    app.open_results(path)
    screen = await on_screen(pilot, ResultsScreen)
    await until(pilot, lambda: screen.table.count == 3)
    return screen


async def test_edges_move_by_key_and_mouse_and_stay_so(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        panes = (await opened(pilot, app, path)).panes
        assert panes.shown == [JOBS, RESULTS, ANSWER]
        before = panes.widget(RESULTS).region
        await pilot.press("greater_than_sign")
        await until(pilot, lambda: panes.widget(RESULTS).region.width == before.width + 4)
        edge = panes.widget(ANSWER).region.x
        await pilot.mouse_down(offset=(edge, 10))
        await pilot.hover(offset=(edge - 20, 10))
        await pilot.mouse_up(offset=(edge - 20, 10))
        await until(pilot, lambda: panes.widget(ANSWER).region.x == edge - 20)
        panes.focus_pane(RESULTS)
        await pilot.press("z")
        await until(pilot, lambda: panes.shown == [RESULTS])
        await pilot.press("z", "b")
        await until(pilot, lambda: panes.shown == [RESULTS, ANSWER])
        wide = panes.widget(ANSWER).region
        await pilot.press("ctrl+w")
        await on_screen(pilot, PanesMode)
        assert "PANES" in shown(app) and "1 ✗ jobs" in shown(app)
        await pilot.press("left", "tab")  # focus goes to the answer; what is typed reaches no screen below
        await until(pilot, lambda: panes.widget(ANSWER).region.width == wide.width + 4 and panes.at_hand == ANSWER)
        await pilot.press("right", "e", "escape")
        await on_screen(pilot, ResultsScreen)
        assert panes.widget(ANSWER).region == wide and panes.widget(ANSWER).has_focus
    again = RouterApp(workspace)
    async with again.run_test(size=(140, 40)) as pilot:
        panes = (await opened(pilot, again, path)).panes
        assert panes.shown == [RESULTS, ANSWER] and panes.widget(ANSWER).region == wide
        await pilot.press("ctrl+w", "1")
        await until(pilot, lambda: panes.shown == [JOBS, RESULTS, ANSWER])
        await pilot.press("equals_sign", "t", "2", "escape")
        await until(pilot, lambda: panes.flow == "stacked" and panes.shown == [ANSWER])
        assert app.return_code is None


async def test_the_focus_is_never_on_a_pane_out_of_sight(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, app, path)
        panes = screen.panes
        await until(pilot, lambda: "first" in shown(app) and panes.flow == "stacked")
        panes.focus_pane(ANSWER)
        await pilot.resize_terminal(60, 8)
        await until(pilot, lambda: panes.shown == [RESULTS] and screen.table.has_focus)


async def test_a_small_screen_shows_some_lines_of_the_answer(workspace: Workspace) -> None:
    """Of the answer or the error, without the prompt before it and the frame around it; it can be hidden."""
    path = make_job(workspace.checkpoints, ["One", "Two", "Three"], {0: "# first\n\n\nof three", 1: None})
    app = RouterApp(workspace)
    async with app.run_test(size=(40, 12)) as pilot:
        screen = await opened(pilot, app, path)
        await until(pilot, lambda: "\n # first\n of three\n" in shown(app))
        await pilot.press("down")
        await until(pilot, lambda: "\n the server closed the connection\n" in shown(app))
        await pilot.press("down")
        await until(pilot, lambda: "\n ◌ no answer yet\n" in shown(app))
        await pilot.press("ctrl+w", "3", "escape")
        await until(pilot, lambda: screen.panes.shown == [RESULTS])
        await pilot.press("ctrl+w", "3", "escape")
        await pilot.resize_terminal(40, 30)
        await until(pilot, lambda: "PROMPT" in shown(app) and screen.panes.flow == "stacked")


async def test_letters_go_to_what_they_stand_on(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, app, path)
        targets = targets_of(screen)
        row = next(at for at, target in enumerate(targets) if target.at.y == screen.table.content_region.y + 2
                   and target.at.x >= screen.table.region.x)  # fmt: skip
        await pilot.press("ctrl+o")
        await on_screen(pilot, JumpScreen)
        await pilot.press(*labels(len(targets))[row])
        await until(pilot, lambda: app.screen is screen and screen.table.cursor == 1)
        done = next(at for at, target in enumerate(targets) if target.at.y == 1 and target.at.x > 8)
        await pilot.press("ctrl+o", *labels(len(targets))[done])
        await until(pilot, lambda: screen.part == "done")
        await pilot.press("ctrl+o", "escape", "ctrl+o", "1")  # what is no letter only ends it
        await until(pilot, lambda: app.screen is screen)
        assert screen.part == "done"
        await pilot.press("ctrl+o", labels(len(targets))[0])  # the name, at the top
        await on_screen(pilot, MenuScreen)
        menu = targets_of(app.screen)
        entry = next(at for at, target in enumerate(menu) if "[2]" in shown(app).splitlines()[target.at.y])
        await pilot.press("ctrl+o", *labels(len(menu))[entry])
        await on_screen(pilot, ModelsScreen)
        assert len(app.screen.query(Panes)) == 1 and "help" in footer(app)


@given(st.integers(0, len(LETTERS) ** 2))
def test_no_label_begins_another(count: int) -> None:
    found = labels(count)
    assert len(set(found)) == count
    pairs = {label[0] for label in found if len(label) > 1}
    assert not pairs & set(found)
