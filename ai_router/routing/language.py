"""The language of a prompt: by its script, and among those in Latin letters by their most frequent words."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SAID: Mapping[str, str] = {
    "en": """the of and to in is a that for it on with as was are this be by at from what how does do you i my which who
        can write give me an if not your will would explain why when""",
    "de": """der die das und ist ein eine nicht ich du wie was zu den dem mit von für auf im des sich es wer warum diese
        diesen bitte einen einer aus sind nach über wird welche man""",
    "fr": """le la les des du et est un une je tu que qui dans pour pas ce cette sur avec en comment quelle quel sont à
        au aux mon ma vous nous il elle écris plus deux d l""",
    "es": """el la los las de y es un una que en por para con no se del al cómo qué cuál cuánto escribe mi yo su lo más
        entre sobre esta este son hay""",
    "pt": """o a os as de e é um uma que em por para com não se do da dos das como quanto eu meu minha você escreva mais
        no na""",
    "it": """il lo la i gli le di e è un una che in per con non si del della dei come quanto mio sono perché scrivi cosa
        alla nel""",
    "nl": "de het een en is van ik je niet dat die te op voor met zijn wat hoe aan er maar om waar",
    "pl": "i w na nie się jest to z do że jak co czy po dla od jednak napisz ile jaka jakie",
    "sv": "och i att det en ett är som på av för med inte jag du vad hur den till har",
    "tr": "ve bir bu ne için da de mi nasıl ile çok var yok hangi ben sen kaç",
}
_WORDS = {name: frozenset(words.split()) for name, words in _SAID.items()}
_SCRIPTS = (
    ("ja", re.compile(r"[぀-ヿ]")),
    ("ko", re.compile(r"[가-힯]")),
    ("zh", re.compile(r"[㐀-鿿]")),
    ("ru", re.compile(r"[Ѐ-ӿ]")),
    ("ar", re.compile(r"[؀-ۿ]")),
    ("he", re.compile(r"[֐-׿]")),
    ("el", re.compile(r"[Ͱ-Ͽ]")),
    ("hi", re.compile(r"[ऀ-ॿ]")),
    ("th", re.compile(r"[฀-๿]")),
)
LANGUAGES = (*(name for name, _ in _SCRIPTS), *_WORDS)
_LATIN = re.compile(r"[^\W\d_]+")
_LOOKED_AT = 400  # characters
_SHARE = 0.15  # of the letters, from which on a script decides


def language_of(text: str) -> str:
    """The language's code (ISO 639-1); `en` where nothing tells."""
    low = text[:_LOOKED_AT].lower()
    letters = sum(map(str.isalpha, low)) or 1
    for name, pattern in _SCRIPTS:
        if len(pattern.findall(low)) / letters > _SHARE:
            return name
    words = _LATIN.findall(low)
    best, most = "en", 0
    for name, common in _WORDS.items():
        if (count := sum(word in common for word in words)) > most:
            best, most = name, count
    return best
