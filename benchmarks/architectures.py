"""Chats with a system prompt at 32 rows, on random models of an architecture: its runner beside the way it once went.

`python -m benchmarks.architectures [--own] [NAME ...]` prints a table, of the families below where none is named. The
other way is one by one or a padded rectangle, as the family ran before it had a better one, its weights in the
same layouts. The clock runs from the first answer's end until no request waits: all the while 32 rows are taken,
and newcomers' prompts run beside them. Rows that go one by one are as fast however many there are, so few of these run.
`--own`: prompts that have nothing in common; `--one-core`: in one thread's processor time, which is the same on a
machine that does other things beside.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING

from batch.engines.torch import fused, linear
from batch.engines.torch.native import kernels
from batch.engines.torch.rectangle import BatchRunner
from batch.engines.torch.runner import open_runner
from batch.engines.torch.scheduler import Scheduler
from batch.engines.torch.sequence import Sequence
from batch.engines.torch.single import SingleRunner
from batch.engines.torch.text import Detokenizer
from batch.options import SamplingOptions
from tests.engines.architectures import make

ROWS = 32
REQUESTS = 72
EVERY = 24  # one by one, one in so many requests shows the rate of all
SYSTEM = 200  # tokens that all prompts begin with
QUESTION = 8, 96  # tokens after it, from and to
ANSWER = 16, 64
VOCABULARY = 16_384
SPREAD = 0.05  # of weights, for numbers that stay of one size from layer to layer

# Sizes of a model of some 20 million parameters beside its vocabulary, by all the names they go by.
_SIZES: dict[int, str] = {
    VOCABULARY: "vocab_size vocab_size_per_layer_input",
    512: "hidden_size n_embd d_model mamba_d_ssm",
    1024: "max_position_embeddings n_positions max_seq_len",
    1408: "intermediate_size ffn_dim n_inner ffn_hidden_size shared_intermediate_size intermediate_size_mlp",
    384: "moe_intermediate_size shared_expert_intermediate_size moe_shared_expert_intermediate_size q_lora_rank",
    128: "kv_lora_rank sliding_window attention_chunk_size hidden_size_per_layer_input state_size",
    64: "head_dim kv_channels qk_nope_head_dim v_head_dim linear_key_head_dim linear_value_head_dim mamba_d_head "
    "mamba_head_dim mamba_d_state ssm_state_size chunk_size mamba_chunk_size",
    32: "qk_rope_head_dim time_step_rank mamba_dt_rank",
    16: "mamba_n_heads mamba_num_heads n_mamba_heads num_heads",
    6: "num_hidden_layers n_layer n_layers num_layers",
    8: "num_attention_heads n_head linear_num_value_heads num_local_experts num_experts n_routed_experts",
    4: "num_key_value_heads num_kv_heads linear_num_key_heads mamba_d_conv",
    2: "mamba_expand num_experts_per_tok top_k_experts n_shared_experts",
    1: "n_group topk_group n_groups mamba_n_groups mamba_ngroups first_k_dense_replace",
}
_BY_NAME = {name: size for size, names in _SIZES.items() for name in names.split()}
_MAMBA = {"state_size": 16}
_THIRDS = [
    "linear_attention",
    "linear_attention",
    "linear_attention",
    "full_attention",
    "linear_attention",
    "full_attention",
]
# What a family wants otherwise, and whether it once went one by one.
SHAPES: dict[str, tuple[dict[str, Any], bool]] = {
    "qwen3_next": ({"layer_types": _THIRDS}, True),
    "qwen3_5_text": ({"layer_types": _THIRDS}, True),
    "llama4_text": ({"no_rope_layers": [1, 1, 1, 0, 1, 0], "intermediate_size": 512, "num_experts_per_tok": 1}, True),
    "mamba": (_MAMBA, True),
    "mamba2": ({"head_dim": 64, "num_heads": 16, "expand": 2}, True),
    "jamba": (
        {"mamba_d_state": 16, "attn_layer_period": 3, "attn_layer_offset": 2, "use_mamba_kernels": False},
        True,
    ),
    "lfm2": ({"layer_types": ["conv", "conv", "full_attention"] * 2}, True),
    "falcon_h1": ({"mamba_d_ssm": 1024}, True),
    "nemotron_h": (
        {"layers_block_type": ["linear_attention", "mlp", "full_attention", "mlp"] + ["linear_attention", "mlp"] * 2},
        True,
    ),
    "zamba2": (
        {"n_mamba_heads": 16, "num_mem_blocks": 1, "adapter_rank": 64, "use_mamba_kernels": False}
        | {"layers_block_type": ["mamba", "mamba", "hybrid"] * 2, "num_key_value_heads": 8},
        True,
    ),
    "granitemoehybrid": (
        {"layer_types": ["mamba", "mamba", "attention"] * 2, "intermediate_size": 384},
        True,
    ),
    "gemma2": ({}, False),
    "gpt_oss": ({"intermediate_size": 384}, False),
    "deepseek_v2": ({"num_key_value_heads": 8, "num_experts_per_tok": 2}, False),
    "deepseek_v3": ({"num_key_value_heads": 8, "head_dim": 32}, False),
    "gemma4_text": ({}, False),
    "falcon": ({}, False),
    "bloom": ({}, False),
}


def shaped(name: str, *, then: bool = False) -> tuple[Any, int]:
    """A random model of such a size, its layers as a loader makes them, and its parameters.

    `then`: as a loader made them before the family had a better way: without what came with it for its sake, experts as
    layers and gates by GELU in the kernels.
    """
    known = CONFIG_MAPPING[name]().get_text_config(decoder=True).to_dict()
    said = {key: size for key, size in _BY_NAME.items() if type(known.get(key)) is int} | SHAPES.get(name, ({},))[0]
    model = make(name, spread=SPREAD, **said)
    parameters = sum(p.numel() for p in model.parameters())
    linear.fuse(model)
    if then:
        linear.replace(model, linear.PackedLinear)
    else:
        linear.pack(model)
    quick = kernels()
    if quick is not None:
        fused.use_kernels(model, quick)
    for module in model.modules() if then else ():
        names = type(module).__name__, type(getattr(module, "act_fn", None)).__name__
        if "forward" in vars(module) and any("gelu" in name.lower() for name in names):
            del module.forward
    return model, parameters


def rows(share: bool, length: int = SYSTEM) -> list[Sequence]:
    """Requests of unequal lengths, fixed by a seed."""
    rng = random.Random(1)

    def words(count: int) -> list[int]:
        return [rng.randrange(3, VOCABULARY) for _ in range(count)]

    system, found = words(length), []
    for i in range(REQUESTS):
        prompt = (system if share else words(length)) + words(rng.randint(*QUESTION))
        found.append(Sequence(i, prompt, SamplingOptions(), rng.randint(*ANSWER), Detokenizer(None, [])))
    return found


def run(runner: Any, sequences: list[Sequence], clock: Callable[[], float]) -> tuple[float, int, dict[Any, list[int]]]:
    """Seconds by this clock, tokens made meanwhile, and each row's tokens in the end.

    It runs from the first answer's end until nobody waits for a row; where there are rows for all at once, throughout.
    """
    if hasattr(runner, "_may_guess"):  # the other ways do not guess, and what is said is of random weights
        runner._may_guess = lambda: False
    scheduler = Scheduler(ROWS, 10**9, footprint=runner.footprint if runner.reckons else None, ragged=runner.ragged)
    for sequence in sequences:
        runner.register(sequence)
        scheduler.add(sequence)
    steady = len(sequences) > ROWS
    began, made = None if steady else clock(), 0
    while len(scheduler) >= (ROWS if steady else 1):
        done, logits = runner.advance(scheduler.schedule())
        if logits is None:
            continue
        for row, token in zip(done, logits.argmax(-1).tolist(), strict=True):
            row.tokens.append(token)
        made += len(done) if began is not None else 0
        ended = [row for row in done if len(row.tokens) >= row.max_tokens]
        began = clock() if ended and began is None else began
        runner.release(ended)
        scheduler.finish(ended)
    seconds = clock() - (began or 0.0)
    runner.release(list(scheduler.running))
    return seconds, made, {row.id: row.tokens for row in sequences}


def measure(name: str, share: bool, system: int, rounds: int, clock: Callable[[], float]) -> str:
    """A line of the table; the two ways in turns, the best of each."""
    model, parameters = shaped(name)
    other, _ = shaped(name, then=True)
    alone = SHAPES.get(name, ({}, False))[1]
    with torch.inference_mode():
        runner = open_runner(model, ROWS)
        ways: list[tuple[Callable[[], Any], int]] = [
            (lambda: runner, 1),
            (lambda: SingleRunner(other), EVERY) if alone else (lambda: BatchRunner(other, ROWS), 1),
        ]
        best, answers = [0.0, 0.0], [{}, {}]  # type: ignore[var-annotated]
        for _ in range(rounds):
            for way, (maker, every) in enumerate(ways):
                seconds, made, answers[way] = run(maker(), rows(share, system)[::every], clock)
                best[way] = max(best[way], made / seconds)
    same = sum(_alike(answers[0][key], tokens) for key, tokens in answers[1].items())
    before = "one by one" if alone else "rectangle"
    shown = f"| {name} | {parameters / 1e6:.0f} M | {runner.name} | {best[0]:,.0f} | {before}"
    return f"{shown} | {best[1]:,.0f} | {best[0] / best[1]:.1f} × | {same} of {len(answers[1])} |"


def _alike(one: list[int], other: list[int]) -> bool:
    """As far as both go."""
    return all(a == b for a, b in zip(one, other, strict=False))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures")
    parser.add_argument("--own", action="store_true", help="prompts with nothing in common")
    parser.add_argument("--system", type=int, default=SYSTEM, help="tokens that all prompts begin with")
    parser.add_argument("--rounds", type=int, default=1, help="of which the best is taken")
    parser.add_argument("--one-core", action="store_true", help="one thread, in processor time")
    args = parser.parse_args()
    if args.one_core:
        torch.set_num_threads(1)
    clock = time.process_time if args.one_core else time.perf_counter
    transformers.logging.set_verbosity_error()
    sys.stdout.write("| | parameters | runner | tokens/s | before | tokens/s | | answers the same |\n")
    sys.stdout.write("|---|---:|---|---:|---|---:|---:|---:|\n")
    for name in args.names or SHAPES:
        try:
            line = measure(name, not args.own, args.system, args.rounds, clock)
        except Exception as error:  # each family's own
            line = f"| {name} | | {type(error).__name__}: {error} |"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        gc.collect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
