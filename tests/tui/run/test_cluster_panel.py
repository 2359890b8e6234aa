"""A run on a cluster: nodes, actors, rates, what each is doing, and what died."""

from __future__ import annotations

from typing import Any

import pytest
from driving import on_screen, shown, until
from pace_engine import PaceEngine

from ai_router import jobs
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.run.cluster import ClusterPanel
from ai_router.tui.run.screen import RunScreen
from batch.options import RunOptions

HOSTILE = "\x1b[31mred\x1b[0m [bold]x[/] \x00 \u202eabc"


def actor(number: int, **said: Any) -> dict[str, Any]:
    return {
        "actor": number, "node": f"node-{number}", "state": "ready", "held": 12, "done": 1204 * number,
        "items_per_second": 4.25, "on": f"What is number {number}?", **said,
    }  # fmt: skip


THERE = {
    "nodes": ["head: 0 CPUs, 8.0 GiB", "big: 8 CPUs, 1 GPU, 31.0 GiB"],
    "actors": [actor(1), actor(2, state="unseen"), actor(3, on=HOSTILE), *(actor(n) for n in range(4, 40))],
    "died": {"with its node": 2, "crashed": 1},
    "duplicates": 3,
}


async def test_what_a_cluster_does_is_shown_at_any_size(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = PaceEngine(held=True)
    monkeypatch.setattr(jobs, "make_engine", lambda *args, **kwargs: engine)
    job = jobs.create_job(workspace, jobs.JobPlan("demo", run=RunOptions(), source="p.txt"), ["a", "b"])
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        run = app.start_run(job)
        assert job.checkpoint_file is not None
        app.open_run(job.checkpoint_file)
        screen = await on_screen(pilot, RunScreen)
        panel = screen.query_one(ClusterPanel)
        await until(pilot, lambda: bool(engine.about) and screen.snapshot is not None)
        assert not panel.display
        engine.about = {"cluster": THERE}
        await until(pilot, lambda: "12 held" in shown(app))
        text = shown(app)
        assert "Cluster · 2 nodes · 38 of 39 actors · 166 items/s" in text
        assert "lost: 2 with its node, 1 crashed · 3 answered twice, counted once" in text
        assert "big: 8 CPUs, 1 GPU, 31.0 GiB" in text and "What is number 1?" in text
        assert "4.25/s" in text and "1,204 done" in text and "out of reach" in text and "more" in text
        assert "\x1b" not in panel.text and "\u202e" not in panel.text
        for size in ((110, 24), (80, 24), (40, 12), (20, 6)):
            await pilot.resize_terminal(*size)
            await until(pilot, lambda size=size: panel.display and app.size == size)  # type: ignore[misc]
            await until(pilot, lambda size=size: size[0] < 40 or "node-1" in panel.text)  # type: ignore[misc]
            await until(pilot, lambda: app.size.height < 12 or panel.region.bottom <= app.size.height - 1)
        for there in ({}, {"nodes": [], "actors": [], "died": {}}, {"actors": [{}], "nodes": None}):
            panel.show({"cluster": there})  # of another version, or nothing yet
        engine.about = {}
        await until(pilot, lambda: not panel.display)
        run.stop("now")
        await until(pilot, lambda: run.wait(0))


def test_no_figure_of_an_actor_is_cut() -> None:
    actors = [actor(1), actor(2000, state="unseen")]
    lines = {width: ClusterPanel._line(actors[1], actors, width).plain for width in range(4, 120)}
    assert lines[36] == "? 2000  node-2000  12 held   4.25/s" and lines[4] == "? 2000"
    assert "2,408,000 done" in lines[60]
    assert all(len(line) <= max(width, len("? 2000")) for width, line in lines.items())
