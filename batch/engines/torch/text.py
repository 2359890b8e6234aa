"""Tokens to text as they come: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from typing import Any

UNFINISHED = "\ufffd"  # what a decoder makes of the first bytes of a character whose others are yet to come
_NEIGHBOURS = 4  # tokens before one that its text may depend on: a space, the bytes of a character


class Detokenizer:
    """The text of a growing list of tokens.

    Decoding is put off until someone looks: once at the end, at each `read`, and with stop strings at every token. A
    token's text depends on its neighbours (spaces, bytes of one character), so a window of tokens is decoded with
    and without the new ones, and the difference is the new text; the method is the one of Hugging Face's TGI.
    """

    def __init__(self, tokenizer: Any, stop: list[str]) -> None:
        self._tokenizer = tokenizer
        self._stop = [text for text in stop if text]
        self._tokens: list[int] = []
        self._window = 0  # first token of the window
        self._read = 0  # tokens whose text is in _text
        self._text = ""
        self.stopped = False  # whether a stop string has come up

    def push(self, token: int) -> None:
        """Take one more token; `stopped` says whether it completed a stop string."""
        self._tokens.append(token)
        if self._stop:
            self._advance()

    def read(self) -> str:
        """The text that is sure by now: it only grows, and holds back what may become a stop string."""
        self._advance()
        return self._text[: len(self._text) - self._held_back()]

    def finish(self) -> str:
        """The whole text, cut before the first stop string; half a character at the end is left out."""
        text = self._decode(self._tokens).rstrip(UNFINISHED)
        found = [at for at in map(text.find, self._stop) if at >= 0]
        if found:
            self.stopped = True
            return text[: min(found)]
        return text

    def pieces(self, count: int) -> list[str]:
        """The text of each of the first tokens; U+FFFD where one is only a part of a character."""
        found = []
        for i in range(count):
            start = max(0, i - _NEIGHBOURS)
            known = self._decode(self._tokens[start:i])
            grown = self._decode(self._tokens[start : i + 1])
            found.append(grown[len(known) :] if grown.startswith(known) else self._decode(self._tokens[i : i + 1]))
        return found

    def _decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _advance(self) -> None:
        if self.stopped or self._read == len(self._tokens):
            return
        known = self._decode(self._tokens[self._window : self._read])
        grown = self._decode(self._tokens[self._window :])
        if len(grown) <= len(known) or grown.endswith(UNFINISHED):
            return
        before = len(self._text)
        self._text += grown[len(known) :]
        self._window, self._read = self._read, len(self._tokens)
        for stop in self._stop:
            at = self._text.find(stop, max(0, before - len(stop) + 1))
            if at >= 0:
                self.stopped = True
                self._text = self._text[:at]

    def _held_back(self) -> int:
        """Characters at the end that begin a stop string."""
        if self.stopped:
            return 0
        longest = max(map(len, self._stop), default=1) - 1
        for size in range(min(longest, len(self._text)), 0, -1):
            tail = self._text[-size:]
            if any(stop.startswith(tail) for stop in self._stop):
                return size
        return 0
