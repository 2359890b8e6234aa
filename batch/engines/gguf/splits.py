"""How byte-level vocabularies have text split before their merges, by the name a GGUF file has for it.

The names, and what goes with each, are those of llama.cpp (`llama-vocab.cpp`); the expressions are those of the models'
own tokenizer.json. A file whose name is not here is llama.cpp's to run.
"""

from __future__ import annotations

from collections.abc import Mapping

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_ENDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_REST_SLASH = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

_GPT2 = (_WORDS,)
_DIGITS_ALONE = (r"\p{N}", _WORDS)
_LLAMA3 = (rf"{_ENDS}|{_BEFORE}\p{{L}}+|\p{{N}}{{1,3}}{_REST}",)
_QWEN2 = (rf"{_ENDS}|{_BEFORE}\p{{L}}+|\p{{N}}{_REST}",)
_QWEN35 = (
    rf"{_ENDS}|{_BEFORE}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_TEKKEN = (rf"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*|\p{{N}}{_REST_SLASH}",)
_GPT4O = (rf"{_BEFORE}{_UPPER}*{_LOWER}+{_ENDS}?|{_BEFORE}{_UPPER}+{_LOWER}*{_ENDS}?|\p{{N}}{{1,3}}{_REST_SLASH}",)
_FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", _WORDS, r"[0-9][0-9][0-9]")
_HAN = r"[一-龥ࠀ-一가-퟿]+"
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN, r"\p{N}")

SPLITS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("gpt-2", "phi-2", "jina-es", "jina-de", "mpt", "olmo"), _GPT2),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
        _DIGITS_ALONE,
    ),
    **dict.fromkeys(
        ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"),
        _LLAMA3,
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe"), _LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2"), _QWEN2),
    "qwen35": _QWEN35,
    "tekken": _TEKKEN,
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"), _GPT4O),
    "falcon": _FALCON,
    "deepseek-coder": _DEEPSEEK_CODER,
}
# A word that is a token by itself is that token, whatever the merges make of it.
WHOLE_WORDS = frozenset(
    {
        *("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"),
        "tekken",
    }
)
BEGINS = WHOLE_WORDS  # a text begins with the token for that, unless the file says otherwise


def splits_known(model: str, name: str) -> bool:
    """Whether text is split here as a file asks for it: `tokenizer.ggml.model` and `.pre`."""
    return model != "gpt2" or name in SPLITS
