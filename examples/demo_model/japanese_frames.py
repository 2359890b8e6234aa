"""Sentence frames of the Japanese generator: each draws a sentence, an error in it, and its name."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import japanese_forms as jf
import japanese_lexicon as lx
from japanese_lexicon import NOUNS, Verb


class Pair(NamedTuple):
    """A sentence with an error, its correction, and the name of the error ("none": nothing to correct)."""

    wrong: str
    right: str
    error_type: str


def _noun(rng: random.Random, kind: str) -> str:
    return rng.choice(NOUNS[kind])


def _adjective(rng: random.Random, kind: str | None = None) -> tuple[str, str, bool]:
    """A topic noun, an adjective that fits it, and whether it is an い adjective."""
    nouns, words = lx.TOPICS[kind or rng.choice(tuple(lx.TOPICS))]
    word = rng.choice(words)
    return rng.choice(nouns), word, word in lx.I_ADJECTIVES


def _time(rng: random.Random, form: str) -> str:
    if form in ("past", "negpast"):
        return rng.choice(lx.PAST_TIMES)
    if form in ("tai", "can", "must"):
        return rng.choice(lx.FUTURE_TIMES)
    return rng.choice(lx.FUTURE_TIMES + lx.HABIT_TIMES) if form != "teiru" else rng.choice(lx.HABIT_TIMES)


_FORMS = ("present", "past", "neg", "negpast", "tai", "teiru", "can", "must")
_FORM_WEIGHTS = (5, 7, 2, 2, 2, 2, 1, 1)
_NO_PLACE = ("忘れる", "置く", "持つ", "乗る", "着る", "脱ぐ", "住む", "捨てる", "休む")
_OTHER_TENSE = {"past": "present", "present": "past", "neg": "negpast", "negpast": "neg"}
_SWAPS = {
    "で": ("particle_place", "にを"),
    "と": ("particle_companion", "でを"),
    "を": ("particle_object", "がにで"),
    "に": ("particle_target", "をで"),
}

Slots = list[tuple[str, str]]  # noun and particle; the particle "time" is not written


def _slots(rng: random.Random, verb: Verb, form: str) -> tuple[Slots, str]:
    """What stands before the verb, and the time expression in it or nothing."""
    slots: Slots = []
    subject = _noun(rng, "person") if rng.random() < 0.6 else ""
    if form == "tai" and subject:
        subject = rng.choice(("私", "僕"))
    time = _time(rng, form) if rng.random() < 0.6 else ""
    if time:
        slots.append((time + rng.choice(("、", "")), "time"))
    if subject:
        slots.append((subject, "は"))
    companion = _noun(rng, "companion") if rng.random() < 0.2 and verb.word not in ("会う", "電話する") else ""
    if companion and companion != subject:
        slots.append((companion, "と"))
    if verb.nouns != "place" and verb.word not in _NO_PLACE and (not verb.nouns or rng.random() < 0.4):
        slots.append((_noun(rng, "place"), "で"))
    if verb.nouns:
        slots.append((_noun(rng, verb.nouns), verb.particle))
    return slots, time


def _clause(rng: random.Random) -> Pair:
    """A clause with optional time, subject, companion and place, and one wrong slot."""
    verb = rng.choice(lx.VERBS if rng.random() < 0.75 else lx.INTRANSITIVE)
    polite = rng.random() < 0.75
    form = rng.choices(_FORMS, _FORM_WEIGHTS)[0]
    if verb.nouns == "place" and form in ("teiru", "can") and verb.word != "住む":
        form = "past"
    slots, time = _slots(rng, verb, form)
    end = "か。" if polite and form in ("present", "past", "neg") and rng.random() < 0.1 else "。"

    def text(parts: Slots, last: str) -> str:
        return "".join(noun + ("" if p == "time" else p) for noun, p in parts) + last + end

    last = jf.predicate(verb, form, polite)
    right = text(slots, last)
    wrong_last = jf.wrong_predicate(verb, form, polite)
    options: list[tuple[str, float]] = [("verb_form", 3.0)] if wrong_last else []
    options += [(p, 2.0) for _, p in slots if p in _SWAPS]
    if verb.nouns:
        options.append(("missing", 0.7))
    if time and form in _OTHER_TENSE and time not in lx.HABIT_TIMES:
        options.append(("tense", 2.5))
    if not options:
        return Pair(right, right, "none")
    kind = rng.choices([o for o, _ in options], [w for _, w in options])[0]
    if kind == "verb_form":
        return Pair(text(slots, rng.choice(wrong_last)), right, "verb_form")
    if kind == "tense":
        return Pair(text(slots, jf.predicate(verb, _OTHER_TENSE[form], polite)), right, "tense")
    if kind == "missing":
        return Pair(text([*slots[:-1], (slots[-1][0], "")], last), right, "missing_particle")
    name, swaps = _SWAPS[kind]
    swaps = "に" if kind == "で" and not verb.nouns else swaps  # 公園を歩く is right
    parts = [(noun, rng.choice(swaps) if p == kind else p) for noun, p in slots]
    return Pair(text(parts, last), right, name)


def _existence(rng: random.Random) -> Pair:
    alive = rng.random() < 0.5
    noun = _noun(rng, rng.choice(("animal", "person")) if alive else "thing")
    place = _noun(rng, "place") if rng.random() < 0.5 else f"{_noun(rng, 'base')}の{_noun(rng, 'position')}"
    past = rng.random() < 0.3
    tail = rng.choice(("ました" if past else "ます", "ませんでした" if past else "ません"))
    verb, other = ("い", "あり") if alive else ("あり", "い")
    right = f"{place}に{noun}が{verb}{tail}。"
    wrong, name = rng.choice(
        (
            (f"{place}に{noun}が{other}{tail}。", "existence_verb"),
            (f"{place}で{noun}が{verb}{tail}。", "particle_existence"),
            (f"{place}に{noun}を{verb}{tail}。", "particle_existence"),
        )
    )
    return Pair(wrong, right, name)


def _preference(rng: random.Random) -> Pair:
    person = _noun(rng, "person")
    kind, words = rng.choice(
        (
            ("like", ("好き", "嫌い", "大好き")),
            ("skill", ("上手", "下手", "得意", "苦手")),
            ("gift", ("欲しい",)),
            ("study", ("わかり", "でき")),
        )
    )
    word = rng.choice(words)
    person = "私" if word == "欲しい" else person
    noun = _noun(rng, kind)
    end = rng.choice(("ます", "ません")) if kind == "study" else "です"
    right = f"{person}は{noun}が{word}{end}。"
    return Pair(f"{person}は{noun}{rng.choice('をに')}{word}{end}。", right, "particle_preference")


def _adjective_predicate(rng: random.Random) -> Pair:
    kind = rng.choice(tuple(lx.TOPICS))
    noun, word, i_type = _adjective(rng, kind)
    form = rng.choices(("present", "past", "neg", "negf", "negpast"), (1, 4, 3, 2, 2))[0]
    head = rng.choice(("この", "その", "あの", "")) if kind != "weather" else ""
    if form in ("past", "negpast") and rng.random() < 0.5:
        head = rng.choice(("昨日の", "先週の", "去年の")) if noun not in ("今日", "ここ") else ""
    start = f"{head}{noun}は"
    wrong = rng.choice(jf.wrong_adjective(word, form, i_type))
    name = "i_adjective" if i_type else "na_adjective"
    return Pair(f"{start}{wrong}。", f"{start}{jf.adjective(word, form, i_type)}。", name)


def _adnominal(rng: random.Random) -> Pair:
    noun, word, i_type = _adjective(rng, rng.choice(("place", "person", "thing", "task", "food")))
    frames = ["これは{}です。", "あれは{}です。", "{}が好きです。", "とても{}ですね。"]
    subject = _noun(rng, "person")
    frames += [subject + "は{}が好きです。", subject + "は{}を見ました。", subject + "は{}を探しています。"]
    frame = rng.choice(frames)
    right = frame.format(jf.adnominal(word, i_type) + noun)
    if i_type:
        return Pair(frame.format(f"{word}{rng.choice('のな')}{noun}"), right, "extra_no")
    return Pair(frame.format(word + rng.choice(("", "の", "い")) + noun), right, "na_adjective_link")


def _possessive(rng: random.Random) -> Pair:
    owner, thing = _noun(rng, "person"), _noun(rng, rng.choice(("thing", "buy", "gift")))
    frame = rng.choice(
        (
            "これは{}です。",
            "それは{}です。",
            "あれは{}ではありません。",
            "{}はどこにありますか。",
            "{}は新しいです。",
            "{}を借りました。",
            "{}を見ました。",
        )
    )
    return Pair(frame.format(owner + thing), frame.format(f"{owner}の{thing}"), "missing_no")


def _adverb(rng: random.Random) -> Pair:
    word = rng.choice(lx.MANNERS)
    i_type = word in lx.I_ADJECTIVES
    verb = rng.choice(lx.INTRANSITIVE)
    start = f"{_noun(rng, 'person')}は" if rng.random() < 0.7 else ""
    start += rng.choice(("", rng.choice(lx.NOUNS["place"]) + "で"))
    last = jf.predicate(verb, rng.choice(("present", "past", "teiru")), True) + "。"
    wrong = rng.choice((word, word + "に")) if i_type else word + rng.choice("なくで")
    return Pair(start + wrong + last, start + jf.adverb(word, i_type) + last, "adverb")


def _counter(rng: random.Random) -> Pair:
    right_counter = rng.choice(tuple(lx.COUNTERS))
    nouns, numbers = lx.COUNTERS[right_counter]
    index = rng.randrange(len(numbers))
    other = rng.choice([c for c in lx.COUNTERS if c != right_counter])
    noun, right, wrong = rng.choice(nouns), numbers[index], lx.COUNTERS[other][1][index]
    place = _noun(rng, "place")
    verb = "います" if right_counter in "匹人" else "あります"
    frames = [f"{place}に{noun}が{{}}{verb}。", f"{{}}の{noun}が{verb}。", f"{noun}が{{}}{verb}。"]
    subject = _noun(rng, "person")
    if right_counter not in "人軒":
        action = "飲みました" if right_counter == "杯" else rng.choice(("買いました", "見ました"))
        frames += [f"{noun}を{{}}{action}。", f"{subject}は{noun}を{{}}{action}。"]
    frame = rng.choice(frames)
    return Pair(frame.format(wrong), frame.format(right), "counter")


def _honorific(rng: random.Random) -> Pair:
    kind, particle, plain, polite = rng.choice(lx.HONORIFICS)
    person, noun = _noun(rng, "honored"), _noun(rng, kind)
    tail = rng.choice(("ました", "ます", "ますか"))
    time = rng.choice(lx.PAST_TIMES if tail == "ました" else lx.FUTURE_TIMES) + "、" if rng.random() < 0.4 else ""
    start = f"{time}{person}{rng.choice('はが')}{noun}{particle}"
    return Pair(f"{start}{plain}{tail}。", f"{start}{polite}{tail}。", "honorific")


def _transitivity(rng: random.Random) -> Pair:
    kind, transitive, intransitive = rng.choice(lx.TRANSITIVITY)
    noun = _noun(rng, kind)
    vt, vi = (
        Verb(w, "ru" if w[-2] in "けめえちれべせつ" and w not in ("つく",) else "u", "", "")
        for w in (transitive, intransitive)
    )
    form = rng.choice(("present", "past", "neg", "negpast"))
    subject = f"{_noun(rng, 'person')}は" if rng.random() < 0.6 else ""
    if rng.random() < 0.6:
        start, right, wrong = f"{subject}{noun}を", vt, vi
    else:
        start, right, wrong = f"{noun}が", vi, vt
    return Pair(
        f"{start}{jf.predicate(wrong, form, True)}。", f"{start}{jf.predicate(right, form, True)}。", "transitivity"
    )


def _giving(rng: random.Random) -> Pair:
    person, gift = _noun(rng, "companion"), _noun(rng, "gift")
    tail = rng.choice(("ました", "ませんでした"))
    time = rng.choice(lx.PAST_TIMES) + rng.choice(("、", "")) if rng.random() < 0.4 else ""
    if rng.random() < 0.5:
        start, right, wrong = f"{person}は私に{gift}を", "くれ", "あげ"
    else:
        start, right, wrong = f"私は{person}に{gift}を", "あげ", "くれ"
    return Pair(f"{time}{start}{wrong}{tail}。", f"{time}{start}{right}{tail}。", "giving")


def _te_chain(rng: random.Random) -> Pair:
    first, second = rng.sample([v for v in lx.VERBS if v.nouns != "event"], 2)
    one = f"{_noun(rng, first.nouns)}{first.particle}"
    if rng.random() < 0.35:
        right = f"{one}{jf.te(first)}ください。"
        return Pair(f"{one}{rng.choice(jf.wrong_te(first))}ください。", right, "te_form")
    two = f"{_noun(rng, second.nouns)}{second.particle}{jf.predicate(second, rng.choice(('past', 'present')), True)}。"
    start = f"{_noun(rng, 'person')}は" if rng.random() < 0.5 else ""
    return Pair(f"{start}{one}{rng.choice(jf.wrong_te(first))}、{two}", f"{start}{one}{jf.te(first)}、{two}", "te_form")


def _conditional(rng: random.Random) -> Pair:
    first, second = rng.choice(lx.VERBS), rng.choice(lx.INTRANSITIVE)
    one = f"{_noun(rng, first.nouns)}{first.particle}"
    two = f"{jf.predicate(second, rng.choice(('present', 'tai')), True)}。"
    if rng.random() < 0.5:
        return Pair(f"{one}{first.word}たら、{two}", f"{one}{jf.ta(first)}ら、{two}", "conditional")
    if rng.random() < 0.5:
        return Pair(f"{one}{jf.ta(first)}前に、{two}", f"{one}{first.word}前に、{two}", "before_after")
    return Pair(f"{one}{first.word}後で、{two}", f"{one}{jf.ta(first)}後で、{two}", "before_after")


def _plain_form(rng: random.Random) -> Pair:
    noun, word, i_type = _adjective(rng)
    head = f"{noun}は"
    if rng.random() < 0.5:
        ends = ("と思います。", "と言いました。")
        end = rng.choice(ends)
    else:
        end = rng.choice(("から、", "ので、")) + jf.predicate(rng.choice(lx.INTRANSITIVE), "tai", True) + "。"
    link = "な" if end.startswith("ので") else "だ"
    right, wrong = (word, word + link) if i_type else (word + link, word)
    return Pair(head + wrong + end, head + right + end, "plain_form")


def _nominalizer(rng: random.Random) -> Pair:
    verb = rng.choice([v for v in lx.VERBS if v.nouns not in ("place", "thing")])
    start = f"{_noun(rng, 'person')}は" if rng.random() < 0.7 else ""
    start += f"{_noun(rng, verb.nouns)}{verb.particle}{verb.word}"
    end = rng.choice(("が好きです。", "が嫌いです。", "が上手です。", "が大好きです。", "が苦手です。"))
    return Pair(start + end, start + "の" + end, "nominalizer")


def _comparison(rng: random.Random) -> Pair:
    nouns, words = lx.TOPICS[rng.choice(("place", "person", "thing", "task", "food"))]
    one, two = rng.sample(nouns, 2)
    word = rng.choice(words)
    more = rng.choice(("", "もっと", "ずっと"))
    right = f"{one}は{two}より{more}{word}です。"
    return Pair(f"{one}は{two}{rng.choice(('から', 'ほど', 'に'))}{more}{word}です。", right, "comparison")


def voice_clause(rng: random.Random) -> Pair:
    """A causative or passive clause with a misformed verb."""
    verb = rng.choice([v for v in lx.VERBS if v.particle == "を"])
    causative = rng.random() < 0.5
    one, two = rng.sample(NOUNS["companion"], 2)
    tail = rng.choice(("ました", "ます", "ませんでした", "ません"))
    start = f"{one}は{two}に{_noun(rng, verb.nouns)}を"
    wrong = rng.choice(jf.wrong_voice(verb, causative))
    return Pair(
        f"{start}{wrong}{tail}。",
        f"{start}{jf.voice(verb, causative)}{tail}。",
        "causative" if causative else "passive",
    )


FRAMES: tuple[tuple[Callable[[random.Random], Pair], float], ...] = (
    (_clause, 10.0),
    (_existence, 1.5),
    (_preference, 1.2),
    (_adjective_predicate, 1.5),
    (_adnominal, 1.2),
    (_possessive, 0.8),
    (_adverb, 1.0),
    (_counter, 1.5),
    (_honorific, 1.3),
    (_transitivity, 1.2),
    (_giving, 0.8),
    (_te_chain, 1.5),
    (_conditional, 1.3),
    (_plain_form, 1.0),
    (_nominalizer, 0.8),
    (_comparison, 0.8),
)
