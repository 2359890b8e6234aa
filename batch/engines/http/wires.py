"""The one table of wire formats that a server may speak, by the names that entries use."""

from __future__ import annotations

from collections.abc import Mapping

from batch.engines.http.native import AnthropicWire, OllamaWire
from batch.engines.http.wire import ChatWire, CompletionsWire, EmbeddingsWire, Wire

WIRES: Mapping[str, type[Wire]] = {
    "chat": ChatWire,
    "completions": CompletionsWire,
    "embeddings": EmbeddingsWire,
    "anthropic": AnthropicWire,
    "ollama": OllamaWire,
}
