"""What a person says of a job, in a file beside its checkpoint: a name, tags, a note.

Not in the checkpoint, whose only writer is the process that runs the job.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from batch.errors import CheckpointError, ExportError
from batch.jsontext import clean, dump_json, load_json

SUFFIX = ".about"
LONGEST_NAME, LONGEST_NOTE, MOST_TAGS = 200, 20_000, 50
_TAG = re.compile(r"[^\s,]{1,60}")


@dataclass(frozen=True, slots=True)
class About:
    """A job's name for people ("" for none), its tags in alphabetical order, and a note of any length."""

    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""

    def __bool__(self) -> bool:
        return bool(self.name or self.tags or self.note)


def tags_of(text: str) -> tuple[str, ...]:
    """The tags of a line, divided by spaces or commas, each once and in order; ValueError where there are too many."""
    found = tuple(sorted(set(_TAG.findall(clean(text)))))
    if len(found) > MOST_TAGS:
        raise ValueError(f"{len(found)} tags; a job may have {MOST_TAGS}")
    return found


def about_path(checkpoint: Path) -> Path:
    """Where it stands."""
    return checkpoint.with_suffix(SUFFIX)


def read_about(checkpoint: Path) -> About:
    """What is said of a job; nothing where the file is missing or is none of ours."""
    try:
        data = load_json(about_path(checkpoint).read_text(encoding="utf-8"))
        name, tags, note = str(data["name"]), data["tags"], str(data["note"])
        return About(name[:LONGEST_NAME], tuple(sorted({str(tag)[:60] for tag in tags}))[:MOST_TAGS], note)
    except (OSError, ValueError, TypeError, KeyError):
        return About()


def write_about(checkpoint: Path, about: About) -> None:
    """Keep what is said of a job; an empty one takes the file away. CheckpointError where that cannot be written."""
    from batch.export.atomic import atomic_file

    path = about_path(checkpoint)
    if not about:
        with suppress(FileNotFoundError):
            path.unlink()
        return
    name, note = clean(" ".join(about.name.split())), clean(about.note)
    kept = About(name[:LONGEST_NAME], tags_of(" ".join(about.tags)), note[:LONGEST_NOTE])
    try:
        with atomic_file(path) as file:
            file.write((dump_json(asdict(kept)) or "{}").encode("utf-8"))
    except ExportError as error:
        raise CheckpointError(str(error)) from error
