"""What is expected of a plan, in words and as a bar."""

from __future__ import annotations

from ai_router.routing.plan import Figures
from batch.prices import dollars


def sentence(figures: Figures, total: int) -> str:
    """What is expected, in one line."""
    said = []
    if figures.score is not None:
        mean, low, high = figures.score
        of = "" if figures.known == total else f" of the {figures.known:,} items that are known of"
        said.append(f"{mean:.0%} right expected{of} ({low:.0%}–{high:.0%})")
    else:
        said.append("no evidence of how much will be right")
    said.append(f"cost {cost_text(figures)}")
    if figures.seconds is not None:
        said.append(f"{figures.seconds:,.0f} s of answering, one after the other")
    return ", ".join(said)


def cost_text(figures: Figures) -> str:
    """`$6.10 ($5.80–$6.40)`; `unknown` where a price is not known."""
    if figures.cost is None:
        return "unknown"
    mean, low, high = (round(value) for value in figures.cost)
    return dollars(mean) if high - low < 1 else f"{dollars(mean)} ({dollars(low)}–{dollars(high)})"


def bar(figures: Figures, width: int = 20) -> str:
    """The share right from 0 to 1 as a bar: its interval `━`, its mean `●`; "" where nothing is known of it."""
    if figures.score is None:
        return ""
    mean, low, high = (min(width - 1, int(share * width)) for share in figures.score)
    return "".join("●" if at == mean else "━" if low <= at <= high else "·" for at in range(width))
