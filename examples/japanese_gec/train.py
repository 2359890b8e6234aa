"""Train the LoRA adapter of this folder on the demo model, with plain torch.

    python examples/japanese_gec/train.py

It reads the same configuration as mlx-lm's trainer (`mlx_lm.lora --config …`) and writes the same format: the model
stays as it is, and beside each matrix W named in `lora_parameters.keys` two small ones A [in, rank] and B [rank, out]
are learned, so that the layer computes x·W + scale · x·A·B (Hu et al. 2021, arXiv:2106.09685).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

CONFIG = Path(__file__).resolve().parent / "config" / "lora_config.yaml"
Example = tuple[list[int], int]  # token ids, and how many of them are the prompt


class LoRALinear(nn.Module):
    """A frozen linear layer and the low-rank change beside it; starts as the layer itself, since B is zero."""

    def __init__(self, linear: nn.Linear, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.linear, self.scale, self.dropout = linear, scale, nn.Dropout(dropout)
        bound = 1 / math.sqrt(linear.in_features)
        self.lora_a = nn.Parameter(torch.empty(linear.in_features, rank).uniform_(-bound, bound))
        self.lora_b = nn.Parameter(torch.zeros(rank, linear.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        return self.linear(x) + self.scale * (self.dropout(x) @ self.lora_a @ self.lora_b)


def add_lora(model: Any, num_layers: int, keys: list[str], rank: int, scale: float, dropout: float) -> None:
    """Freeze the model and put a LoRALinear in the place of every named layer of the last `num_layers` blocks."""
    model.requires_grad_(False)
    for block in model.model.layers[-num_layers:]:
        for key in keys:
            parent, _, name = key.rpartition(".")
            holder = block.get_submodule(parent)
            setattr(holder, name, LoRALinear(getattr(holder, name), rank, scale, dropout))


def load_examples(path: Path, tokenizer: Any, longest: int) -> list[Example]:
    """The rows of a JSON lines file of `messages` as tokens; the last message is the answer."""
    examples = []
    for line in path.read_text(encoding="utf-8").splitlines():
        messages = json.loads(line)["messages"]
        prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        answer = tokenizer(messages[-1]["content"], add_special_tokens=False)["input_ids"]
        ids = [*head, *answer, tokenizer.eos_token_id]
        if len(ids) <= longest:
            examples.append((ids, len(head)))
    return examples


def batches(examples: list[Example], size: int, seed: int) -> Any:
    """Endless batches: every epoch in another order, rows of similar length together."""
    rng = random.Random(seed)
    while True:
        order = rng.sample(examples, len(examples))
        parts = []
        for begin in range(0, len(order), size * 8):
            window = sorted(order[begin : begin + size * 8], key=lambda example: len(example[0]))
            parts += [window[i : i + size] for i in range(0, len(window), size)]
        rng.shuffle(parts)
        yield from parts


def loss_of(model: Any, examples: list[Example], pad: int, mask_prompt: bool) -> Tensor:
    """Mean cross entropy over the answers' tokens; causal attention needs no mask, since padding comes last."""
    width = max(len(ids) for ids, _ in examples)
    ids = torch.tensor([row + [pad] * (width - len(row)) for row, _ in examples])
    labels = torch.full_like(ids, -100)
    for index, (row, start) in enumerate(examples):
        begin = start if mask_prompt else 1
        labels[index, begin : len(row)] = ids[index, begin : len(row)]
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())


def rate_at(step: int, config: dict[str, Any]) -> float:
    """Linear warm-up, then a cosine to zero, as `lr_schedule` of mlx-lm has it; without one, a fixed rate."""
    schedule = config.get("lr_schedule")
    if not schedule:
        return float(config["learning_rate"])
    warmup = int(schedule.get("warmup", 0))
    first, steps = schedule["arguments"][:2]
    if step < warmup:
        return float(first) * (step + 1) / warmup
    return float(first) * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def save(model: Any, config: dict[str, Any], folder: Path) -> None:
    """Write adapters.safetensors (half precision) and adapter_config.json as mlx-lm does."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().to(torch.float16).contiguous()
        for name, value in model.named_parameters()
        if "lora_" in name
    }
    part = folder / "adapters.safetensors.part"
    save_file(weights, str(part), metadata={"format": "pt"})
    part.chmod(0o644)
    os.replace(part, folder / "adapters.safetensors")
    text = json.dumps(dict(sorted(config.items())), indent=4)
    (folder / "adapter_config.json").write_text(text + "\n", encoding="utf-8")


@torch.inference_mode()
def validate(model: Any, examples: list[Example], pad: int, size: int) -> float:
    """Mean loss over the validation set."""
    ordered = sorted(examples, key=lambda example: len(example[0]))
    parts = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    return sum(loss_of(model, part, pad, True).item() * len(part) for part in parts) / len(ordered)


def main() -> None:
    """Train and save the adapter."""
    parser = argparse.ArgumentParser(description="Train a LoRA adapter on the demo model.")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--adapter-path", type=Path, help="where the adapter goes (default: as in the configuration)")
    parser.add_argument("--iters", type=int, help="steps (default: as in the configuration)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    config = yaml.safe_load(args.config.read_text(encoding="utf-8"))
    torch.set_num_threads(args.threads)
    torch.manual_seed(config["seed"])

    tokenizer = AutoTokenizer.from_pretrained(config["model"])
    # Eager attention is the fastest one on the CPU at these lengths (about 50 tokens).
    model = AutoModelForCausalLM.from_pretrained(config["model"], dtype=torch.float32, attn_implementation="eager")
    lora = config["lora_parameters"]
    add_lora(model, config["num_layers"], lora["keys"], lora["rank"], lora["scale"], lora["dropout"])
    learned = [p for p in model.parameters() if p.requires_grad]
    print(
        f"{sum(p.numel() for p in learned):,} of {sum(p.numel() for p in model.parameters()):,} parameters", flush=True
    )

    data, pad, size = Path(config["data"]), tokenizer.pad_token_id, config["batch_size"]
    train = load_examples(data / "train.jsonl", tokenizer, config["max_seq_length"])
    valid = load_examples(data / "valid.jsonl", tokenizer, config["max_seq_length"])
    tuner = torch.optim.AdamW(learned, lr=config["learning_rate"], weight_decay=0.01)
    stream = batches(train, size, config["seed"])
    iters = args.iters or config["iters"]
    began, recent = time.monotonic(), 0.0
    model.train()
    for step in range(iters):
        for group in tuner.param_groups:
            group["lr"] = rate_at(step, config)
        loss = loss_of(model, next(stream), pad, config["mask_prompt"])
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        tuner.step()
        tuner.zero_grad(set_to_none=True)
        recent = loss.item() if not step else 0.9 * recent + 0.1 * loss.item()
        done = step + 1
        if done % config["steps_per_report"] == 0 or done == iters:
            spent = time.monotonic() - began
            print(f"step {done}/{iters}: loss {recent:.4f}, {spent:.0f} s, {spent / done:.2f} s/step", flush=True)
        if done % config["steps_per_eval"] == 0 or done == iters:
            print(f"  validation loss {validate(model, valid, pad, size):.4f}", flush=True)
    folder = args.adapter_path or Path(config["adapter_path"])
    save(model, config, folder)
    print(f"saved to {folder}", flush=True)


if __name__ == "__main__":
    main()
