"""A job on a server, from its options to its results, driven as a person does: place, alarms, cost and answers."""

from __future__ import annotations

from typing import Any

import pytest
from driving import on_screen, shown, until

from ai_router.models import Registry
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.run.screen import RunScreen
from ai_router.tui.setup.options import OptionsScreen
from batch.checkpoint import CheckpointStore
from batch.sources import from_prompts

pytest.importorskip("aiohttp")
from tests.cli.test_servers import a_server, echo


def substituted(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    status, answer = echo(body)
    return status, {**answer, "model": "another"}


async def test_from_options_to_results(workspace: Workspace) -> None:
    with a_server(substituted) as url:
        entry = f"{{url: '{url}', model: m, price: {{input: 1, output: 2}}, accepts: [temperature]}}"
        (workspace.root / "models.yaml").write_text(f"models:\n  far: {entry}\n", "utf-8")
        spec = Registry(workspace).get("far")
        app = RouterApp(workspace)
        async with app.run_test(size=(140, 40)) as pilot:
            app.push_screen(OptionsScreen(from_prompts(["one", "two", "three"]), spec, 3))
            await on_screen(pilot, OptionsScreen)
            await pilot.press("f2")
            run = await on_screen(pilot, RunScreen)
            await until(pilot, lambda: run.snapshot is not None and run.snapshot.state.over, 60)
            await until(pilot, lambda: "✓ finished: 3 answers" in shown(app), 60)
            text = " ".join(shown(app).split())
            assert "127.0.0.1" in text and "$0.0036" in text  # 3 × (1,000 × $1 + 100 × $2) / 1e6
            assert "another model (3)" in text
            await pilot.press("enter")
            await on_screen(pilot, ResultsScreen)
            await until(pilot, lambda: "echo two" in shown(app), 60)
            path = run.path
    with CheckpointStore(path) as store:
        rows = list(store.iter_results())
        assert [row.response_text for row in rows] == ["echo one", "echo two", "echo three"]
        assert {row.model for row in rows} == {"another"} and store.job().cost == 3_600_000
