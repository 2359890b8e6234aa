"""Where the answers of a run go: a file or stdout at the end, and a stream while it runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ai_router.cli.session import UsageError
from batch.checkpoint import CheckpointStore
from batch.errors import ExportError
from batch.job import BatchJob, BatchResult
from batch.jobfile import ExportOptions

STDOUT = "-"


def resolved(options: ExportOptions, *, openai_batch: bool) -> ExportOptions:
    """The options with their format: the one named, else the file name's, else the input's own; paths absolute."""
    from batch.export import FORMATS, find_format

    name = options.format
    if name is not None:
        find_format(name)
    elif options.path not in (None, STDOUT):
        name = _format_of(str(options.path), openai_batch, {f: kind.suffix for f, kind in FORMATS.items()})
    else:
        name = "openai" if openai_batch else "json"
    return replace(
        options,
        format=name,
        path=_absolute(options.path),
        stream=_absolute(options.stream),
        merge=_absolute(options.merge),
    )


def check(options: ExportOptions, forbidden: Iterable[Path] = ()) -> None:
    """Raise where the answers could not be written in the end, so that it is known before the first one is made."""
    from batch.export.atomic import check_target, explained

    if options.path == STDOUT and options.stream == STDOUT:
        raise UsageError("--output - and --stream - would both write to stdout; choose one")
    kept = list(forbidden)
    if options.merge == STDOUT:
        raise UsageError("--merge - : a table goes to a file")
    if options.merge is not None:
        from batch.export.tables import table_format

        table_format(options.merge)
    for name in (options.path, options.stream, options.merge):
        if name is None or name == STDOUT:
            continue
        path = Path(name)
        with explained(path):
            check_target(path, kept)
            _check_place(path)
        kept.append(path)


def write(job: BatchJob, options: ExportOptions, outputs: Path) -> tuple[str, int]:
    """Export all results there are; returns the file (or "-") and how many they were."""
    from batch.export import export, export_beside

    assert job.checkpoint_file is not None
    form = options.format or "json"
    with CheckpointStore(job.checkpoint_file, "snapshot") as store:
        if options.path:
            results = store.iter_results()
            return options.path, export(
                job, results, options.path, form, clip=options.clip, inert_csv=options.inert_csv
            )
        path, count = export_beside(
            job, store.iter_results, form, outputs, clip=options.clip, inert_csv=options.inert_csv
        )
    return str(path), count


def merge(job: BatchJob, options: ExportOptions) -> int:
    """Write the job's table with its answers; returns how many rows have one."""
    from batch.export.answers import MergeNames
    from batch.export.tables import merge_file

    assert options.merge is not None
    names = MergeNames(options.merge_column, options.merge_field)
    return merge_file(job, options.merge, names=names, inert_csv=options.inert_csv)


class JsonlOutput:
    """A JSONL file that grows with the run. It first gets what the job has already."""

    def __init__(self, path: str, checkpoint: Path, *, new: bool) -> None:
        from batch.export import JsonlWriter

        self._checkpoint = checkpoint
        self._file = JsonlWriter(path, new=new, forbidden=[checkpoint])
        self._caught_up = False

    def __call__(self, results: Sequence[BatchResult]) -> None:
        """Committed results, from the thread that runs the job."""
        if not self._caught_up:
            self.catch_up()
        self._file.write(results)

    def catch_up(self) -> None:
        """Write what the checkpoint holds and the file does not."""
        with CheckpointStore(self._checkpoint) as store:
            self._file.write(store.iter_results())
        self._caught_up = True

    def close(self) -> None:
        """Bring it to the disk."""
        self._file.close()


def remove_empty(path: str | None) -> None:
    """Take back the file of a stream for a job that never came to be."""
    if path and path != STDOUT:
        with suppress(OSError):
            if os.path.getsize(path) == 0:
                os.unlink(path)


def _absolute(path: str | None) -> str | None:
    from batch.sources import user_path

    return path if path is None or path == STDOUT else str(user_path(path).absolute())


def _format_of(path: str, openai_batch: bool, suffixes: dict[str, str]) -> str:
    name = Path(path).name.lower()
    if openai_batch and name.endswith(".jsonl"):
        return "openai"
    # The longest ending first: .openai.jsonl is also .jsonl.
    for form, suffix in sorted(suffixes.items(), key=lambda item: -len(item[1])):
        if name.endswith(suffix):
            return form
    raise UsageError(f"{path} does not say which format to write; add --format {', '.join(suffixes)}")


def _check_place(path: Path) -> None:
    """The nearest folder that exists must take files, as those between are made when it comes to that."""
    if path.exists():
        if not os.access(path, os.W_OK):
            raise ExportError(f"No permission to write {path}")
        return
    folder = next(f for f in path.absolute().parents if f.exists())
    if not folder.is_dir():
        raise ExportError(f"{path} cannot be written: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK):
        raise ExportError(f"No permission to write {path}")
