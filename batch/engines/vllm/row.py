"""vLLM's row in the table of engines; imports nothing of it."""

from __future__ import annotations

from batch.engines.registry import EngineOption, EngineRow
from batch.options import PRECISIONS, TRUNCATE

ROW = EngineRow(
    "vllm",
    "local",
    "vLLM, where it is installed: here, or on the nodes of a cluster (--cluster)",
    core="batch.engines.vllm.engine:open_core",
    extra="vllm",
    modules=("vllm",),
    forms=("folder",),
    options={
        "precision": EngineOption("numbers the model computes in", choices=PRECISIONS),
        "context": EngineOption("tokens of prompt and answer together; the model's own without it", int, minimum=16),
        "truncate": EngineOption("the end at which a prompt that is too long is cut", choices=TRUNCATE),
        "tensor_parallel": EngineOption("GPUs of a node that one copy is spread over", int, minimum=1),
        "memory_share": EngineOption("share of a GPU's memory that it takes, 0.9 without it", float, minimum=0.01),
        "eager": EngineOption("begin at once, without compiling the model; slower from then on", bool),
        "quantization": EngineOption("the method of a quantised checkpoint, where vLLM does not see it by itself"),
    },
)
