"""Where tensors of a GGUF file go in transformers' models, as far as many architectures have it alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Change = Callable[[Any, Any], Any]  # an array and the model's config to the array as the model has it


class Part(NamedTuple):
    """Where a tensor goes below its layer (or the model), and what is to be done to it."""

    place: str
    change: Change | None = None


ATTENTION = {
    "attn_q": Part("self_attn.q_proj"),
    "attn_k": Part("self_attn.k_proj"),
    "attn_v": Part("self_attn.v_proj"),
    "attn_output": Part("self_attn.o_proj"),
}
MLP = {"ffn_gate": Part("mlp.gate_proj"), "ffn_up": Part("mlp.up_proj"), "ffn_down": Part("mlp.down_proj")}
TOP = {"token_embd": Part("model.embed_tokens"), "output": Part("lm_head"), "output_norm": Part("model.norm")}
