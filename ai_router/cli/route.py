"""`ai-router route`: which model would answer each prompt of a file, why, and for how much; nothing runs."""

from __future__ import annotations

import argparse
from dataclasses import replace

from ai_router.cli import tables
from ai_router.cli.errors import Exit
from ai_router.cli.flags import add_flags, given
from ai_router.cli.routing import add_routing_flags, curve_table, lines_of, planned, router_for
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import emit, emit_json, inert, narrate
from batch.jobfile import JobFile, SourceOptions
from batch.options import SamplingOptions, build_options
from batch.sources import Source

USAGE = "INPUT [options]"
DESCRIPTION = """\
Print which model would answer each prompt of INPUT, why, what it would cost and how much would be right. Nothing runs.

The `routes:` of models.yaml decide first; what they leave is decided by what scored jobs have shown (`ai-router
evidence`): the most right answers for a budget, or the least cost for a share right.
"""
EXAMPLES = """\
examples:
  ai-router route prompts.txt
  ai-router route prompts.txt --budget 2.50 --curve
  ai-router route prompts.txt --explain 17
  ai-router run prompts.txt --model auto --quality 0.8
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("input", nargs="?", metavar="INPUT", help="file of prompts, or - for standard input")
    parser.add_argument(
        "--explain", metavar="N", type=int, help="say of one item, the Nth, what it is and why it goes there"
    )
    parser.add_argument("--curve", action="store_true", help="each model alone, auto, and what lies between")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--template", metavar="FILE", help="a Jinja template over INPUT's columns")
    parser.add_argument(
        "--max-tokens", metavar="N", type=int, default=256, help="most tokens an answer may have (default 256)"
    )
    add_routing_flags(parser)
    add_flags(parser, SourceOptions, skip=["path", "template"])


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    if args.input is None:
        raise UsageError("Which prompts? Name a file, or - for standard input: ai-router route FILE")
    options = replace(SourceOptions(), path=args.input, template=args.template, **given(args, SourceOptions))
    router = router_for(session, args)
    with tables.source_of(JobFile(source=options)) as source:
        sampling = build_options(SamplingOptions, {"max_tokens": args.max_tokens})
        plan = planned(router, source, args, sampling, lambda text: None, curve=args.curve)
        if args.explain is not None:
            _explain(args.explain, router, plan, source)
            return Exit.DONE
    if args.json:
        emit_json(_facts(plan))
        return Exit.DONE
    for line in lines_of(plan):
        emit(line)
    if args.curve:
        emit("")
        emit(curve_table(plan))
    return Exit.DONE


def _explain(number: int, router: object, plan: object, source: Source) -> None:
    from ai_router.routing.categories import probabilities
    from ai_router.routing.cues import CATEGORIES
    from ai_router.routing.language import language_of
    from ai_router.routing.plan import FilePlan
    from ai_router.routing.router import Router
    from ai_router.routing.rules import about_tokens

    assert isinstance(plan, FilePlan) and isinstance(router, Router)
    if not 1 <= number <= len(plan):
        raise UsageError(f"There is no item {number}; the file has {len(plan):,}")
    request = next(item for at, item in enumerate(source, 1) if at == number)
    emit(f"item      {number}: {inert(' '.join(request.text.split()))[:200]}")
    shares = sorted(zip(probabilities(request.text), CATEGORIES, strict=True), reverse=True)[:3]
    emit("category  " + ", ".join(f"{name} {share:.0%}" for share, name in shares))
    emit(f"language  {language_of(request.text)}, about {about_tokens(request.text):,} tokens")
    emit(f"model     {inert(plan.lanes[plan.lane_of[number - 1]])}")
    emit(f"why       {inert(plan.reasons[plan.reason_of[number - 1]])}")
    category = shares[0][1]
    for model in router.allowed:
        rate = router.rates.of(model, category)
        if rate is None or not rate.enough:
            narrate(f"{model}: not enough evidence for {category} ({rate.n if rate else 0} graded)")
        else:
            chance = router.chances(request.text, [model]).get(model, rate.mean)
            shown = f"{rate.right:g} of {rate.n} graded ({rate.low:.0%}–{rate.high:.0%})"
            emit(f"  {model}: {chance:.0%} right expected; {shown}")


def _facts(plan: object) -> dict[str, object]:
    from dataclasses import asdict

    from ai_router.routing.plan import FilePlan

    assert isinstance(plan, FilePlan)
    return {
        "items": len(plan),
        "models": dict(plan.counts()),
        "reasons": [{"model": lane, "why": why, "items": count} for lane, why, count in plan.why()],
        "categories": dict(plan.categories),
        "expected": asdict(plan.figures) if plan.figures else None,
        "curve": [asdict(one) for one in plan.curve],
        "notes": plan.notes,
    }
