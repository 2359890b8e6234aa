"""What every command begins with: the workspace and the models, read when they are first needed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ai_router.cli.text import narrate
from ai_router.settings import Workspace, load_workspace, overlooked
from batch.errors import BatchError

if TYPE_CHECKING:
    from ai_router.models import Registry
    from batch.job import BatchJob


class UsageError(BatchError):
    """What was asked for does not make sense; the text says what would."""


@dataclass
class Session:
    """One call of the program: what its global options say."""

    folder: str | None = None  # --workspace
    verbose: bool = False

    @cached_property
    def workspace(self) -> Workspace:
        """The workspace of this call."""
        return load_workspace(self.folder)

    @cached_property
    def registry(self) -> Registry:
        """The models of the workspace."""
        from ai_router.models import Registry

        if said := overlooked(self.workspace):
            narrate(said)
        return Registry(self.workspace)

    def job_name(self, checkpoint: Path, job_id: str) -> str:
        """How this job is named on a command line: its id, or its path where it lies elsewhere."""
        if checkpoint.absolute().parent == self.workspace.checkpoints.absolute():
            return job_id
        return str(checkpoint)

    def command(self, verb: str, job: BatchJob, arguments: Sequence[str] = ()) -> str:
        """A command line about a job, to be copied into a shell as it is."""
        assert job.checkpoint_file is not None
        words = ["ai-router"]
        if self.folder is not None:
            words += ["--workspace", self.folder]
        return shlex.join([*words, verb, self.job_name(job.checkpoint_file, job.job_id), *arguments])
