"""A tokenizer of the tokenizers library with as much around it as the engine asks of transformers' own class.

It is made of what such an object says of itself (`copied`), and only where it then gives the same tokens and the same
chats: which files make up a tokenizer, and what is added to them, stays transformers' business. The next start needs no
transformers for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

# Texts and chats that both must do alike; the tokens that were added come on top.
PROBES = (
    "What is a stack?\n\n  It's 12,345.67 – naïve café, 東京都の天気 🙂\t\tend ",
    " ",
    "a",
    "def f(x):\n    return x\n",
)
CHATS: tuple[list[dict[str, Any]], ...] = (
    [{"role": "user", "content": " What is a stack? "}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?\n"},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "<b>{{ x }}</b>"},
    ],
)
# transformers follows where such a block was written; ours has no such tag.
GENERATION = re.compile(r"\{%[-+]?\s*generation\b")


class LeanTokenizer:
    """Text to tokens and back, and chats by a template. `form` is what `copied` made."""

    def __init__(self, form: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer

        self.backend_tokenizer = Tokenizer.from_str(form["backend"])
        self.backend_tokenizer.no_truncation()
        self.backend_tokenizer.no_padding()
        self.chat_template: str | None = form["template"]
        self.special_tokens_map: Mapping[str, str] = form["special"]
        self.eos_token_id: int | None = form["end"]

    def __call__(self, text: str, *, add_special_tokens: bool = True, verbose: bool = True) -> dict[str, list[int]]:
        """The tokens of a text, as `input_ids`."""
        return {"input_ids": self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}

    def decode(
        self, tokens: list[int], *, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str:
        """The text of tokens; it is never cleaned up."""
        return str(self.backend_tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens))

    @property
    def added_tokens_decoder(self) -> dict[int, Any]:
        """Tokens that were added to the vocabulary, by number."""
        found: dict[int, Any] = self.backend_tokenizer.get_added_tokens_decoder()
        return found

    def get_added_vocab(self) -> dict[str, int]:
        """Their numbers, by text."""
        return {token.content: number for number, token in sorted(self.added_tokens_decoder.items())}

    def apply_chat_template(
        self, chat: list[dict[str, Any]], *, tokenize: bool = False, add_generation_prompt: bool = False, **options: Any
    ) -> str:
        """A chat of plain texts, rendered."""
        if tokenize:
            raise TypeError("it renders chats and leaves their tokens to the caller")
        turns = [{key: value for key, value in turn.items() if value is not None} for turn in chat]
        said = {**self.special_tokens_map, **options}
        return str(
            self._template.render(
                messages=turns, tools=None, documents=None, add_generation_prompt=add_generation_prompt, **said
            )
        )

    @cached_property
    def _template(self) -> Any:
        return environment().from_string(self.chat_template or "")


def environment() -> Any:
    """Jinja as chat templates are written for: a sandbox with a few names of its own."""
    from jinja2 import TemplateError
    from jinja2.exceptions import SecurityError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: Any, ensure_ascii: bool = False, indent: Any = None, **form: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **form)

    class Plain(Namespace):
        """A namespace without names that reach into Python."""

        def __init__(*args: Any, **kwargs: Any) -> None:
            self, *rest = args
            attributes = dict(*rest, **kwargs)
            for name in attributes:
                _check(name)
            Namespace.__init__(self, attributes)

        def __setitem__(self, name: str, value: Any) -> None:
            _check(name)
            Namespace.__setitem__(self, name, value)

    def _check(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace has no {name!r}")

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    made.filters["tojson"] = to_json
    made.globals |= {
        "raise_exception": refuse,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "namespace": Plain,
        "dict": lambda *args, **kwargs: dict(*args, **kwargs),
    }
    return made


def copied(tokenizer: Any) -> tuple[dict[str, Any], LeanTokenizer] | None:
    """What a tokenizer of transformers' is made of, as JSON, and ours of that; None where it would not do the same."""
    backend, template = getattr(tokenizer, "backend_tokenizer", None), getattr(tokenizer, "chat_template", None)
    if backend is None or not (template is None or isinstance(template, str)):
        return None
    if getattr(tokenizer, "split_special_tokens", False) or (template and GENERATION.search(template)):
        return None
    form = {
        "backend": backend.to_str(),
        "template": template,
        "special": dict(tokenizer.special_tokens_map),
        "end": tokenizer.eos_token_id,
    }
    try:
        ours = LeanTokenizer(form)
        return (form, ours) if _alike(ours, tokenizer) else None
    except Exception:  # whatever a tokenizer raises: it stays with transformers
        return None


def _alike(ours: LeanTokenizer, theirs: Any) -> bool:
    """Whether both say the same of texts with every added token in them, and render the same chats."""
    added = " ".join(ours.get_added_vocab())
    for text in (*PROBES, added, f"{PROBES[0]}{added}"):
        for special in (True, False):
            found = ours(text, add_special_tokens=special)["input_ids"]
            if found != list(theirs(text, add_special_tokens=special, verbose=False)["input_ids"]):
                return False
            for skip in (True, False):
                said = [
                    one.decode(found, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
                    for one in (ours, theirs)
                ]
                if said[0] != said[1]:
                    return False
    if ours.get_added_vocab() != theirs.get_added_vocab():
        return False
    return ours.chat_template is None or all(_chat(ours, chat) == _chat(theirs, chat) for chat in CHATS)


def _chat(tokenizer: Any, chat: list[dict[str, Any]]) -> str | None:
    try:
        return str(
            tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        )
    except Exception:  # a template is a program and may refuse a chat
        return None
