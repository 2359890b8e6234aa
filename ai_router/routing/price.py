"""What an answer of a model costs, before it is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ai_router.models import ModelSpec, Registry
from batch import prices
from batch.options import AS_MODEL


class Costs:
    """What an answer of a model costs, from its price and its tokens."""

    def __init__(self, registry: Registry, models: Iterable[str], lane: str = AS_MODEL) -> None:
        specs = {model: registry.get(model) for model in models}
        self._prices = {model: price_of(spec) for model, spec in specs.items()}
        self._batched = {model for model, spec in specs.items() if waits(spec, lane)}

    def of(self, model: str, tokens_input: int, tokens_output: float) -> float | None:
        """Billionths of a dollar; None where no price is known."""
        price = self._prices[model]
        if price is None:
            return None
        return price.cost(prices.Usage(tokens_input, round(tokens_output)), batch=model in self._batched)


def waits(spec: ModelSpec, lane: str = AS_MODEL) -> bool:
    """Whether a model answers in a provider's batches, for the price of these; `lane` is the run's."""
    said = spec.engine_options.get("lane") or "batch" if lane == AS_MODEL else lane
    return spec.engine == "provider" and said == "batch"


def price_of(spec: ModelSpec) -> prices.Price | None:
    """A model's price: none of a local one's, a server's as its entry says or as the table knows it."""
    if not spec.is_remote:
        return prices.FREE
    said = spec.engine_options.get("price")
    name = str(spec.engine_options.get("model", spec.id))
    provider = spec.engine_options.get("provider")
    if isinstance(said, Mapping):
        return prices.price_of(said, name, "models.yaml")
    return prices.find(str(said) if said else name, provider) or prices.find(name)
