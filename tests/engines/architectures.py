"""Every architecture of transformers as a tiny random model: its runner, and whether it answers as `generate`.

`python -m tests.engines.architectures [--docs FILE] [NAME ...]` compares them and prints the
documentation's table; `--keep FILE --seconds 200` does it in parts.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from batch.engines.local.folder import not_causal
from batch.engines.torch.runner import open_runner
from batch.engines.torch.sequence import Sequence
from batch.engines.torch.text import Detokenizer
from batch.errors import FatalError
from batch.options import SamplingOptions

TOKENS = 12  # of each answer
NEAR = 2e-3  # where the reference's two best logits are closer, either token is right
PARAMETERS = 90_000_000  # a config that is larger has a size that SMALL does not know
LENGTHS = (50, 3, 27, 50)
COMMON = 40  # tokens that the first and the last prompt begin with, more than any window
# A size of a config, by all the names it goes by; only those that a config has are set.
_SIZES: dict[int, str] = {
    64: "hidden_size n_embd d_model dim lru_width",
    96: "intermediate_size ffn_dim n_inner d_inner ffn_hidden_size shared_expert_intermediate_size block_ff_dim "
    "shared_intermediate_size encoder_ffn_dim decoder_ffn_dim moe_shared_expert_intermediate_size d_ff "
    "intermediate_size_mlp",
    4: "num_hidden_layers n_layer n_layers num_layers num_attention_heads n_head n_heads num_heads decoder_layers "
    "encoder_layers decoder_attention_heads encoder_attention_heads linear_num_value_heads mamba_n_heads "
    "mamba_d_conv num_experts num_local_experts n_routed_experts moe_num_experts moe_k_dense",
    2: "num_key_value_heads num_kv_heads linear_num_key_heads num_experts_per_tok num_experts_per_token moe_topk "
    "moe_k top_k_experts moe_num_experts_per_tok num_global_key_value_heads mamba_expand "
    "num_query_groups",
    1: "n_group topk_group n_groups mamba_n_groups first_k_dense_replace n_shared_experts num_shared_experts "
    "first_k_dense_layers moe_layer_start_index",
    16: "head_dim kv_channels q_lora_rank kv_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim qk_head_dim "
    "linear_key_head_dim linear_value_head_dim global_head_dim mamba_chunk_size chunk_size block_size "
    "hidden_size_per_layer_input swa_head_dim swa_v_head_dim",
    32: "moe_intermediate_size mamba_d_head mamba_head_dim expert_ffn_hidden_size moe_ffn_hidden_size",
    8: "mamba_d_state state_size mamba_num_heads ssm_state_size mamba_dt_rank time_step_rank",
    12: "sliding_window attention_window_size window_size attention_chunk_size",
    320: "vocab_size vocab_size_per_layer_input",
    160: "max_position_embeddings n_positions n_ctx seq_length max_seq_len",
}
SMALL = {name: size for size, names in _SIZES.items() for name in names.split()}
_WIDE = {
    name
    for size in (64, 96, 16, 32)
    for name in _SIZES[size].split()
    if not name.endswith(("chunk_size", "block_size"))
}
# What one family wants otherwise.
_ALL_HEADS = {"num_key_value_heads": 4}
_LINEAR = {"layer_types": ["linear_attention", "full_attention"] * 2}
_DOTS3 = {**_ALL_HEADS, "index_head_dim": 16, "index_n_heads": 4, "shared_experts_intermediate_size": 32}
_QWEN4 = {
    **{"indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 64},
    **{"indexer_compress_ratio": 4, "hc_lowrank": 16, "ple_embed_dim": 64, "ngram_vocab_size_base": 300},
    **{"split_ngram_parts": 4, "heads_per_ngram": 2, "make_ngram_vocab_size_divisible_by": 8},
}
_ROPE = {"rope_type": "default", "rope_theta": 1e4}
OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v3", "deepseek_v32"), _ALL_HEADS),
    **dict.fromkeys(("glm4_moe_lite", "glm_moe_dsa", "youtu", "minicpm3"), _ALL_HEADS),
    **{name: {"head_dim": 16} for name in ("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral")},
    "nemotron": {"num_key_value_heads": 2, "head_dim": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "attention_layers": ["global", "local"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "deepseek_v2": {**_ALL_HEADS, "num_experts_per_tok": 2},
    "codegen": {"rotary_dim": 8},
    "gptj": {"rotary_dim": 8},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "mamba2": {"num_heads": 8, "head_dim": 16, "expand": 2},
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 16, "attn_layer_indices": [1, 3]},
    "falcon_h1": {"mamba_n_heads": 4, "mamba_d_ssm": 64, "mamba_d_head": 16},
    "granitemoehybrid": {
        "mamba_n_heads": 8,
        "mamba_d_head": 16,
        "layer_types": ["mamba", "attention", "mamba", "attention"],
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "lfm2": {"full_attn_idxs": [1, 3]},
    "nemotron_h": {"hybrid_override_pattern": "M*-M", "mamba_num_heads": 8, "mamba_head_dim": 16},
    "zamba": {
        **{"n_mamba_heads": 2, "mamba_dt_rank": 8, "use_mamba_kernels": False, "num_hidden_layers": 6},
        "layers_block_type": ["mamba", "hybrid"] * 3,
    },
    "zamba2": {
        **{"mamba_ngroups": 1, "n_mamba_heads": 8, "num_mem_blocks": 1, "adapter_rank": 8, "use_mamba_kernels": False},
        "layers_block_type": ["mamba", "hybrid"] * 2,
    },
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
    "kimi_linear": {**_ALL_HEADS, **_LINEAR, "linear_head_dim": 16, "linear_num_heads": 4},
    "bailing_hybrid": {**_ALL_HEADS, **_LINEAR, "n_group": 1, "topk_group": 1},
    "longcat_flash": {**_ALL_HEADS, "zero_expert_num": 2, "qk_head_dim": 32},
    "xlstm": {"qk_dim_factor": 1.0},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    **dict.fromkeys(("dots3_note", "dots3_note_text"), _DOTS3),
    **dict.fromkeys(("qwen4_exp", "qwen4_exp_text"), _QWEN4),
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
        "ffn_config": {"hidden_size": 64, "ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "gemma3n": {"num_kv_shared_layers": 0},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "xlm": {"emb_dim": 64, "n_heads": 4, "causal": True},
    "reformer": {
        **{"axial_pos_embds_dim": [16, 48], "axial_pos_shape": [10, 16], "attention_head_size": 16, "num_buckets": 4},
        **{"local_attn_chunk_length": 16, "lsh_attn_chunk_length": 16},
    },
    "llama4_text": {"no_rope_layers": [1, 1, 1, 0]},
    "rwkv": {"attention_hidden_size": 64, "context_length": 160},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "openai-gpt": {"n_positions": 160},
}


@dataclass(frozen=True, slots=True)
class Found:
    """What came of an architecture: its runner and whether it is equal, or why it is refused."""

    name: str
    runner: str
    said: str


def make(name: str, *, times: int = 1, spread: float = 0.15, **said: Any) -> Any:
    """A tiny random model of an architecture, its config as `said`; raises what transformers raises.

    `times`: how many times wider than the smallest; `spread`: standard deviation of its weights.
    """
    made = CONFIG_MAPPING[name]
    known = made().get_text_config(decoder=True).to_dict()
    small: dict[str, Any] = {key: size for key, size in SMALL.items() if isinstance(known.get(key), int)}
    small |= OWN.get(name, {})
    small |= {key: times * small[key] for key in _WIDE & small.keys()}
    small["pad_token_id"] = 0
    if "is_decoder" in known:
        small["is_decoder"] = True
    small |= said
    config = type(made().get_text_config(decoder=True))(**small)
    torch.manual_seed(7)
    with contextlib.suppress(TypeError), torch.device("meta"):  # some make tensors that cannot be made there
        size = sum(p.numel() for p in transformers.AutoModelForCausalLM.from_config(config).parameters())
        if size > PARAMETERS:
            raise ValueError(f"{size:,} parameters: its config has a size that the table does not name")
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for key in ("bos_token_id", "eos_token_id", "forced_eos_token_id"):
        setattr(model.generation_config, key, None)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.is_floating_point():  # wide enough for answers that differ
                parameter.normal_(0.0, spread, generator=generator)
    return model


def compare(name: str) -> Found:
    """Rows of several lengths, joined and released one after the other, beside `generate` of each alone."""
    if why := _refused(name):
        return Found(name, "", f"refused: {why}")
    try:
        model = make(name)
    except Exception as error:  # each family's own
        return Found(name, "", f"not made: {type(error).__name__}: {' '.join(str(error).split())[:90]}")
    with torch.inference_mode():
        try:
            runner = open_runner(model, 8)
        except FatalError as error:
            return Found(name, "", f"refused: {' '.join(str(error).split())}")
        prompts = [[3 + (i * i * 7 + seed * i) % 300 for i in range(n)] for seed, n in enumerate(LENGTHS)]
        prompts[-1][:COMMON] = prompts[0][:COMMON]
        ours = answers(runner, prompts)
        try:
            with_cache = "gives other answers"
            if not wrong(ours, [expected(model, prompt) for prompt in prompts]):
                return Found(name, runner.name, "equal")
        except Exception as error:
            with_cache = f"fails ({type(error).__name__})"
        if not wrong(ours, [expected(model, prompt, use_cache=False) for prompt in prompts]):
            return Found(name, runner.name, f"equal to `generate(use_cache=False)`; with its cache it {with_cache}")
    return Found(name, runner.name, "differs")


def _refused(name: str) -> str:
    """What a folder of this architecture would be refused for before its weights are read."""
    with contextlib.suppress(Exception):  # which making it will say
        said = CONFIG_MAPPING[name]().to_dict()
        return not_causal({**said, "architectures": [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[name]]})
    return ""


def answers(runner: Any, prompts: list[list[int]]) -> list[list[int]]:
    """Greedy answers of rows that come two by two and end one by one."""
    rows = [Sequence(i, p, SamplingOptions(), TOKENS + i, Detokenizer(None, [])) for i, p in enumerate(prompts)]
    for row in rows:
        runner.register(row)
    waiting = list(rows)
    while waiting or runner.rows:
        coming, waiting = (waiting[:2], waiting[2:]) if waiting else ([], [])
        if coming:
            for row, logits in zip(coming, runner.prefill(coming), strict=True):
                row.tokens.append(int(logits.argmax()))
        for row, logits in zip(list(runner.rows), runner.decode(), strict=True):
            row.tokens.append(int(logits.argmax()))
        runner.release([row for row in runner.rows if len(row.tokens) >= row.max_tokens])
    return [row.tokens[:TOKENS] for row in rows]


def expected(model: Any, prompt: list[int], *, use_cache: bool = True) -> tuple[list[int], list[float]]:
    """By transformers, and how far apart the two best logits are at each token."""
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        **{"do_sample": False, "max_new_tokens": TOKENS, "pad_token_id": 0, "use_cache": use_cache},
        output_scores=True,
        return_dict_in_generate=True,
    )
    best = [scores[0].topk(2).values for scores in out.scores]
    return out.sequences[0, len(prompt) :].tolist(), [float(two[0] - two[1]) for two in best]


def wrong(ours: list[list[int]], theirs: list[tuple[list[int], list[float]]]) -> bool:
    """Whether any answer differs."""
    return any(differs(mine, *reference) for mine, reference in zip(ours, theirs, strict=True))


def differs(ours: list[int], theirs: list[int], gaps: list[float]) -> bool:
    """Whether a token is another where the reference was sure."""
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    return len(ours) != len(theirs) if at is None else gaps[at] >= NEAR


def names() -> list[str]:
    """All that transformers has for causal language models."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def shown(found: Found) -> tuple[str, str]:
    """Its runner and what is said of it, as a row of the documentation's table has them."""
    said = "not compared: no tiny config of it could be made" if found.said.startswith("not made") else found.said
    said = re.sub(r"\(\w+\)$|^(refused: )\w+ cannot be run: ", r"\1", said).strip()
    return found.runner.partition(",")[0] if "packed" in found.runner else found.runner, said


