"""The most memory an engine holds, at its first start and its second: python -m benchmarks.engine_memory [MODEL …].

In a process that has imported all that a worker has, and that ran and dropped the demo model, a model is loaded with
nothing kept of it (then once more, with what that start kept) and answers 48 chats of 64 tokens. What came on top is
set beside
1.3 × (weights in that precision + cache in use at most). A table of embeddings that stays in the model's file is not
counted among the weights; what of it was read is part of the peak.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from batch.engines.local.process import worker_env
from benchmarks.common import ROOT, in_process

SHARE = 1.3
TOKENS = 64
# What a first start reads its tokenizer with.
TOKENIZERS = ("gguf", "transformers.tokenization_utils_tokenizers", "transformers.integrations.gguf")


def held(name: str) -> float:
    """A line of this process's status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def weights(model: Any) -> float:
    """What a model computes with, in MB; what two modules share is counted once."""
    seen: dict[int, int] = {p.data_ptr(): p.nbytes for p in model.parameters()}
    for module in model.modules():
        product, packed = getattr(module, "product", None), getattr(module, "packed", None)
        for part in ("weight", "steps", "offsets", "scale", "bias"):
            if (tensor := getattr(product, part, None)) is not None:
                seen[tensor.data_ptr()] = tensor.nbytes
        if packed is not None:  # in oneDNN's layout
            seen[id(module)] = module.in_features * module.out_features * packed.dtype.itemsize
    return sum(seen.values()) / 2**20


def measured(model: str, precision: str, *libraries: str) -> dict[str, Any]:
    """Peaks of loading and of answering beyond the libraries, and the weights and the cache, in MB."""
    from batch.engines.torch import importing

    importing.alone()
    importing.torch()
    import jinja2  # noqa: F401
    import safetensors.torch  # noqa: F401
    import tokenizers  # noqa: F401

    from batch.engines.torch import engine, fused, native, packed_native, prepared, sampler  # noqa: F401
    from batch.items import BatchItem, Request
    from batch.options import SamplingOptions
    from benchmarks.fidelity import prompts

    for name in libraries:
        importing.whole()
        importlib.import_module(name)
    native.kernels()
    # Threads, templates and the parts of the libraries that are used at all: those of a model that is small.
    small = engine.open_core({"path": str(ROOT / "ai_router" / "demo")}, SamplingOptions(temperature=0), None)
    small.submit(BatchItem(0, Request("What is a stack?", {"params": {"max_tokens": 4}})))
    while small.busy:
        small.step()
    small.close()
    del small
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    core = engine.open_core({"path": model, "precision": precision}, SamplingOptions(temperature=0), None)
    load = held("VmHWM") - before
    for i, text in enumerate(prompts()[:48]):
        core.submit(BatchItem(i, Request(text, {"params": {"max_tokens": TOKENS}})))
    runner, most = core._runner, 0
    while core.busy:
        core.step()
        pages = sum(getattr(runner._cache, "_taken", []))
        most = max(most, pages * getattr(runner._cache, "page", 0) * runner.bytes_per_token)
    return {
        "load": load,
        "all": held("VmHWM") - before,
        "weights": weights(core._loaded.model),
        "cache": most / 2**20,
        "precision": core.about["precision"],
        "before": before,
    }


def main() -> int:
    """0; 1 where there is no /proc."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="*", default=[str(ROOT / "ai_router" / "demo")])
    parser.add_argument("--precision", nargs="*", default=["fp32", "int8"])
    args = parser.parse_args()
    if not Path("/proc/self/clear_refs").exists():
        print("memory is read from /proc, which is not here", file=sys.stderr)
        return 1
    import platformdirs

    kernels = platformdirs.user_cache_path("ai-router") / "kernels"
    os.environ.update(worker_env(None))
    for model in args.model:
        for precision in args.precision:
            with tempfile.TemporaryDirectory() as scratch:
                os.environ["XDG_CACHE_HOME"] = scratch
                if kernels.is_dir():
                    shutil.copytree(kernels, Path(scratch) / "ai-router" / "kernels")
                    os.chmod(Path(scratch) / "ai-router" / "kernels", 0o700)
                for start, libraries in (("first", TOKENIZERS), ("second", ())):
                    found = in_process(measured, str(Path(model).resolve()), precision, *libraries)
                    bound = SHARE * (found["weights"] + found["cache"])
                    print(
                        f"{Path(model).name} {precision}, {start} start: peak {found['all']:,.0f} MB (loading "
                        f"{found['load']:,.0f}), bound {bound:,.0f} = {SHARE} × ({found['weights']:,.0f} weights + "
                        f"{found['cache']:,.0f} cache); libraries {found['before']:,.0f}",
                        flush=True,
                    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
