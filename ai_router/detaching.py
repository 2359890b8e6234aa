"""Jobs in processes of their own, away from the terminal that sent them there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ai_router.settings import Workspace
from batch.checkpoint import lock_owner
from batch.errors import CheckpointError
from batch.job import BatchJob
from batch.running.live import Watch


def check_free(job: BatchJob) -> None:
    """Raise where another process runs the job, before anything is done for a run that could not begin."""
    if job.checkpoint_file is not None and (owner := lock_owner(job.checkpoint_file)):
        raise CheckpointError(
            f"Job {job.job_id} is being run by process {owner.pid}; follow it with: ai-router watch {job.job_id}"
        )


def log_path(checkpoint: Path) -> Path:
    """Where a background run writes what it has to say: `batch_<id>.log` beside the checkpoint."""
    return checkpoint.with_suffix(".log")


def detach(
    workspace: Workspace,
    job: BatchJob,
    arguments: Sequence[str] = (),
    private: Mapping[str, str] | None = None,
    timeout: float = 20.0,
    *,
    verb: str = "resume",
) -> int:
    """Go on with a job in a process of its own, away from this terminal; returns its pid. `private` is for its
    environment alone.

    Waits until that process holds the job's lock, so that `watch` finds it running; raises with the log's last
    line when it ends before that.
    """
    assert job.checkpoint_file is not None
    check_free(job)
    checkpoint = job.checkpoint_file.absolute()
    log = log_path(checkpoint)
    command, env = _program(workspace, verb, str(checkpoint), "--display", "log", *arguments)
    kwargs: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        kwargs = {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    try:
        with log.open("ab") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd=workspace.root,
                env={**env, **(private or {})},
                **kwargs,
            )
    except OSError as error:
        raise CheckpointError(f"The background run cannot be started: {error.strerror or error}") from error
    watch = Watch(checkpoint)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        # 1: it is over already, and some items have failed; 75: what is left is with a provider.
        if watch.running or process.poll() in (0, 1, 75):
            return process.pid
        if process.poll() is not None:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise CheckpointError(f"The background run ended at once: {lines[-1] if lines else 'see ' + str(log)}")
        time.sleep(0.05)
    raise CheckpointError(f"The background run has not begun within {timeout:g} s; see {log}")


def export_elsewhere(workspace: Workspace, checkpoint: Path) -> tuple[list[Path], str]:
    """Write a job's files in a process of its own, where that takes libraries that would freeze a screen.

    Returns the files, and what went wrong or is missing where something is.
    """
    command, env = _program(workspace, "export", str(checkpoint.absolute()))
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, cwd=workspace.root, env=env, encoding="utf-8",
            errors="replace", start_new_session=True, check=False,
        )  # fmt: skip
    except OSError as error:
        return [], f"The files cannot be written: {error.strerror or error}"
    files = [Path(line) for line in done.stdout.splitlines() if line]
    said = done.stderr.strip().splitlines()
    if done.returncode == 0:
        return files, ""
    return files, said[-1].removeprefix("Error: ") if said else f"The export ended with exit code {done.returncode}"


def _program(workspace: Workspace, *words: str) -> tuple[list[str], dict[str, str]]:
    """This program as a command, and its environment."""
    # -P: the workspace is no place to import from.
    command = [sys.executable, "-P", "-m", "ai_router", "--workspace", str(workspace.root), *words]
    package = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return command, {**os.environ, "PYTHONPATH": path}
