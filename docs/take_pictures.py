"""Take the README's pictures: the app on the demo model, run for real. `python docs/take_pictures.py`."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

from ai_router import jobs
from ai_router.settings import Settings, Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.screens.menu import MenuScreen
from batch.sources import open_source

HERE = Path(__file__).parent
SIZE = (120, 34)


def save(app: RouterApp, name: str) -> None:
    """Write the screen as it is now, without the fonts that Textual would have a reader fetch."""
    svg = re.sub(r"@font-face \{.*?\}", "", app.export_screenshot(title="ai-router"), flags=re.DOTALL)
    (HERE / f"{name}.svg").write_text(svg, encoding="utf-8")


async def main() -> None:
    """The menu, and a run half way."""
    with tempfile.TemporaryDirectory() as folder:
        app = RouterApp(Workspace(Path(folder), Settings(theme="dark", bell=False)))
        async with app.run_test(size=SIZE) as pilot:
            while not isinstance(app.screen, MenuScreen) or not app.registry.all():
                await pilot.pause(0.1)
            source = open_source(HERE.parent / "examples" / "batch_prompts.txt")
            plan = jobs.JobPlan("demo", source="examples/batch_prompts.txt")
            job = jobs.create_job(app.workspace, plan, source.requests())
            assert job.checkpoint_file is not None
            run = app.start_run(job, plan)
            app.open_run(job.checkpoint_file)
            while run.snapshot().processed < 12:
                await asyncio.sleep(0.02)
            await pilot.pause(0.2)
            save(app, "run-screen")
            await asyncio.to_thread(run.wait)
            app.open_results(job.checkpoint_file)
            await pilot.pause(1.0)
            save(app, "results-screen")


if __name__ == "__main__":
    asyncio.run(main())
