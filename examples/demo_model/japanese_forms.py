"""Conjugation of Japanese verbs and adjectives, with the wrong forms a learner writes."""

from __future__ import annotations

from japanese_lexicon import Verb

_I = dict(zip("うくぐすつぬぶむる", "いきぎしちにびみり", strict=True))
_A = dict(zip("うくぐすつぬぶむる", "わかがさたなばまら", strict=True))
_E = dict(zip("うくぐすつぬぶむる", "えけげせてねべめれ", strict=True))
_TA = {
    "う": "った",
    "つ": "った",
    "る": "った",
    "む": "んだ",
    "ぶ": "んだ",
    "ぬ": "んだ",
    "く": "いた",
    "ぐ": "いだ",
    "す": "した",
}

POLITE = {"present": "ます", "past": "ました", "neg": "ません", "negpast": "ませんでした"}


def stem(verb: Verb) -> str:
    """The stem before ます."""
    if verb.kind == "suru":
        return verb.word[:-2] + "し"
    if verb.kind in ("kuru", "ru"):
        return verb.word[:-1]
    return verb.word[:-1] + _I[verb.word[-1]]


def ta(verb: Verb) -> str:
    """The plain past."""
    if verb.kind != "u":
        return stem(verb) + "た"
    if verb.word.endswith("行く"):
        return verb.word[:-1] + "った"
    return verb.word[:-1] + _TA[verb.word[-1]]


def te(verb: Verb) -> str:
    """The て form."""
    past = ta(verb)
    return past[:-1] + ("て" if past[-1] == "た" else "で")


def nai(verb: Verb) -> str:
    """The plain negative."""
    if verb.kind == "u":
        return verb.word[:-1] + _A[verb.word[-1]] + "ない"
    return stem(verb) + "ない"


def potential(verb: Verb) -> str:
    """The stem of the potential form, which takes ます or る."""
    if verb.kind == "suru":
        return verb.word[:-2] + "でき"
    if verb.kind == "u":
        return verb.word[:-1] + _E[verb.word[-1]]
    return verb.word[:-1] + "られ"


def voice(verb: Verb, causative: bool) -> str:
    """The stem of the passive (食べられ) or causative (食べさせ) form, which takes ます."""
    if verb.kind == "suru":
        return verb.word[:-2] + ("させ" if causative else "され")
    if verb.kind == "u":
        return verb.word[:-1] + _A[verb.word[-1]] + ("せ" if causative else "れ")
    return verb.word[:-1] + ("させ" if causative else "られ")


def wrong_voice(verb: Verb, causative: bool) -> list[str]:
    """What a learner writes instead of `voice(verb, causative)`."""
    end = "せ" if causative else "れ"
    if verb.kind == "suru":
        return [verb.word + end, stem(verb) + ("らせ" if causative else "られ")]
    if verb.kind == "u":
        return [stem(verb) + end, verb.word + end]
    return [stem(verb) + end, verb.word + end]


def wrong_te(verb: Verb) -> list[str]:
    """Misformed て forms, none equal to the right one."""
    forms = [verb.word + "て", stem(verb) + "て" if verb.kind == "u" else stem(verb) + "って"]
    if verb.kind == "u" and te(verb).endswith("で"):
        forms.append(te(verb)[:-1] + "て")
    return [form for form in forms if form != te(verb)]


def wrong_ta(verb: Verb) -> list[str]:
    """Misformed plain pasts, none equal to the right one."""
    return [form[:-1] + "た" for form in wrong_te(verb) if form[:-1] + "た" != ta(verb)]


def wrong_nai(verb: Verb) -> list[str]:
    """Misformed plain negatives, none equal to the right one."""
    forms = [verb.word + "ない"]
    forms.append(stem(verb) + "ない" if verb.kind == "u" else stem(verb) + "らない")
    return [form for form in forms if form != nai(verb)]


