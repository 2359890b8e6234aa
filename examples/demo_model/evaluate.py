"""Greedy exact match of the demo model on its held-out sets and on the example prompts.

python examples/demo_model/evaluate.py --model ai_router/demo
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import questions
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """The rows of a JSON lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def example_rows() -> list[Row]:
    """The prompts of examples/batch_prompts.txt with the answers of the corpus."""
    answers = {text: q.answer for q in questions.load() for text in q.phrasings}
    lines = (HERE.parent / "batch_prompts.txt").read_text(encoding="utf-8").splitlines()
    prompts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [
        {"messages": [{"role": "user", "content": p}, {"role": "assistant", "content": answers[p]}]} for p in prompts
    ]


def generate(model: Any, tokenizer: Any, rows: list[Row], batch: int = 64, limit: int = 96) -> list[str]:
    """Greedy answers in the order of the rows; left-padded batches of similar length."""
    prompts = [
        tokenizer.apply_chat_template(r["messages"][:-1], tokenize=False, add_generation_prompt=True) for r in rows
    ]
    order = sorted(range(len(rows)), key=lambda i: len(prompts[i]))
    found = [""] * len(rows)
    tokenizer.padding_side = "left"
    for begin in range(0, len(order), batch):
        part = order[begin : begin + batch]
        inputs = tokenizer([prompts[i] for i in part], return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            output = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=False,
                max_new_tokens=limit,
            )
        texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for index, text in zip(part, texts, strict=True):
            found[index] = text
    return found


def main() -> None:
    """Print one line a set, and with --errors what went wrong."""
    parser = argparse.ArgumentParser(description="Measure the demo model by greedy exact match.")
    parser.add_argument("--model", type=Path, default=HERE.parents[1] / "ai_router" / "demo")
    parser.add_argument("--limit", type=int, help="rows a set")
    parser.add_argument("--errors", type=int, default=0, help="wrong answers to show a set")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    sets = {name: read(HERE / "held_out" / f"{name}.jsonl") for name in ("questions", "japanese", "departments")}
    sets["example prompts"] = example_rows()
    print(f"{'set':<18}{'right':>7}{'of':>7}{'share':>9}")
    for name, rows in sets.items():
        rows = rows[: args.limit] if args.limit else rows
        answers = generate(model, tokenizer, rows)
        wrong = [(r, a) for r, a in zip(rows, answers, strict=True) if a.strip() != r["messages"][-1]["content"]]
        print(f"{name:<18}{len(rows) - len(wrong):>7}{len(rows):>7}{1 - len(wrong) / len(rows):>9.1%}", flush=True)
        if args.errors and wrong and "error_type" in rows[0]:
            print("   wrong by error type:", dict(Counter(r["error_type"] for r, _ in wrong).most_common()))
        for row, answer in wrong[: args.errors]:
            print(
                f"   {row['messages'][-2]['content']!r}\n      expected {row['messages'][-1]['content']!r}\n"
                f"      answered {answer!r}"
            )


if __name__ == "__main__":
    main()
