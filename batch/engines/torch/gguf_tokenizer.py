"""A GGUF file's tokenizer: its vocabulary, merges, special tokens and chat template.

Byte-level and sentencepiece vocabularies are built here as llama.cpp reads them, which the files were made for.
transformers' own reading passes over words that are one token, tokens of spaces, and spaces at a text's beginning;
other kinds, and Gemma's, are read by it.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batch.engines.gguf.header import GgufArray, GgufHeader, read_array
from batch.engines.gguf.splits import BEGINS, SPLITS, WHOLE_WORDS
from batch.engines.gguf.types import TEXT
from batch.errors import FatalError

CONTROL, USER_DEFINED = 3, 4  # of tokenizer.ggml.token_type
SPACE = "\u2581"  # of sentencepiece
ELSEWHERE = "llama.cpp runs it: engine: gguf"
REPLACED = "\ufffd"  # what stands for bytes that are no text
_ONE_AT_A_TIME = threading.Lock()


def load_tokenizer(file: Path, header: GgufHeader) -> Any:
    """The tokenizer and chat template that the file carries; raises FatalError."""
    import transformers

    try:
        from transformers.integrations.gguf import convert_gguf_tokenizer, get_gguf_tokenizer
    except ImportError:
        raise FatalError(f"{file}: GGUF needs transformers 5.23 or newer; {ELSEWHERE}") from None
    model, split = header.text("tokenizer.ggml.model"), header.text("tokenizer.ggml.pre")
    if model == "gpt2" and split not in SPLITS:
        raise FatalError(f"{file}: how it splits text ({split or 'not said'}) is not known here; {ELSEWHERE}")
    try:
        with _read_here(header):
            architecture, parts, said = get_gguf_tokenizer(str(header.files[0]))
        if model == "gpt2":
            backend = _byte_level(parts, split)
            said.setdefault("add_bos_token", split in BEGINS)
        else:
            backend, _ = convert_gguf_tokenizer(architecture, parts)
            if model == "gemma4":
                backend.pre_tokenizer = _by_lines()
            elif model == "llama" and not architecture.startswith("gemma"):
                _space_in_front(backend, always=parts.get("add_prefix_space") is not False)
    except Exception as error:  # the formats are many, and so are their errors
        raise FatalError(f"{file}: its tokenizer cannot be read: {error}") from error
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **said)


@contextmanager
def _read_here(header: GgufHeader) -> Iterator[None]:
    """While it lasts, transformers takes what a file's header says from ours: theirs reads it token by token.

    That takes twenty times as long, and leaves memory in pieces. A header with bytes that may be no text is left to it,
    which refuses them.
    """
    try:
        from transformers.integrations.gguf import reader

        theirs = reader.read_gguf_metadata
    except (ImportError, AttributeError):  # of a version that reads in another way
        yield
        return

    def ours(path: str, texts: Container[str] = ()) -> Any:
        found = _metadata(header, texts) if path == str(header.files[0]) else None
        return theirs(path, texts) if found is None else (found, tuple(tensor.name for tensor in header.tensors))

    with _ONE_AT_A_TIME:
        reader.read_gguf_metadata = ours
        try:
            yield
        finally:
            reader.read_gguf_metadata = theirs


def _metadata(header: GgufHeader, texts: Container[str]) -> dict[str, Any] | None:
    """What a file says of itself, of arrays of texts their lengths but for those; None where some may be no text."""
    found: dict[str, Any] = {}
    for key, value in header.values.items():
        if isinstance(value, GgufArray):
            length_alone = value.type == TEXT and key not in texts
            value = value.count if length_alone else read_array(header.files[0], value)
        found[key] = value
        held = value if isinstance(value, list) else [value]
        if REPLACED in key or any(isinstance(one, str) and REPLACED in one for one in held):
            return None
    return found


def _byte_level(parts: dict[str, Any], split: str) -> Any:
    """Tokens as the file spells them: those it marks stand for their own text, all others for bytes."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    tokens, kinds = parts["tokens"], parts.get("token_type") or ()
    merges = [(merge[:at], merge[at + 1 :]) for merge in parts["merges"] if (at := merge.find(" ", 1)) > 0]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=split in WHOLE_WORDS))
    steps = [pre_tokenizers.Split(Regex(expression), behavior="isolated") for expression in SPLITS[split]]
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    for kind, add in ((CONTROL, backend.add_special_tokens), (USER_DEFINED, backend.add_tokens)):
        add(
            [
                AddedToken(token, normalized=False, special=kind == CONTROL)
                for token, its in zip(tokens, kinds, strict=False)
                if its == kind and token
            ]
        )
    return backend


def _by_lines() -> Any:
    """Line breaks apart from what stands between them."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Split(Regex("[^\\n]+|\\n+"), behavior="isolated")


def _space_in_front(backend: Any, *, always: bool) -> None:
    """One more space before a text, and after each special token, as sentencepiece has it; or none."""
    from tokenizers import decoders, normalizers

    spaced = normalizers.Replace(pattern=" ", content=SPACE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(prepend=SPACE), spaced]) if always else spaced
    backend.pre_tokenizer = None
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, *([decoders.Strip(content=" ", left=1)] if always else [])])
