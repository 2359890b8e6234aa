"""`ai-router compare`: two to four models over one prompt or a file, side by side; or jobs that are there already."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ai_router import jobs
from ai_router.asking import ask_once
from ai_router.cli.display import make_display
from ai_router.cli.errors import Exit
from ai_router.cli.flags import add_flags, given
from ai_router.cli.following import AfterRun, run_job
from ai_router.cli.run import add_display_flags
from ai_router.cli.session import Session, UsageError
from ai_router.cli.signals import Signals
from ai_router.cli.text import can_ask, emit, emit_json, emit_json_list, inert, narrate, one_line, plural, table
from ai_router.models import ModelSpec, make_engine
from batch.job import BatchJob
from batch.options import RunOptions, SamplingOptions, build_options

if TYPE_CHECKING:
    from ai_router.comparing.answers import Compared, Row, Said

USAGE = "INPUT --models A,B[,C,D] | --prompt TEXT --models A,B | JOB [JOB …]"
DESCRIPTION = """\
Set two to four models side by side. Over a file each model gets a job of its own, linked with the others; where the
file holds known answers they are scored, and the difference is tested (McNemar). Jobs that are there already are
compared as they are. What you choose as the best answer is evidence for --model auto.
"""
EXAMPLES = """\
examples:
  ai-router compare --prompt "Where is the station?" --models demo,big
  ai-router compare test.jsonl --models demo,big,other
  ai-router compare prompts.txt --models demo,big --choose
  ai-router compare 1a2b3c4d 5e6f7a8b --markdown > comparison.md
