"""Templates of jobs on the command line: read as far as they are trusted, and written."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from ai_router.cli import output
from ai_router.cli.display import Display
from ai_router.cli.flags import given
from ai_router.cli.session import UsageError
from ai_router.trust import allowed, claims_in, remember, withheld_text
from batch.errors import BatchError
from batch.jobfile import JobFile, load_jobfile, save_jobfile
from batch.notify import NotifyOptions
from batch.sources import user_path


def trusted_template(path: Path, display: Display) -> JobFile:
    """The template, without the command and the webhook that it is not trusted with."""
    jobfile = load_jobfile(path)
    notify = jobfile.notify
    claims = claims_in({"notify": {"command": notify.command, "webhook": notify.webhook}})
    if not allowed(path, claims):
        display.note(f"Warning: {withheld_text(path, claims, folder=False)}")
        jobfile.notify = replace(notify, command=None, webhook=None)
    return jobfile


def save_template(args: argparse.Namespace, jobfile: JobFile, display: Display) -> None:
    """Write what `--save-template` asks for: this command line as a file. Raises UsageError."""
    if not args.save_template:
        return
    target = user_path(args.save_template).absolute()
    saved = replace(
        jobfile,
        source=replace(
            jobfile.source,
            path=_relative(jobfile.source.path, target.parent),
            template=_relative(jobfile.source.template, target.parent),
        ),
        export=replace(
            jobfile.export,
            path=_relative(jobfile.export.path, target.parent),
            stream=_relative(jobfile.export.stream, target.parent),
            merge=_relative(jobfile.export.merge, target.parent),
        ),
        notify=replace(jobfile.notify, **given(args, NotifyOptions)),
    )
    try:
        save_jobfile(target, saved)
        # What it names was said on this command line, or was allowed already.
        remember(target, claims_in({"notify": {"command": saved.notify.command, "webhook": saved.notify.webhook}}))
    except BatchError as error:
        raise UsageError(str(error)) from None
    display.note(f"Wrote the template {target}")


def _relative(path: str | None, folder: Path) -> str | None:
    """A path as a template in this folder has it; paths in a template are relative to it."""
    if path is None or path == output.STDOUT:
        return path
    absolute = user_path(path).absolute()
    try:
        return os.path.relpath(absolute, folder).replace(os.sep, "/")
    except ValueError:  # another drive
        return str(absolute)
