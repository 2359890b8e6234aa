"""Copying out of a full-screen program: the system's own command, else the terminal (OSC 52), else a file."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ai_router.tui.base import BaseScreen
from ai_router.tui.services import Services

OSC52_BYTES = 74_000  # more than this, base64-encoded, terminals cut off or ignore
COMMAND_SECONDS = 3.0


def commands(environment: Mapping[str, str] | None = None, platform: str = sys.platform) -> list[Sequence[str]]:
    """Commands that may own a clipboard here, the likeliest first; each takes the text from its standard input."""
    env = os.environ if environment is None else environment
    found: list[Sequence[str]] = []
    if platform == "darwin":
        found.append(("pbcopy",))
    if env.get("WAYLAND_DISPLAY"):
        found.append(("wl-copy",))
    if env.get("DISPLAY"):
        found += [("xclip", "-selection", "clipboard", "-in"), ("xsel", "--clipboard", "--input")]
    if platform == "win32" or env.get("WSL_DISTRO_NAME"):
        found.append(("clip.exe",))
    if env.get("TMUX"):  # which by itself drops OSC 52 from within; -w passes the text on to its own terminal
        found.append(("tmux", "load-buffer", "-w", "-"))
    return found


def understands_osc52(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this terminal may be asked to set the clipboard. VTE ignores it, and so do consoles without one."""
    env = os.environ if environment is None else environment
    if env.get("TERM", "") in ("", "dumb", "linux") or env.get("TERM_PROGRAM") == "Apple_Terminal":
        return False
    return "VTE_VERSION" not in env or bool(env.get("TMUX"))


def copy(text: str, write: Callable[[str], object], fallback: Path) -> str:
    """Copy, and say in one sentence by which way; `write` takes codes for the terminal. May take seconds."""
    size = f"{len(text):,} characters"
    # Lone surrogates cannot be encoded; what is copied shows a mark in their place.
    data = text.encode("utf-8", "replace")
    for argv in commands():
        if shutil.which(argv[0]) and _give(argv, text.encode("utf-16", "replace") if argv[0] == "clip.exe" else data):
            return f"Copied {size} with {argv[0]}"
    if understands_osc52() and len(data) <= OSC52_BYTES:
        write(f"\x1b]52;c;{base64.b64encode(data).decode()}\x07")
        return f"Sent {size} to the terminal's clipboard (OSC 52)"
    fallback.parent.mkdir(parents=True, exist_ok=True)
    fallback.write_bytes(data)
    return f"No clipboard here; wrote {size} to {fallback}"


def _give(argv: Sequence[str], data: bytes) -> bool:
    """Hand data to a command; False when it fails. Some of them stay behind as long as they own the clipboard."""
    try:
        done = subprocess.run(
            argv,
            input=data,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def copy_for(services: Services, text: str) -> None:
    """Copy what was selected, in a thread, and say by which way: a terminal multiplexer drops what it is sent."""
    fallback = services.workspace.outputs / "copied.txt"

    def work() -> None:
        said = copy(text, services.write_terminal, fallback)
        services.call_later(services.notify, said, markup=False)

    threading.Thread(target=work, name="copy", daemon=True).start()


def copy_from(screen: BaseScreen[Any], text: Callable[[], str]) -> None:
    """Copy what `text` gives, in a thread, and say how."""
    app = screen.services
    fallback = app.workspace.outputs / "copied.txt"

    def work() -> str:
        content = text()
        return copy(content, app.write_terminal, fallback) if content else "There is nothing to copy"

    screen.in_thread(work, lambda said: screen.notify(said, markup=False), busy="copying", group="copy")
