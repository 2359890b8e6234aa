"""Every place at every size, dark, light and without colours, on one page: `docs/contact_sheet.py FOLDER [PLACE …]`.

Writes an SVG of each and `index.html`, a sheet of all of them, to be looked at in a browser, whose widths of Japanese,
Arabic and emoji are right. The jobs are made up; no model is loaded.
"""

from __future__ import annotations

import asyncio
import html
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from svg import picture
from textual.pilot import WaitForScreenTimeout

from ai_router.memory import Memory, Turn
from ai_router.settings import Settings, Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.places import PLACES
from batch.checkpoint.about import About, write_about
from batch.job import BatchResult
from batch.processor import BatchProcessor

SIZES = ((40, 12), (80, 24), (110, 30), (140, 40))
THEMES = ("dark", "light", "no-colour")
# Over the results, by keys.
FROM_HERE = {
    "docs": ("f1",),
    "keys-beside": ("K",),
    "panes": ("ctrl+w",),
    "jump": ("ctrl+o",),
    "reading": ("enter",),
    "help": ("question_mark",),
    "palette": ("colon",),
    "filter": ("slash", *"failed"),
    "again": ("a",),
}
OF_JOB = ("run", "results", "failures", "export", "picture", "compared")
TRIES = 5  # a machine that stands still for a while is no reason to begin again
TEXTS = (
    "What is a deque?",
    "日本語の文を直してください。私は学校を行きます。",
    "اكتب جملة قصيرة عن البحر",
    "Say it with emoji 👩‍👩‍👧‍👦 🚀",
    "A long one. " * 40,
    "Hostile \x1b[31m [bold]text[/] \u202eabc\u202c",
)
ANSWER = "# An answer\n\nWith **Markdown**, and code:\n\n```python\nfrom collections import deque\n```\n"
ANSWERS = (ANSWER, "学校に行きます。" * 9, "البحر أزرق وهادئ في الصباح. 🚀")


def fill(workspace: Workspace) -> list[Path]:
    """Three jobs in different states, and a chat; the first job is the one that is looked at."""
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
    memory = Memory(workspace.checkpoints)
    memory.add_turn(memory.begin_chat(TEXTS[0], "demo", {}), Turn(TEXTS[0], ANSWER, "demo"), {})
    return made


async def pictures(folder: Path, wanted: list[str]) -> list[tuple[str, Path]]:
    """All of them: a name and a file each. What is there already is not taken again."""
    found: list[tuple[str, Path]] = []
    places = [name for name, place in PLACES.items() if place.screen and (not place.of_job or name in OF_JOB)]
    with tempfile.TemporaryDirectory() as root:
        workspace = Workspace(Path(root), Settings(bell=False))
        jobs = fill(workspace)
        for theme in THEMES:
            for width, height in SIZES:
                names = {
                    place: folder / f"{place}-{width}x{height}-{theme}.svg"
                    for place in ("home", *places, *FROM_HERE)
                    if not wanted or place in wanted
                }
                for _ in range(TRIES):
                    missing = {place: path for place, path in names.items() if not path.exists()}
                    with suppress(WaitForScreenTimeout):
                        await take(workspace, jobs, (width, height), theme, missing)
                        break
                found += [(path.stem, path) for path in names.values()]
    return found


async def take(
    workspace: Workspace, jobs: list[Path], size: tuple[int, int], theme: str, wanted: dict[str, Path]
) -> None:
    """Some places at one size in one theme."""
    plain = theme == "no-colour"
    os.environ.pop("NO_COLOR", None)
    if plain:
        os.environ["NO_COLOR"] = "1"
    app = RouterApp(Workspace(workspace.root, Settings(theme="dark" if plain else theme, bell=False)))
    async with app.run_test(size=size) as pilot:
        await pilot.pause(0.5)
        for place, path in wanted.items():
            name = "results" if place in FROM_HERE else place
            of = jobs if name == "compared" else jobs[:1] if PLACES[name].of_job else []
            app.go(name, *of)
            await pilot.pause(0.8)
            if place in FROM_HERE:
                await pilot.press(*FROM_HERE[place])
                await pilot.pause(0.6)
            path.write_text(picture(app, path.stem), encoding="utf-8")
            if place == "keys-beside":
                await pilot.press("K")
            app.action_home()
            await pilot.pause()


def sheet(found: list[tuple[str, Path]]) -> str:
    """The page."""
    figures = "\n".join(
        f'<figure><img src="{html.escape(path.name)}"><figcaption>{html.escape(name)}</figcaption></figure>'
        for name, path in found
    )
    style = "body{display:flex;flex-wrap:wrap;gap:8px;background:#888}figure{margin:0}img{height:320px}"
    return f'<!doctype html><meta charset="utf-8"><title>Contact sheet</title><style>{style}</style>\n{figures}\n'


def main() -> None:
    """Take them, and write the sheet."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    found = asyncio.run(pictures(folder, sys.argv[2:]))
    (folder / "index.html").write_text(sheet(found), encoding="utf-8")
    print(f"{len(found)} pictures: {folder / 'index.html'}")


if __name__ == "__main__":
    main()
