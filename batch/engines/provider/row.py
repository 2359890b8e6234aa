"""The provider engine's row in the table of engines, and how an entry becomes one; imports no provider's library."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from batch import prices
from batch.engines.base import Engine
from batch.engines.provider.base import Page, Settings, key_of, project_of
from batch.engines.registry import EngineOption, EngineRow
from batch.errors import BatchError, FatalError
from batch.items import Answer, Request
from batch.options import SamplingOptions, nearest

if TYPE_CHECKING:
    from batch.engines.provider.engine import ProviderEngine
    from batch.engines.provider.gemini import GeminiPage

# Whose batch API, and where its page is made.
PAGES: Mapping[str, str] = {
    "openai": "batch.engines.provider.shaped:page",
    "anthropic": "batch.engines.provider.anthropic:AnthropicPage",
    "gemini": "batch.engines.provider.gemini:GeminiPage",
    "vertex": "batch.engines.provider.gemini:VertexPage",
    "openrouter": "batch.engines.provider.openrouter:OpenRouterPage",
    "groq": "batch.engines.provider.shaped:page",
    "together": "batch.engines.provider.shaped:page",
    "mistral": "batch.engines.provider.shaped:page",
    "azure": "batch.engines.provider.shaped:page",
    "gateway": "batch.engines.provider.shaped:page",
}
LANES = ("batch", "now", "auto")
_PRICED = {"gemini": "google", "vertex": "google"}
_AT_ONCE = {"gateway": ""}  # providers of the server engine that are called otherwise there
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """A length of time such as `6h`, `90m` or `45` (seconds). Raises ValueError."""
    match = _SPAN.fullmatch(str(text).strip().lower())
    if match is None or not float(match[1]):
        raise ValueError(f"{text!r} is no length of time such as 6h or 90m")
    return float(match[1]) * _UNITS[match[2]]


def _check(spec: Mapping[str, Any]) -> str:
    try:
        settings = settings_of(spec)
        if settings.lane != "batch" and settings.provider != "vertex":
            _at_once(spec)
    except (BatchError, TypeError, ValueError) as error:
        return str(error)
    return ""


def _lacks(spec: Mapping[str, Any]) -> str:
    """The key, project or bucket that is not there, as a sentence."""
    try:
        settings = settings_of(spec)
        if settings.provider != "vertex":
            key_of(settings)
            return ""
        project_of(settings)
        return "" if settings.bucket else "Vertex AI needs a bucket of Cloud Storage for its files: bucket"
    except (BatchError, TypeError, ValueError) as error:
        return str(error)


ROW = EngineRow(
    "provider",
    "provider",
    "a provider's batch API: half the price, answers within a day",
    factory="batch.engines.provider.row:make",
    extra="providers",
    modules=("openai", "anthropic", "google.genai"),
    forms=("url",),
    needs=("provider", "model"),
    options={
        "provider": EngineOption("whose batch API it is", choices=tuple(PAGES)),
        "model": EngineOption("the model, as the provider calls it"),
        "api_key_env": EngineOption("the environment variable that holds the key"),
        "headers": EngineOption("further headers", dict),
        "body": EngineOption("further keys of every request", dict),
        "bucket": EngineOption("the bucket of Cloud Storage for the files (vertex)"),
        "project": EngineOption("the project (vertex)"),
        "location": EngineOption("the region (vertex)"),
        "window": EngineOption("the time the provider may take, as it writes it"),
        "lane": EngineOption(
            "batch: wait; now: ask at once at the standard price; auto: what is not there near the deadline at once",
            choices=LANES,
        ),
        "deadline": EngineOption("for lane auto, as in 6h"),
        "max_requests": EngineOption("most requests in one batch", int, minimum=1),
        "max_bytes": EngineOption("most bytes in one batch", int, minimum=1000),
        "poll": EngineOption("seconds between two looks", float, minimum=0.01),
        "grace": EngineOption(
            "seconds until an order that was not answered and is not found is taken for not made", float, minimum=0
        ),
        "timeout": EngineOption("seconds one call may take", float, minimum=0.001),
        "tokenizer": EngineOption("a tokenizer.json, or a folder with one, to count prompts with before they are sent"),
        "price": EngineOption(
            "dollars per million tokens: {input: 1, output: 4, batch: {input: 0.5, output: 2}}, or a name in the table",
            dict,
            or_text=True,
        ),
    },
    suits=lambda place: False,
    check=_check,
    lacks=_lacks,
)


def settings_of(spec: Mapping[str, Any]) -> Settings:
    """What an entry says. Raises FatalError, naming the key, for what cannot be."""
    provider, model = str(spec.get("provider") or ""), str(spec.get("model") or "")
    if provider not in PAGES:
        near = nearest(provider, PAGES)
        raise FatalError(
            f"provider: {provider!r} is none of {', '.join(PAGES)}" + (f"; did you mean {near}?" if near else "")
        )
    if not model:
        raise FatalError("a provider's model needs its name there: model: NAME")
    if provider in ("azure", "gateway") and not spec.get("url"):
        raise FatalError(f"url: {provider} has no address of its own")
    lane = spec.get("lane") or "batch"
    if lane not in LANES:
        raise FatalError(f"lane: {lane!r} is none of {', '.join(LANES)}")
    deadline = spec.get("deadline")
    if lane == "auto" and not deadline:
        raise FatalError("lane: auto needs a deadline, such as 6h")
    try:
        limit = seconds(deadline) if deadline else None
    except ValueError as error:
        raise FatalError(f"deadline: {error}") from None
    plain = ("api_key_env", "bucket", "project", "location", "window", "poll", "grace", "timeout")
    values = {name: spec[name] for name in (*plain, "headers", "body") if spec.get(name) is not None}
    if "bucket" in values:
        values["bucket"] = str(values["bucket"]).removeprefix("gs://").strip("/")
    return Settings(
        provider,
        model,
        base_url=spec.get("url"),
        most_requests=spec.get("max_requests"),
        most_bytes=spec.get("max_bytes"),
        lane=lane,
        deadline=limit,
        price=_price(spec.get("price"), model, _PRICED.get(provider, provider)),
        **values,
    )


def open_page(settings: Settings) -> Page:
    """The page of a provider; imports its library. Raises FatalError without a key."""
    from batch.engines.registry import load

    page: Page = load(PAGES[settings.provider])(settings)
    return page


def make(
    spec: Mapping[str, Any], sampling: SamplingOptions, *, workers: int | None, timeout: float | None
) -> ProviderEngine:
    """The engine of an entry; `timeout` is for what is asked at once."""
    from batch.engines.provider.engine import ProviderEngine

    settings = settings_of(spec)
    rescue = _rescue(spec, sampling, workers, timeout) if settings.lane != "batch" else None
    return ProviderEngine(settings, lambda: open_page(settings), sampling, rescue=rescue)


def _rescue(
    spec: Mapping[str, Any], sampling: SamplingOptions, workers: int | None, timeout: float | None
) -> Callable[[], Engine[Request, Answer]]:
    from batch.engines.http import row as http

    if (settings := settings_of(spec)).provider == "vertex":
        from batch.engines.provider.at_once import AtOnce

        return lambda: AtOnce(settings, lambda: cast("GeminiPage", open_page(settings)), sampling, workers)
    said = _at_once(spec)
    if workers is not None:
        said.setdefault("concurrency", workers)
    return lambda: http.make(said, sampling, workers=workers, timeout=timeout)


def _at_once(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of the server that answers at once, at the standard price. Raises FatalError where there is none."""
    from batch.engines.http import row as http

    names = set(http.ROW.options) - {"timeout"} | {"url"}
    said = {name: value for name, value in spec.items() if name in names}
    if said["provider"] == "gemini" and said.get("url"):  # where Google itself speaks OpenAI's language
        said["url"] = f"{str(said['url']).rstrip('/')}/v1beta/openai"
    said["provider"] = _AT_ONCE.get(said["provider"], said["provider"])
    if not said["provider"]:
        del said["provider"]
    http.server_of(said)
    return said


def _price(said: Any, model: str, provider: str) -> prices.Price | None:
    if isinstance(said, Mapping):
        return prices.price_of(said, model, "models.yaml", provider)
    if isinstance(said, str):
        price = prices.find(said, provider) or prices.find(said)
        if price is None:
            raise FatalError(f"price: nothing is known of {said!r}; say it as {{input: …, output: …}}")
        return price
    return prices.find(model, provider)
