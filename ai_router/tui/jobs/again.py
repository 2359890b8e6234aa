"""Again, with changes: the way from a job's items to a new job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_router.routing import AUTO
from ai_router.tui.base import BaseScreen
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.widgets.text import plural

if TYPE_CHECKING:
    from ai_router.again import JobItems


def run_again(
    screen: BaseScreen[Any], path: Path, ids: Sequence[int] | str, edits: Mapping[int, str] | None = None
) -> None:
    """Choose a model and options for some items of a job (ids, or a kind of them), then run them as a new job."""

    def read() -> tuple[JobItems, str]:
        from ai_router.again import JobItems, ids_of

        items = JobItems(path, ids_of(path, ids) if isinstance(ids, str) else ids, edits)
        return items, AUTO if items.routed else items.job.model_id

    def choose(found: tuple[JobItems, str]) -> None:
        source, model = found
        screen.services.go("again", source, len(source.ids), model)

    screen.in_thread(read, choose, busy="reading the job", group="again", keys_wait=True)


def run_as_before(
    screen: BaseScreen[Any], path: Path, ids: Sequence[int], edits: Mapping[int, str], model: str | None
) -> None:
    """Run some items of a job as a new one, with its model and options; beside another run in its turn.

    `model` answers where the job had several.
    """
    app = screen.services

    def begin() -> tuple[Path, bool]:
        from ai_router import jobs
        from ai_router.again import JobItems, as_before

        items = JobItems(path, ids, edits)
        plan, spec = as_before(app.registry, app.workspace, items, model)
        job = jobs.create_job(app.workspace, plan, items.requests(), None, spec, app.registry)
        assert job.checkpoint_file is not None
        if in_turn := bool(app.live_runs()):
            app.turns.add(job)
        else:
            app.start_run(job, plan)
        return job.checkpoint_file, in_turn

    def begun(found: tuple[Path, bool]) -> None:
        made, in_turn = found
        app.jobs_changed.publish(None)
        if in_turn:
            app.notify("It begins when what runs here is through", timeout=4)
        else:
            app.open_run(made)

    screen.in_thread(begin, begun, busy="starting the job", group="again", keys_wait=True)


def ask_which(
    screen: BaseScreen[Any], path: Path, counts: Mapping[str, int], chosen: Sequence[int] = (), word: str = "Marked"
) -> None:
    """Ask which items are to be run again, where there is a choice.

    `counts` are by kind; `chosen` are ids of marked items, or of others, which `word` names.
    """
    from ai_router.again import WRONG
    from ai_router.kinds import kind_at
    from ai_router.kinds.base import SCORE

    names = {"all": "All", "failed": "Failed", "done": "Answered", "pending": "Pending"}
    kinds = [kind for kind in names if counts.get(kind) and (kind == "all" or counts[kind] < counts["all"])]
    known = bool(counts.get("done")) and SCORE in kind_at(path).actions
    if not known and kinds == ["all"] and not chosen:
        run_again(screen, path, "all")
        return

    def answered(what: str | None) -> None:
        if what is not None:
            run_again(screen, path, chosen if what == "chosen" else what)

    buttons = [("chosen", f"{word} {len(chosen):,}", "primary")] if chosen else []
    buttons += [(kind, f"{names[kind]} {counts[kind]:,}", "" if buttons or at else "primary")
                for at, kind in enumerate(kinds)]  # fmt: skip
    if known:
        buttons.append((WRONG, "Wrong", ""))
    text = (
        f"A new job of its items, with a model and options to be chosen; this one, of {plural(counts['all'], 'item')},"
    )
    screen.app.push_screen(ConfirmDialog("Run which again?", f"{text} stays as it is.", buttons), answered)
