"""Where in a text the answer stands: in a box, behind `####`, behind words such as "the answer is"."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

# Words that name the answer, and what joins them to it, of the languages that MMLU and GSM8K were translated to.
_NAMES = (
    r"(?:answers?|answ\.|antwort|antwoord|réponse|respuesta|resposta|risposta|svaret?|odpowiedź|odpověď|ответ)"
    r"(?![^\W\d_])"
)
_JOINED = (
    r"(?:(?:is|are|was|be|equals|ist|lautet|est|es|é|è|är|er|jest|je)(?![\w'’])[ \t]{0,2}[:：]?"
    r"|[:：=→]|[-–—](?=[ \t]))"
)
_WORDS = r"(?:[ \t]{1,3}[^\s:：=.。]{1,30}){0,8}?[*_\"'”’)\]`]{0,4}[ \t]{0,3}"
_EAST = (
    r"(?:答え|答案|解答|回答|正解|正確答案|정답은?|답은?)[*_」』)）]{0,3}\s{0,3}"
    r"(?:は|が|是|为|為|[:：=→]|(?<=은)|(?<=답))"
)
MARK = re.compile(rf"(?:(?<![^\W_]){_NAMES}{_WORDS}{_JOINED}|{_EAST})", re.IGNORECASE)

_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,4}")
# A model that goes on asks itself the next question, as in the examples it was shown.
_NEXT = re.compile(r"\n\s{0,4}(?:Q|Question|問題|问题)\s{0,2}[:：]")


def own_part(text: str) -> str:
    """The text up to where a model goes on with a question of its own, where it has given an answer before."""
    found = _NEXT.search(text)
    if found is None:
        return text
    before = text[: found.start()]
    return before if "####" in before or _BOX.search(before) or MARK.search(before) else text


def boxed(text: str) -> str | None:
    """What the last `\\boxed{…}` or `\\fbox{…}` of a text holds; None where there is none."""
    last = next(iter(deque(_BOX.finditer(text), maxlen=1)), None)
    if last is None:
        return None
    begin = last.end()
    if not text.startswith("{", begin):
        word = re.compile(r"[^\s$]*").match(text, begin)
        return word[0] if word else ""
    depth = 0
    for at in range(begin, len(text)):
        if text[at] == "{":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if not depth:
                return text[begin + 1 : at]
    return text[begin + 1 :].split("\n", 1)[0]


def marked(text: str) -> Iterator[int]:
    """Where an answer may begin: behind each phrase that announces one, in order."""
    for found in MARK.finditer(text):
        yield found.end()
