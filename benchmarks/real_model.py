"""Engines side by side on one model, in one call: python -m benchmarks.real_model FILE.gguf [--peers FILE.json].

Works: 48 chats with a common system prompt, one request alone (with and without guesses at next tokens), long prompts,
and rows of short prompts, 1 to 256 at once; each first with other texts, so that no engine has seen what counts.
Answers are greedy and of fixed lengths. `--peers` names other engines, each with a Python of its own that has it:
[{"name": "llama.cpp Q8_0", "peer": "llama.cpp", "python": ".../bin/python", "model": "..."}, …]; what `peer` may be
stands in `real_peers`. The table has output tokens a second, and for each of ours the ratio to the best peer.

`27m` or `0.6b` in place of a file is that model of random weights (`engine_work`), made in `--folder`; its one work is
chats of made-up words with a common system prompt.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from batch.engines.local.process import worker_env
from benchmarks.common import ROOT, in_process
from benchmarks.engine_extras import WHOLE_TOKENS, whole_run
from benchmarks.engine_work import SIZES, Chat, make_model, make_work
from benchmarks.fidelity import prompts
from benchmarks.fidelity_texts import held_out

SYSTEM = "You answer questions about computers, nature and daily life. "


def works_of(file: str, rows: list[int]) -> dict[str, Any]:
    """Each work: texts of a first pass and of the one that counts, the system prompt, and the same as tokens."""
    from batch.engines.torch import gguf_file, gguf_tokenizer
    from batch.engines.torch.prompt import encode_chat

    place = Path(file)
    tokenizer = gguf_tokenizer.load_tokenizer(place, gguf_file.open_header(place))
    system = SYSTEM + held_out()[:600]
    words = held_out()[2000:]
    asked = prompts()
    short = [asked[i % len(asked)] + " " * (i // len(asked)) for i in range(max([1, *rows]))]
    found = {
        "48 chats": (system, asked[:48], 64),
        "alone": (None, [words[:640]], 128),
        "4 long": (None, [words[i * 7000 : i * 7000 + 5400] for i in range(4)], 64),
        "16 long": (None, [words[i * 5000 : i * 5000 + 7400] for i in range(16)], 64),
        **{f"{n} rows": (None, short[:n], 64) for n in rows},
    }

    def encoded(texts: list[str], said: str | None) -> list[list[int]]:
        return [encode_chat(tokenizer, [{"role": "user", "content": text}], said) for text in texts]

    works: dict[str, Any] = {}
    for name, (said, texts, tokens) in found.items():
        others = [f"{i}: {text[:-4]}" for i, text in enumerate(texts)]  # which begin otherwise
        passes = {"warm": encoded(others, said), "prompts": encoded(texts, said)}
        works[name] = {"system": said, "texts": texts, "others": others, "tokens": tokens, **passes}
    return works


def random_works(folder: Path, size: str, half: int) -> dict[str, Any]:
    """The same of a model with random weights: so many chats, with answers of 64 tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(make_model(folder, SIZES[size]) / "tokenizer.json"))
    system, chats = make_work(SIZES[size], 2 * half)
    texts = [chat.text for chat in chats]
    told = [f"<|system|> {system} <|end|> <|user|> {text} <|end|> <|assistant|>" for text in texts]
    encoded = [found.ids for found in tokenizer.encode_batch(told)]
    passes = {"warm": encoded[half:], "prompts": encoded[:half]}
    return {f"{half} chats": {"system": system, "texts": texts[:half], "others": texts[half:], "tokens": 64, **passes}}


def ours(file: str, precision: str, works: dict[str, Any], guesses: bool) -> dict[str, Any]:
    """This project's torch engine, with or without guesses at next tokens."""
    from batch.engines.torch import lookup
    from batch.engines.torch.engine import open_core
    from batch.items import BatchItem, Request
    from batch.options import SamplingOptions
    from benchmarks.real_peers import measured

    lookup.MOST_ROWS = lookup.MOST_ROWS if guesses else 0
    began = time.perf_counter()
    core = open_core({"path": file, "precision": precision}, SamplingOptions(temperature=0), None)
    load = time.perf_counter() - began
    core._intake._end_ids = frozenset()  # lengths are fixed
    of = {"warm": "others", "prompts": "texts"}
    by_prompts = {json.dumps(what[key]): (what, what[texts]) for what in works.values() for key, texts in of.items()}

    def answer(asked: list[list[int]], tokens: int) -> int:
        what, texts = by_prompts[json.dumps(asked)]
        params = {"max_tokens": tokens, **({"system": what["system"]} if what["system"] else {})}
        for i, text in enumerate(texts):
            core.submit(BatchItem(i, Request(text, {"params": params})))
        count = 0
        while core.busy:
            for response in core.step():
                assert response.error is None, response.error
                count += response.tokens_output
        return count

    return {**measured(answer, works, load), "runner": core.about["runner"]}


