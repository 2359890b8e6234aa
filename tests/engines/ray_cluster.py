"""A small Ray cluster on this machine, for as long as a test wants it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

START = 300.0  # seconds
RUNS = b"Ray runtime started"
# Else Ray takes 127.0.0.1 for the address by which the machine is known to others.
# The token is made for these clusters, so that one that lies on the machine for others is neither read nor needed.
LOOPBACK = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def cluster(cpus: int = 2) -> Iterator[tuple[str, str]]:
    """Its address, and that of its client server.

    In a session of its own, which is ended with it: `ray stop` would end other people's as well.
    """
    port, client = free_port(), free_port()
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *("--node-ip-address=127.0.0.1", f"--port={port}", f"--num-cpus={cpus}", "--object-store-memory=80000000"),
        *("--include-dashboard=false", "--dashboard-agent-listen-port=0", f"--ray-client-server-port={client}"),
    ]
    process = _begun(command, (port, client))
    try:
        yield f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}"
    finally:
        _end(process)


def _begun(command: Sequence[str], ports: Sequence[int]) -> subprocess.Popen[bytes]:
    """The head, once it says that it runs. On a machine that is very busy Ray gives a start up after half a minute."""
    deadline = time.monotonic() + START
    while True:
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                command,
                stdout=said,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **LOOPBACK},
            )
            while process.poll() is None and time.monotonic() < deadline:
                if RUNS in os.pread(said.fileno(), 100_000, 0) and all(map(_listens, ports)):
                    return process
                time.sleep(0.2)
        _end(process)
        assert time.monotonic() < deadline, "the cluster does not start"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and all that it started."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
