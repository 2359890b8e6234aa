"""The servers that the provider tests talk to."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterator

import pytest
from engines.provider.making import keys
from servers.batches import Batches, serving


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Batches:
    """How the servers behave."""
    made = Batches()
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    keys(monkeypatch.setenv, made)
    return made


@pytest.fixture
def url(batches: Batches) -> Iterator[str]:
    """Where they are."""
    with serving(batches) as address:
        yield address


@pytest.fixture(scope="package", autouse=True)
def certificates_once() -> Iterator[None]:
    """Every client of a library reads all certificates anew, 80 ms each, also for servers on loopback."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
        yield