def main() -> int:
    """0 when everything ran."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="a GGUF file, 27m or 0.6b")
    parser.add_argument("--folder", type=Path, help="where 27m or 0.6b lies, or is made")
    parser.add_argument("--precision", nargs="*", default=["int8", "int4", "fp32"])
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--chats", type=int, help="of 27m (otherwise 128) or 0.6b (48)")
    parser.add_argument("--warm", type=int, help="prompts of the first pass, which does not count (otherwise all)")
    parser.add_argument("--rows", type=int, nargs="*", default=[1, 16, 64, 256])
    parser.add_argument("--limit", type=float, default=120.0, help="seconds a peer may take for a work")
    parser.add_argument("--whole", action="store_true", help="a whole run of the program beside the bare engine, alone")
    parser.add_argument("--only", nargs="*", default=[], help="only these works")
    args = parser.parse_args()
    os.environ.update(worker_env(None))
    if args.whole:
        asked = [f"{text} Say it at length{'.' * n}" for n in (1, 2) for text in prompts()]
        whole_run(Path(args.file).resolve(), SYSTEM, [Chat(text, WHOLE_TOKENS) for text in asked], "int8")
        return 0
    if args.file in SIZES:
        args.folder = args.folder or Path(tempfile.mkdtemp())
        works = random_works(args.folder, args.file, args.chats or (48 if args.file == "0.6b" else 128))
        args.file = str(args.folder)
    else:
        works = works_of(args.file, args.rows)
    works = {name: what for name, what in works.items() if not args.only or name in args.only}
    for what in works.values():
        what["warm"], what["others"] = what["warm"][: args.warm], what["others"][: args.warm]
    peers = json.loads(args.peers.read_text()) if args.peers else []
    found: dict[str, dict[str, Any]] = {}
    for work, what in works.items():  # one work by all, then the next: the machine may change its pace meanwhile
        for precision in args.precision:
            for guesses in (True, False) if work == "alone" else (True,):
                said = in_process(ours, args.file, precision, {work: what}, guesses)
                _take(found, f"ours {precision}" + ("" if guesses else ", no lookup"), work, said)
        for peer in peers:
            if said := _peer(peer, {work: what}, args.limit):
                _take(found, peer["name"], work, said)
    table(works, found)
    return 0


def _take(found: dict[str, dict[str, Any]], who: str, work: str, said: dict[str, Any]) -> None:
    """Keep what one engine said of one work, and show it at once."""
    print(f"{work}, {who}: {said['works'][work]:.2f} s, loaded in {said['load']:.1f} s", flush=True)
    known = found.setdefault(who, {"works": {}, "load": said["load"], "peak_mb": 0})
    known["works"].update(said["works"])
    known["load"] = min(known["load"], said["load"])
    known["peak_mb"] = max(known["peak_mb"], said["peak_mb"])


def _peer(peer: dict[str, str], works: dict[str, Any], limit: float) -> dict[str, Any] | None:
    """What a peer says of the works; None, and why is printed, where it does not get through them."""
    command = [peer["python"], "-m", "benchmarks.real_peers", peer["peer"], peer["model"]]
    told = json.dumps({name: {key: what[key] for key in ("warm", "prompts", "tokens")} for name, what in works.items()})
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        run = subprocess.run(command, input=told, env=env, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        print(f"{peer['name']}: not through after {limit:.0f} s")
        return None
    if run.returncode:
        print(f"{peer['name']}: does not run here: {(run.stderr.strip().splitlines() or ['?'])[-1][:300]}")
        return None
    answer: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    return answer


def table(works: dict[str, Any], found: dict[str, dict[str, Any]]) -> None:
    """Tokens a second; behind ours how many times the best peer."""

    def rate(who: str, work: str) -> float:
        what = works[work]
        return float(len(what["prompts"]) * what["tokens"] / found[who]["works"].get(work, float("inf")))

    print(f"{'tokens/s':<24}" + "".join(f"{work:>18}" for work in works) + f"{'load s':>9}{'peak MB':>9}")
    for who, said in found.items():
        cells = []
        for work in works:
            peers = [rate(peer, work) for peer in found if not peer.startswith("ours")]
            times = f" ({rate(who, work) / max(peers):.2f} ×)" if any(peers) and who.startswith("ours") else ""
            cells.append(f"{f'{rate(who, work):,.0f}{times}':>18}")
        print(f"{who:<24}" + "".join(cells) + f"{said['load']:>9.1f}{said['peak_mb']:>9,.0f}")
    for work, what in works.items():
        lengths = [len(p) for p in what["prompts"]]
        print(f"  {work}: {len(lengths)} × {min(lengths)}-{max(lengths)} tokens in, {what['tokens']} out")


if __name__ == "__main__":
    sys.exit(main())
