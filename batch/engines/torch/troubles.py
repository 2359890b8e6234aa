"""What errors of libraries say: out of memory or not, and their first line."""

from __future__ import annotations

OUT_OF_MEMORY = (
    *("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc"),
    "could not create a primitive",  # all that oneDNN says of it
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, of oneDNN, of safetensors or of Python itself says that there is no memory left."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(said in text for said in OUT_OF_MEMORY)


def first_line(error: BaseException) -> str:
    """An error's first line, shortened."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def whole(error: BaseException) -> str:
    """An error in one line, shortened: of libraries whose first line says little."""
    return " ".join((str(error).strip() or type(error).__name__).split())[:300]
