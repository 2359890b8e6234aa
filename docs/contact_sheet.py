"""Every place at every size, dark, light and without colours: `docs/contact_sheet.py FOLDER [PLACE|SIZE|THEME …]`.

Writes an SVG of each (what is there already is not taken again), `index.html`, a sheet of all of them, to be looked at
in a browser, whose widths of Japanese, Arabic and emoji are right, and `contrast.txt`: texts that are hard to read on
their ground. With Chromium on the PATH, `sheet-….png` too, some pictures on each. The jobs are made up; no model is
loaded.
"""

from __future__ import annotations

import asyncio
import html
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from contact_scenes import AT_WORK, BY_KEYS, OF_JOB, TYPED, Made, end_work, fill, hard_to_read, show
from svg import picture
from textual.pilot import WaitForScreenTimeout

from ai_router.settings import Settings, Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.places import PLACES

SIZES = ((40, 12), (80, 24), (110, 30), (140, 40))
THEMES = ("dark", "light", "no-colour")
ON_A_SHEET = {(40, 12): (4, 5), (80, 24): (2, 3), (110, 30): (2, 3), (140, 40): (1, 2)}  # across, down
SHEET_WIDTH, SHEET_HEIGHT = 1120, 1130
TRIES = 5  # a machine that stands still for a while is no reason to begin again
OWN = ("home", "home-empty", "tour", "evaluation", "again", "codes", "running", "lanes", "cluster", "running-elsewhere")


def have_torch() -> bool:
    """Whether semantic IDs can be made."""
    return importlib.util.find_spec("torch") is not None


def names() -> list[str]:
    """All that is pictured."""
    places = [name for name, place in PLACES.items() if place.screen and (not place.of_job or name in OF_JOB)]
    return list(dict.fromkeys([*OWN[:3], *places, *OWN[3:], *BY_KEYS, *TYPED]))


async def pictures(folder: Path, wanted: list[str]) -> list[tuple[str, Path]]:
    """All of them: a name and a file each. What is there already is not taken again."""
    found: list[tuple[str, Path]] = []
    words = {f"{width}x{height}" for width, height in SIZES} | set(THEMES)
    chosen = [name for name in names() if name in wanted or not set(wanted) - words]
    sizes = [size for size in SIZES if f"{size[0]}x{size[1]}" in wanted] or SIZES
    with tempfile.TemporaryDirectory() as root:
        os.environ |= {"HOME": root, "HF_HOME": f"{root}/hf", "AI_ROUTER_HOME": f"{root}/home"}
        made = fill(Workspace(Path(root) / "work", Settings(bell=False)), codes="codes" in chosen and have_torch())
        for theme in [theme for theme in THEMES if theme in wanted] or THEMES:
            for width, height in sizes:
                files = {name: folder / f"{name}-{width}x{height}-{theme}.svg" for name in chosen}
                for _ in range(TRIES):
                    missing = {name: path for name, path in files.items() if not path.exists()}
                    with suppress(WaitForScreenTimeout):
                        await take(made, (width, height), theme, missing)
                        break
                found += [(path.stem, path) for path in files.values() if path.exists()]
    return found


async def take(made: Made, size: tuple[int, int], theme: str, wanted: dict[str, Path]) -> None:
    """Some places at one size in one theme; those of other workspaces, or with runs, in programs of their own."""
    os.environ.pop("NO_COLOR", None)
    if theme == "no-colour":
        os.environ["NO_COLOR"] = "1"
    alone = {name: path for name, path in wanted.items() if name in (*AT_WORK, *TYPED, "home-empty")}
    together = {name: path for name, path in wanted.items() if name not in alone}
    for names in (together, *({name: path} for name, path in alone.items())):
        root = made.workspace.root
        if "home-empty" in names:
            root = root.parent / "empty"
            root.mkdir(exist_ok=True)
        app = RouterApp(Workspace(root, Settings(theme="light" if theme == "light" else "dark", bell=False)))
        async with app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause(0.3)
            for name, path in names.items():
                try:
                    await show(app, pilot, made, name)
                except WaitForScreenTimeout:
                    raise
                except Exception as error:  # one picture that cannot be taken leaves the others
                    print(f"{path.stem}: {type(error).__name__}: {error}", file=sys.stderr)
                    continue
                path.write_text(picture(app, path.stem), encoding="utf-8")
                with (path.parent / "contrast.txt").open("a", encoding="utf-8") as file:
                    file.writelines(f"{path.stem}: {line}\n" for line in hard_to_read(app))
                await end_work(app, made)
                app.apply_theme(app.workspace.settings.theme)  # one picture tries another
                if app.keys_shown:
                    await pilot.press("K")
                if not app.markdown:  # and another turns this off
                    app.turn_markdown()
                app.clear_notifications()
                app.action_home()
                await pilot.pause()


def sheet(found: list[tuple[str, Path]], across: int = 0, down: int = 1) -> str:
    """The page; with so many `across` and `down`, as large as they get on one."""
    figures = "\n".join(
        f'<figure><img src="{html.escape(path.name)}"><figcaption>{html.escape(name)}</figcaption></figure>'
        for name, path in found
    )
    room = f"width:{SHEET_WIDTH // (across or 1) - 8}px;max-height:{SHEET_HEIGHT // down - 24}px"
    style = "body{display:flex;flex-wrap:wrap;gap:4px;margin:2px;background:#888}figure{margin:0}"
    style += f"figcaption{{font:12px sans-serif}}img{{{room if across else 'height:320px'}}}"
    return f'<!doctype html><meta charset="utf-8"><title>Contact sheet</title><style>{style}</style>\n{figures}\n'


def sheets(folder: Path, found: list[tuple[str, Path]]) -> Iterator[Path]:
    """Pictures of some of them on each, by headless Chromium."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    for theme in THEMES if browser else ():
        for size, (across, down) in ON_A_SHEET.items():
            ending = f"{size[0]}x{size[1]}-{theme}"
            of_these = [(name, path) for name, path in found if name.endswith(ending)]
            for number, start in enumerate(range(0, len(of_these), across * down), 1):
                page, made = folder / "page.html", folder / f"sheet-{ending}-{number:02}.png"
                page.write_text(sheet(of_these[start : start + across * down], across, down), encoding="utf-8")
                flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
                window = f"--window-size={SHEET_WIDTH},{SHEET_HEIGHT}"
                subprocess.run([str(browser), *flags, window, f"--screenshot={made}", page.as_uri()],
                               check=True, capture_output=True, timeout=120)  # fmt: skip
                page.unlink()
                yield made


def main() -> None:
    """Take them, and write the sheets."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    found = asyncio.run(pictures(folder, sys.argv[2:]))
    (folder / "index.html").write_text(sheet(found), encoding="utf-8")
    print(f"{len(found)} pictures: {folder / 'index.html'}")
    for path in sheets(folder, found):
        print(path)


if __name__ == "__main__":
    main()
