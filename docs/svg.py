"""A screen as an SVG of its own, for the scripts beside this."""

from __future__ import annotations

import html
import re

from rich.cells import cell_len
from textual.app import App

FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # which a reader would fetch from elsewhere
TEXT = re.compile(r'(<text class="terminal-[^>]* textLength=")([0-9.]+)("[^>]*>)([^<]*)(</text>)')


def picture(app: App[int], title: str) -> str:
    """The screen as it is now. Texts are as wide as their cells: two for what the terminal gives two."""

    def widened(found: re.Match[str]) -> str:
        head, length, rest, text, end = found.groups()
        plain = html.unescape(text)
        if plain.isascii() or not plain:
            return found[0]
        return f"{head}{float(length) / len(plain) * cell_len(plain):g}{rest}{text}{end}"

    return TEXT.sub(widened, FONTS.sub("", app.export_screenshot(title=title)))
