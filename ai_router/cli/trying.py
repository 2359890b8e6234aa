"""`run --try N`: some prompts are answered, what they say of the rest is shown; then it is asked: go on?"""

from __future__ import annotations

from typing import NamedTuple

from ai_router import estimate, jobs
from ai_router.cli.display import Display
from ai_router.cli.errors import Exit
from ai_router.cli.following import follow
from ai_router.cli.session import Session, UsageError
from ai_router.cli.signals import Signals
from ai_router.cli.text import can_ask, clip, confirm, inert, plural
from batch.job import BatchJob, BatchResult

SHOWN = 3  # answers
RANDOM = "random:"


class Tries(NamedTuple):
    """How many prompts are tried: the first ones, or any."""

    number: int
    at_random: bool = False

    @classmethod
    def of(cls, text: str) -> Tries:
        """`20` or `random:20`; raises UsageError."""
        number = text.removeprefix(RANDOM)
        if not (number.isascii() and number.isdecimal() and int(number)):
            raise UsageError(f"--try: {text!r} is no number of prompts; as in 20 or random:20")
        return cls(int(number), number != text)


def try_first(
    session: Session, job: BatchJob, plan: jobs.JobPlan, tries: Tries, display: Display, signals: Signals, *, yes: bool
) -> int | None:
    """Answer some prompts; None where the rest may be answered too, else the exit code.

    What was tried is kept with the job. Raises what ended the run, where something did.
    """
    sample: list[BatchResult] = []
    signals.hold()
    try:
        run = jobs.start(
            session.registry, job, plan, on_results=sample.extend, first=tries.number, at_random=tries.at_random
        )
        signals.guard(run)
        follow(run, display, signals)
    finally:
        signals.release()
    resume = session.command("resume", job)
    if run.error is not None:
        display.alert(f"Resume with: {resume}")
        raise run.error
    if signals.exit_code is not None:
        display.alert(f"Resume with: {resume}")
        return signals.exit_code
    failed = [result for result in sample if not result.success]
    for result in [one for one in sample if one.success][:SHOWN]:
        display.note(f"  {clip(inert(result.prompt), 40)} → {clip(inert(result.response_text), 70)}")
    if failed:
        display.note(f"{plural(len(failed), 'prompt')} failed: {failed[0].error_message}")
    left = job.total_prompts - job.processed
    if not left:
        return None
    whole = estimate.after(sample, job.total_prompts, run.snapshot().elapsed)
    display.note(f"All of it by these {len(sample):,}: {whole.text}" if whole else "Nothing was answered")
    if yes or (can_ask() and confirm(f"Answer the other {left:,}?")):
        return None
    display.note(f"Answer the rest with: {resume}")
    return Exit.SOME_FAILED if failed else Exit.DONE
