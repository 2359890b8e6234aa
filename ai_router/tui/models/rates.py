"""What scored jobs have shown of a model, as lines: by category, with n and the 95 % interval."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ai_router.models import Registry
    from ai_router.routing.evidence import Rate, Rates


def read_rates(registry: Registry) -> Rates:
    """The rates of all models, after what scored jobs have shown since was taken in. Reads files: for a thread."""
    from ai_router.routing.evidence import Evidence, gather

    gather(registry.workspace, registry)
    return Evidence.of(registry.workspace).rates()


def rate_lines(rates: Rates, model: str) -> Iterator[tuple[str, str]]:
    """Category and figures of each, all together first; nothing where nothing was graded."""
    if (overall := rates.overall.get(model)) is None:
        return
    yield "all", _figures(overall)
    for (name, category), rate in sorted(rates.by_category.items()):
        if name == model:
            yield category, _figures(rate)


def _figures(rate: Rate) -> str:
    if not rate.enough:
        return f"not enough evidence, n={rate.n:,}"
    return f"{rate.mean:.0%} right ({rate.low:.0%}–{rate.high:.0%}), n={rate.n:,}"
