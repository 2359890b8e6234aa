"""The modules: as transformers' Llama, Mistral, Qwen2 and Qwen3 compute, in the order in which they do it.

They begin on "meta", without numbers; `weights` puts these in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from batch.engines.torch.attention import current_plan, packed_attention
from batch.engines.torch.gemm import Product
from batch.engines.torch.lean.config import CLASSES, LeanConfig
from batch.engines.torch.linear import without_numbers

Rotary = tuple[torch.Tensor, torch.Tensor]  # cosine and sine, [batch, tokens, head size]


class Output(NamedTuple):
    """What a pass gives, for the tokens that were asked for.

    logits: [batch, tokens, vocabulary]; where only the likeliest was wanted, instead of them int64, [batch, tokens].
    """

    logits: torch.Tensor


class LeanRMSNorm(nn.Module):  # type: ignore[misc]
    """x / √(mean x² + ε) · weight, over the last dimension."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, device="meta"), requires_grad=False)
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """x: [..., size]."""
        x = hidden_states.to(torch.float32)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * x.to(hidden_states.dtype)


class LeanMLP(nn.Module):  # type: ignore[misc]
    """down(silu(gate(x)) · up(x))."""

    def __init__(self, config: LeanConfig) -> None:
        super().__init__()
        inner, outer = config.intermediate_size, config.hidden_size
        self.gate_proj = without_numbers(outer, inner, bias=False)
        self.up_proj = without_numbers(outer, inner, bias=False)
        self.down_proj = without_numbers(inner, outer, bias=False)
        self.act_fn = F.silu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., hidden size]."""
        out: torch.Tensor = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
        return out


class LeanAttention(nn.Module):  # type: ignore[misc]
    """Attention of a whole text, every token to itself and those before; in a packed step to what the step says."""

    def __init__(self, config: LeanConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer_idx, self.head_dim = config, layer, config.head_dim
        self.scaling = config.head_dim**-0.5
        queries, keys = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
        first, last = config.attention_bias
        self.q_proj = without_numbers(config.hidden_size, queries, bias=first)
        self.k_proj = without_numbers(config.hidden_size, keys, bias=first)
        self.v_proj = without_numbers(config.hidden_size, keys, bias=first)
        self.o_proj = without_numbers(queries, config.hidden_size, bias=last)
        if config.model_type == "qwen3":
            self.q_norm = LeanRMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = LeanRMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(
        self, hidden_states: torch.Tensor, position_embeddings: Rotary, past_key_values: Any = None
    ) -> tuple[torch.Tensor, None]:
        """hidden_states: [batch, tokens, hidden size]."""
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        q, k, v = (project(hidden_states).view(shape) for project in (self.q_proj, self.k_proj, self.v_proj))
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        cosine, sine = (x.unsqueeze(1) for x in position_embeddings)
        q, k = (x * cosine + _half_turned(x) * sine for x in (q, k))
        if past_key_values is None:
            group = q.shape[1] // k.shape[1]
            k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scaling).transpose(1, 2)
        elif current_plan() is not None:
            k, v = past_key_values.update(k, v, self.layer_idx)
            out, _ = packed_attention(self, q, k, v, None, scaling=self.scaling)
        else:
            raise TypeError("it keeps its past in packed steps only")
        return self.o_proj(out.reshape(*hidden_states.shape[:-1], -1)), None


def _half_turned(x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


class LeanDecoderLayer(nn.Module):  # type: ignore[misc]
    """Attention and the gated layers, each after a norm and added to what came in."""

    def __init__(self, config: LeanConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = LeanAttention(config, layer)
        self.mlp = LeanMLP(config)
        self.input_layernorm = LeanRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = LeanRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, hidden_states: torch.Tensor, position_embeddings: Rotary, past_key_values: Any = None
    ) -> torch.Tensor:
        """hidden_states: [batch, tokens, hidden size]."""
        normed = self.input_layernorm(hidden_states)
        mixed, _ = self.self_attn(normed, position_embeddings=position_embeddings, past_key_values=past_key_values)
        hidden_states = hidden_states + mixed
        out: torch.Tensor = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
        return out


class LeanBody(nn.Module):  # type: ignore[misc]
    """Tokens to the hidden states of the last layer, which `norm` is still to be put on."""

    def __init__(self, config: LeanConfig) -> None:
        super().__init__()
        room = torch.empty(config.vocab_size, config.hidden_size, device="meta")
        # Without numbers, for its shape: what stands in its place reads rows of the model's file.
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, _weight=room)
        self.layers = nn.ModuleList(LeanDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = LeanRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.done_by_first: Callable[[], bool] | None = None  # whether the first layer runs all now
        every = torch.arange(0, config.head_dim, 2, dtype=torch.float) / config.head_dim
        self.frequencies = 1.0 / (config.rope_parameters["rope_theta"] ** every)  # no buffer: it stays in float32
        if divisors := config.rope_parameters.get("divisors"):
            self.frequencies = self.frequencies / torch.tensor(divisors)

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, past_key_values: Any) -> torch.Tensor:
        """input_ids and position_ids: [batch, tokens]."""
        x: torch.Tensor = self.embed_tokens(input_ids)
        rotary = self.rotary(position_ids, x.dtype)
        for layer in self.layers:
            x = layer(x, position_embeddings=rotary, past_key_values=past_key_values)
            if self.done_by_first is not None and self.done_by_first():
                break
        return x

    def rotary(self, position_ids: torch.Tensor, dtype: torch.dtype) -> Rotary:
        """How far heads are turned at these places."""
        angles = position_ids[..., None].float() * self.frequencies
        both = torch.cat((angles, angles), dim=-1)
        return both.cos().to(dtype), both.sin().to(dtype)


class LeanModel(nn.Module):  # type: ignore[misc]
    """A causal language model by transformers' names of modules; `generation_config` is what its files say of that."""

    def __init__(self, config: LeanConfig, generation: Any) -> None:
        super().__init__()
        self.config, self.generation_config = config, generation
        self.model = LeanBody(config)
        self.lm_head = without_numbers(config.hidden_size, config.vocab_size, bias=False)

    @property
    def architecture(self) -> str:
        """What transformers calls its class."""
        return CLASSES[self.config.model_type]

    @property
    def dtype(self) -> torch.dtype:
        """Of what it computes in."""
        found: torch.dtype = self.model.norm.weight.dtype
        return found

    @property
    def device(self) -> torch.device:
        """Where it is."""
        found: torch.device = self.model.norm.weight.device
        return found

    def get_input_embeddings(self) -> nn.Module:
        """The table of embeddings."""
        table: nn.Module = self.model.embed_tokens
        return table

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        head: nn.Module = self.lm_head
        return head

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
        logits_to_keep: torch.Tensor | int = 0,
        likeliest: bool = False,
    ) -> Output:
        """input_ids: [batch, tokens]. A cache is for packed steps; whole texts run without one.

        likeliest: of each token that alone, -1 where its logits are not numbers; only where `finds_likeliest`.
        """
        if use_cache and past_key_values is None:
            raise TypeError("it makes no cache of its own")
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        x = self.model(input_ids, position_ids, past_key_values)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        x, norm = x[:, kept], self.model.norm
        if likeliest:
            product: Product = self.lm_head.product
            return Output(product.largest(x.flatten(0, 1), (norm.weight, norm.variance_epsilon)).view(x.shape[:2]))
        return Output(self.lm_head(norm(x)))

    @property
    def finds_likeliest(self) -> bool:
        """Whether the head is a product that finds its largest output by itself."""
        return isinstance(getattr(self.lm_head, "product", None), Product) and self.dtype == torch.float32
