"""What a screen may ask of the app, and its way there. Screens import this, never the app."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel
    from textual.signal import Signal

    from ai_router.asking import EnginePool
    from ai_router.jobs import JobPlan
    from ai_router.models import Registry
    from ai_router.preloading import Preloading
    from ai_router.settings import Settings, Workspace
    from ai_router.tui.widgets.runs_strip import Running
    from batch.job import BatchJob
    from batch.options import SamplingOptions
    from batch.running.run import Run, RunHandle


class JobQueue(Protocol):
    """Jobs that wait for their turn, and the files that are written when one ends."""

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        ...

    def add(self, job: BatchJob) -> None:
        """Run a job when what runs here, and what waits already, is through."""
        ...

    def start(self, jobs: list[BatchJob]) -> None:
        """Run some jobs one after the other; from any thread. Raises where the first cannot begin."""
        ...

    def latest(self, path: Path) -> Path:
        """The job whose turn it is of those that began with this one: it may be through before it is shown."""
        ...

    def moved(self, run: Run) -> None:
        """A run is about to be stopped here and to go on elsewhere."""
        ...

    def export(self, path: Path) -> None:
        """Write the results of a job: to a file that is asked for, or the files that its kind makes."""
        ...

    def write_files(self, path: Path) -> None:
        """Write the files that a job's kind makes, in a process of its own."""
        ...

    def is_writing(self, path: Path) -> bool:
        """Whether the files of a job are being written."""
        ...


class InSight(Protocol):
    """The jobs that run."""

    @property
    def running(self) -> Sequence[Running]:
        """Those of just now, here and elsewhere."""
        ...


class Services(Protocol):
    """What lives as long as the program: the workspace, the models, the runs, the ways to other screens."""

    workspace: Workspace
    ask_options: SamplingOptions | None  # of single prompts, for this session
    ask_chat: int | None  # that was on the screen last, in this session
    jobs_changed: Signal[None]
    models_changed: Signal[None]
    keys_shown: bool  # whether the panel of keys stands beside each screen

    @property
    def runs(self) -> dict[str, Run]:
        """The runs of this process by job id; they go on while screens change."""
        ...

    @property
    def in_sight(self) -> InSight:
        """What every screen says of the jobs that run."""
        ...

    @property
    def turns(self) -> JobQueue:
        """What follows the end of a run."""
        ...

    @property
    def registry(self) -> Registry:
        """The models; read when first asked for."""
        ...

    @property
    def engines(self) -> EnginePool:
        """What answers single prompts."""
        ...

    @property
    def preloading(self) -> Preloading:
        """The model of a run that is about to begin."""
        ...

    @property
    def watched(self) -> Path | None:
        """The job whose run is on the screen."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether the program has not ended."""
        ...

    def refresh_registry(self) -> None:
        """Look for models again; `models_changed` is published when that is done."""
        ...

    def start_run(
        self,
        job: BatchJob,
        plan: JobPlan | None = None,
        *,
        retry_failed: bool = False,
        allow_change: bool = False,
        wait: bool = True,
        first: int | None = None,
        at_random: bool = False,
    ) -> Run:
        """Run what is missing of a job in this process; from any thread. Raises when it cannot be locked or read.

        Without `wait` it does not stay for answers from a provider; with `first` only so many items are answered.
        """
        ...

    def handle_of(self, path: Path) -> RunHandle:
        """The run of a checkpoint: ours, or a watch on another process's."""
        ...

    def live_runs(self) -> list[Run]:
        """Runs of this process that are not over."""
        ...

    @property
    def markdown(self) -> bool:
        """Whether answers are shown as Markdown, wherever they are read."""
        ...

    def turn_markdown(self) -> None:
        """Show answers as Markdown from now on, or as they came; remembered."""
        ...

    def go(self, place: str, *args: Any, **kwargs: Any) -> None:
        """Go to a place of the table."""
        ...

    def open_results(self, path: Path) -> None:
        """Show a job's results, as its kind has them."""
        ...

    def open_run(self, path: Path) -> None:
        """Show a job's run: ours, or another process's."""
        ...

    def show_error(self, error: BaseException | str, retry: Callable[[], object] | None = None) -> None:
        """Say what went wrong; with `retry` as a question whether to try again. Never raises."""
        ...

    def apply_theme(self, name: str) -> None:
        """Switch to a theme of the settings."""
        ...

    def take_settings(self, settings: Settings) -> None:
        """Work with changed settings from now on."""
        ...

    def write_terminal(self, codes: str) -> None:
        """Send codes that draw nothing (bell, notification, clipboard) between two frames."""
        ...

    # Textual's own, for what is no screen or outlives one.

    def call_later(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        """Run something on the app's loop; from any thread."""
        ...

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = True,
    ) -> None:
        """A message at the edge of the screen."""
        ...


class Served:
    """A screen or dialog with its way to the app."""

    @property
    def services(self) -> Services:
        """What may be asked of the app."""
        return cast("Services", cast("Any", self).app)

    @property
    def alive(self) -> bool:
        """Whether its widgets are there: not yet closed, nor on the way to it."""
        node = cast("Any", self)
        return bool(node.is_mounted and node.is_attached and not (node._closing or node._closed or node._pruning))
