"""Other engines over a real model: run by a peer's own Python, with nothing of this project's dependencies.

`python -m benchmarks.real_peers NAME MODEL` reads {work: {"warm": [[token, …], …], "prompts": the same, "tokens": of
each answer}} from stdin and writes {"load": seconds, "peak_mb", "works": {work: seconds}} as the last line of stdout.
Answers are greedy and of fixed lengths, prompts are tokens already: neither template nor tokenizer is measured. Each
work runs twice, first with the prompts `warm`, as an engine may take memory or compile then; the second time counts,
whose prompts it has not seen.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

STATIC_ROWS = 32  # at once in onnxruntime-genai, which refuses more of SmolLM2
Answer = Callable[[list[list[int]], int], int]  # prompts, tokens of each answer; how many tokens came


def llama_cpp(model: str, works: dict[str, Any]) -> Answer:
    """llama.cpp by its batch interface: up to 64 sequences, what all prompts begin with computed once."""
    from benchmarks.engine_llama import SEQUENCES, Llama

    most = max(
        sum(sorted((len(p) + w["tokens"] for p in asked), reverse=True)[:SEQUENCES])
        for w in works.values()
        for asked in (w["warm"], w["prompts"])
    )
    # Built for a processor with AMX it uses tiles, which a process has to be allowed (ARCH_REQ_XCOMP_PERM).
    if sys.platform == "linux":
        ctypes.CDLL(None).syscall(158, 0x1023, 18)
    engine = Llama(Path(model), most, [])

    def answer(prompts: list[list[int]], tokens: int) -> int:
        shared = 0
        while len(prompts) > 1 and all(len(p) > shared + 1 and p[shared] == prompts[0][shared] for p in prompts):
            shared += 1
        engine.ll.llama_memory_clear(engine.memory, True)
        engine.shared = prompts[0][:shared]
        return sum(map(len, engine.answer(prompts, [tokens] * len(prompts)).values()))

    return answer


def openvino(model: str, works: dict[str, Any]) -> Answer:
    """openvino-genai's continuous batching with prefixes shared; its cache is in u8 on a CPU."""
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    settings = genai.SchedulerConfig()
    settings.cache_size = 4  # GB
    settings.enable_prefix_caching = True
    settings.max_num_seqs = 256
    engine = genai.ContinuousBatchingPipeline(model, settings, "CPU")

    def answer(prompts: list[list[int]], tokens: int) -> int:
        # An end token has to be told where the model has none, although none is heeded.
        ends = {"eos_token_id": 0, "stop_token_ids": {0}, "ignore_eos": True}
        config = genai.GenerationConfig(max_new_tokens=tokens, do_sample=False, **ends)
        rows = [engine.add_request(i, ov.Tensor(np.array([p], dtype=np.int64)), config) for i, p in enumerate(prompts)]
        while engine.has_non_finished_requests():
            engine.step()
        return sum(len(out.generated_ids) for row in rows for out in row.read_all())

    return answer


def onnxruntime(model: str, works: dict[str, Any]) -> Answer:
    """onnxruntime-genai: static batches of at most so many rows, one after the other; padded on the left here."""
    import numpy as np
    import onnxruntime_genai as genai

    engine = genai.Model(model)

    def batch(prompts: list[list[int]], tokens: int) -> int:
        longest = max(map(len, prompts))
        params = genai.GeneratorParams(engine)
        options = {"max_length": longest + tokens, "min_length": longest + tokens, "batch_size": len(prompts)}
        params.set_search_options(do_sample=False, **options)
        generator = genai.Generator(engine, params)
        # Padded with what they begin with: what comes out of them does not matter here, only how much.
        generator.append_tokens(np.array([[p[0]] * (longest - len(p)) + p for p in prompts], dtype=np.int32))
        steps = 0
        while not generator.is_done() and steps < tokens:
            generator.generate_next_token()
            steps += 1
        return steps * len(prompts)

    def answer(prompts: list[list[int]], tokens: int) -> int:
        ranked = sorted(prompts, key=len)  # as little padding as there may be
        return sum(batch(ranked[i : i + STATIC_ROWS], tokens) for i in range(0, len(ranked), STATIC_ROWS))

    return answer


def ctranslate2(model: str, works: dict[str, Any]) -> Answer:
    """CTranslate2 in int8: batches of its own making."""
    import ctranslate2 as engine_of

    engine = engine_of.Generator(model, device="cpu", compute_type="int8", intra_threads=os.cpu_count() or 1)
    names = json.loads((Path(model) / "vocabulary.json").read_text())

    def answer(prompts: list[list[int]], tokens: int) -> int:
        found = engine.generate_batch(
            [[names[token] for token in prompt] for prompt in prompts],
            max_length=tokens,
            min_length=tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
            max_batch_size=64,
        )
        return sum(len(row.sequences_ids[0]) for row in found)

    return answer


def vllm(model: str, works: dict[str, Any], dtype: str) -> Answer:
    """vLLM's own engine on a CPU: continuous batching with prefixes shared; `dtype` of weights and products."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")  # GB
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # so that the peak is that of the engine
    # By itself it leaves a core to a server that is not there.
    os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    from vllm import LLM, SamplingParams

    # One length for all works: what vLLM compiles, minutes of it, is kept by its configuration.
    longest = min(4016, json.loads((Path(model) / "config.json").read_text())["max_position_embeddings"])
    engine = LLM(model, dtype=dtype, max_model_len=longest, max_num_seqs=256, enable_prefix_caching=True)

    def answer(prompts: list[list[int]], tokens: int) -> int:
        params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
        found = engine.generate([{"prompt_token_ids": p} for p in prompts], params, use_tqdm=False)
        return sum(len(row.outputs[0].token_ids) for row in found)

    return answer


PEERS: dict[str, Callable[[str, dict[str, Any]], Answer]] = {
    "llama.cpp": llama_cpp,
    "openvino": openvino,
    "onnxruntime": onnxruntime,
    "ctranslate2": ctranslate2,
    "vllm bf16": partial(vllm, dtype="bfloat16"),
    "vllm fp32": partial(vllm, dtype="float32"),
}


def main() -> None:
    """Run all works."""
    name, model = sys.argv[1:]
    works = json.load(sys.stdin)
    began = time.perf_counter()
    answer = PEERS[name](model, works)
    print(json.dumps(measured(answer, works, time.perf_counter() - began)))


def measured(answer: Answer, works: dict[str, Any], load: float) -> dict[str, Any]:
    """What is written."""
    seconds: dict[str, float] = {}
    for work, what in works.items():
        for prompts in (what["warm"], what["prompts"]):
            start = time.perf_counter()
            count = answer(prompts, what["tokens"])
            seconds[work] = time.perf_counter() - start
            if count != len(prompts) * what["tokens"]:
                raise RuntimeError(f"{work}: {count} tokens came, not {len(prompts) * what['tokens']}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"load": load, "peak_mb": peak, "works": seconds}


if __name__ == "__main__":
    main()
