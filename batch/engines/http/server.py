"""A model on a server as a user describes it: where it is, what it accepts, what it costs; and presets by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from batch.errors import FatalError
from batch.prices import Price

WireName = Literal["chat", "completions", "embeddings", "anthropic", "ollama"]
AlarmPolicy = Literal["note", "fail"]
WIRE_NAMES: tuple[str, ...] = get_args(WireName)

OPENAI_SAMPLING = frozenset({"temperature", "top_p", "seed", "stop"})
ALL_SAMPLING = OPENAI_SAMPLING | {"top_k", "min_p", "repetition_penalty"}


@dataclass(frozen=True, slots=True)
class Server:
    """A model on one server, or on several that serve the same model.

    `accepts` are the sampling options that are sent; others are left out and said. `schema` is the form in which a JSON
    schema is asked for; "none" leaves it to the check of the answer. `stream` None: while few are in flight, so that
    a person sees them grow. `retry_lost` says whether a request whose answer was lost on the way is asked again
    although that may cost again; None: only where it costs nothing. Times are seconds.
    """

    model: str  # as the server calls it
    base_urls: tuple[str, ...]
    wire: WireName = "chat"
    provider: str = ""  # of the price table
    api_key_env: str | None = None
    api_key_keyring: str | None = None  # SERVICE or SERVICE/USER of the operating system's keyring
    key_header: str = "authorization"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    accepts: frozenset[str] = ALL_SAMPLING
    max_tokens_name: str = "max_tokens"
    repetition_name: str = "repetition_penalty"
    schema: Literal["json_schema", "json_object", "native", "none"] = "json_schema"
    stream: bool | None = None
    stream_usage: bool = True
    context: int | None = None
    concurrency: int | None = None  # most requests in flight; None: found out
    rpm: int | None = None  # most requests a minute
    tpm: int | None = None  # most tokens a minute
    rpd: int | None = None  # most requests a day (UTC) of one run
    price: Price | None = None
    retry_lost: bool | None = None
    on_alarm: AlarmPolicy = "note"
    connect_timeout: float = 10.0
    timeout: float = 600.0  # until a whole answer
    first_timeout: float | None = None  # until it begins; None: as for the whole
    idle_timeout: float = 120.0  # between two pieces of a stream
    patience: float = 120.0  # while no endpoint can be reached, before the run stops
    ca_file: str | None = None
    proxy: str | None = None  # None: as the environment says

    def __post_init__(self) -> None:
        if not self.base_urls:
            raise FatalError(f"{self.model}: no address of a server (base_url)")
        for url in self.base_urls:
            check_url(url)

    @property
    def free(self) -> bool:
        """Whether an answer is known to cost nothing: a price of 0, or no price and a server on this machine."""
        if self.price is None:
            return all(is_loopback(url) for url in self.base_urls)
        rates = self.price.rates(1)
        return not (rates.input or rates.output)

    def key(self) -> str | None:
        """The secret, from the environment or the keyring; None where none is needed. Raises FatalError without it."""
        if self.api_key_env:
            value = os.environ.get(self.api_key_env, "").strip()
            if not value:
                raise FatalError(f"{self.model} needs a key: set the environment variable {self.api_key_env}")
            return value
        if self.api_key_keyring:
            return _from_keyring(self.api_key_keyring, self.model)
        return None


def check_url(url: str) -> None:
    """Raise FatalError, with one sentence, for what is no address of a server."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise FatalError(f"{url!r} is no address: {error}") from None
    if parts.scheme not in ("http", "https"):
        hint = f"; did you mean http://{url}?" if "://" not in url else ""
        raise FatalError(f"{url!r} is no address of a server: it begins with http:// or https://{hint}")
    if not parts.hostname or port == 0:
        raise FatalError(f"{url!r} names no host")
    if parts.username or parts.password:
        raise FatalError(
            f"the address of {parts.hostname} holds a password; keys come from the environment (api_key_env)"
        )


def is_loopback(url: str) -> bool:
    """Whether an address is of this machine."""
    host = (urlsplit(url).hostname or "").lower()
    return host in ("localhost", "::1") or host.startswith("127.") or host.endswith(".localhost")


