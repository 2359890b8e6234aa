"""Jobs as lines of a list: read in a thread, told in a sign and a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ai_router.tui.widgets.text import count, one_line

if TYPE_CHECKING:
    from batch.checkpoint import CheckpointInfo
    from batch.running.progress import Snapshot
    from batch.running.run import Run


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job of a list, and how it is going where it runs."""

    info: CheckpointInfo
    live: Snapshot | None = None

    @property
    def running(self) -> bool:
        """Whether it runs now, here or in another process."""
        return (self.live is not None and not self.live.state.over) or (
            self.live is None and self.info.owner is not None
        )

    @property
    def completed(self) -> int:
        """Answered."""
        return self.live.completed if self.live else self.info.completed

    @property
    def failed(self) -> int:
        """Failed."""
        return self.live.failed if self.live else self.info.failed

    @property
    def left(self) -> int:
        """Without a result."""
        return max(0, self.info.total - self.completed - self.failed)

    def may(self, action: str) -> bool:
        """Whether an action can be done with it now."""
        if action == "resume":
            return self.left > 0 and not self.running
        if action == "retry":
            return self.failed > 0 and not self.running
        return action != "watch" or self.running

    @property
    def percent(self) -> str:
        """`66 %`; 100 only when nothing is left."""
        if not self.info.total:
            return "—"
        return f"{int((self.completed + self.failed) / self.info.total * 100)} %"

    @property
    def progress(self) -> str:
        """`4/6`."""
        return f"{count(self.completed + self.failed)}/{count(self.info.total)}"

    @property
    def status(self) -> tuple[str, str]:
        """A sign and a word, and the style that supports them."""
        if self.running:
            state = str(self.live.state) if self.live else "running"
            return {"paused": ("‖ paused", "warning"), "draining": ("◌ stopping", "warning")}.get(
                state, ("▶ running", "accent")
            )
        if self.left == 0 and self.info.total:
            return (f"✗ {count(self.failed)} failed", "error") if self.failed else ("✓ done", "success")
        if self.info.status == "failed":
            return "✗ stopped", "error"
        if self.info.status == "waiting":
            ends = [float(end) for s in self.info.away if (end := s.details.get("expires"))]
            left = (min(ends) - now().timestamp()) / 3600 if ends else 0.0
            return f"◷ {left:.0f} h left" if left >= 1 else "◷ provider", "accent"
        return ("◌ to resume", "warning") if self.info.status != "pending" else ("◌ waiting", "muted")

    @property
    def source(self) -> str:
        """The file that the prompts came from, without its folder."""
        text = self.info.source
        return one_line(text.replace("\\", "/").rstrip("/").rpartition("/")[2] or text or "—")

    @property
    def title(self) -> str:
        """The name that a person gave it, else its file; and its tags."""
        about = self.info.about
        return one_line(" ".join([about.name or self.source, *(f"#{tag}" for tag in about.tags)]))

    @property
    def age(self) -> str:
        """Since the last change."""
        return "now" if self.running else age(self.info.timestamp)


@dataclass(frozen=True, slots=True)
class JobsView:
    """All jobs of a folder, newest first, and the files that could not be read."""

    lines: tuple[JobLine, ...] = ()
    skipped: tuple[tuple[Path, str], ...] = ()
    known: bool = field(default=True)  # False before the first reading

    def with_runs(self, runs: Mapping[str, Run]) -> JobsView:
        """The same jobs with the latest figures of those that run, here (`runs`) or elsewhere."""
        return replace(self, lines=tuple(JobLine(line.info, live_of(line.info, runs)) for line in self.lines))


NOT_READ = JobsView(known=False)


def read_jobs(folder: Path, runs: Mapping[str, Run]) -> JobsView:
    """Read a folder of checkpoints; for a thread, as a thousand of them take a while."""
    from batch.checkpoint import list_jobs

    listing = list_jobs(folder)
    return JobsView(
        tuple(JobLine(info, live_of(info, runs)) for info in listing),
        tuple(listing.skipped),
    )


def live_of(info: CheckpointInfo, runs: Mapping[str, Run]) -> Snapshot | None:
    """How a job is going, where it runs or ran in this session."""
    run = runs.get(info.job_id)
    if run is not None:
        return run.snapshot()
    if info.owner is None:
        return None
    from batch.running.live import read_live

    return read_live(info.file)


def now() -> datetime:
    """The local time, without zone, as checkpoints carry it."""
    return datetime.now()


def age(timestamp: str) -> str:
    """`just now`, `5 min ago`, `3 h ago`, `yesterday`, `4 days ago`, then the date."""
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return "—"
    seconds = (now() - moment.replace(tzinfo=None)).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 86400:
        return f"{seconds // 3600:.0f} h ago"
    days = int(seconds // 86400)
    return "yesterday" if days == 1 else f"{days} days ago" if days < 30 else moment.strftime("%Y-%m-%d")


def moment(timestamp: str | None) -> str:
    """`2025-03-01 14:05`."""
    return (timestamp or "—").replace("T", " ")[:16]


def home(path: Path | str) -> str:
    """A path with `~` for the home folder; a text (a server's address) as it is."""
    if isinstance(path, str):
        return path
    try:
        return f"~/{path.relative_to(Path.home()).as_posix()}".rstrip("/.") or "~"
    except ValueError:
        return str(path)
