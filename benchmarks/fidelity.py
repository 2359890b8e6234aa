"""What a precision costs in quality: python -m benchmarks.fidelity --model FOLDER_OR_GGUF [--precision int8 …].

Beside the same model in fp32, over texts that nothing was tuned on (this project's documents and code, Japanese of its
examples, and sentences made by rule in five languages): perplexity, mean KL divergence in nats, and the share of
likeliest tokens that are the same. And over 48 greedy answers of the engine itself: how much of one, in tokens, is
common from its beginning. `--llama FILE …` has llama.cpp answer from other files of the same weights; `--write-q8
FILE` makes such a file of a GGUF model, in Q8_0.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
from pathlib import Path
from typing import Any

from batch.engines.local.process import worker_env

ROOT = Path(__file__).resolve().parents[1]
WINDOW = 320  # tokens of a text that are run together
FILES = ("docs/*.md", "batch/**/*.py", "batch/engines/torch/*.c", "examples/**/*.md", "examples/**/held_out/*")
SHARE = 3000  # characters of a file, at most, so that none is all there is
# By rule: {0} a name, {1} and {2} numbers.
SENTENCES = {
    "de": ("{0} wohnt seit {1} Jahren in der Stadt.", "Der Zug nach {0} fährt um {1}:{2} Uhr.", "Das kostet {1} Euro."),
    "fr": (
        "{0} habite ici depuis {1} ans.",
        "Le train de {1} heures arrive à {0}.",
        "Il reste {2} places au premier rang.",
    ),
    "es": ("{0} tiene {1} libros en casa.", "La reunión empieza a las {1} y {2}.", "El río {0} es muy largo."),
    "it": ("{0} ha comprato {1} mele e {2} pere.", "La strada per {0} è chiusa.", "Domani pioverà tutto il giorno."),
    "ru": ("{0} живёт здесь {1} лет.", "Поезд отправляется в {1}:{2}.", "Вчера мы читали новую книгу."),
}
NAMES = ("Anna", "Pavel", "Marta", "Louis", "Nina", "Tomas", "Vera", "Bruno")
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
    parser.add_argument("--tokens", type=int, default=50_000, help="of texts, at most; 0 leaves them out")
    parser.add_argument("--answer", type=int, default=96, help="tokens of an answer; 0 leaves answers out")
    parser.add_argument("--llama", nargs="*", type=Path, default=[], metavar="FILE")
    parser.add_argument("--write-q8", type=Path, metavar="FILE")
    args = parser.parse_args()
    os.environ.update(worker_env(None))  # as the program's own worker has it, before torch is imported
    if args.write_q8:
        write_q8(args.model, args.write_q8)
        return
    found: dict[str, list[str]] = {name: [] for name in args.precision}
    if args.tokens:
        for name, said in texts(args.model, args.precision, args.tokens).items():
            found[name].append(said)
    if args.answer:
        exact = ours(args.model, "fp32", args.answer)
        for name in args.precision:
            found[name].append(common(exact, ours(args.model, name, args.answer)))
        for file in args.llama:
            found[f"llama.cpp {file.stem}"] = [common(exact, llama(file, args.answer))]
    print(f"{args.model.name}, beside fp32:")
    for name, parts in found.items():
        print(f"  {name}: {', '.join(parts)}")


def held_out() -> str:
    """The texts: files and sentences in turn, always the same."""
    rng = random.Random(18)
    files = [path for pattern in FILES for path in sorted(ROOT.glob(pattern))]
    rng.shuffle(files)
    parts = []
    for file in files:
        parts.append(file.read_text(encoding="utf-8")[:SHARE])
        for sentences in SENTENCES.values():
            parts += [rng.choice(sentences).format(rng.choice(NAMES), rng.randint(2, 99), rng.randint(10, 59))]
    return "\n".join(parts)


def texts(model: Path, precisions: list[str], tokens: int) -> dict[str, str]:
    """Each precision beside fp32 over the texts, in words."""
    import torch
    from torch.nn import functional as F

    from batch.engines.torch.loader import load
    from batch.engines.torch.trial import agreement, divergence

    exact = load(model, "fp32", "cpu")
    others = {name: load(model, name, "cpu").model for name in precisions}
    ids = exact.tokenizer(held_out(), add_special_tokens=False, verbose=False)["input_ids"][:tokens]
    sums = {name: [0.0] * 3 for name in others}
    count = 0
    for first in range(0, len(ids) - 1, WINDOW):
        part = ids[first : first + WINDOW]
        theirs, wanted = _logits(exact.model, part), torch.tensor(part[1:])
        usual = float(F.cross_entropy(theirs[:-1], wanted, reduction="sum"))
        count += len(part)
        for name, other in others.items():
            logits = _logits(other, part)
            lost = float(F.cross_entropy(logits[:-1], wanted, reduction="sum")) - usual
            parts = (lost, divergence(theirs, logits) * len(part), agreement(theirs, logits) * len(part))
            sums[name] = [a + b for a, b in zip(sums[name], parts, strict=True)]
    predicted = count - math.ceil(count / WINDOW)
    return {
        name: f"{count:,} tokens: perplexity ×{math.exp(lost / predicted):.4f}, KL {apart / count:.4f}, "
        f"{same / count:.1%} of tokens the same"
        for name, (lost, apart, same) in sums.items()
    }


def prompts() -> list[str]:
    """48 questions."""
    return [task.format(topic) for topic in TOPICS for task in TASKS]


def ours(model: Path, precision: str, tokens: int) -> list[list[int]]:
    """The engine's greedy answers in that precision, as tokens."""
    from batch.engines.torch.engine import open_core
    from batch.items import BatchItem, Request
    from batch.options import SamplingOptions

    core = open_core({"path": model, "precision": precision}, SamplingOptions(max_tokens=tokens), None)
    rows: dict[Any, list[int]] = {}
    for i, text in enumerate(prompts()):
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


def _logits(model: Any, ids: list[int]) -> Any:
    import torch

    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


if __name__ == "__main__":
    main()