def _from_keyring(name: str, model: str) -> str:
    service, _, user = name.partition("/")
    try:
        import keyring
    except ImportError:
        raise FatalError(f"{model}: the keyring needs the package keyring: pip install keyring") from None
    try:
        value = keyring.get_password(service, user or "api_key")
    except Exception as error:  # a backend of the operating system may raise anything
        raise FatalError(f"{model}: the keyring cannot be read: {type(error).__name__}") from None
    if not value:
        raise FatalError(
            f"{model}: the keyring has no key for {name}; store it with: keyring set {service} {user or 'api_key'}"
        )
    return str(value)


_LLAMA = {"accepts": ALL_SAMPLING, "repetition_name": "repeat_penalty"}
_HOSTED: dict[str, Any] = {"accepts": OPENAI_SAMPLING}

# What a name stands for: keys of Server. The first address of a local one is where it listens by default.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "openai": {
        "base_urls": ("https://api.openai.com/v1",),
        "api_key_env": "OPENAI_API_KEY",
        "provider": "openai",
        "max_tokens_name": "max_completion_tokens",
        **_HOSTED,
    },
    "anthropic": {
        "base_urls": ("https://api.anthropic.com",),
        "api_key_env": "ANTHROPIC_API_KEY",
        "provider": "anthropic",
        "wire": "anthropic",
        "key_header": "x-api-key",
        # Models from 4.7 on refuse sampling, and the newest API refuses it for all: not sent, and said.
        "accepts": frozenset({"stop"}),
        "schema": "native",
    },
    "gemini": {
        "base_urls": ("https://generativelanguage.googleapis.com/v1beta/openai",),
        "api_key_env": "GEMINI_API_KEY",
        "provider": "google",
        **_HOSTED,
    },
    "openrouter": {
        "base_urls": ("https://openrouter.ai/api/v1",),
        "api_key_env": "OPENROUTER_API_KEY",
        "provider": "openrouter",
        "body": {"usage": {"include": True}},
    },
    "groq": {
        "base_urls": ("https://api.groq.com/openai/v1",),
        "api_key_env": "GROQ_API_KEY",
        "provider": "groq",
        "max_tokens_name": "max_completion_tokens",
        **_HOSTED,
    },
    "together": {
        "base_urls": ("https://api.together.xyz/v1",),
        "api_key_env": "TOGETHER_API_KEY",
        "provider": "together",
    },
    "mistral": {
        "base_urls": ("https://api.mistral.ai/v1",),
        "api_key_env": "MISTRAL_API_KEY",
        "provider": "mistral",
        "accepts": frozenset({"temperature", "top_p", "stop"}),
    },
    "deepseek": {
        "base_urls": ("https://api.deepseek.com/v1",),
        "api_key_env": "DEEPSEEK_API_KEY",
        "provider": "deepseek",
        "accepts": frozenset({"temperature", "top_p", "stop"}),
        "schema": "json_object",
    },
    "azure": {
        "api_key_env": "AZURE_OPENAI_API_KEY",
        "provider": "azure",
        "key_header": "api-key",
        "max_tokens_name": "max_completion_tokens",
        **_HOSTED,
    },
    "ollama": {"base_urls": ("http://127.0.0.1:11434",), "wire": "ollama", "schema": "native"},
    "lmstudio": {"base_urls": ("http://127.0.0.1:1234/v1",), **_LLAMA},
    "llama.cpp": {"base_urls": ("http://127.0.0.1:8080/v1",), **_LLAMA},
    "vllm": {"base_urls": ("http://127.0.0.1:8000/v1",)},
    "sglang": {"base_urls": ("http://127.0.0.1:30000/v1",)},
    "tgi": {"base_urls": ("http://127.0.0.1:3000/v1",), **_HOSTED},
    "mlx-lm": {"base_urls": ("http://127.0.0.1:8080/v1",), "schema": "none"},
    "transformers": {"base_urls": ("http://127.0.0.1:8000/v1",), "schema": "none", "stream_usage": False},
}
