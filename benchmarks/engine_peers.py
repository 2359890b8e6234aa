"""One function a peer: the work on the weights in a folder, in a process of its own. Each returns what it measured.

All take the folder, the system prompt, the chats as [text, answer tokens], and their own settings; all return
{"seconds", "cpu", "tokens", "peak_mb"}: whole runs without loading, from the texts to the answers' texts.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CONTINUOUS = 16  # requests at once of transformers' continuous batching
Chats = list[tuple[str, int]]


@contextmanager
def measured(result: dict[str, float]) -> Iterator[None]:
    """Fill in time and memory."""
    start, cpu = time.perf_counter(), time.process_time()
    yield
    result["seconds"], result["cpu"] = time.perf_counter() - start, time.process_time() - cpu
    unit = 2**20 if sys.platform == "darwin" else 2**10
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def ours(folder: str, system: str, chats: Chats, spec: dict[str, Any], max_batch: int | None = None) -> dict[str, Any]:
    """The torch engine of this project."""
    from batch.engines.torch.engine import open_core
    from batch.items import BatchItem, Request
    from batch.options import SamplingOptions

    core = open_core({"path": folder, **spec}, SamplingOptions(system=system), max_batch)
    result: dict[str, Any] = {"tokens": 0, "about": dict(core.about), "texts": {}}
    with measured(result):
        for i, (text, answer) in enumerate(chats):
            core.submit(BatchItem(i, Request(text, {"params": {"max_tokens": answer}})))
        while core.busy:
            for response in core.step():
                assert response.error is None, response.error
                result["tokens"] += response.tokens_output
                result["texts"][response.id] = response.data.text if response.data else ""
    return result


def _transformers(
    folder: str, system: str, chats: Chats, device: str = "cpu"
) -> tuple[Any, Any, list[tuple[list[int], int]]]:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(os.cpu_count() or 1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
    return model, tokenizer, [(chat_tokens(tokenizer, system, text), answer) for text, answer in chats]


def chat_tokens(tokenizer: Any, system: str, text: str) -> list[int]:
    """A chat's prompt, as the engine encodes it."""
    chat = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(rendered, add_special_tokens=False)["input_ids"])


def static_batches(folder: str, system: str, chats: Chats, size: int) -> dict[str, Any]:
    """`generate` over batches of this size, sorted by answer and prompt length; size 1 is one by one."""
    import torch

    model, tokenizer, requests = _transformers(folder, system, chats)
    order = sorted(range(len(requests)), key=lambda i: (requests[i][1], len(requests[i][0])))
    result: dict[str, Any] = {"tokens": sum(answer for _, answer in requests), "texts": {}}
    with measured(result), torch.inference_mode():
        for at in range(0, len(requests), size):
            part = [requests[i] for i in order[at : at + size]]
            longest = max(len(prompt) for prompt, _ in part)
            ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt, _ in part])
            mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p, _ in part])
            most = max(answer for _, answer in part)
            out = model.generate(ids, attention_mask=mask, max_new_tokens=most, do_sample=False, pad_token_id=0)
            assert out.shape[1] == longest + most
            for i, row, (_, answer) in zip(order[at : at + size], out.tolist(), part, strict=True):
                text = tokenizer.decode(row[longest : longest + answer], skip_special_tokens=True)
                result["texts"][i] = text
    return result


def generate_batch(folder: str, system: str, chats: Chats, device: str = "cpu") -> dict[str, Any]:
    """transformers' continuous batching; on a GPU it chooses its own sizes, and whether it uses CUDA graphs."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    model, tokenizer, requests = _transformers(folder, system, chats, device)
    result: dict[str, Any] = {"tokens": 0}
    config = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
    # As many blocks of 256 tokens as the longest requests take: its masks and scores are as wide as all of them, and
    # 64 requests at once took 12 GB. Left to itself it takes most of the memory.
    blocks = sorted((-(-(len(prompt) + answer) // 256) for prompt, answer in requests), reverse=True)
    settings = ContinuousBatchingConfig(num_blocks=sum(blocks[:CONTINUOUS]) + 1, max_batch_tokens=512)
    if device != "cpu":
        settings = ContinuousBatchingConfig()
    with measured(result):
        manager = model.init_continuous_batching(generation_config=config, continuous_batching_config=settings)
        manager.start()
        for prompt, answer in requests:
            manager.add_request(prompt, max_new_tokens=answer)
        left = len(requests)
        while left and manager.is_running():
            done = manager.get_result(timeout=1)
            if done is not None and done.is_finished():
                result["tokens"] += len(done.generated_tokens)
                tokenizer.decode(done.generated_tokens)
                left -= 1
        manager.stop(block=True)
    if left:
        raise RuntimeError("continuous batching stopped before the end")
    return result


def mlx(folder: str, system: str, chats: Chats) -> dict[str, Any]:
    """mlx-lm's batch_generate."""
    from mlx_lm import batch_generate, load

    model, tokenizer = load(folder)[:2]
    tokenizer.eos_token_ids = set()
    plain = tokenizer._tokenizer
    prompts = [chat_tokens(plain, system, text) for text, _ in chats]
    result: dict[str, Any] = {"tokens": sum(answer for _, answer in chats)}
    with measured(result):
        batch_generate(model, tokenizer, prompts, max_tokens=[answer for _, answer in chats])
    return result


def gemm_limit() -> dict[str, Any]:
    """Most GFLOP/s of large matrix products, wall clock and per second of processor time: fp32 and int8."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    result: dict[str, Any] = {}

    def best(name: str, call: Callable[[], Any], flop: float) -> None:
        call()
        wall, cpu = [], []
        for _ in range(12):
            start, busy = time.perf_counter(), time.process_time()
            call()
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - busy)
        result[name] = flop / min(wall) / 1e9
        result[f"{name}_cpu"] = flop / min(cpu) / 1e9

    rows, inner, columns = 1024, 1024, 4096
    flop = 2.0 * rows * inner * columns
    x, weight = torch.randn(rows, inner), torch.randn(columns, inner)
    best("fp32", lambda: torch.nn.functional.linear(x, weight), flop)
    usual = {name: result[name] for name in ("fp32", "fp32_cpu")}  # MKL's; oneDNN's may be the faster one
    layout = torch.ops.mkldnn._reorder_linear_weight(weight)
    best("fp32", lambda: torch.ops.mkldnn._linear_pointwise(x, layout, None, "none", [], ""), flop)
    result |= {name: max(value, result[name]) for name, value in usual.items()}
    packed = torch.ops.onednn.qlinear_prepack((weight * 20).clamp(-127, 127).to(torch.int8), [rows, inner])
    x8 = (x * 20 + 128).clamp(0, 255).to(torch.uint8)
    scale, zero = torch.ones(columns), torch.zeros(columns, dtype=torch.int32)
    product = torch.ops.onednn.qlinear_pointwise
    best("int8", lambda: product(x8, 1.0, 128, packed, scale, zero, None, 1.0, 0, torch.float32, "none", [], ""), flop)
    return result
