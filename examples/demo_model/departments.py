"""Generator of short faculty texts with the department they name, or MISSING.

Names, mention sentences and distractor sentences of the held-out split never occur in the training split.
"Professor of X", degrees, fields and buildings are no department: such texts are MISSING.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator

import department_words as dw

LONG = (
    "Given the following text about a professor or faculty member, extract their department name.\n"
    'If no department is mentioned, return "MISSING". Only return the department name, nothing else.\n'
    "Text: {text}\nDepartment:"
)
PROMPTS: tuple[tuple[str, float], ...] = (
    (LONG, 6.0),
    ('Extract the department name from this text, or return "MISSING".\nText: {text}', 1.5),
    ("Which department does this faculty member belong to? {text}", 1.0),
    ("Extract the department: {text}", 1.0),
    ("{text}\nDepartment:", 0.5),
)
SYSTEM = "You extract department names from text."
MISSING_SHARE = 0.35
LONG_SHARE = 0.12  # of texts with many sentences


def _invented(rng: random.Random) -> str:
    """A word that is no held-out name, made of syllables, so that no name tells anything."""
    while True:
        word = "".join(rng.choice(dw.SYLLABLES) for _ in range(rng.randrange(1, 4))).capitalize()
        if word not in dw.HELD_FIRST and word not in dw.HELD_LAST and len(word) > 2:
            return word


def _name(rng: random.Random, held: bool, invented: float) -> str:
    first = rng.choice(dw.HELD_FIRST if held else dw.FIRST)
    last = rng.choice(dw.HELD_LAST if held else dw.LAST)
    if invented and not held:
        first = _invented(rng) if rng.random() < invented else first
        last = _invented(rng) if rng.random() < invented else last
    style = rng.random()
    if style < 0.08:
        return f"Dr. {first} {last}"
    if style < 0.16:
        return f"{first} {rng.choice('ABCDEFGHJKLMPRSTW')}. {last}"
    return f"{first} {last}"


def department(rng: random.Random) -> str:
    """A department name: a listed one, a field, or two names joined, so that the model learns to copy."""
    if rng.random() < 0.08:
        return rng.choice(dw.FIELDS).title().replace(" The ", " the ").replace(" Of ", " of ")
    one = rng.choice(dw.DEPARTMENTS)
    if rng.random() < 0.15 and " and " not in one:
        two = rng.choice(dw.DEPARTMENTS)
        if two != one and " and " not in two:
            return f"{one} and {two}"
    return one


def text(rng: random.Random, held: bool, invented: float = 0.0) -> tuple[str, str]:
    """A faculty text and the department it names, or MISSING."""
    name = _name(rng, held, invented)
    short = name.split()[-1]
    pronoun = rng.choice(("She", "He", "They", f"Professor {short}", f"Dr. {short}", name))
    dept = department(rng)
    missing = rng.random() < MISSING_SHARE
    fields = rng.sample(dw.FIELDS, 2)

    def fill(template: str, who: str) -> str:
        value = template.format(
            n=who,
            d=dept,
            t=rng.choice(dw.TITLES),
            u=rng.choice(dw.UNIVERSITIES),
            y=rng.randrange(1975, 2026),
            f=fields[0],
            g=fields[1],
            b=rng.choice(dw.BUILDINGS),
            k=rng.randrange(10, 99),
            e=short.lower().replace("'", ""),
            x=rng.choice(dw.DEPARTMENTS),
        )
        return value[0].upper() + value[1:]

    count = rng.choice((0, 1, 1, 2, 2, 3)) + missing
    if rng.random() < LONG_SHARE:
        count = rng.randrange(4, 9 if held else 13)
    others = rng.sample(dw.HELD_OTHERS if held else dw.OTHERS, count)
    templates = [(t, False) for t in others]
    if not missing:
        mention = rng.choice(dw.HELD_MENTIONS if held else dw.MENTIONS)
        templates.insert(rng.randrange(len(templates) + 1), (mention, True))
    named = False
    snippets = []
    for template, _ in templates:
        singular_ok = pronoun != "They" or template.startswith("{n} joined")
        snippets.append(fill(template, pronoun if named and singular_ok and template.startswith("{n} ") else name))
        named = named or "{n}" in template
    return " ".join(snippets), "MISSING" if missing else dept


def pairs(seed: int, held: bool, invented: float = 0.0) -> Iterator[tuple[str, str]]:
    """An endless stream of (text, answer)."""
    rng = random.Random(f"departments-{held}-{seed}")
    while True:
        yield text(rng, held, invented)


def rows(seed: int, count: int, held: bool = False, invented: float = 0.0) -> list[dict[str, object]]:
    """`count` chat rows with distinct texts; a share of the names can be invented words."""
    rng = random.Random(f"department-rows-{held}-{seed}")
    seen: set[str] = set()
    found: list[dict[str, object]] = []
    for body, answer in pairs(seed, held, invented):
        if len(found) >= count:
            break
        if body in seen:
            continue
        seen.add(body)
        prompt = rng.choices([p for p, _ in PROMPTS], [w for _, w in PROMPTS])[0]
        messages = [{"role": "system", "content": SYSTEM}] if rng.random() < 0.1 else []
        messages.append({"role": "user", "content": prompt.format(text=body)})
        messages.append({"role": "assistant", "content": answer})
        found.append({"messages": messages, "missing": answer == "MISSING"})
    return found


def main() -> None:
    """Write rows as JSON lines to standard output."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--held-out", action="store_true", help="unseen names and phrasings")
    args = parser.parse_args()
    for item in rows(args.seed, args.count, args.held_out):
        print(json.dumps(item, ensure_ascii=False))


if __name__ == "__main__":
    main()
