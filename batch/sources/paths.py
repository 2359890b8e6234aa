"""Paths as people type and paste them."""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from pathlib import Path

_DRIVE = re.compile(r"([A-Za-z]):[\\/](.*)", re.DOTALL)


@cache
def on_wsl() -> bool:
    """Whether this is Linux inside Windows, where drives are mounted under /mnt."""
    return platform.system() == "Linux" and "microsoft" in platform.release().lower()


def user_path(text: str | os.PathLike[str], *, wsl: bool | None = None) -> Path:
    r"""A path as given by a person: quotes from a paste or a drop go, `~` opens, `D:\x` is /mnt/d/x on WSL."""
    path = os.fspath(text).strip()
    if len(path) > 1 and path[0] == path[-1] and path[0] in "'\"":
        path = path[1:-1]
    drive = _DRIVE.fullmatch(path)
    if drive and (on_wsl() if wsl is None else wsl):
        rest = drive[2].replace("\\", "/").lstrip("/")
        return Path(f"/mnt/{drive[1].lower()}/{rest}")
    return Path(os.path.expanduser(path))  # unlike Path.expanduser, leaves an unknown ~name as it is
