"""What all tests share: property tests that repeat themselves from run to run, and a real model."""

from __future__ import annotations

import gc
import os
import signal
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["AI_ROUTER_DISCOVERY"] = "0"  # no port of the machine that runs the tests is asked for models

if "PYTEST_XDIST_WORKER" in os.environ:  # a core for each worker; two threads of each on two cores wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is compiled is kept, for the programs that tests start as for the next run: this alone is a third of a start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Begun in the background or under nohup, this process ignores what ends a program, and so would all that it starts.
for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"):
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)

gc.set_threshold(10_000, 20, 20)  # programs on screens make many objects; looking at them all took a tenth of the time

settings.register_profile("house", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("house")

# The model that is meant where none is named is the one inside, whatever else is installed. At once, as some modules
# have it for a default when they are imported.
os.environ["AI_ROUTER_CHAT_MODEL"] = "off"


# The files that take longest, whole files being what a worker is given: begun last, one would be waited for alone.
LONGEST = (
    *("test_smollm2", "test_torch_packed", "test_torch_static", "test_sizes", "test_foreign", "test_mlx_features"),
    *("test_gguf_torch", "test_torch_faults", "test_app", "test_ask", "test_cli_semantic_ids", "test_batch_flow"),
    *("test_crashes", "test_providers", "test_evaluation", "test_mlx", "test_torch_core", "test_torch_single"),
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Three on two cores: a third works while others wait for a process. Each takes up to 2 GB."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores, min(cores + 1, 3))


def pytest_configure(config: pytest.Config) -> None:
    """Workers take files in this order; pytest-xdist's own begins with those of most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--part`, for those that are too many for one run."""
    parser.addoption("--part", help="I/N: the I-th of N parts of the tests, each in one of them, I counted modulo N")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The part that was asked for, the longest files first."""
    if config.getoption("part"):
        part, parts = (int(number) for number in config.getoption("part").split("/"))
        items[:] = [item for item in items if zlib.crc32(item.nodeid.encode()) % parts == part % parts]
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture
def within_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that the program opens run in this process."""
    from tests.within import WithinEngine

    monkeypatch.setattr("batch.engines.local.host.HostedEngine", WithinEngine)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct in fp32; skips where the package that carries it is not installed."""
    from tests.engines.smollm2 import folder

    return folder()
