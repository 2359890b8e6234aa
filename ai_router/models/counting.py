"""How many tokens a prompt is, before a model is loaded."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ai_router.models.spec import ModelSpec
from batch.errors import BatchError
from batch.items import Request
from batch.sources.paths import user_path

TEMPLATE_ROOM = 32  # tokens a chat template may add around one turn
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")  # which a template may name


def token_counter(spec: ModelSpec) -> Callable[[str], int] | None:
    """`count(text) -> int` through the model's own tokenizer, or None where that is not to be had without the model.

    A model that is elsewhere has the one that its entry names (`tokenizer`), if any; a GGUF file the one that its first
    start kept.
    """
    tokenizer = _tokenizer(spec)
    return None if tokenizer is None else lambda text: len(tokenizer.encode(text).ids)


def prompt_counter(spec: ModelSpec) -> Callable[[Request, str | None], int | None]:
    """`count(request, system) -> int | None`: all tokens of a prompt as the torch engine makes them, template and all.

    None of a model, or of a chat, of which only the engine can tell.
    """
    words = None if spec.is_remote else _words(spec.path)

    def count(request: Request, system: str | None) -> int | None:
        from batch.engines.torch.prompt import encode_request

        try:
            return None if words is None else len(encode_request(words, request, system))
        except BatchError:  # the template refuses it: so will the run, and say why
            return None

    return count


def _tokenizer(spec: ModelSpec) -> Any:
    if importlib.util.find_spec("tokenizers") is None:
        return None
    if not spec.is_remote:
        words = _words(spec.path)
        return None if words is None else words.backend_tokenizer
    said = spec.engine_options.get("tokenizer")
    if not said:
        return None
    place = user_path(str(said))
    return _backend(place if place.suffix == ".json" else place / "tokenizer.json")


def _backend(file: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file)) if file.is_file() else None
    except Exception:  # the library raises bare Exception on a bad file; loading the model will say what is wrong
        return None


def _words(place: Path) -> Any:
    """The tokenizer of a model that runs here, with its template; None where it is not to be had."""
    if importlib.util.find_spec("tokenizers") is None:
        return None
    from batch.engines.torch import starting
    from batch.engines.torch.lean.tokenizer import LeanTokenizer

    try:
        if (kept := starting.kept_words(place)) is not None or place.is_file():
            return kept
        backend = (place / "tokenizer.json").read_text("utf-8")
        config, apart = place / "tokenizer_config.json", place / "chat_template.jinja"
        said = json.loads(config.read_bytes()) if config.is_file() else {}
        template = apart.read_text("utf-8") if apart.is_file() else said.get("chat_template")
        special = {key: _text(said[key]) for key in SPECIAL if said.get(key)}
        form = {"backend": backend, "template": template if isinstance(template, str) else None}
        return LeanTokenizer({**form, "special": special, "end": None})
    except Exception:  # of a damaged file; loading the model will say what is wrong
        return None


def _text(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)
