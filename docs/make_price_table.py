"""Writes batch/prices.json from the data of the package genai-prices (MIT): `pip install genai-prices` first.

Only models in use and facts are taken: rates in dollars per million tokens, tiers by the length of the prompt, the
rates of batch APIs, hours with other rates, and the length of the context.
"""

from __future__ import annotations

import datetime
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

MODELS = {
    "openai": """gpt-6-astra gpt-6-sol gpt-6-luna gpt-6.1-sol gpt-6.1-terra gpt-5.6-luna gpt-5.6-sol gpt-5.6-terra
        gpt-5.5 gpt-5.4 gpt-5.4-mini gpt-5.4-nano gpt-5.2 gpt-5.1 gpt-5 gpt-5-mini gpt-5-nano
        gpt-4.1 gpt-4.1-mini gpt-4.1-nano gpt-4o gpt-4o-mini gpt-3.5-turbo o3 o4-mini
        text-embedding-3-large text-embedding-3-small""",
    "anthropic": """claude-opus-5-5 claude-opus-5 claude-opus-4-8 claude-opus-4-5 claude-sonnet-5-5 claude-sonnet-5
        claude-sonnet-4-6 claude-sonnet-4-5 claude-haiku-5-5 claude-haiku-4-5 claude-fable-5-2""",
    "google": """gemini-4-argon gemini-3.8-flash gemini-3.7-flash gemini-3.6-flash gemini-3.5-flash
        gemini-3.5-flash-lite gemini-3.1-pro-preview gemini-3.1-flash-lite
        gemini-2.5-pro gemini-2.5-flash gemini-2.5-flash-lite gemini-2.0-flash gemini-embedding-001""",
    "deepseek": "deepseek-chat deepseek-reasoner deepseek-flash deepseek-v4-flash deepseek-v4-pro",
    "mistral": """mistral-large-4 mistral-large-2512 mistral-medium-latest mistral-medium-3-5 mistral-small-latest
        ministral-8b-latest codestral mistral-nemo""",
    "groq": """openai/gpt-oss-120b openai/gpt-oss-20b llama-3.3-70b-versatile
        llama-3.1-8b-instant qwen/qwen3-32b""",
    "x-ai": "grok-4.7 grok-4.6 grok-4.5 grok-4.20 grok-4-1-fast-non-reasoning grok-code-fast-1",
    "together": "openai/gpt-oss-120b meta-llama/Llama-3.3-70B-Instruct-Turbo Qwen/Qwen3.8-Flash",
    "openrouter": "openai/gpt-oss-120b openai/gpt-oss-20b moonshotai/kimi-k3 qwen/qwen3-235b-a22b",
}
NAMES = {"input_mtok": "input", "output_mtok": "output", "cache_read_mtok": "cached", "cache_write_mtok": "cache_write"}
OUT = Path(__file__).parent.parent / "batch" / "prices.json"


def number(value: Any) -> float | int:
    """JSON's shortest form of a Decimal."""
    return int(value) if value == int(value) else float(value)


def rates_of(price: Any) -> dict[str, Any]:
    """The rates of a price, and those above a length of the prompt."""
    rates: dict[str, Any] = {}
    above: dict[int, dict[str, Any]] = {}
    for theirs, ours in NAMES.items():
        value = getattr(price, theirs)
        if value is None:
            continue
        if hasattr(value, "base"):
            for tier in value.tiers:
                above.setdefault(tier.start, {})[ours] = number(tier.price)
            value = value.base
        rates[ours] = number(value)
    if above:
        rates["above"] = [{"tokens": start, **tier} for start, tier in sorted(above.items())]
    return rates


def entry_of(provider: Any, model: Any, today: datetime.date) -> dict[str, Any]:
    """One line of the table."""
    prices = model.prices if isinstance(model.prices, list) else []
    rates, windows = {} if prices else rates_of(model.prices), []
    for conditional in prices:  # later ones go before earlier ones, as far as they hold today
        constraint = conditional.constraint
        if constraint is None:
            rates = rates_of(conditional.prices)
        elif hasattr(constraint, "start_date") and not hasattr(constraint, "start_time"):
            if constraint.start_date <= today:
                rates = rates_of(conditional.prices)
        else:
            window: dict[str, Any] = {
                "from": constraint.start_time.strftime("%H:%M"),
                "to": constraint.end_time.strftime("%H:%M"),
            }
            if provider.id == "deepseek" and constraint.start_time.hour in (1, 6):
                window["days"] = "mon-fri"  # as the provider's page says; the data has no days
            windows.append({**window, **rates_of(conditional.prices)})
    entry: dict[str, Any] = {"provider": provider.id, "model": model.id}
    if model.context_window:
        entry["context"] = model.context_window
    entry |= rates
    for variant in getattr(model, "price_variants", None) or []:
        if variant.when in ({"processing": "batch"}, {"service_tier": "batch"}):
            batch = rates_of(variant.prices)
            if batch:
                entry["batch"] = batch
    if windows:
        entry["windows"] = windows
    return entry


def main() -> None:
    """Write the table."""
    from genai_prices import data

    providers = {provider.id: provider for provider in data.providers}
    today = datetime.date.today()
    entries, missing = [], []
    for provider_id, names in MODELS.items():
        models = {model.id: model for model in providers[provider_id].models}
        for name in names.split():
            if name in models:
                entries.append(entry_of(providers[provider_id], models[name], today))
            else:
                missing.append(f"{provider_id}/{name}")
    table = {
        "source": f"genai-prices {version('genai-prices')} (MIT)",
        "date": today.isoformat(),
        "unit": "dollars per million tokens",
        "models": entries,
    }
    lines = ",\n".join("    " + json.dumps(entry) for entry in entries)
    head = json.dumps({name: value for name, value in table.items() if name != "models"}, indent=2)[:-2]
    OUT.write_text(f'{head},\n  "models": [\n{lines}\n  ]\n}}\n', encoding="utf-8")
    print(f"{len(entries)} models; not found: {', '.join(missing) or 'none'}")


if __name__ == "__main__":
    main()
