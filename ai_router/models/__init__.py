"""The models that may be chosen: what is known of each, where they are found, and the engine that runs one.

`spec` is what is known of a model, `entries` reads `models.yaml`, `discovery` looks at what lies on this machine,
`registry` is all of them together, `factory` makes the engine, `fingerprint` tells whether weights have changed.
"""

from ai_router.included import DEMO_PATH
from ai_router.models.counting import TEMPLATE_ROOM, prompt_counter, token_counter
from ai_router.models.discovery import describe, describe_folder
from ai_router.models.factory import make_engine, reusing
from ai_router.models.registry import Registry, UnknownModelError
from ai_router.models.spec import ModelSpec, with_choices

__all__ = [
    "DEMO_PATH",
    "TEMPLATE_ROOM",
    "ModelSpec",
    "Registry",
    "UnknownModelError",
    "describe",
    "describe_folder",
    "make_engine",
    "prompt_counter",
    "reusing",
    "token_counter",
    "with_choices",
]
