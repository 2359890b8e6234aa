"""What the contact sheet shows: made-up jobs in a workspace, and the keys that lead to each picture."""

# ruff: noqa: E402 - the doubles of the tests are to be found first
from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import textual.app
import textual.pilot
from textual.css.stylesheet import Stylesheet
from textual.pilot import Pilot

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / part) for part in ("tui", "semantic_ids")]

from contrast import hard_to_read
from pace_engine import PaceEngine
from settling import parsed_once, settled
from stored import JAPANESE, NASTY, add_model, make_dataset_job, make_job

from ai_router import jobs
from ai_router.again import JobItems, ids_of
from ai_router.asking import EnginePool
from ai_router.memory import Memory, Turn
from ai_router.models import ModelSpec
from ai_router.presets import Preset, keep_preset
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from batch.checkpoint.about import About, write_about
from batch.engines.lane import LaneSnapshot
from batch.job import BatchResult
from batch.processor import BatchProcessor

__all__ = ["AT_WORK", "BY_KEYS", "OF_JOB", "TYPED", "Made", "end_work", "fill", "hard_to_read", "show"]

# The tests' ways, which make programs quick: style sheets parsed once, no waiting beyond what is drawn.
textual.app.wait_for_idle = textual.pilot.wait_for_idle = settled
Stylesheet._parse_rules = parsed_once  # type: ignore[method-assign]

NAMES = {" ": "space", "/": "slash", ".": "full_stop", "_": "underscore", "-": "minus", ":": "colon", "~": "tilde",
         "?": "question_mark", "{": "left_curly_bracket", "}": "right_curly_bracket", "=": "equals_sign"}  # fmt: skip
