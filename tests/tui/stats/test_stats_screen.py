"""All jobs together, on a screen."""

from __future__ import annotations

import sqlite3

from driving import on_screen, shown, until
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from stored import make_job
from test_menu import fill
from textual.content import Content
from textual.widgets import Input

from ai_router.settings import Workspace
from ai_router.stats import Part, Stats
from ai_router.tui.app import RouterApp
from ai_router.tui.results.export import ExportDialog
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.stats.picture import PictureScreen, drawn
from ai_router.tui.stats.plots import curve, hbar, plot, spread
from ai_router.tui.stats.screen import FIGURES, ORDER, StatsScreen, figures, report, table
from batch.checkpoint.summary import EDGES, JobSummary, Sums
from batch.export.picture import picture_of


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


def test_a_model_that_did_nothing_has_no_line() -> None:
    stats = Stats()
    stats.take((), JobSummary({"m": Sums(2), "its entry": Sums(), "other": Sums(failed=1)}, {}, "its entry", 3, "2025"))
    assert list(stats.models) == ["m", "other"] and "its entry" not in report(stats, 100).plain
    assert report(stats, 100).plain.count("other") == 1  # in the table; no bar for none


def test_each_day_and_tag_has_its_figures() -> None:
    sums = Sums(12, 3, 4567, 891, cost=5 * 10**7)
    stats = Stats(Part(1, sums), 15)
    stats.days, stats.tags = {"2025-03-01": Part(1, sums)}, {"nightly": Part(1, sums)}
    lines = [line.split() for line in report(stats, 100).plain.splitlines()]
    for name in ("2025-03-01", "nightly"):
        assert [name, "12", "3", "4,567", "891", "$0.05", "—", "—"] in lines


@given(st.integers(0, 10**9), st.integers(0, 10**6), st.floats(0.001, 9e5), st.integers(24, 160))
def test_a_number_stays_beside_its_unit(done: int, failed: int, seconds: float, width: int) -> None:
    sums = Sums(done, failed, 7 * done, 3 * done, seconds=seconds, cost_unknown=1)
    sums.latency = [done + 1] * (len(EDGES) + 1)
    for line in figures(Part(1, sums), width).splitlines():
        assert cell_len(line) <= width and not line.startswith(("s", "tokens", "done", "·"))
    lines = table("Model", {"a model with a rather long name": Part(1, sums)}, width)
    heads = [head for head in ORDER if head in lines[0].plain]
    assert [lines[0].plain.index(head) for head in heads] == sorted(lines[0].plain.index(head) for head in heads)
    assert f"{done:,}" in lines[1].plain and all(line.cell_length <= width for line in lines)


def test_figures_stand_beside_the_names() -> None:
    part = Part(1, Sums(answered=1))
    wide = table("Model", {"demo": part, "a name": part}, 140)
    assert max(line.cell_length for line in wide) < 90 and all(head in wide[0].plain for head in FIGURES)


async def test_a_job_in_plots(workspace: Workspace) -> None:
    path = make_job(
        workspace.checkpoints, [f"p{at}" for at in range(9)], {at: "x" if at % 3 else None for at in range(8)}
    )
    with sqlite3.connect(path) as connection:
        connection.executemany("INSERT OR REPLACE INTO pace VALUES (?, 1, 0, 7, 9000000)", [(at,) for at in range(60)])
    connection.close()
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 50)) as pilot:
        app.go("results", path)
        await on_screen(pilot, ResultsScreen)
        await until(pilot, lambda: "p1" in shown(app))
        await pilot.press("p")
        await on_screen(pilot, PictureScreen)
        await until(pilot, lambda: "What failed" in shown(app))
        for said in ("9 items", "3 failed", "1 left", "Items a second", "Cost so far", "Seconds an answer took"):
            assert said in shown(app), said
        await pilot.press("e")
        dialog = await on_screen(pilot, ExportDialog)
        await until(pilot, lambda: ".html" in dialog.query_one("#export-path", Input).value)


@given(st.lists(st.floats(0, 1e9), max_size=200), st.integers(1, 180))
def test_a_curve_fits(values: list[float], width: int) -> None:
    for line in curve("Title", values, width, ("0", "2m 0s"), "{:,.0f}".format):
        assert line.cell_length <= max(width, len("Title"))
    cells = spread(values, width) if values else []
    assert len(cells) == (width if values else 0) and max(cells, default=0.0) <= max(values, default=0.0) * (1 + 1e-9)


def test_a_job_without_answers_or_pace_says_so(workspace: Workspace) -> None:
    path = make_job(workspace.checkpoints, ["a", "b"])
    assert "Nothing has been answered" in Content("\n").join(drawn(picture_of(path), 30)).plain
    path = make_job(workspace.checkpoints, ["a", "b"], {0: "x"})
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE pace")
    connection.close()
    assert "was not kept" in Content("\n").join(drawn(picture_of(path), 30)).plain
