"""`--model auto` on the command line: its flags, the router they mean, and how a plan is told."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import inert, narrate, plural, table
from batch.options import AS_MODEL, SamplingOptions
from batch.sources import Source

if TYPE_CHECKING:
    from ai_router.routing.plan import FilePlan, Wish
    from ai_router.routing.router import Router

MOST_REASONS = 12
_FLAGS = ("models", "budget", "quality", "dial", "explore")


def add_routing_flags(parser: argparse.ArgumentParser, *, wishes: bool = True, budget: bool = True) -> None:
    """What may be said of a choice among models; `wishes` are of a whole file. A run has a `budget` of its own."""
    group = parser.add_argument_group("routing (with --model auto)")
    group.add_argument(
        "--models", metavar="A,B,…", help="the only models that may answer (default: those of the routes)"
    )
    if not wishes:
        return
    if budget:
        group.add_argument(
            "--budget", metavar="X", type=float, help="dollars that the whole may cost at most, as expected"
        )
    group.add_argument(
        "--quality", metavar="X", type=float, help="share right that is wanted (0 to 1), for the least cost"
    )
    group.add_argument("--dial", metavar="X", type=float, help="between the cheapest (0) and the best (1)")
    group.add_argument("--explore", metavar="X", type=float, help="share of items for a random one of the models")


def refuse_flags(args: argparse.Namespace) -> None:
    """Raise where routing flags stand beside a model that is no choice."""
    if said := [name for name in _FLAGS if getattr(args, name, None) is not None]:
        raise UsageError(f"--{said[0]} chooses among models, and one is named; it goes with --model auto")


def wish_of(args: argparse.Namespace, budget: float | None = None) -> Wish:
    """What is wanted of the file, checked; `budget` is that of the run, where there is one."""
    from ai_router.routing.plan import Wish

    for name in ("quality", "dial", "explore"):
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"--{name} is from 0 to 1, not {value:g}")
    budget = getattr(args, "budget", None) if budget is None else budget
    if budget is not None and not 0 <= budget < 1e9:
        raise UsageError(f"--budget is a number of dollars, not {budget:g}")
    return Wish(budget, args.quality, args.dial, args.explore or 0.0)


def router_for(session: Session, args: argparse.Namespace) -> Router:
    """The router of the workspace, after what its scored jobs have shown since was taken in."""
    from ai_router.routing.workspace import router_of

    router, notes = router_of(session.registry, [n.strip() for n in (args.models or "").split(",") if n.strip()])
    for note in notes:
        narrate(f"Evidence: {note}")
    return router


def planned(
    router: Router,
    source: Source,
    args: argparse.Namespace,
    sampling: SamplingOptions,
    busy: Callable[[str], None],
    *,
    curve: bool = False,
    budget: float | None = None,
    lane: str = AS_MODEL,
) -> FilePlan:
    """The plan of a file."""
    from ai_router.routing.planning import plan_file

    def progress(count: int) -> None:
        busy(f"Routing… {count:,} prompts")

    wish = wish_of(args, budget)
    made = plan_file(router, source, wish, sampling=sampling, progress=progress, curve=curve, lane=lane)
    busy("")
    return made


def lines_of(plan: FilePlan) -> list[str]:
    """A plan, for people to read."""
    from ai_router.routing.words import sentence

    rows = [[inert(lane), f"{count:,}", inert(why)] for lane, why, count in plan.why()[:MOST_REASONS]]
    found = table(("MODEL", "ITEMS", "WHY"), rows, right=("ITEMS",)).splitlines()
    if (more := len(plan.why()) - MOST_REASONS) > 0:
        found.append(f"… and {plural(more, 'reason')} more")
    if plan.figures is not None:
        found.append(sentence(plan.figures, len(plan)))
    return found + plan.notes


def curve_table(plan: FilePlan) -> str:
    """Each model alone, auto, and what lies between."""
    from ai_router.routing.words import cost_text

    rows = []
    for one in plan.curve:
        score = "unknown" if one.score is None else f"{one.score[0]:.1%} ({one.score[1]:.1%}–{one.score[2]:.1%})"
        seconds = "unknown" if one.seconds is None else f"{one.seconds:,.0f} s"
        rows.append([one.name, score, f"{one.known:,}", cost_text(one), seconds])
    heads = ("PLAN", "RIGHT (95 %)", "KNOWN OF", "COST (95 %)", "TIME")
    return table(heads, rows, right=heads[1:])
