"""Held-out texts, and how far other ways to compute a model are from its fp32 over them, in parts that add up.

What is reckoned can be kept in a file between calls (`Kept`): the tokens themselves, as the texts are partly the
project's own files, and for each way how many windows of them it has been over and its sums.
"""

from __future__ import annotations

import json
import math
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT

WINDOW = 320  # tokens of a text that are run together, where nothing else is asked for
PASS = 256  # of them that go into a cache at a time
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

Logits = Callable[[list[int]], Any]  # tokens; their logits, a tensor of [tokens, vocabulary]


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


@dataclass(slots=True)
class Sums:
    """One way beside fp32 over the first windows of the texts."""

    windows: int = 0
    tokens: int = 0
    lost: float = 0.0  # nats that its tokens are less likely by
    apart: float = 0.0  # KL divergence
    same: float = 0.0  # tokens whose likeliest next one is the same

    def said(self) -> str:
        """In words."""
        predicted = max(self.tokens - self.windows, 1)
        ratio, count = math.exp(self.lost / predicted), max(self.tokens, 1)
        shares = f"KL {self.apart / count:.4f}, {self.same / count:.1%} of tokens the same"
        return f"{self.tokens:,} tokens: perplexity ×{ratio:.4f}, {shares}"


@dataclass(slots=True)
class Kept:
    """The tokens, and the sums of each way by its name."""

    ids: list[int] = field(default_factory=list)
    sums: dict[str, Sums] = field(default_factory=dict)
    file: Path | None = None
    window: int = WINDOW

    @classmethod
    def of(cls, file: Path | None, window: int) -> Kept:
        """What an earlier call kept there."""
        if file is None or not file.exists():
            return cls(file=file, window=window)
        said = json.loads(file.read_text())
        if said.get("window", WINDOW) != window:
            raise ValueError(f"{file} is of windows of {said.get('window', WINDOW)} tokens: name another file")
        return cls(said["ids"], {name: Sums(**sums) for name, sums in said["sums"].items()}, file, window)

    def write(self) -> None:
        """Keep it for the next call."""
        if self.file is not None:
            part = self.file.with_suffix(".part")
            sums = {name: asdict(each) for name, each in self.sums.items()}
            part.write_text(json.dumps({"ids": self.ids, "window": self.window, "sums": sums}))
            part.replace(self.file)

    def whole(self, name: str) -> bool:
        """Whether a way has been over all of the texts."""
        return name in self.sums and self.sums[name].windows * self.window >= len(self.ids) - 1


def go_over(exact: Logits, others: Mapping[str, Logits], kept: Kept, seconds: float) -> bool:
    """Take the ways further over the texts, for at most so many seconds; whether all have been over all of them."""
    import torch

    ends = time.monotonic() + seconds
    mine = {name: kept.sums.setdefault(name, Sums()) for name in others}
    for window, first in enumerate(range(0, len(kept.ids) - 1, kept.window)):
        left = [name for name, sums in mine.items() if sums.windows <= window]
        if left and time.monotonic() > ends:
            return False
        if not left:
            continue
        part = kept.ids[first : first + kept.window]
        following = torch.tensor(part[1:])[:, None]
        theirs = exact(part).log_softmax(-1)
        likely, usual, chances = theirs.argmax(-1), theirs[:-1].gather(1, following).sum(), theirs.exp()
        for name in left:
            sums, ours = mine[name], others[name](part).log_softmax(-1)
            sums.windows, sums.tokens = window + 1, sums.tokens + len(part)
            sums.lost += float(usual - ours[:-1].gather(1, following).sum())
            sums.same += int((ours.argmax(-1) == likely).sum())
            sums.apart += float((theirs - ours).mul_(chances).sum(dtype=torch.float64))
        kept.write()
    return True


def texts(
    model: Path,
    ways: dict[str, tuple[str, str]],
    peers: list[tuple[Path, Path]],
    tokens: int,
    file: Path | None,
    seconds: float,
    window: int = WINDOW,
) -> dict[str, str]:
    """Each way, and each of llama.cpp's files by a Python that has it, beside fp32 over the texts, in words.

    ways: by name, a precision, and the numbers of the cache that the texts go through, "" for none.
    """
    from batch.engines.torch.loader import load

    exact = load(model, "fp32", "cpu")
    kept = Kept.of(file, window)
    if not kept.ids:
        kept.ids = exact.tokenizer(held_out(), add_special_tokens=False, verbose=False)["input_ids"][:tokens]
    names = {f"llama.cpp {file.stem}": (python, file) for python, file in peers}
    with ExitStack() as stack:
        others = {}
        for name, (precision, cache) in ways.items():
            if not kept.whole(name):
                found = load(model, precision, "cpu").model
                others[name] = _through_cache(found, cache) if cache else _of(found)
        for name, peer in names.items():
            if not kept.whole(name):
                others[name] = stack.enter_context(_llama(*peer))
        go_over(_of(exact.model), others, kept, seconds)
    return {name: kept.sums[name].said() for name in (*ways, *names)}


def _of(model: Any) -> Logits:
    import torch

    def logits(ids: list[int]) -> Any:
        with torch.inference_mode():
            return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()

    return logits


def _through_cache(model: Any, kind: str) -> Logits:
    """As the engine's packed steps run it, over keys and values of fp32, bf16 or int8."""
    import torch

    from batch.engines.torch.native import CACHE_DTYPES
    from batch.engines.torch.packed_native import NativePackedRunner

    dtype = dict(zip(("fp32", "bf16", "int8"), CACHE_DTYPES, strict=True))[kind]
    runner = NativePackedRunner(model, 1, share=False, cache_dtype=dtype)

    def logits(ids: list[int]) -> Any:
        found = []
        with torch.inference_mode():
            for first in range(0, len(ids), PASS):
                columns = list(range(first, min(first + PASS, len(ids))))
                count = len(columns)
                runner._cache.grow([first + count])
                plan = runner._plan_alone(0, first, count)
                tokens = ids[first : first + count]
                found.append(runner._forward(tokens, columns, [0] * count, columns, list(range(count)), plan))
            runner._drop(0, 0)
        return torch.cat(found)

    return logits


@contextmanager
def _llama(python: Path, file: Path) -> Iterator[Logits]:
    """llama.cpp's logits from a file, in a process of its own: they come in a file, a line of output says when."""
    import numpy
    import torch

    with tempfile.TemporaryDirectory(prefix="ai-router-fidelity-") as scratch:
        out = Path(scratch) / "logits"
        asked = [str(python), "-m", "benchmarks.llama_logits", str(file), str(out)]
        with subprocess.Popen(asked, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None and process.stdout is not None
            ask, told = process.stdin, process.stdout

            def logits(ids: list[int]) -> Any:
                print(json.dumps(ids), file=ask, flush=True)
                if not told.readline():
                    raise RuntimeError(f"llama.cpp ended before it gave logits of {file}")
                return torch.from_numpy(numpy.fromfile(out, dtype=numpy.float32).reshape(len(ids), -1))

            try:
                yield logits
            finally:
                ask.close()