def predicate(verb: Verb, form: str, polite: bool) -> str:
    """The verb in one of the forms present, past, neg, negpast, tai, teiru, can, must."""
    if form == "tai":
        return stem(verb) + ("たいです" if polite else "たい")
    if form == "teiru":
        return te(verb) + ("います" if polite else "いる")
    if form == "can":
        return potential(verb) + ("ます" if polite else "る")
    if form == "must":
        return nai(verb)[:-1] + ("ければなりません" if polite else "ければならない")
    if polite:
        return stem(verb) + POLITE[form]
    if form == "present":
        return verb.word
    if form == "past":
        return ta(verb)
    return nai(verb) if form == "neg" else nai(verb)[:-1] + "かった"


def _wrong_polite(verb: Verb, form: str) -> list[str]:
    """Misformed polite forms: present, past, neg or negpast."""
    end = stem(verb)
    forms = [verb.word + POLITE[form]]
    if verb.kind == "ru":
        forms.append(end + "り" + POLITE[form])
    if form == "past":
        forms += [end + "ますでした", end + "ましたです"]
    elif form == "neg":
        forms += [end + "ないです" if verb.kind == "u" else end + "ますない"]
    elif form == "negpast":
        forms += [end + "ませんました", end + "ないでした"]
    else:
        forms += [verb.word + "です"]
    return forms


def wrong_predicate(verb: Verb, form: str, polite: bool) -> list[str]:
    """What a learner writes instead of `predicate(verb, form, polite)`; may be empty."""
    if form == "tai":
        tail = "たいです" if polite else "たい"
        return [verb.word + tail, te(verb) + tail]
    if form == "teiru":
        tail = "います" if polite else "いる"
        return [wrong + tail for wrong in wrong_te(verb)]
    if form == "can":
        tail = "ます" if polite else "る"
        return [verb.word + "ことがで" + tail] if verb.kind == "suru" else [potential(verb) + "れ" + tail]
    if form == "must":
        tail = "ければなりません" if polite else "ければならない"
        return [wrong[:-1] + tail for wrong in wrong_nai(verb)]
    if polite:
        return _wrong_polite(verb, form)
    if form == "past":
        return wrong_ta(verb)
    if form == "neg":
        return wrong_nai(verb)
    return [wrong[:-1] + "かった" for wrong in wrong_nai(verb)] if form == "negpast" else []


def adjective(word: str, form: str, i_type: bool) -> str:
    """A polite adjective predicate: present, past, neg (じゃ/くない) or negf (formal negative)."""
    if i_type:
        ends = {
            "present": "いです",
            "past": "かったです",
            "neg": "くないです",
            "negf": "くありません",
            "negpast": "くなかったです",
        }
        return word[:-1] + ends[form]
    ends = {
        "present": "です",
        "past": "でした",
        "neg": "じゃないです",
        "negf": "ではありません",
        "negpast": "じゃなかったです",
    }
    return word + ends[form]


def wrong_adjective(word: str, form: str, i_type: bool) -> list[str]:
    """What a learner writes instead of `adjective(word, form, i_type)`."""
    if i_type:
        ends = {
            "present": ["だです"],
            "past": ["でした", "かったでした"],
            "neg": ["じゃないです"],
            "negf": ["ではありません", "じゃありません"],
            "negpast": ["じゃなかったです", "くないでした"],
        }
        base = word[:-1]
        return [(base if end[0] in "かく" else word) + end for end in ends[form]]
    ends = {
        "present": ["いです"],
        "past": ["かったです"],
        "neg": ["くないです"],
        "negf": ["くありません"],
        "negpast": ["くなかったです"],
    }
    return [word + end for end in ends[form]]


def adnominal(word: str, i_type: bool) -> str:
    """The adjective before a noun."""
    return word if i_type else word + "な"


def adverb(word: str, i_type: bool) -> str:
    """The adjective as an adverb."""
    return word[:-1] + "く" if i_type else word + "に"
