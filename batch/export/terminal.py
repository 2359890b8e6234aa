"""An export that goes to a terminal: what the terminal would obey is shown instead. Files and pipes get it exact."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

_JOINERS = (0x200C, 0x200D)  # part of how emoji and Indic scripts are written


def _unsafe(code: int) -> bool:
    """Whether a terminal acts on a character or hides text with it: controls, bidi and other format characters."""
    return code not in _JOINERS and unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp")


class _Table(dict[int, str | int]):
    """For `str.translate`; learns characters as they come."""

    def __init__(self, show: Callable[[int], str], kept: str) -> None:
        super().__init__({ord(c): ord(c) for c in kept})
        self._show = show

    def __missing__(self, code: int) -> str | int:
        value = self[code] = self._show(code) if _unsafe(code) else code
        return value


def _picture(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode has pictures of these
    return "\u2421" if code == 0x7F else f"\\x{code:02x}" if code < 0x100 else _escape(code)


def _escape(code: int) -> str:
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


_TEXT = _Table(_picture, "\n\t")
_JSON = _Table(_escape, "\n")


def inert_text(text: str) -> str:
    """Text for a terminal: pictures of controls, the numbers of what else it would obey; lines and tabs stay."""
    return text.replace("\r\n", "\n").translate(_TEXT)


def inert_json(text: str) -> str:
    """JSON for a terminal: the same JSON, as these characters only stand inside its strings, where they are escaped."""
    return text.translate(_JSON)
