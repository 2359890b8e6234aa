"""A file in the user's own editor or pager, over the whole terminal; the screen comes back afterwards."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from ai_router.tui.base import BaseScreen

DEFAULTS = {"EDITOR": ("vi", "notepad"), "PAGER": ("less", "more")}  # elsewhere, and on Windows


def open_in(screen: BaseScreen[Any], variable: str, file: Path) -> bool:
    """Run $EDITOR or $PAGER on a file, and wait for it; False, and that is shown, where it could not be run."""
    argv = shlex.split(os.environ.get(variable, "")) or [DEFAULTS[variable][os.name == "nt"]]
    try:
        with screen.app.suspend():
            subprocess.run([*argv, str(file)], check=False)
    except OSError as error:
        screen.services.show_error(f"{argv[0]} could not be run: {error.strerror}")
        return False
    return True
