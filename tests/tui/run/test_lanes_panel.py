"""A job that spans models, on the run screen: a line a lane at any size."""

from __future__ import annotations

import pytest
from driving import on_screen, shown, until
from hypothesis import given
from hypothesis import strategies as st
from pace_engine import PaceEngine

from ai_router import jobs
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.run.lanes import LanesPanel
from ai_router.tui.run.screen import RunScreen
from batch.engines.lane import LaneSnapshot

LANES = (
    LaneSnapshot("qwen3-4b", "running", 1234, 2, 4, 300, 8, 12.5, 0, "ready"),
    LaneSnapshot("groq/llama-3.3-70b", "resting", 56, 9, 0, 12, None, 0.0, 42_000_000, "429 too many requests"),
    LaneSnapshot("backup", "idle"),
)


async def test_each_lane_has_a_line(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = PaceEngine(held=True)
    engine.lanes = LANES  # type: ignore[attr-defined]
    monkeypatch.setattr("ai_router.jobs.make_engine", lambda *_, **__: engine)
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 40)) as pilot:
        run = app.start_run(jobs.create_job(workspace, jobs.JobPlan("demo"), ["a", "b"]))
        assert run.job.checkpoint_file is not None
        app.open_run(run.job.checkpoint_file)
        await on_screen(pilot, RunScreen)
        await until(pilot, lambda: "Lanes · 1 of 3 running" in shown(app))
        for said in ("1,234 done", "4/8 in flight", "9 tries failed", "$0.04", "429 too many", "backup", "3 lanes"):
            assert said in shown(app), said
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "1,234 done" in shown(app) and "Lanes" in shown(app))
        await pilot.resize_terminal(40, 12)
        await until(pilot, lambda: all(f"{lane.name[:18]} " in shown(app) for lane in LANES))
        assert "1,234 done" in shown(app)
        engine.held = False
        await until(pilot, lambda: not app.live_runs(), 60)


@given(
    st.lists(st.builds(LaneSnapshot, st.text(max_size=30), st.sampled_from(["idle", "running", "down", "new"]),
                       st.integers(0, 10**9), st.integers(0, 10**6), cost=st.none() | st.integers(0, 10**12),
                       note=st.text(max_size=50)), min_size=1, max_size=12),
    st.integers(1, 160), st.integers(1, 10),
)  # fmt: skip
def test_lines_fit_any_size(lanes: list[LaneSnapshot], width: int, height: int) -> None:
    panel = LanesPanel()
    panel.lanes = lanes
    assert len(panel.lines(width, height)) <= max(2, height)
    assert all(line.cell_length <= width for line in panel.fitted(width, height))
