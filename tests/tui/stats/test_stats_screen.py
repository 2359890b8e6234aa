"""All jobs together, on a screen."""

from __future__ import annotations

from driving import on_screen, shown, until
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from test_menu import fill

from ai_router.settings import Workspace
from ai_router.stats import Part, Stats
from ai_router.tui.app import RouterApp
from ai_router.tui.stats.screen import StatsScreen, hbar, plot, report
from batch.checkpoint.summary import EDGES, Sums


async def test_what_it_says(workspace: Workspace) -> None:
    fill(workspace)
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 40)) as pilot:
        await pilot.press("7")
        await on_screen(pilot, StatsScreen)
        await until(pilot, lambda: "4 jobs · 12 items" in shown(app))
        text = shown(app)
        assert "8 done · 1 failed" in text and "transient" in text and "█" in text and "could not be read" in text
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, StatsScreen))


async def test_without_jobs(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        app.go("stats")
        await on_screen(pilot, StatsScreen)
        await until(pilot, lambda: "No jobs yet" in shown(app))


@given(st.floats(0, 1e12), st.floats(0, 1e12), st.integers(0, 200))
def test_a_bar_fits_and_what_is_there_is_seen(value: float, more: float, width: int) -> None:
    bar = hbar(value, value + more, width)
    assert cell_len(bar) <= width and bool(bar) == (value > 0 and width > 0)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=40), st.integers(0, 10**9), max_size=5), st.integers(12, 160))
def test_plots_cut_no_figure(values: dict[str, int], width: int) -> None:
    rows = [(name, float(value), f"{value:,}") for name, value in values.items()]
    for line, (_, _, text) in zip(plot("Title", rows, width)[1:], rows, strict=False):
        assert text in line.plain
    stats = Stats(Part(1, Sums(1, latency=[1] * (len(EDGES) + 1))), 1)
    stats.models = {name: Part(1, Sums(value)) for name, value in values.items()}
    assert "1 job" in report(stats, width).plain
