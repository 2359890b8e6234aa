"""What the C sources beside this are told of a model, as ctypes sees it."""

from __future__ import annotations

import ctypes
from typing import Any

# Kinds of arguments and fields: pointer, int64, float, C int.
LETTERS: dict[str, Any] = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "f": ctypes.c_float, "c": ctypes.c_int}


def _fields(fields: str, **others: Any) -> list[tuple[str, Any]]:
    """Of a struct in C: what is `name:letter`, or `name:type` of others."""
    kinds = {**LETTERS, **others}
    return [(name, kinds[kind]) for name, _, kind in (part.partition(":") for part in fields.split())]


class Linear(ctypes.Structure):
    """Of team.h."""

    _fields_ = _fields(
        "bits:i paired:i inputs:i outputs:i weights:p weights_count:i steps:p steps_count:i scales:p scales_count:i "
        "offsets:p offsets_count:i bias:p bias_count:i"
    )


class Layer(ctypes.Structure):
    """Of stack.c."""

    _fields_ = _fields(
        "qkv:linear project:linear both:linear down:linear first:p second:p q_norm:p k_norm:p first_count:i "
        "second_count:i q_count:i k_count:i first_eps:f second_eps:f head_eps:f scale:f heads:i kv_heads:i size:i "
        "reach:i",
        linear=Linear,
    )


class Expert(ctypes.Structure):
    """Of experts.c."""

    _fields_ = _fields("up:linear down:linear", linear=Linear)


class Held(ctypes.Structure):
    """Of stack.c."""

    _fields_ = _fields("keys:p values:p count:i")


class Stored(ctypes.Structure):
    """Of stored.c."""

    _fields_ = _fields("type:i rows:i count:i raw:p")
