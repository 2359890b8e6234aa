"""`ai-router show`: one job, its figures and its first results."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import Any

from ai_router import jobs
from ai_router.cli.errors import Exit
from ai_router.cli.jobs import status_text
from ai_router.cli.session import Session
from ai_router.cli.text import cut_text, emit, emit_json, is_terminal, one_line, width_of
from ai_router.kinds import counted, kind_of
from batch.checkpoint import CheckpointStore, lock_owner
from batch.checkpoint.rows import Part
from batch.job import BatchJob, BatchResult
from batch.running.progress import RunState, format_duration, job_snapshot
from batch.slo import ServiceLevel, job_levels

USAGE = "JOB [options]"
DESCRIPTION = "Show a job: where it stands, how fast it was, what failed, and its first results."
EXAMPLES = """\
examples:
  ai-router show 1a2b3c4d
  ai-router show 1a --failed --limit 0
  ai-router show 1a --json | jq .performance
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("job", metavar="JOB", help="id, beginning of an id, or file of a job")
    parser.add_argument("--failed", action="store_true", help="failures instead of the first results")
    parser.add_argument("--full", action="store_true", help="whole prompts and answers instead of a line each")
    parser.add_argument("--limit", type=_limit, default=10, metavar="N", help="most results; 0 is all (default 10)")
    parser.add_argument("--json", action="store_true", help="as JSON")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    job = jobs.open_job(session.workspace, args.job)
    assert job.checkpoint_file is not None
    owner = lock_owner(job.checkpoint_file)
    pid = owner.pid if owner else None
    with CheckpointStore(job.checkpoint_file) as store:
        performance = store.performance()
        errors = store.error_counts()
        results = _first(store, "failed" if args.failed else "done", args.limit)
    if args.json:
        emit_json(_document(job, pid, performance, errors, results))
        return Exit.DONE
    for name, value in _figures(job, pid, performance):
        emit(f"{name:<10}{value}")
    if errors:
        emit("errors")
        for kind, message, count in errors:
            emit(f"  {count:,} × {kind}: {one_line(message, 160)}")
    _show_results(results, job, args, session)
    return Exit.DONE


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")


def _first(store: CheckpointStore, part: Part, limit: int) -> list[BatchResult]:
    if limit == 0:
        return list(store.iter_results(part=part))
    return store.results(part=part, limit=limit)


def _figures(job: BatchJob, pid: int | None, performance: dict[str, Any]) -> list[tuple[str, str]]:
    kind = kind_of(job.kind)
    left = job.total_prompts - job.processed
    status = status_text(job.status, pid) + (f": {job.reason}" if job.reason and pid is None else "")
    figures = [
        ("job", job.job_id),
        ("status", status),
        ("model", job.model_id),
        ("source", str(job.config.get("source") or "—")),
        (f"{kind.item}s", f"{job.total_prompts:,}: {job.completed:,} done, {job.failed:,} failed, {left:,} left"),
        ("created", job.created_at[:19].replace("T", " ")),
    ]
    if job.completed_at:
        figures.append(("ended", job.completed_at[:19].replace("T", " ")))
    if job.elapsed:
        speed = job.tokens_output / job.elapsed
        each = job.processed / job.elapsed
        rates = f"{each:,.1f} prompts/s, {speed:,.1f} tokens/s"
        if kind.unit:
            done = counted(job_snapshot(job, RunState.STOPPED), job)
            figures.append((f"{kind.unit}s", f"{done.completed:,} of {done.total:,} done"))
            rates = f"{done.completed / job.elapsed:,.0f} {kind.unit}s/s"
        figures.append(("time", f"{format_duration(job.elapsed)}; {rates}"))
    if not kind.unit:
        figures.append(("tokens", f"{job.tokens_input:,} read, {job.tokens_output:,} written"))
    if performance["cut"]:
        figures.append(("cut", cut_text(performance["cut"])))
    if performance["answers"]:
        seconds = " · ".join(
            f"{label} {performance[key]:,.2f} s"
            for label, key in (
                ("mean", "mean_seconds"),
                ("p50", "p50_seconds"),
                ("p95", "p95_seconds"),
                ("longest", "longest_seconds"),
            )
        )
        figures.append(("answers", seconds))
        if performance["attempts"] > performance["answers"]:
            figures.append(("attempts", f"{performance['attempts']:,} for {performance['answers']:,} answers"))
    for level in _levels(job, performance):
        figures.append(("slo", str(level)))
    options = {**job.config.get("sampling", {}), **job.config.get("run", {})}
    if options:
        figures.append(("options", one_line(", ".join(f"{k} {v}" for k, v in options.items()), 200)))
    figures += kind.figures(job)
    figures.append(("file", str(job.checkpoint_file)))
    return figures


def _levels(job: BatchJob, performance: dict[str, Any]) -> tuple[ServiceLevel, ...]:
    return job_levels(job.config.get("run", {}).get("slo", ()), performance, job.elapsed)


def _show_results(results: list[BatchResult], job: BatchJob, args: argparse.Namespace, session: Session) -> None:
    of = job.failed if args.failed else job.completed
    what = "failures" if args.failed else "results"
    if not results:
        emit(f"\nno {what}")
        return
    emit(f"\n{what}, {len(results):,} of {of:,}")
    width = max(40, width_of(sys.stdout) if is_terminal(sys.stdout) else 120)
    for result in results:
        answer = result.response_text if result.success else f"{result.error_class}: {result.error_message}"
        if args.full:
            emit(f"\n[{result.prompt_index}] {result.prompt}\n→ {answer}")
            continue
        emit(f"  {result.prompt_index:>5}  {one_line(result.prompt, width // 3)}")
        emit(f"         {one_line(answer, width - 10)}")
    if not args.failed and job.failed:
        emit(f"\nfailures: {session.command('show', job, ['--failed'])}")


def _document(
    job: BatchJob,
    pid: int | None,
    performance: dict[str, Any],
    errors: list[tuple[str, str, int]],
    results: list[BatchResult],
) -> dict[str, Any]:
    from batch.export.records import line_record

    return {
        "job_id": job.job_id,
        "model_id": job.model_id,
        "status": str(job.status),
        "pid": pid,
        "reason": job.reason,
        "total": job.total_prompts,
        "completed": job.completed,
        "failed": job.failed,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "completed_at": job.completed_at,
        "elapsed": job.elapsed,
        "tokens_input": job.tokens_input,
        "tokens_output": job.tokens_output,
        "config": job.config,
        "file": str(job.checkpoint_file),
        "performance": performance,
        "service_levels": [asdict(level) for level in _levels(job, performance)],
        "errors": [{"class": kind, "message": message, "count": count} for kind, message, count in errors],
        "results": [line_record(result) for result in results],
    }
