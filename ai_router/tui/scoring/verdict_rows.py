"""A scored pair as a screen says it: its verdict in a sign and a word, its texts with their differences."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

from ai_router.tui.scoring.spans import RowText, labelled, legend, same, too_long
from ai_router.tui.widgets.tabs import Tab
from ai_router.tui.widgets.text import one_line
from ai_router.tui.widgets.wrapping import Block

if TYPE_CHECKING:
    from batch.evaluation.pairs import Pair

ALL = Tab("all", "1", "≡", "all")
VERDICT_TABS = (
    Tab("right", "2", "✓", "right", style="success"),
    Tab("wrong", "3", "✗", "wrong", style="error"),
    Tab("over-corrected", "4", "+", "over-corrected", "over", "warning"),
    Tab("under-corrected", "5", "−", "under-corrected", "under", "warning"),
    Tab("not corrected", "6", "○", "not corrected", "same", "warning"),
    Tab("failed", "7", "!", "failed", style="error"),
    Tab("unscorable", "8", "?", "unscorable", "other", "muted"),
)
ONLY_OF_CORRECTIONS = ("over-corrected", "under-corrected", "not corrected")


def verdict_number(name: str) -> int | None:
    """A verdict as rows keep it; None for all."""
    from batch.evaluation.measure import VERDICTS
    from batch.evaluation.verdicts import Verdict

    return None if name == "all" else VERDICTS.index(Verdict(name))


@cache
def verdict_tab(number: int) -> Tab:
    """The tab of a verdict that rows keep."""
    from batch.evaluation.measure import VERDICTS

    return next(tab for tab in VERDICT_TABS if tab.name == VERDICTS[number])


def pair_text(pair: Pair, number: str, tab: Tab, width: int, *, correction: bool, marks: bool) -> RowText:
    """Input, expected and predicted text below each other, or the error."""
    from batch.evaluation.diff import diff

    name = one_line(pair.example_id, 40)
    parts = [number, f"{tab.sign} {tab.word}", one_line(pair.error_type or "", 40)]
    parts += [f"id {name}"] if name != number[2:].replace(",", "") else []
    note = too_long(pair.input, pair.expected, pair.predicted)
    if pair.error is not None:
        blocks = labelled([("input", same(pair.input)), ("expected", same(pair.expected))], width, marks=False)
        blocks += [Block("✗ FAILED", "error"), Block(pair.error)]
    else:
        shown = None if note else diff(pair.input, pair.expected, pair.predicted)
        texts = [
            ("input", shown.input if shown and correction else same(pair.input)),
            ("expected", shown.expected if shown and correction else same(pair.expected)),
            ("predicted", shown.predicted if shown else same(pair.predicted)),
        ]
        blocks = labelled(texts, width, marks=marks)
    record = {field: getattr(pair, field) for field in pair.__slots__ if getattr(pair, field) is not None}
    return RowText(
        title=" · ".join(filter(None, parts)),
        blocks=blocks,
        copied=pair.predicted if pair.error is None else pair.error,
        json=json.dumps({**record, "verdict": tab.name}, ensure_ascii=False),
        subtitle=note or ("" if pair.error is not None else legend(marks=marks)),
        number=number,
    )
