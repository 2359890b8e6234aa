"""The torch engine's row in the table of engines; imports no torch."""

from __future__ import annotations

from batch.engines.registry import EngineKind, EngineOption
from batch.options import PRECISIONS, TRUNCATE

KIND = EngineKind(
    "torch",
    "local",
    "any Hugging Face causal language model, on CPUs and GPUs",
    core="batch.engines.torch.engine:open_core",
    extra="local",
    modules=("torch", "transformers"),
    forms=("folder",),
    options={
        "precision": EngineOption("numbers the model computes in", choices=PRECISIONS),
        "device": EngineOption("where it runs: auto, cpu, cuda"),
        "truncate": EngineOption("the end at which a prompt that is too long is cut", choices=TRUNCATE),
        "order": EngineOption("the order prompts are taken in", choices=("arrival", "longest")),
        "cache_gb": EngineOption("most memory for keys and values, in GiB", float, minimum=0.001),
        "share_prefixes": EngineOption("compute what prompts have in common once", bool),
    },
    suits=lambda place: not isinstance(place, str),
)