ARABIC = "اكتب جملة قصيرة عن البحر"
EMOJI = "Say it with emoji 👩‍👩‍👧‍👦 🚀"
TEXTS = ("What is a deque?", JAPANESE, ARABIC, EMOJI, "A long one. " * 40, NASTY)
ANSWER = "# An answer\n\nWith **Markdown**, and code:\n\n```python\nfrom collections import deque\n```\n"
ANSWERS = (ANSWER, "学校に行きます。" * 9, "البحر أزرق وهادئ في الصباح. 🚀")
EXAMPLES = [
    (JAPANESE, JAPANESE.replace("校を", "校に"), JAPANESE.replace("校を", "校へ"), "particle"),
    ("She go to school.", "She goes to school.", "She goes to school.", "verb"),
    (ARABIC, ARABIC, ARABIC + " الأزرق", "word"),
    (EMOJI, "Say it with 🚀", None, "word"),
    *((f"He have {n} cups", f"He has {n} cups", f"He ha{'s' if n % 3 else 've'} {n} cups", "verb") for n in range(30)),
]  # fmt: skip
LANES = (
    LaneSnapshot("qwen3-4b", "running", 1234, 2, 4, 300, 8, 12.5, 0, "ready"),
    LaneSnapshot("groq/llama-3.3-70b", "resting", 56, 9, 0, 12, None, 0.0, 42_000_000, "429 too many requests"),
    LaneSnapshot("backup", "idle"),
)
CLUSTER = {
    "nodes": ["head: 0 CPUs, 8.0 GiB", "big: 8 CPUs, 1 GPU, 31.0 GiB"],
    "actors": [
        {"actor": n, "node": f"node-{n % 2 + 1}", "state": ("ready", "unseen", "ready", "starting")[n % 4], "held": 12,
         "done": 1204 * n, "items_per_second": 4.25, "on": TEXTS[n % len(TEXTS)]}
        for n in range(1, 12)
    ],
    "died": {"with its node": 2, "crashed": 1},
    "duplicates": 3,
}  # fmt: skip
FROM_HERE = {  # over the results, by keys
    "docs": ("f1",),
    "keys-beside": ("K",),
    "panes": ("ctrl+w",),
    "jump": ("ctrl+o",),
    "reading": ("enter",),
    "reading-find": ("enter", "slash", *"answer", "enter"),
    "reading-as-it-came": ("enter", "m"),
    "edit-prompt": ("enter", "e"),
    "help": ("question_mark",),
    "palette": ("colon",),
    "palette-found": ("colon", *"qwen"),
    "filter": ("slash", *"failed"),
    "filter-wrong": ("slash", *"tokens", "greater_than_sign", *"many", "enter"),
    "columns": ("C",),
    "copy-as": ("w",),
    "errors": ("x",),
    "go-to": ("number_sign",),
    "marked": ("space", "space", "space"),
    "zoomed": ("z",),
}
BY_KEYS: Mapping[str, tuple[str, tuple[str, ...]]] = {  # from a place
    **{name: ("results", keys) for name, keys in FROM_HERE.items()},
    "home-jobs": ("home", ("tab",)),
    "quit": ("running", ("escape", "q")),
    "ask-chat": ("ask", ("f7", "enter")),
    "ask-models": ("ask", ("f2",)),
    "ask-options": ("ask", ("f3",)),
    "ask-chats": ("ask", ("f7",)),
    "ask-code": ("ask", ("f7", "enter", "f10")),
    "compare-models": ("compare", ("f2",)),
    "compare-file": ("compare", ("f3",)),
    "compared-row": ("compared", ("enter",)),
    "models-not-ready": ("models", ("end",)),
    "models-add": ("models", ("n",)),
    "models-pull": ("models", ("p",)),
    "models-adapter": ("models", ("end", "up", "l")),
    "jobs-marked": ("jobs", ("space", "down", "space")),
    "jobs-name": ("jobs", ("n",)),
    "jobs-filter": ("jobs", ("slash", *"qwen")),
    "jobs-deleted": ("jobs", ("end", "d")),
    "jobs-again": ("jobs", ("a",)),
    "keys": ("settings", ("f3",)),
    "keys-one": ("settings", ("f3", "enter")),
    "settings-changed": ("settings", ("down", "right")),
    "options": ("again", ("f2",)),
    "options-end": ("again", ("f2", *["shift+tab"] * 2)),
    "presets": ("again", ("f2", "f3")),
    "keep-as": ("again", ("f2", "f4")),
    "auto": ("again", ("a",)),
    "adapters": ("again", ("l",)),
    "run-stop": ("running", ("x",)),
    "scores-row": ("evaluation", ("3", "down", "enter")),
    "scores-rows": ("evaluation", ("3", "down")),
    "scores-options": ("evaluation", ("o",)),
    "scores-report": ("evaluation", ("e",)),
    "scores-compare": ("evaluation", ("a",)),
    "scores-compared": ("evaluation", ("a", "enter")),
}
SHOWN_AT_WORK = ("running", "lanes", "cluster", "running-elsewhere")
AT_WORK = (*SHOWN_AT_WORK, "quit", "run-stop")  # a run is made for them
OF_JOB = ("run", "results", "failures", "export", "picture", "compared")
TYPED = ("ask-two", "compare-answered", "file-table", "file-template", "file-wrong", "manual-typed", "error")


@dataclass
class Made:
    """A workspace with its jobs: the first is the one that is looked at."""

    workspace: Workspace
    jobs: list[Path]
    scored: Path
    codes: Path | None = None
    runs: list[Any] = field(default_factory=list)


