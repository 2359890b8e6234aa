"""Take the README's pictures: the app on the models inside it, run for real.

`python docs/take_pictures.py [ask|run|evaluation …]`, all of them where none is named. Take them on a machine that does
nothing else: the rates are seen.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from svg import picture
from textual.pilot import Pilot

from ai_router import datasets, jobs
from ai_router.settings import Settings, Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.ask.screen import AskScreen
from ai_router.tui.menu import MenuScreen
from ai_router.tui.scoring.screen import EvaluationScreen
from ai_router.tui.widgets.text_view import TextView
from batch.options import RunOptions, SamplingOptions
from batch.sources import open_source

HERE = Path(__file__).parent
SIZE = (120, 34)
QUESTION = "Give three short tips for writing a clear email."
CONFIG = Path("config") / "lora_config.yaml"


def save(app: RouterApp, name: str) -> None:
    """Write the screen as it is now."""
    (HERE / f"{name}.svg").write_text(picture(app, "ai-router"), encoding="utf-8")


async def main(wanted: list[str]) -> None:
    """What is wanted, or all of it: an answer, a run half way and its results, the scores of another one."""
    with tempfile.TemporaryDirectory() as folder:
        app = RouterApp(Workspace(Path(folder), Settings(theme="dark", bell=False)))
        async with app.run_test(size=SIZE) as pilot:
            while not isinstance(app.screen, MenuScreen) or not app.registry.all():
                await pilot.pause(0.1)
            for name, take in PICTURES.items():
                if name in wanted or not wanted:
                    await take(app, pilot)


async def ask(app: RouterApp, pilot: Pilot[int]) -> None:
    """A question to the chat model of the first start, and its answer."""
    app.go("ask")
    while not isinstance(app.screen, AskScreen):
        await pilot.pause(0.1)
    screen = app.screen
    await pilot.pause(1.0)
    for letter in QUESTION:
        await pilot.press({" ": "space", ".": "full_stop", "?": "question_mark", ",": "comma"}.get(letter, letter))
    await pilot.press("enter")
    while not screen.conversation.turns:
        await pilot.pause(0.2)
    await pilot.press("pageup")  # the question, too
    await pilot.pause(1.0)
    save(app, "ask-screen")
    await pilot.press("escape")


async def run(app: RouterApp, pilot: Pilot[int]) -> None:
    """A run half way, and its results."""
    source = open_source(HERE.parent / "examples" / "batch_prompts.txt")
    options, sampling = (
        RunOptions(workers=6),
        SamplingOptions(max_tokens=120),
    )  # so that some wait, and it takes a while
    plan = jobs.JobPlan("smollm2", source="examples/batch_prompts.txt", run=options, sampling=sampling)
    job = jobs.create_job(app.workspace, plan, source.requests())
    assert job.checkpoint_file is not None
    running = app.start_run(job, plan)
    app.open_run(job.checkpoint_file)
    while running.snapshot().processed < 14:
        await asyncio.sleep(0.02)
    await pilot.pause(0.3)
    save(app, "run-screen")
    await asyncio.to_thread(running.wait)
    app.open_results(job.checkpoint_file)
    while not any("PROMPT" in view.plain for view in app.screen.query(TextView)):
        await pilot.pause(0.1)
    await pilot.pause(0.5)
    save(app, "results-screen")


async def evaluation(app: RouterApp, pilot: Pilot[int]) -> None:
    """The Japanese example's test set, answered by the model without its adapter, and what is wrong."""
    example = HERE.parent / "examples" / "japanese_gec"
    flags = {"model": "demo", "test_file": str(example / "data" / "test.jsonl")}
    prepared = datasets.prepare(app.registry, flags, config_path=str(example / CONFIG), adapter=False)
    plan = prepared.plan(RunOptions())
    plan.details["output_file"] = None
    job = jobs.create_job(app.workspace, plan, prepared.source)
    assert job.checkpoint_file is not None
    await asyncio.to_thread(app.start_run(job, plan).wait)
    app.go("evaluation", job.checkpoint_file)
    await pilot.pause(0.5)
    screen = app.screen
    assert isinstance(screen, EvaluationScreen)
    while screen.report is None or screen.working("score"):
        await pilot.pause(0.1)
    await pilot.press("3", "down", "down")
    await pilot.pause(1.0)
    save(app, "evaluation-screen")


PICTURES = {"ask": ask, "run": run, "evaluation": evaluation}

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
