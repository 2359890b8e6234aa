"""Train the demo model from scratch on the corpora of this folder.

The shipped model was made in two stages, the second with more department rows and invented names in them:

    python examples/demo_model/train.py --steps 900 --seed 0 --output checkpoints/demo-base
    python examples/demo_model/train.py --init checkpoints/demo-base --steps 260 --seed 1 \\
        --sizes 24,32,96 --invented 0.5 --lr 2.5e-3 --output ai_router/demo

Three skills share every step: one batch of questions, one of Japanese corrections, one of departments.
Muon trains the weight matrices and AdamW the embedding and the norms. Steps, not time, decide the end.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import build_tokenizer
import data
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import Qwen3Config, Qwen3ForCausalLM

VOCAB = 5120
MAX_POSITIONS = 2048
SKILLS = ("questions", "japanese", "departments")


def config_dict(vocab_size: int) -> dict[str, object]:
    """config.json, in the keys that both transformers 4 and 5 and mlx-lm read."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": vocab_size,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "hidden_act": "silu",
        "max_position_embeddings": MAX_POSITIONS,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_cache": True,
        "use_sliding_window": False,
        "sliding_window": None,
        "max_window_layers": 6,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "torch_dtype": "float16",
    }


def save(model: Qwen3ForCausalLM, tokenizer: object, folder: Path) -> None:
    """Write the model folder; every file appears whole, the weights last."""
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer.save(tokenizer, folder, MAX_POSITIONS)  # type: ignore[arg-type]
    generation = {"do_sample": False, "eos_token_id": 2, "pad_token_id": 0, "max_new_tokens": 128}
    for name, content in (
        ("config.json", config_dict(model.config.vocab_size)),
        ("generation_config.json", generation),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    weights = {
        name: value.detach().to(torch.float16).contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"
    }
    part = folder / "model.safetensors.part"
    save_file(weights, str(part), metadata={"format": "pt"})
    part.chmod(0o644)
    os.replace(part, folder / "model.safetensors")


def optimizers(model: Qwen3ForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the embedding and the norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    embedding = [p for n, p in model.named_parameters() if "embed" in n]
    norms = [p for p in model.parameters() if p.ndim < 2]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [{"params": embedding, "weight_decay": 0.02}, {"params": norms, "weight_decay": 0.0}],
            lr=rate,
            betas=(0.9, 0.98),
        ),
    ]


def schedule(step: int, steps: int) -> float:
    """Warm-up, a plateau, and a fall to 1 % over the last half (cosine)."""
    warm = min(100, steps // 10 + 1)
    if step < warm:
        return (step + 1) / warm
    begin = steps // 2
    if step < begin:
        return 1.0
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - begin) / max(1, steps - begin)))


def loss_of(model: Qwen3ForCausalLM, batch: data.Batch, bf16: bool) -> torch.Tensor:
    """Mean cross entropy over the supervised positions, which alone reach the output layer."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden.flatten(0, 1)[batch.positions])
    return F.cross_entropy(logits.float(), batch.labels)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the demo model from scratch.")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("checkpoints/demo"))
    parser.add_argument("--init", type=Path, help="start from this model folder and its tokenizer")
    parser.add_argument("--sizes", default="64,80,30", help="rows a step: questions, japanese, departments")
    parser.add_argument("--invented", type=float, default=0.0, help="share of invented names in faculty texts")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--precision",
        choices=("bf16", "fp32"),
        default="bf16",
        help="of the matrix products; weights and optimizer stay in float32",
    )
    parser.add_argument("--save-every", type=int, default=250)
    parser.add_argument("--save-folder", type=Path, help="where checkpoints on the way go (default: --output)")
    parser.add_argument("--smoke", action="store_true", help="ten steps on small pools, to see that it runs")
    return parser.parse_args()


def main() -> None:
    """Train and save the model."""
    args = arguments()
    steps, pool, texts = (10, 400, 300) if args.smoke else (args.steps, 24_000, 6000)

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.init:
        tokenizer = Tokenizer.from_file(str(args.init / "tokenizer.json"))
    else:
        tokenizer = build_tokenizer.train(data.tokenizer_texts(args.seed, texts), VOCAB)
    content = config_dict(tokenizer.get_vocab_size())
    settings = {name: value for name, value in content.items() if name != "torch_dtype"}
    # Eager attention is the fastest one on the CPU at these lengths (about 50 tokens).
    model = Qwen3ForCausalLM(Qwen3Config(**settings, attn_implementation="eager")).float()
    if args.init:
        model.load_state_dict(load_file(str(args.init / "model.safetensors")), strict=False)  # the tied head is absent
    model.train()
    count = sum(p.numel() for p in model.parameters())
    print(f"{count:,} parameters, vocabulary {tokenizer.get_vocab_size()}", flush=True)

    sizes = dict(zip(SKILLS, map(int, args.sizes.split(",")), strict=True))
    streams = {
        name: iter(data.Stream(name, tokenizer, args.seed, size, pool, args.invented)) for name, size in sizes.items()
    }
    tuners = optimizers(model, args.lr)
    began, tokens = time.monotonic(), 0
    recent = dict.fromkeys(SKILLS, 0.0)
    for step in range(steps):
        for tuner in tuners:
            for group in tuner.param_groups:
                group["lr"] = args.lr * schedule(step, steps)
        for name, stream in streams.items():
            batch = next(stream)
            tokens += batch.ids.numel()
            loss = loss_of(model, batch, args.precision == "bf16")
            loss.backward()
            recent[name] = loss.item() if not step else 0.95 * recent[name] + 0.05 * loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for tuner in tuners:
            tuner.step()
            tuner.zero_grad(set_to_none=True)
        done = step + 1
        if done % 20 == 0 or done == steps:
            spent = time.monotonic() - began
            shown = " ".join(f"{name} {value:.4f}" for name, value in recent.items())
            print(
                f"step {done}/{steps} {shown} | {tokens / spent:,.0f} tokens/s, {spent / 60:.1f} min, "
                f"{spent / done * (steps - done) / 60:.1f} min left",
                flush=True,
            )
        if done % args.save_every == 0 and done < steps:
            save(model, tokenizer, args.save_folder or args.output)
    save(model, tokenizer, args.output)
    print(f"saved to {args.output} after {(time.monotonic() - began) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
