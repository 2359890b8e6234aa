"""llama.cpp as a peer: the same weights as GGUF, and chats in parallel sequences over one KV cache.

Needs `llama-cpp-python`, built for this machine, and `gguf`; neither is a dependency of the project. Used as its own
server does it well: unified cache, the common prompt computed once and shared by `seq_cp`, up to 64 sequences that
join and leave at every step, prompts in chunks beside them, greedy picks taken from the logits of the whole step.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections import deque
from pathlib import Path
from typing import Any

SEQUENCES = 64
STEP = 512  # tokens of a batch
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(folder: Path, kind: str) -> Path:
    """A Qwen3 with tied embeddings as GGUF, F32 or Q8_0; without a vocabulary, since it is fed token ids."""
    import gguf
    from safetensors.torch import load_file

    path = folder / f"model-{kind}.gguf"
    if path.exists():
        return path
    config = json.loads((folder / "config.json").read_text())
    scratch = path.with_suffix(".part")
    writer = gguf.GGUFWriter(scratch, "qwen3")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(float(config.get("rope_theta") or config["rope_parameters"]["rope_theta"]))
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    quantised = gguf.GGMLQuantizationType.Q8_0
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name == "lm_head.weight":
            continue
        data = tensor.float().numpy()
        if kind == "q8_0" and data.ndim == 2:
            writer.add_tensor(_gguf_name(name), gguf.quants.quantize(data, quantised), raw_dtype=quantised)
        else:
            writer.add_tensor(_gguf_name(name), data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    scratch.replace(path)
    return path


def _gguf_name(name: str) -> str:
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in fixed:
        return fixed[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


class Llama:
    """A model and its context; prompts are token lists that begin with the same `shared` tokens."""

    def __init__(self, path: Path, tokens: int, shared: list[int]) -> None:
        import llama_cpp

        self.ll = ll = llama_cpp
        self._silent = ll.llama_log_callback(lambda *_: None)
        ll.llama_log_set(self._silent, ctypes.c_void_p(0))
        ll.llama_backend_init()
        model = ll.llama_model_load_from_file(str(path).encode(), ll.llama_model_default_params())
        self.vocabulary = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
        params = ll.llama_context_default_params()
        params.n_ctx = -(-(tokens + STEP) // 256) * 256
        params.n_batch, params.n_ubatch, params.n_seq_max = STEP, STEP, SEQUENCES + 1
        params.n_threads = params.n_threads_batch = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        params.kv_unified = True
        self.context = ll.llama_init_from_model(model, params)
        if not self.context:
            raise RuntimeError("llama.cpp made no context")
        self.memory = ll.llama_get_memory(self.context)
        self.batch = ll.llama_batch_init(STEP, 0, 1)
        self.shared = shared

    def add(self, token: int, position: int, sequence: int, *, logits: bool) -> None:
        """One token to the next batch."""
        batch, i = self.batch, self.batch.n_tokens
        batch.token[i], batch.pos[i], batch.logits[i] = token, position, logits
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        batch.n_tokens += 1

    def decode(self) -> None:
        """Run the batch."""
        if self.ll.llama_decode(self.context, self.batch):
            raise RuntimeError("llama.cpp did not decode a batch")
        self.batch.n_tokens = 0

    def answer(self, prompts: list[list[int]], lengths: list[int]) -> dict[int, list[int]]:
        """Greedy answers of these lengths."""
        import numpy as np

        self.batch.n_tokens = 0
        for i, token in enumerate(self.shared):
            self.add(token, i, 0, logits=False)
            if self.batch.n_tokens == STEP or i == len(self.shared) - 1:
                self.decode()
        waiting = deque(sorted(range(len(prompts)), key=lambda i: -lengths[i]))
        free = list(range(1, SEQUENCES + 1))
        rows: dict[int, tuple[int, list[int]]] = {}  # sequence -> its prompt, its tokens so far
        filled: dict[int, int] = {}
        done: dict[int, list[int]] = {}
        while waiting or rows:
            while waiting and free:
                sequence = free.pop()
                rows[sequence], filled[sequence] = (waiting.popleft(), []), len(self.shared)
                self.ll.llama_memory_seq_cp(self.memory, 0, sequence, -1, -1)
            asked = self._fill(prompts, rows, filled)
            self.decode()
            if not asked:
                continue
            logits = np.ctypeslib.as_array(self.ll.llama_get_logits(self.context), (len(asked), self.vocabulary))
            for sequence, token in zip(asked, logits.argmax(1).tolist(), strict=True):
                prompt, tokens = rows[sequence]
                tokens.append(token)
                if len(tokens) == lengths[prompt]:
                    done[prompt] = tokens
                    self.ll.llama_memory_seq_rm(self.memory, sequence, -1, -1)
                    free.append(sequence)
                    del rows[sequence]
        return done

    def _fill(
        self, prompts: list[list[int]], rows: dict[int, tuple[int, list[int]]], filled: dict[int, int]
    ) -> list[int]:
        """The next batch: a token of each sequence that decodes, then prompts; the sequences whose logits come."""
        asked: list[int] = []
        for sequence, (prompt, answer) in sorted(rows.items(), key=lambda row: not row[1][1]):
            tokens = [answer[-1]] if answer else prompts[prompt][filled[sequence] :]
            for token in tokens[: STEP - self.batch.n_tokens]:
                filled[sequence] += 1
                last = filled[sequence] == len(prompts[prompt]) + len(answer)
                self.add(token, filled[sequence] - 1, sequence, logits=last)
                if last:
                    asked.append(sequence)
        return asked


def llama(folder: str, system: str, chats: list[tuple[str, int]], kind: str) -> dict[str, Any]:
    """llama.cpp through its batch interface; `kind` is f32 or q8_0."""
    import transformers

    from benchmarks.engine_peers import chat_tokens, measured

    path = write_gguf(Path(folder), kind)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prompts = [chat_tokens(tokenizer, system, text) for text, _ in chats]
    lengths = [answer for _, answer in chats]
    shared = 0
    while all(len(p) > shared + 1 and p[shared] == prompts[0][shared] for p in prompts):
        shared += 1
    own = sorted((len(p) - shared + answer for p, answer in zip(prompts, lengths, strict=True)), reverse=True)
    model = Llama(path, shared + sum(own[:SEQUENCES]), prompts[0][:shared])
    result: dict[str, Any] = {"tokens": sum(lengths)}
    with measured(result):
        answers = model.answer(prompts, lengths)
        result["texts"] = {i: tokenizer.decode(tokens, skip_special_tokens=True) for i, tokens in answers.items()}
    return result
