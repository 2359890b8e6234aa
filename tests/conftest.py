"""What all tests share: property tests that repeat themselves from run to run, and a real model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["AI_ROUTER_DISCOVERY"] = "0"  # no port of the machine that runs the tests is asked for models

settings.register_profile("house", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("house")

# The model that is meant where none is named is the one inside, whatever else is installed. At once, as some modules
# have it for a default when they are imported.
os.environ["AI_ROUTER_CHAT_MODEL"] = "off"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct in fp32; skips where the package that carries it is not installed."""
    from tests.engines.smollm2 import folder

    return folder()
