"""Hundreds of small jobs: on a disk in memory where there is one, for each commit waits for the disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

MEMORY_DISK = Path("/dev/shm")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """Makes empty folders."""
    fast = MEMORY_DISK.is_dir() and os.access(MEMORY_DISK, os.W_OK)
    base = str(MEMORY_DISK) if fast else str(tmp_path_factory.mktemp("folders"))
    with tempfile.TemporaryDirectory(prefix="ai-router-tests-", dir=base) as whole:
        yield lambda: Path(tempfile.mkdtemp(dir=whole))


@pytest.fixture
def tmp_path(folders: Callable[[], Path]) -> Path:
    """An empty folder of this test's own."""
    return folders()
