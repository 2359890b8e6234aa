"""From the name of a model or a provider to its pipeline."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from batch.engines.provider.base import Page
from batch.engines.provider.row import open_page, settings_of
from batch.errors import BatchError
from batch.providers.pipeline import BatchInferencePipeline, ProviderPipeline

Maker = Callable[..., BatchInferencePipeline]

GEMINI = "gemini-2.0-flash-001"  # the reference's; a bare "gemini" means it
_TRUE = ("1", "true", "yes")


class UnsupportedProviderError(BatchError, ValueError):
    """There is no pipeline for that name."""


class BatchInferencePipelineFactory:
    """Makes pipelines by name: a provider (`gemini`, `openai`, `anthropic`, `openrouter`, `mistral`, …) or a model,
    of which the beginning tells whose it is (`gemini-…`, `gpt-…`, `o3-…`, `claude-…`, `maker/model`)."""

    _makers: ClassVar[dict[str, Maker]] = {}

    @classmethod
    def register(cls, name: str, make: Maker) -> None:
        """A pipeline of your own: `make(model_name, **options)` for a name, and for models that begin with it and -."""
        cls._makers[name] = make

    @classmethod
    def get_pipeline(cls, name: str, **options: Any) -> BatchInferencePipeline:
        """The pipeline of a model or provider. `options` are those of `ProviderPipeline`, `model` where `name` is a
        provider, `base_url`, and for OpenAI `mode` ("chunked", as in the reference, or "batch").

        Raises UnsupportedProviderError, a ValueError, that lists what there is.
        """
        head = name.partition("-")[0]
        if maker := cls._makers.get(name) or cls._makers.get(head):
            return maker(name, **options)
        provider = _provider_of(name, head)
        if provider is None:
            known = sorted({"gemini", "openai", "anthropic", "openrouter", "mistral", "groq", "together", *cls._makers})
            raise UnsupportedProviderError(f"Unsupported model provider: {name}; there are {', '.join(known)}")
        return _made(provider, name, options)


def _provider_of(name: str, head: str) -> str | None:
    if "/" in name:
        return "openrouter"
    if head == "gemini":
        return "vertex" if os.environ.get("GOOGLE_GENAI_USE_VERTEXAI", "").lower() in _TRUE else "gemini"
    if head in ("gpt", "chatgpt", "openai", "o1", "o3", "o4"):
        return "openai"
    if head in ("claude", "anthropic"):
        return "anthropic"
    return name if name in ("openrouter", "mistral", "groq", "together") else None


def _made(provider: str, name: str, options: dict[str, Any]) -> BatchInferencePipeline:
    options = dict(options)
    mode = options.pop("mode", "chunked" if provider == "openai" else "batch")
    if mode not in ("chunked", "batch") or (mode == "chunked" and provider != "openai"):
        raise UnsupportedProviderError(f"mode: {mode!r} is neither batch nor, for openai, chunked")
    model = options.pop("model", None)
    bare = "-" not in name and "/" not in name
    if model is None:
        model = GEMINI if name == "gemini" else None if bare and name not in ("o1", "o3") else name
    if model is None:
        raise UnsupportedProviderError(f"{name}: say which model, as in get_pipeline({name!r}, model=…)")
    spec = {"provider": provider, "model": model, "url": options.pop("base_url", None)}
    for key in ("bucket", "project", "location", "api_key_env", "timeout"):
        spec[key] = options.pop(key, None)
    settings = settings_of(spec)

    def opened(bucket: str | None) -> Page:
        chosen = replace(settings, bucket=bucket or settings.bucket)
        if mode == "chunked":
            from batch.providers.chunked import openai_chunks

            return openai_chunks(chosen)
        return open_page(chosen)

    return ProviderPipeline(model, opened, **options)
