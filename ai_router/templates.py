"""Templates of prompts as people give them: a file, a text, or the name of a column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batch.errors import SourceError
from batch.sources import Source, open_source, user_path

TEMPLATE_ENDINGS = (".j2", ".jinja", ".jinja2")
_LONGEST = 1 << 20  # bytes
_TAGS = ("{{", "{%")


def _is_text(said: str) -> bool:
    return any(tag in said for tag in _TAGS)


def read_template(name: str) -> str:
    """The text of a template's file. Raises SourceError, or FileNotFoundError."""
    path = user_path(name)
    try:
        if path.stat().st_size > _LONGEST:
            raise SourceError(f"{name} is too long for a template")
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        hint = "; this is a template's text: put it into a file, such as prompt.j2" if _is_text(name) else ""
        raise FileNotFoundError(f"Template not found: {name}{hint}") from None
    except UnicodeDecodeError:
        raise SourceError(f"The template {name} is not UTF-8") from None
    except OSError as error:
        raise SourceError(f"The template {name} cannot be read: {error.strerror or error}") from None


def open_with(path: Path, said: str, bases: Sequence[Path], *, skip_invalid: bool) -> Source:
    """A file of prompts, where `said` is the column they are in, a template over columns, or a template's file.

    Raises SourceError, or FileNotFoundError.
    """
    text = said.strip()
    template: str | None = text if _is_text(text) else None
    if text.lower().endswith(TEMPLATE_ENDINGS):
        found = next((file for base in bases if (file := base / text).is_file()), Path(text))
        template = read_template(str(found))
    if template is None:
        return open_source(path, column=text or None, skip_invalid=skip_invalid)
    from batch.sources.rows import TableSource

    return TableSource(path, template=template, skip_invalid=skip_invalid)


def first_prompts(source: Source, count: int) -> list[list[tuple[str, bool]]]:
    """The prompts of a table's first rows in pieces, each with whether it is a value of the row; of others nothing."""
    preview = getattr(source, "preview", None)
    return [] if preview is None or getattr(source, "template", None) is None else list(preview(count))
