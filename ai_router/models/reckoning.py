"""How much memory a model takes to run here, reckoned before it is loaded: the runtime, its weights, and what it keeps.

Weights are reckoned as the engine holds them, not as the file does: torch computes in fp32 on a CPU, or in int8 beside
a table of embeddings in fp32, and reads a folder whole before it rounds anything. The families that it knows without
transformers come layer by layer, and of their table only the rows asked for are read, from the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch.engines.local import processor

if TYPE_CHECKING:
    from ai_router.models.spec import ModelSpec

SMALL = 100_000_000  # parameters up to which the torch engine computes in fp32 of itself
RUNTIME = {"torch": 400_000_000, "gguf": 120_000_000, "mlx": 150_000_000}  # bytes of an engine without a model
BITS = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.04, "int4": 0.63}  # bytes a weight, steps included
INT8_CACHE = 9 / 16  # of what keys and values take in 16 bits: a byte each, and four beside 32 of them
LONGEST, UNSAID = 32_768, 4096  # tokens: a context is reckoned with no more, and with so many where none is known


def needed(spec: ModelSpec, width: int) -> int | None:
    """Bytes for so many answers at once, each at a quarter of the context.

    None where its size is not known, or what it keeps of an answer.
    """
    if not spec.size_bytes or (spec.cache_bytes_per_token is None and spec.cache_bytes_per_row is None):
        return None
    precision = precision_of(spec)
    runtime, kept = RUNTIME.get(spec.engine, 0), cache(spec, width, precision)
    if spec.held and _layer_by_layer(spec, precision):
        # The head comes last and whole, in fp32, before it is rounded; no answer is there yet.
        return runtime + int(spec.held * BITS[precision]) + max(4 * (spec.embeddings or 0), kept)
    return runtime + _weights(spec, precision) + kept


def cache(spec: ModelSpec, width: int, precision: str) -> int:
    """Bytes of what so many answers keep: keys and values in 8, 16 or 32 bits, and states."""
    wide = spec.engine == "torch" and not (precision in ("bf16", "int8", "int4") and _sixteen_bits())
    share = 2.0 if wide else 1.0
    if spec.engine == "torch" and spec.engine_options.get("kv_cache") == "int8" and not _on_gpu(spec):
        share = INT8_CACHE
    tokens = min(spec.context or UNSAID, LONGEST) // 4
    return width * (int((spec.cache_bytes_per_token or 0) * share) * tokens + (spec.cache_bytes_per_row or 0))


def precision_of(spec: ModelSpec) -> str:
    """What torch will most likely compute in, as far as that can be said without a trial; "" of other engines."""
    if spec.engine != "torch":
        return ""
    asked = str(spec.engine_options.get("precision", "auto"))
    if asked != "auto":
        return asked
    if _on_gpu(spec):
        return "bf16"
    return "int8" if (spec.parameters or 0) >= SMALL and processor.multiplies_int8() else "fp32"


def _weights(spec: ModelSpec, precision: str) -> int:
    if not precision or not spec.parameters or precision not in BITS:
        return spec.size_bytes or 0
    embeddings = spec.embeddings or 0
    if precision in ("fp32", "fp16") or (precision == "bf16" and (processor.GPU.exists() or not _sixteen_bits())):
        return int(spec.parameters * BITS[precision])
    # The table stays as it is; where the head is the same matrix, it is there once more in few bits.
    rounded = int((spec.parameters - embeddings) * BITS[precision] + embeddings * (4 + BITS[precision]))
    return rounded if spec.quantisation else max(rounded, 4 * spec.parameters)


def _layer_by_layer(spec: ModelSpec, precision: str) -> bool:
    """Whether torch reads a family that it can read so in that way here: on a CPU, with nothing merged into it."""
    narrow = precision in ("fp32", "int8", "int4") or (precision == "bf16" and _sixteen_bits())
    return narrow and not spec.adapter and not _on_gpu(spec)


def _on_gpu(spec: ModelSpec) -> bool:
    return processor.GPU.exists() and spec.engine_options.get("device") != "cpu"


def _sixteen_bits() -> bool:
    return processor.multiplies_bf16()
