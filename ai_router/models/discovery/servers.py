"""Servers that run on this machine: the usual ports of loopback are asked for their models, all at once and briefly."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from ai_router.models.spec import ModelSpec
from batch.engines.http.probe import models_of, ollama_models
from batch.errors import BatchError

# Where each listens unless it is told otherwise, and whose preset it is, where that is sure.
PORTS: Mapping[int, str] = {
    1234: "lmstudio",
    8000: "",  # vLLM, transformers serve
    8080: "",  # llama.cpp, mlx-lm
    11434: "ollama",
    30000: "sglang",
}
CONNECT_SECONDS = 0.2
ANSWER_SECONDS = 1.0
SWITCH = "AI_ROUTER_DISCOVERY"  # set to 0: no port is asked
MOST = 50  # models of one server


def find_servers(ports: Mapping[int, str] | None = None) -> list[ModelSpec]:
    """The models of the servers on this machine; takes a second at most, and never raises."""
    if ports is None:
        if os.environ.get(SWITCH, "").lower() in ("0", "off", "no"):
            return []
        ports = PORTS
    with ThreadPoolExecutor(len(ports) or 1, thread_name_prefix="discovery") as pool:
        return [spec for found in pool.map(_look, ports.items()) for spec in found]


def _look(place: tuple[int, str]) -> list[ModelSpec]:
    from ai_router.models.remote import spec_at

    port, provider = place
    try:
        socket.create_connection(("127.0.0.1", port), CONNECT_SECONDS).close()
    except OSError:
        return []
    base = f"http://127.0.0.1:{port}"
    url = base if provider == "ollama" else f"{base}/v1"
    try:
        found = (ollama_models if provider == "ollama" else models_of)(url, timeout=ANSWER_SECONDS)
    except BatchError:  # something else listens there
        return []
    return [spec_at(url, one, provider=provider) for one in found[:MOST]]
