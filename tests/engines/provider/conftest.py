"""The servers that the provider tests talk to."""

from __future__ import annotations

import functools
import ssl
import urllib.request
from collections.abc import Iterator

import pytest
from engines.provider.making import keys
from servers.batches import Batches, serving
from servers.foreign import cloud_storage


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Batches:
    """How the servers behave."""
    made = Batches()
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    keys(monkeypatch.setenv, made)
    return made


@pytest.fixture(scope="package")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Cloud Storage, with one bucket called jobs."""
    with cloud_storage(tmp_path_factory.mktemp("storage")) as address:
        made = urllib.request.Request(f"{address}/storage/v1/b", b'{"name": "jobs"}', method="POST")
        made.add_header("content-type", "application/json")
        urllib.request.urlopen(made).close()
        yield address


@pytest.fixture
def vertex(storage: str, batches: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cloud Storage for a test whose name does not ask for it."""
    batches.storage = storage
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage)


@pytest.fixture
def url(batches: Batches, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where they are."""
    if "vertex" in request.node.name:
        batches.storage = request.getfixturevalue("storage")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", batches.storage)
    with serving(batches) as address:
        yield address


@pytest.fixture(scope="package", autouse=True)
def certificates_once() -> Iterator[None]:
    """Every client of a library reads all certificates anew, 80 ms each, also for servers on loopback."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
        yield
