"""`ai-router stats`: all jobs together."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from datetime import date, timedelta

from ai_router.cli.errors import Exit
from ai_router.cli.session import Session
from ai_router.cli.text import emit_json, is_terminal, narrate, plural, table, width_of
from ai_router.stats import Part, cost_text, read_stats

DESCRIPTION = "Items, tokens, cost, latency and failures of all jobs, by model, day and tag."
EXAMPLES = """\
examples:
  ai-router stats
  ai-router stats --days 7
  ai-router stats --tag nightly --json | jq .models
"""
HEADS = ("JOBS", "ANSWERED", "FAILED", "TOKENS IN", "OUT", "COST", "P50", "P95")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("--days", type=int, metavar="N", help="only jobs that changed in the last N days")
    parser.add_argument("--tag", metavar="TAG", default="", help="only jobs with this tag")
    parser.add_argument("--json", action="store_true", help="as JSON")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    since = (date.today() - timedelta(days=args.days - 1)).isoformat() if args.days else ""
    folder = session.workspace.checkpoints
    stats = read_stats(folder, since=since, tag=args.tag)
    if args.json:
        emit_json(stats.facts())
    elif not stats.total.jobs:
        narrate(f"There are no such jobs in {folder}; begin one with: ai-router run FILE")
    else:
        groups = [("MODEL", stats.models), ("DAY", stats.days), ("TAG", stats.tags)]
        texts = [_table(head, {**parts, "all": stats.total}) for head, parts in groups if parts]
        if stats.failures:
            rows = [[kind, f"{number:,}"] for kind, number in stats.failures.items()]
            texts.append(table(("FAILURE", "ITEMS"), rows, right=("ITEMS",), width=0))
        sys.stdout.write("\n\n".join(texts) + "\n")
    for path, reason in stats.skipped:
        narrate(f"Skipped: {reason if str(path) in reason else f'{path}: {reason}'}")
    if stats.skipped:
        narrate(f"{plural(len(stats.skipped), 'file')} skipped.")
    return Exit.DONE


def _table(head: str, parts: Mapping[str, Part]) -> str:
    width = width_of(sys.stdout) if is_terminal(sys.stdout) else 0
    rows = [[name, *figures(part)] for name, part in parts.items()]
    return table((head, *HEADS), rows, right=HEADS, width=width)


def figures(part: Part) -> list[str]:
    """The cells of a line, as HEADS has them."""
    sums = part.sums
    seconds = [sums.percentile(0.5), sums.percentile(0.95)]
    return [
        f"{part.jobs:,}",
        f"{sums.answered:,}",
        f"{sums.failed:,}",
        f"{sums.tokens_input:,}",
        f"{sums.tokens_output:,}",
        cost_text(sums),
        *("—" if value is None else f"{value:,.2f} s" for value in seconds),
    ]
