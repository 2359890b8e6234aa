"""Providers whose batches have OpenAI's shape: one line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batch.engines.provider.base import PREFIX, Limits, Settings
from batch.engines.provider.openai import Dialect, OpenAIPage

_MISTRAL = {
    "queued": "validating",
    "running": "in_progress",
    "success": "completed",
    "failed": "failed",
    "timeout_exceeded": "expired",
    "cancellation_requested": "cancelling",
    "cancelled": "cancelled",
}

DIALECTS: Mapping[str, Dialect] = {
    "openai": Dialect(),
    "azure": Dialect(),
    "groq": Dialect(limits=Limits(50_000, 100_000_000)),
    "together": Dialect(limits=Limits(50_000, 100_000_000), purpose="batch-api", metadata=False),
    "mistral": Dialect(path="/batch/jobs", cancel="/batch/jobs/{id}/cancel", bare=True, states=_MISTRAL),
    "gateway": Dialect(),  # any other, by its address
}


class MistralPage(OpenAIPage):
    """Mistral: a job names its model, and its files in a list."""

    def _order(self, file: str | None, key: str) -> dict[str, Any]:
        return {
            "input_files": [file],
            "endpoint": "/v1/chat/completions",
            "model": self._settings.model,
            "metadata": {PREFIX: key},
        }


def page(settings: Settings) -> OpenAIPage:
    """The page of a provider of this shape."""
    dialect = DIALECTS[settings.provider]
    return MistralPage(settings, dialect) if settings.provider == "mistral" else OpenAIPage(settings, dialect)