def documented(file: Path) -> dict[str, tuple[str, str]]:
    """What the table in `file` says of each architecture: its runner ("" for none) and what is said of it."""
    text = file.read_text().partition("<!-- architectures -->")[2].partition("<!-- /architectures -->")[0]
    rows = re.findall(r"^\| (.*?) \| (.*) \(\d+\) \| (.*) \|$", text, re.MULTILINE)
    return {name: (runner.replace("—", ""), said) for runner, said, named in rows for name in named.split(", ")}


def table(found: list[Found]) -> str:
    """The table of the documentation: what is alike in one row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for one in sorted(found, key=lambda one: one.name):
        rows.setdefault(shown(one), []).append(one.name)
    order = sorted(rows, key=lambda row: (not row[0], row[1] != "equal", -len(rows[row])))
    lines = [
        f"| {runner or '—'} | {said} ({len(rows[runner, said])}) | {', '.join(rows[runner, said])} |"
        for runner, said in order
    ]
    return "\n".join(["| runner | beside `generate` | architectures |", "|---|---|---|", *lines])


def kept(file: Path | None) -> dict[str, Found]:
    """What earlier parts of the same comparison found."""
    lines = file.read_text().splitlines() if file is not None and file.exists() else []
    return {one["name"]: Found(**one) for one in map(json.loads, lines)}


def main() -> int:
    """Compare, print, and end with 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; all where none is named")
    parser.add_argument("--docs", type=Path, help="write the table into this file too, between its two marks")
    parser.add_argument("--keep", type=Path, help="a file of what is found: who is in it is not compared again")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no more after so long")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    began, found = time.monotonic(), kept(args.keep)
    for name in [name for name in args.names or names() if name not in found]:
        if time.monotonic() - began > args.seconds:
            break
        found[name] = compare(name)
        sys.stderr.write(f"{name}: {found[name].runner or '—'}: {found[name].said}\n")
        if args.keep:
            with args.keep.open("a") as file:
                file.write(json.dumps(asdict(found[name])) + "\n")
        gc.collect()
    rows = table(list(found.values()))
    sys.stdout.write(rows + "\n")
    if args.docs:
        before, _, rest = args.docs.read_text().partition("<!-- architectures -->")
        after = rest.partition("<!-- /architectures -->")[2]
        marked = f"<!-- architectures -->\n\n{rows}\n\n<!-- /architectures -->"
        args.docs.write_text(before + marked + after)
    return int(any(one.said == "differs" for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