def fill(workspace: Workspace, *, codes: bool = False) -> Made:
    """Jobs in different states, chats, models, presets, files."""
    processor = BatchProcessor(workspace.checkpoints)
    made: list[Path] = []
    for number, (model, share) in enumerate((("demo", 1.0), ("qwen3-4b", 0.6), ("groq/llama-3.3-70b", 0.9))):
        prompts = [f"{TEXTS[at % len(TEXTS)]} ({at + 1})" for at in range(60)]
        job = processor.create_job(
            model, prompts, config={"source": f"data/{('questions', '質問', 'long')[number]}.jsonl"}
        )
        results = [
            BatchResult(at, prompts[at], "" if at % 9 == 4 else ANSWERS[number * (at % 4 > 1)],
                        40 + at, 20 + at * 3 % 90, 0.2 + at % 7 * 0.31,
                        at % 9 != 4, "the server closed the connection" if at % 9 == 4 else None,
                        "transient" if at % 9 == 4 else None, 1 + at % 5 // 4, model=model, cost=at * 12_345)
            for at in range(int(60 * share))
        ]  # fmt: skip
        job.status = "completed" if share == 1.0 else "running"
        processor.save_checkpoint(job, results)
        assert job.checkpoint_file is not None
        made.append(job.checkpoint_file)
    write_about(made[0], About("First try", ("nightly",), "with the old template"))
    for at in range(9):
        make_job(workspace.checkpoints, [TEXTS[at % 6]] * (at + 1) * 7, {0: "x", 1: None}, source=f"data/part-{at}.csv")
    scored = make_dataset_job(workspace.checkpoints, EXAMPLES, job_id="12345678", pending=[3])
    other = [(given, wanted, wanted, kind) for given, wanted, _, kind in EXAMPLES]
    make_dataset_job(workspace.checkpoints, other, job_id="87654321", model="qwen3-4b")
    memory = Memory(workspace.checkpoints)
    for text in TEXTS[1:4]:
        memory.add_turn(memory.begin_chat(text, "demo", {}), Turn(text, ANSWERS[1], "demo"), {})
    memory.add_turn(memory.begin_chat(TEXTS[0], "demo", {}), Turn(TEXTS[0], ANSWER, "demo"), {})
    keep_preset(memory, "short answers", Preset({"max_tokens": 64, "temperature": 0.2}, {"workers": 4}))
    fill_models(workspace)
    rows = [f'{at},"{TEXTS[at % 4]}",{("red", "blå", "赤")[at % 3]},{at * 7}' for at in range(40)]
    (workspace.root / "table.csv").write_text("\n".join(["id,question,colour,amount", *rows]) + "\n", "utf-8")
    lines = ['{"prompt": "one"}', "no JSON", '{"text": 3}', '{"prompt": ""}'] * 9
    (workspace.root / "wrong.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return Made(workspace, made, scored, coded(workspace) if codes else None)


def fill_models(workspace: Workspace) -> None:
    """Folders that look like models, one with an adapter, entries of `models.yaml`, one of them wrong."""
    base = add_model(workspace, "qwen3-4b")
    add_model(workspace, "bert-base", architectures=["BertModel"])
    folder = workspace.models_dir / "qwen3-4b-日本語"
    folder.mkdir()
    text = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 8, "lora_alpha": 16}
    (folder / "adapter_config.json").write_text(json.dumps(text))
    header = b"{}"
    (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    entries = (
        "  groq/llama-3.3-70b: {url: 'https://api.groq.com/openai/v1', model: llama-3.3-70b, api_key_env: GROQ_KEY}\n"
    )
    wrong = "  wrong: {url: 'https://example.org/v1', modell: x}\n"
    (workspace.root / "models.yaml").write_text(f"models:\n{entries}{wrong}", "utf-8")


def coded(workspace: Workspace) -> Path:
    """A job of semantic IDs; needs torch."""
    from small_city import NYC, make_city

    from ai_router import semantic_jobs
    from ai_router.models import Registry
    from batch.semantic_ids import CodebookOptions, FolderHub
    from batch.semantic_ids.task import prepare

    task = prepare(NYC, FolderHub(make_city(workspace.root / "city")), CodebookOptions(block_rows=20))
    job = semantic_jobs.create_job(workspace, task)
    jobs.start(Registry(workspace), job).wait(90)
    assert job.checkpoint_file is not None
    return job.checkpoint_file


async def settle(pilot: Pilot[Any], seconds: float = 6.0) -> None:
    """Until nothing is under way any more, or so many seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    await pilot.pause(0.15)
    while loop.time() < end and any(worker.is_running for worker in pilot.app.workers):
        await pilot.pause(0.05)
    await pilot.pause(0.1)


async def typed(pilot: Pilot[Any], text: str) -> None:
    """A key a character."""
    await pilot.press(*(NAMES.get(character, character) for character in text))


async def show(app: RouterApp, pilot: Pilot[Any], made: Made, name: str) -> None:
    """Go from the menu to what is pictured as `name`."""
    if name == "tour":
        app.action_tour()
    elif name in SHOWN_AT_WORK:
        await at_work(app, pilot, made, name)
    elif name in TYPED:
        await by_typing(app, pilot, made, name)
    elif name in BY_KEYS:
        place, keys = BY_KEYS[name]
        await show(app, pilot, made, place)
        for key in keys:
            await pilot.press(key)
            if len(key) > 1 or len(keys) < 4:
                await settle(pilot)
    elif not name.startswith("home"):
        go(app, made, name)
    await settle(pilot)
    if name == "jobs" and app.screen.query_one("#jobs-filter").display:  # as a picture before left it
        await pilot.press("escape")
        await settle(pilot)
    if name == "picture":
        await pilot.pause(0.6)


def go(app: RouterApp, made: Made, name: str) -> None:
    """To a place of the table."""
    if name == "again":
        source = JobItems(made.jobs[0], ids_of(made.jobs[0], "all"))
        app.go(name, source, len(source.ids), source.job.model_id)
    elif name in ("codes", "evaluation"):
        app.go(name, made.codes if name == "codes" else made.scored)
    else:
        app.go(name, *(made.jobs if name == "compared" else made.jobs[:1] if name in OF_JOB else []))


async def at_work(app: RouterApp, pilot: Pilot[Any], made: Made, name: str) -> None:
    """A run half way."""
    engine = PaceEngine(word_seconds=0.05, room=6, most=17)
    if name == "lanes":
        engine.lanes = LANES  # type: ignore[attr-defined]
    jobs.make_engine = lambda *_, **__: engine  # type: ignore[assignment]
    plan = jobs.JobPlan("demo", source="data/質問.jsonl")
    job = jobs.create_job(made.workspace, plan, [f"{TEXTS[at % 6]} ({at})" for at in range(20_118)])
    run = app.start_run(job)
    made.runs.append((run, job.checkpoint_file))
    assert job.checkpoint_file is not None
    if name != "running-elsewhere":
        app.open_run(job.checkpoint_file)
    while run.snapshot().processed < 17:
        await pilot.pause(0.05)
    if name == "cluster":
        engine.about = {**engine.about, "cluster": CLUSTER}
    await pilot.pause(0.8)


async def end_work(app: RouterApp, made: Made) -> None:
    """Stop what was begun for a picture, and forget it."""
    while made.runs:
        run, path = made.runs.pop()
        run.stop("now")
        await asyncio.to_thread(run.wait, 30)
        app.runs.pop(run.job.job_id, None)
        for file in path.parent.glob(path.stem + "*"):
            file.unlink()


def answering(spec: ModelSpec) -> Any:
    """An engine for a question that is typed."""
    return PaceEngine(answer=lambda _: ANSWER if spec.id == "demo" else f"{JAPANESE} {ARABIC} {EMOJI}. " * 6)


async def by_typing(app: RouterApp, pilot: Pilot[Any], made: Made, name: str) -> None:
    """What needs a question, or a path."""
    app.engines = EnginePool(answering)
    if name == "ask-two":
        app.go("ask")
        await settle(pilot)
        await pilot.press("f11")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        await typed(pilot, "What is a deque?")
        await pilot.press("enter")
    elif name == "compare-answered":
        app.go("compare")
        await settle(pilot)
        screen: Any = app.screen
        screen._take([app.registry.get("demo"), app.registry.get("qwen3-4b")])
        await typed(pilot, "What is a deque?")
        await pilot.press("enter")
        while not screen.whole:
            await pilot.pause(0.05)
    elif name.startswith("file"):
        app.go("file")
        await settle(pilot)
        await typed(pilot, str(made.workspace.root / ("wrong.jsonl" if name == "file-wrong" else "table.csv")))
        await pilot.pause(0.6)
        await settle(pilot)
        if name == "file-table":
            await pilot.press("f3")
        elif name == "file-template":
            app.screen.query_one("#column").value = "In {{ colour }}: {{ question }}"  # type: ignore[attr-defined]
            await pilot.pause(0.6)
    elif name == "manual-typed":
        app.go("manual")
        await settle(pilot)
        for text in TEXTS[:5]:
            app.screen.query_one("PromptInput").value = text  # type: ignore[attr-defined]
            await pilot.press("enter")
    elif name == "error":
        app.go("jobs")
        await settle(pilot)
        app.show_error(f"Cannot read data/質問.jsonl, line 7: {NASTY}")
        await pilot.pause(0.2)
    await settle(pilot)
