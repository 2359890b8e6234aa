"""The server engine's row in the table of engines, and how an entry becomes a server; imports no HTTP library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from batch import prices
from batch.engines.base import Engine
from batch.engines.http.server import PRESETS, WIRE_NAMES, Server
from batch.engines.registry import EngineOption, EngineRow
from batch.errors import BatchError, FatalError
from batch.items import Answer, Request
from batch.options import SamplingOptions, nearest


def _check(spec: Mapping[str, Any]) -> str:
    """What is wrong with an entry, beside single values."""
    try:
        server = server_of(spec)
    except (BatchError, TypeError, ValueError) as error:
        return str(error)
    return "" if server.base_urls else "a server's model needs its address there, url: http://…, or a provider"


def _lacks(spec: Mapping[str, Any]) -> str:
    """The key that is not there, as a sentence. A keyring is not opened for that: it may ask its user."""
    try:
        server = server_of(spec)
        if server.api_key_env:
            server.key()
    except (BatchError, TypeError, ValueError) as error:
        return str(error)
    return ""


ROW = EngineRow(
    "server",
    "server",
    "a server that speaks OpenAI's, Anthropic's or Ollama's language",
    factory="batch.engines.http.row:make",
    extra="servers",
    modules=("aiohttp",),
    forms=("url",),
    needs=("model",),
    options={
        "provider": EngineOption("whose server it is, which sets all that is known of it", choices=tuple(PRESETS)),
        "model": EngineOption("the model, as the server calls it"),
        "base_urls": EngineOption("addresses of servers with the same model, as one", list),
        "wire": EngineOption("what is asked, and how", choices=WIRE_NAMES),
        "api_key_env": EngineOption("the environment variable that holds the key"),
        "api_key_keyring": EngineOption("the key's place in the operating system's keyring, SERVICE/USER"),
        "key_header": EngineOption("the header that carries the key"),
        "headers": EngineOption("further headers", dict),
        "body": EngineOption("further keys of every request", dict),
        "accepts": EngineOption("sampling options that the server takes; others are left out", list),
        "max_tokens_name": EngineOption("how the server calls max_tokens"),
        "repetition_name": EngineOption("how the server calls repetition_penalty"),
        "schema": EngineOption(
            "how a JSON schema is asked for", choices=("json_schema", "json_object", "native", "none")
        ),
        "stream": EngineOption("whether answers are streamed; without it, while few are in flight", bool),
        "stream_usage": EngineOption("whether a stream may be asked for its token counts", bool),
        "context": EngineOption("tokens of prompt and answer together", int, minimum=1),
        "concurrency": EngineOption(
            "most requests in flight; without it what the server bears is found out", int, minimum=1
        ),
        "rpm": EngineOption("most requests a minute", int, minimum=1),
        "tpm": EngineOption("most tokens a minute", int, minimum=1),
        "rpd": EngineOption("most requests a day (UTC) that one run sends", int, minimum=1),
        "tokenizer": EngineOption("a tokenizer.json, or a folder with one, to count prompts with before they are sent"),
        "price": EngineOption(
            "dollars per million tokens: {input: 0.5, output: 1.5}, or a name in the price table", dict, or_text=True
        ),
        "retry_lost": EngineOption("ask again where an answer was lost, though it may cost again", bool),
        "on_alarm": EngineOption(
            "what a cut prompt, another model or an ignored schema does", choices=("note", "fail")
        ),
        "connect_timeout": EngineOption("seconds until a connection stands", float, minimum=0.001),
        "timeout": EngineOption("seconds until a whole answer", float, minimum=0.001),
        "first_timeout": EngineOption("seconds until an answer begins", float, minimum=0.001),
        "idle_timeout": EngineOption("seconds between two pieces of a stream", float, minimum=0.001),
        "patience": EngineOption("seconds without any server before the job stops", float, minimum=0),
        "ca_file": EngineOption("certificates to trust"),
        "proxy": EngineOption("the proxy's address; without it as the environment says"),
    },
    suits=lambda place: isinstance(place, str),
    check=_check,
    lacks=_lacks,
)


def make(
    spec: Mapping[str, Any], sampling: SamplingOptions, *, workers: int | None, timeout: float | None
) -> Engine[Request, Answer]:
    """The engine of an entry. `workers` are the run's to keep, which may change them while it runs."""
    from batch.engines.http.engine import HttpEngine

    server = server_of(spec)
    return HttpEngine(server, sampling, timeout=timeout)


def server_of(spec: Mapping[str, Any]) -> Server:
    """The server that an entry describes: what its provider's preset says, under what the entry says itself.

    Raises FatalError, naming the key, for what cannot be.
    """
    provider = spec.get("provider")
    if provider is not None and provider not in PRESETS:
        near = nearest(provider, PRESETS)
        hint = f"; did you mean {near}?" if near else ""
        raise FatalError(f"provider: {provider!r} is none of {', '.join(PRESETS)}{hint}")
    preset = dict(PRESETS[provider]) if provider else {}
    model = spec.get("model")
    if not model:
        raise FatalError("a server's model needs its name there: model: NAME")
    known = {spec_field.name for spec_field in fields(Server)} - {"price", "provider"}
    values = {**preset, **{name: value for name, value in spec.items() if name in known and value is not None}}
    if spec.get("url"):
        values["base_urls"] = (spec["url"], *(values["base_urls"] if spec.get("base_urls") else ()))
    values["base_urls"] = tuple(str(url) for url in values.get("base_urls", ()))
    if "accepts" in values:
        values["accepts"] = frozenset(values["accepts"])
    values["provider"] = str(preset.get("provider", provider or ""))
    return Server(**values, price=_price(spec.get("price"), str(model), values["provider"]))


def _price(said: Any, model: str, provider: str) -> prices.Price | None:
    if isinstance(said, Mapping):
        return prices.price_of(said, model, "models.yaml", provider)
    if isinstance(said, str):
        price = prices.find(said, provider or None) or prices.find(said)
        if price is None:
            raise FatalError(f"price: nothing is known of {said!r}; say it as {{input: …, output: …}}")
        return price
    return prices.find(model, provider) if provider else None
