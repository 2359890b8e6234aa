"""What a precision costs in quality: python -m benchmarks.fidelity --model FOLDER_OR_GGUF [--precision int8 …].

Beside the same model in fp32, over texts that nothing was tuned on (this project's documents and code, Japanese of its
examples, and sentences made by rule in five languages): perplexity, mean KL divergence in nats, and the share of
likeliest tokens that are the same. And over 48 greedy answers of the engine itself: how much of one, in tokens, is
common from its beginning. `--llama FILE …` has llama.cpp answer from other files of the same weights, and, by the
Python of `--llama-python`, which has llama-cpp-python, go over the texts; `--write-q8 FILE` makes such a file of a GGUF
model, in Q8_0. `--kv-cache int8 bf16` compares each precision with its keys and values in a cache of those numbers,
over texts of `--window` tokens, and in answers to questions behind `--context` characters of text. `--keep FILE
--seconds N` goes over the texts in parts: each call goes on where the last one ended.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

from batch.engines.local.process import worker_env
from benchmarks.fidelity_texts import WINDOW, held_out, texts

TASKS = ("What is {}?", "Write two sentences about {}.", "Give an example of {}.", "Why does {} matter?")
TOPICS = (
    *("a stack", "photosynthesis", "a harbour", "compound interest", "gravity", "bread", "a prime number", "rain"),
    *("recursion", "a vaccine", "the moon", "a haiku"),
)


def main() -> None:
    """Print a line for each precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--precision", nargs="*", default=["int8"])
    parser.add_argument("--kv-cache", nargs="*", default=[], choices=("fp32", "bf16", "int8"))
    parser.add_argument("--window", type=int, default=WINDOW, help="tokens of a text that are run together")
    parser.add_argument("--context", type=int, default=0, help="characters of text before each question")
    parser.add_argument("--tokens", type=int, default=50_000, help="of texts, at most; 0 leaves them out")
    parser.add_argument("--answer", type=int, default=96, help="tokens of an answer; 0 leaves answers out")
    parser.add_argument("--llama", nargs="*", type=Path, default=[], metavar="FILE")
    parser.add_argument("--llama-python", type=Path, metavar="PYTHON")
    parser.add_argument("--keep", type=Path, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=float("inf"), metavar="N", help="over the texts, at most")
    parser.add_argument("--write-q8", type=Path, metavar="FILE")
    args = parser.parse_args()
    os.environ.update(worker_env(None))  # as the program's own worker has it, before torch is imported
    if args.write_q8:
        write_q8(args.model, args.write_q8)
        return
    ways = {name: (name, "") for name in args.precision}
    if args.kv_cache:
        ways = {f"{name}, {kv} cache": (name, kv) for name in args.precision for kv in args.kv_cache}
    found: dict[str, list[str]] = {name: [] for name in ways}
    if args.tokens:
        peers = [(args.llama_python, file) for file in args.llama if args.llama_python]
        said = texts(args.model, ways, peers, args.tokens, args.keep, args.seconds, args.window)
        for name, words in said.items():
            found.setdefault(name, []).append(words)
    if args.answer:
        asked = prompts(args.context)
        exact = ours(args.model, "fp32", args.answer, asked)
        for name, (precision, kv) in ways.items():
            if kv in ("", "int8"):  # others are what the engine has of itself
                found[name].append(common(exact, ours(args.model, precision, args.answer, asked, kv or "auto")))
        for file in args.llama:
            found.setdefault(f"llama.cpp {file.stem}", []).append(common(exact, llama(file, args.answer)))
    print(f"{args.model.name}, beside fp32:")
    for name, parts in found.items():
        print(f"  {name}: {', '.join(parts)}")


def prompts(context: int = 0) -> list[str]:
    """48 questions, each behind so many characters of a text of its own."""
    asked = [task.format(topic) for topic in TOPICS for task in TASKS]
    words = held_out() if context else ""
    return [words[i * context // 2 :][:context] + "\n" * bool(context) + text for i, text in enumerate(asked)]


def ours(model: Path, precision: str, tokens: int, asked: list[str], kv: str = "auto") -> list[list[int]]:
    """The engine's greedy answers in that precision and with such a cache, as tokens."""
    from batch.engines.torch.engine import open_core
    from batch.items import BatchItem, Request
    from batch.options import SamplingOptions

    spec = {"path": model, "precision": precision, "kv_cache": kv}
    core = open_core(spec, SamplingOptions(max_tokens=tokens), None)
    rows: dict[Any, list[int]] = {}
    for i, text in enumerate(asked):
        core.submit(BatchItem(i, Request(text)))
    while core.busy:
        for row in core._scheduler.running:
            rows[row.id] = row.tokens
        for response in core.step():
            assert response.error is None, response.error
    return [rows[i] for i in range(len(rows))]


def llama(file: Path, tokens: int) -> list[list[int]]:
    """llama.cpp's greedy answers from that file, as tokens."""
    from batch.engines.desk import MemoryDesk
    from batch.engines.local.host import HostedEngine
    from batch.engines.torch import gguf_file, gguf_tokenizer
    from batch.items import BatchItem, Request
    from batch.options import SamplingOptions

    tokenizer = gguf_tokenizer.load_tokenizer(file, gguf_file.open_header(file))
    engine = HostedEngine("gguf", {"path": file}, SamplingOptions(temperature=0, max_tokens=tokens))

    async def answers() -> dict[Any, str]:
        async def items() -> Any:
            for i, text in enumerate(prompts()):
                yield BatchItem(i, Request(text))

        try:
            return {r.id: r.data.text async for r in engine.answer(items(), MemoryDesk()) if r.data is not None}
        finally:
            await engine.close()

    found = asyncio.run(answers())
    return [tokenizer(found[i], add_special_tokens=False)["input_ids"] for i in range(len(prompts()))]


def common(exact: list[list[int]], other: list[list[int]]) -> str:
    """How much of the exact answers the others have from their beginning, in words."""
    shares = []
    for wanted, found in zip(exact, other, strict=True):
        wanted = wanted or [0]
        pairs = enumerate(zip(wanted, found, strict=False))
        same = next((i for i, (a, b) in pairs if a != b), min(len(wanted), len(found)))
        shares.append(same / len(wanted))
    whole = sum(share == 1 for share in shares)
    return f"{len(shares)} answers: {sum(shares) / len(shares):.0%} in common from the beginning, {whole} of them whole"


def write_q8(model: Path, out: Path) -> None:
    """A GGUF model's matrices in Q8_0, all else as it is."""
    import gguf

    reader = gguf.GGUFReader(model)
    writer = gguf.GGUFWriter(out, str(reader.fields["general.architecture"].contents()))
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind = field.types[0]
            part = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, part)
    kind = gguf.GGMLQuantizationType.Q8_0
    for tensor in reader.tensors:
        numbers = gguf.dequantize(tensor.data, tensor.tensor_type).reshape([int(n) for n in reversed(tensor.shape)])
        if numbers.ndim == 2:
            writer.add_tensor(tensor.name, gguf.quantize(numbers, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