"""
DEFAULT_SHOWN = 5
ALL, NONE = "a", "n"


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("what", nargs="*", metavar="INPUT|JOB", help="a file of prompts, or jobs over the same prompts")
    parser.add_argument("--models", metavar="A,B,…", help="the models, two to four")
    parser.add_argument("--prompt", metavar="TEXT", help="one prompt instead of a file")
    parser.add_argument("--match", metavar="HOW", default="exact", help="when an answer is right (default exact)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="all rows as JSON")
    form.add_argument("--markdown", action="store_true", help="as Markdown")
    parser.add_argument(
        "--show", type=int, metavar="N", default=DEFAULT_SHOWN, help="rows that differ to show (default 5)"
    )
    parser.add_argument("--choose", action="store_true", help="ask which answer is best, of each row that is shown")
    add_flags(parser, SamplingOptions)
    add_flags(parser, RunOptions)
    add_display_flags(parser)


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    from ai_router.comparing.answers import check_models

    if args.models is None:
        if args.prompt is not None or not args.what:
            raise UsageError("Which models? Say them with --models A,B, or name jobs to compare")
        return _told(_jobs(args.what, session), args, session)
    models = [session.registry.get(name.strip()) for name in args.models.split(",") if name.strip()]
    check_models([spec.id for spec in models])
    for spec in models:
        if not spec.ready:
            raise UsageError(f"Model {spec.id} is not ready: {spec.why}")
    if args.prompt is not None:
        if args.what:
            raise UsageError("Either a file or --prompt: both at once say two things")
        return _one(args, session, models)
    if len(args.what) != 1:
        raise UsageError("Which prompts? Name one file, or one prompt with --prompt TEXT")
    return _file(args, session, models)


# -- one prompt ---------------------------------------------------------------------------------------------------


def _one(args: argparse.Namespace, session: Session, models: Sequence[ModelSpec]) -> int:
    from ai_router.comparing.answers import Row, compared, request_of
    from ai_router.comparing.forms import document, markdown

    request_of(args.prompt)
    answers = tuple(_asked(spec, args) for spec in models)
    row = Row(1, args.prompt, answers)
    names = [spec.id for spec in models]
    if args.json:
        emit_json(document(compared(iter([row]), names), [row]))
    elif args.markdown:
        emit(markdown(compared(iter([row]), names), [row]).rstrip("\n"))
    else:
        _show(row)
    if args.choose or not (args.json or args.markdown):
        _choose(session, [row])
    return Exit.SOME_FAILED if any(answer.error for answer in answers) else Exit.DONE


def _asked(spec: ModelSpec, args: argparse.Namespace) -> Said:
    from ai_router.comparing.answers import Said, request_of

    sampling = build_options(SamplingOptions, {**spec.sampling, **given(args, SamplingOptions)})
    narrate(f"Asking {spec.id}…")
    engine = make_engine(spec, sampling, workers=1)
    response = asyncio.run(ask_once(engine, request_of(args.prompt), lambda text: None))
    if response is None:
        return Said(spec.id, None, "the engine gave no answer")
    text = response.data.text if response.data is not None else None
    error = response.error.message if response.error is not None else None
    return Said(
        spec.id, text, error, response.tokens_input, response.tokens_output, response.duration_ns / 1e9, response.cost
    )


# -- a file -------------------------------------------------------------------------------------------------------


def _file(args: argparse.Namespace, session: Session, models: Sequence[ModelSpec]) -> int:
    from ai_router.comparing.linked import make_linked

    display = make_display(args.display)
    run = build_options(RunOptions, given(args, RunOptions))
    with Signals() as signals:
        made = make_linked(
            session.workspace,
            session.registry,
            args.what[0],
            models,
            lambda spec: build_options(SamplingOptions, {**spec.sampling, **given(args, SamplingOptions)}),
            run=run,
            match=args.match,
            warn=lambda text: narrate(f"Warning: {text}"),
        )
        ids = [job.job_id for job, _ in made]
        narrate(f"Comparison of jobs {', '.join(ids)}")
        for job, plan in made:
            display.note(f"Job {job.job_id}: {plural(job.total_prompts, 'prompt')}, model {plan.model}")
            code = run_job(session, job, plan, AfterRun(), display, signals)
            if code not in (Exit.DONE, Exit.SOME_FAILED):
                narrate(f"Go on with ai-router resume, for each of {', '.join(ids)}; then: ai-router compare {ids[0]}")
                return code
    found = [jobs.open_job(session.workspace, name) for name in ids]
    return _told(found, args, session)


# -- jobs ---------------------------------------------------------------------------------------------------------


def _jobs(names: Sequence[str], session: Session) -> list[BatchJob]:
    """The jobs of these names; of one alone, those that it is linked with."""
    from ai_router.comparing.linked import linked_with

    found = [jobs.open_job(session.workspace, name) for name in names]
    return found if len(found) > 1 else linked_with(session.workspace, found[0])


def _told(found: Sequence[BatchJob], args: argparse.Namespace, session: Session) -> int:
    from ai_router.comparing.answers import check_jobs, compared, rows_of
    from ai_router.comparing.forms import figures_document, markdown, row_document

    check_jobs(found)
    made = compared(
        rows_of(found), [job.model_id for job in found], [job.job_id for job in found], keep=max(0, args.show)
    )
    if args.json:
        emit_json_list(figures_document(made), "rows", map(row_document, rows_of(found)))
    elif args.markdown:
        emit(markdown(made, made.rows, found[0].config.get("source", "")).rstrip("\n"))
    else:
        _tables(made)
        for row in made.rows:
            emit("")
            _show(row)
    if args.choose:
        _choose(session, made.rows)
    return Exit.SOME_FAILED if any(total.failed for total in made.totals) else Exit.DONE


def _tables(made: Compared) -> None:
    from ai_router.comparing.forms import PAIRS, TOTALS, pair_cells, totals_cells

    for heads, rows in (
        (TOTALS, [totals_cells(total) for total in made.totals]),
        (PAIRS, [pair_cells(pair) for pair in made.pairings]),
    ):
        upper = [head.upper() for head in heads]
        emit(table(upper, rows, right=upper[1:]))
        emit("")
    emit(f"The answers to {made.differing:,} of {plural(made.items, 'prompt')} are not all the same.")


def _show(row: Row) -> None:
    from ai_router.comparing.answers import differences
    from ai_router.comparing.forms import figures

    emit(f"{row.number}: {one_line(row.prompt, 110)}")
    if row.expected is not None:
        emit(f"   expected: {one_line(row.expected, 100)}")
    for at, (answer, shown) in enumerate(zip(row.answers, differences(row), strict=True), 1):
        if answer is not None:
            emit(f"{at}  {inert(answer.model)}  ({figures(answer)})")
            emit("".join(f"   {line}\n" for line in inert(shown, lines=True).splitlines()).rstrip("\n"))


def _choose(session: Session, rows: Sequence[Row]) -> None:
    """Ask which answer is best; nothing is asked where nobody is there."""
    import sys

    from ai_router.comparing.choice import choose
    from ai_router.routing.evidence import Evidence

    if not can_ask():
        return
    evidence = Evidence.of(session.workspace)
    for row in rows:
        keys = [str(at) for at, answer in enumerate(row.answers, 1) if answer is not None and answer.text is not None]
        sys.stderr.write(f"{row.number}: best of {', '.join(keys)}; {ALL} all, {NONE} none, enter to say nothing: ")
        sys.stderr.flush()
        said = sys.stdin.readline().strip().lower()
        if said in (*keys, ALL, NONE):
            best = {int(key) - 1 for key in (keys if said == ALL else [] if said == NONE else [said])}
            narrate(f"Kept as evidence: {plural(choose(evidence, row, best), 'graded answer')}")
