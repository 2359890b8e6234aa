"""`ai-router jobs`: all jobs of the workspace."""

from __future__ import annotations

import argparse
import sys

from ai_router.cli.errors import Exit
from ai_router.cli.session import Session
from ai_router.cli.text import age, emit_json, is_terminal, narrate, plural, table, width_of
from ai_router.standings import next_verb, standing_of, told
from batch.checkpoint import CheckpointInfo, list_jobs
from batch.job import JobStatus
from batch.prices import NANOS

DESCRIPTION = "List all jobs, the one that changed last first."
EXAMPLES = """\
examples:
  ai-router jobs
  ai-router jobs --json | jq '.[] | select(.failed > 0) | .job_id'
"""
HEADS = ("ID", "STATUS", "PROGRESS", "FAILED", "MODEL", "AGE", "SOURCE")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("--tag", metavar="TAG", default="", help="only jobs with this tag")
    parser.add_argument("--json", action="store_true", help="as JSON")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    folder = session.workspace.checkpoints
    found = list_jobs(folder)
    if args.tag:
        found[:] = [info for info in found if args.tag in info.about.tags]
    if args.json:
        emit_json([facts(info) for info in found])
    elif found:
        width = width_of(sys.stdout) if is_terminal(sys.stdout) else 0
        rows = [_row(info) for info in found]
        sys.stdout.write(table(HEADS, rows, right=("PROGRESS", "FAILED", "AGE"), width=width) + "\n")
    else:
        narrate(f"There are no jobs in {folder}; begin one with: ai-router run FILE")
    for info in found if not args.json else ():
        if info.away and info.owner is None:
            standings = [standing_of(s) for s in info.away]
            said = ", ".join(filter(None, told(standings)))
            narrate(f"{info.job_id}: {said}: ai-router {next_verb(standings)} {info.job_id}")
    for path, reason in found.skipped:
        text = reason if str(path) in reason else f"{path}: {reason}"
        narrate(f"Skipped: {text}")
    if found.skipped:
        narrate(f"{plural(len(found.skipped), 'file')} skipped.")
    return Exit.DONE


def facts(info: CheckpointInfo) -> dict[str, object]:
    """A job of a listing, as JSON has it."""
    return {
        **info.as_dict(),
        "pid": info.owner.pid if info.owner else None,
        "created_at": info.created_at,
        "tokens_output": info.tokens_output,
        "elapsed": round(info.elapsed, 3),
        "source": info.source,
        "reason": info.reason,
        "name": info.about.name,
        "tags": list(info.about.tags),
        "note": info.about.note,
        "cost": info.cost / NANOS,
        "cost_unknown": info.cost_unknown,
        "batches": [
            {"name": s.name, "provider": s.provider, "count": s.count, "done": s.done, "at": s.at, "expires": s.expires}
            for s in map(standing_of, info.away)
        ],
    }


def status_text(status: str, pid: int | None) -> str:
    """A job's status in a word or two; one that says it runs, and is run by nobody, was interrupted."""
    if pid is not None:
        return f"running ({pid})"
    return "interrupted" if status == JobStatus.RUNNING else str(status)


def _row(info: CheckpointInfo) -> list[str]:
    done = info.completed + info.failed
    share = f"{int(done / info.total * 100)}%" if info.total else "—"
    return [
        info.job_id,
        status_text(info.status, info.owner.pid if info.owner else None),
        f"{done:,}/{info.total:,} {share:>4}",
        f"{info.failed:,}",
        info.model_id,
        age(info.timestamp),
        " ".join([info.about.name or info.source or "—", *(f"#{tag}" for tag in info.about.tags)]),
    ]
