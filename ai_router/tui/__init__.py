"""The Textual app."""

import os

SURROUNDINGS = {
    "AI_ROUTER_NICE": "15",  # keys are answered while a model has all cores
    "TEXTUAL_FPS": "120",  # what a key changed waits half as long for its frame as with Textual's 60
}


def surround() -> None:
    """Set what has to be in the environment before the first import of Textual, where nobody has set it."""
    for name, value in SURROUNDINGS.items():
        os.environ.setdefault(name, value)
