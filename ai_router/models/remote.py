"""A model on a server by its address or by its provider's name: `http://127.0.0.1:8080/v1#NAME`, `groq/NAME`."""

from __future__ import annotations

from urllib.parse import unquote, urldefrag, urlsplit

from ai_router.models.discovery.describe import describe
from ai_router.models.spec import ModelSpec
from batch.engines.http.probe import Found, models_of, ollama_models
from batch.engines.http.server import PRESETS, check_url, is_loopback
from batch.errors import BatchError, FatalError

OLLAMA_PORT = 11434
SHOWN = 8


class ServerModelError(BatchError):
    """A server has no such model, or cannot be asked for one; the text says what it has."""


def remote_spec(name: str) -> ModelSpec | None:
    """The model that a name stands for by itself, or None where it is no address and no provider's.

    Without `#NAME` the server is asked for its models, and the first one is taken. Raises ServerModelError.
    """
    if name.startswith(("http://", "https://")):
        return specs_at(name)[0]
    provider, _, model = name.partition("/")
    if provider not in PRESETS:
        return None
    if model:
        return _of(provider, model)
    urls = PRESETS[provider].get("base_urls", ())
    if not urls or not is_loopback(urls[0]):
        raise ServerModelError(f"{provider} has many models; say which: {provider}/NAME")
    return _of(provider, _listed(urls[0], PRESETS[provider].get("wire") == "ollama")[0].name)


def spec_at(url: str, found: Found, *, provider: str = "", source: str = "found") -> ModelSpec:
    """The spec of a model that a server has; its id is its address with its name, by which a job finds it again."""
    options = {"model": found.name, **({"provider": provider} if provider else {})}
    return describe(
        url,
        id=f"{url}#{found.name}",
        name=found.name.replace("\\", "/").rstrip("/").rpartition("/")[2] or found.name,
        engine="server",
        source=source,
        engine_options=options,
        context=found.context,
    )


def specs_at(name: str) -> list[ModelSpec]:
    """The models at an address, those that the server lists or the one of `#NAME`; raises ServerModelError."""
    url, model = urldefrag(name)
    try:
        check_url(url)
    except FatalError as error:
        raise ServerModelError(str(error)) from None
    parts = urlsplit(url)
    # Its other API cuts long prompts without a word.
    ollama = parts.port == OLLAMA_PORT and parts.path in ("", "/")
    if parts.path in ("", "/") and not ollama:
        url = f"{url.rstrip('/')}/v1"
    url = url.rstrip("/")
    found = [Found(unquote(model))] if model else _listed(url, ollama)
    return [spec_at(url, one, provider="ollama" if ollama else "") for one in found]


def _of(provider: str, model: str) -> ModelSpec:
    return describe(
        "",
        id=f"{provider}/{model}",
        name=model,
        engine="server",
        source="found",
        engine_options={"provider": provider, "model": model},
    )


def _listed(url: str, ollama: bool) -> list[Found]:
    try:
        found = ollama_models(url) if ollama else models_of(url)
    except FatalError as error:
        raise FatalError(f"{error}; to name the model yourself: {url}#NAME") from None
    if not found:
        raise ServerModelError(f"{url} lists no models; name one: {url}#NAME")
    return found
