"""A comparison as files: JSON with every row, and Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from ai_router.comparing.answers import Compared, Row
from ai_router.comparing.forms import document, markdown
from batch.export.atomic import atomic_file


def write_comparison(folder: Path, made: Compared, rows: Iterable[Row], title: str = "") -> list[Path]:
    """Both files, named after this moment; returns where they are. The Markdown has the rows that were kept."""
    stem = f"comparison-{datetime.now():%Y%m%d-%H%M%S}"
    texts = {
        ".json": json.dumps(document(made, rows), indent=2, ensure_ascii=False) + "\n",
        ".md": markdown(made, made.rows, title),
    }
    files = []
    for suffix, text in texts.items():
        files.append(folder / f"{stem}{suffix}")
        with atomic_file(files[-1]) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
    return files
