"""Tokenizers in the form that needs no transformers, kept beside the packed weights in the user's cache.

As with those, an entry's name is made of all that it depends on, it has a sum, and what does not fit is as good as not
there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zlib
from typing import Any

from batch.engines.torch import shelf
from batch.engines.torch.lean.tokenizer import LeanTokenizer, copied

FILE = "tokenizer.json"


def find(name: str) -> LeanTokenizer | None:
    """The tokenizer of that name; None where there is none, or none that is sound."""
    folder = shelf.folder() if name else None
    if folder is None or not (folder / name / FILE).is_file():
        return None
    try:
        total, _, text = (folder / name / FILE).read_bytes().partition(b"\n")
        if int(total) != zlib.crc32(text):
            raise ValueError("it is not the one that was written")
        found = LeanTokenizer(json.loads(text))
        os.utime(folder / name)  # used: others go first
        return found
    except Exception:  # the library raises Exception itself
        shelf.forget(name)
        return None


def keep(name: str, tokenizer: Any) -> LeanTokenizer | None:
    """Write an entry, where ours does what this tokenizer of transformers' does; what fails leaves nothing.

    Returns ours, which takes a part of the memory, where it was written just now.
    """
    folder = shelf.folder() if name else None
    made = copied(tokenizer) if folder is not None and not (folder / name).exists() else None
    if folder is None or made is None:
        return None
    form, ours = made
    with contextlib.suppress(OSError):
        shelf.sweep(folder)
        scratch = shelf.scratch(folder)
        try:
            text = json.dumps(form).encode()
            with (scratch / FILE).open("wb") as file:
                file.write(b"%d\n%b" % (zlib.crc32(text), text))
                file.flush()
                os.fsync(file.fileno())
            scratch.rename(folder / name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        shelf.bound(folder)
    return ours
