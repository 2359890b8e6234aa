"""The question corpus, its held-out phrasings, and the text variations used in training.

No training prompt may equal a held-out phrasing: variants are compared after `normal` and dropped.
"""

from __future__ import annotations

import functools
import random
import re
from pathlib import Path
from typing import NamedTuple

import yaml
from textlists import lines

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CORPUS = Path(__file__).parent / "corpus"
SYSTEMS = (
    "You are a helpful assistant.",
    "Answer briefly.",
    "You are a programming teacher.",
    "You are a helpful assistant. Answer in one or two sentences.",
    "You are a concise assistant.",
    "You are an expert.",
    "You are a careful assistant that answers questions about computer science.",
    "Be concise and accurate.",
    "Answer the user's question.",
    "You are an AI assistant. Reply in plain text.",
    "Please answer in a few words.",
    "You explain things to beginners.",
    "Follow the instructions of the user.",
    "You are a friendly tutor who gives short and clear answers.",
)
NOUN_TEMPLATES = lines(
    """What is {x}?
What's {x}?
Explain {x}.
Describe {x}.
Define {x}.
Tell me about {x}.
What does {x} mean?
{x}
{x}?
Give me a short explanation of {x}.
Give a short definition of {x}.
Can you explain {x}?
Could you explain {x} to me?
I want to understand {x}.
Help me understand {x}.
{x}, explained simply
What should I know about {x}?
Write one or two sentences about {x}.
Teach me about {x}.
I have never heard of {x}. What is it?
What do you know about {x}?
Summarize {x}.
In simple terms, what is {x}?
Explain {x} to a beginner.
What is meant by {x}?
What exactly is {x}?
How would you explain {x}?
Describe {x} in a sentence or two.
Summarize {x} for a beginner.
What do people mean by {x}?
What does the term {b} mean?
{b} meaning
{b} explained briefly
{b} definition
Why use {x}?
Why do we need {x}?
What is {x} good for?
What is {x} used for?
When should I use {x}?
When is {x} a good choice?
Where is {x} used in practice?
What is the purpose of {x}?
What does {x} do?
Give some uses of {x}."""
)
DIFFERENCE_TEMPLATES = lines(
    """What is the difference between {x}?
Explain the difference between {x}.
Describe the difference between {x}.
How do {x} differ?
Compare {x}.
Difference between {x}
Tell me the difference between {x}.
What distinguishes {x}?
How are {x} different?
What separates {x}?
What makes {x} different?
I mix up {x}.
I mix up {x}. How are they different?
How do {x} compare?"""
)
WAY_TEMPLATES = lines(
    """How do I {x}?
How can I {x}?
How to {x}
How do you {x}?
How would I {x}?
Show me how to {x}.
Tell me how to {x}.
What is the way to {x}?
What's the best way to {x}?
I want to {x}. How?
I need to {x}.
Help me {x}.
How does one {x}?
Explain how to {x}.
What do I write to {x}?"""
)
WORK_TEMPLATES = lines(
    """How does {x} work?
Explain how {x} works.
Describe how {x} works.
Tell me how {x} works.
What is the idea behind {x}?
How {x} works
Can you explain how {x} works?"""
)
_TAIL = re.compile(
    r"(\. how are they different| are different| in a sentence or two| for a beginner| briefly| in practice| in short"
    r"| in simple terms| to a beginner)+$"
)
_NOUN = re.compile(
    r"^(?:what is meant by|what is|what's|what are|explain|describe|define|summarize|tell me about|help me understand|"
    r"what do people mean by|what does the term|in simple terms, what is|give me a short explanation of|"
    r"can you explain|i want to understand|what exactly is|why use|when should i use|why do we need|"
    r"what is the purpose of) (.+?)(?: mean)?$|^(.+?) (?:meaning|explained|definition)$",
    re.I,
)
_USE = re.compile(r"^(?:what is|what are|what does|where is) (.+?) (?:used for|good for|do|used)$", re.I)
_DIFFERENCE = re.compile(
    r"(?:difference between|mix up|compare|how do|distinguishes|what separates) (.+? and .+?)(?: differ)?$", re.I
)
_VERSUS = re.compile(r"^(.+) versus (.+)$", re.I)
_WAY = re.compile(
    r"^(?:how do i|how can i|how to|how do you|show me how to|how would i|explain how to|"
    r"tell me how to|i want to(?! understand)) (.+?)(?:\. how)?$",
    re.I,
)
_WORK = re.compile(r"^(?:how does|explain how|describe how|tell me how) (.+) works?$", re.I)
_CLAUSE = re.compile(
    r"^(?:what|how|why|when|where|which|that|to)\b|\b(?:for|like|do|does|and when)$|,| and (?:when|how|why)\b", re.I
)
_ARTICLE = re.compile(r"^(?:an?|the) ", re.I)
_POLITE = re.compile(r"\b(please|can you|could you|would you|tell me|briefly|hi|hello|hey|thanks)\b")


class Question(NamedTuple):
    """One answer with its training phrasings and its held-out phrasings."""

    id: str
    group: str
    answer: str
    phrasings: tuple[str, ...]
    held_out: tuple[str, ...]


@functools.cache
def load(folder: Path = CORPUS) -> list[Question]:
    """All questions of the corpus, in file order."""
    found = []
    for path in sorted(folder.glob("questions*.yaml")):
        for entry in yaml.load(path.read_text(encoding="utf-8"), _LOADER) or []:
            found.append(
                Question(
                    str(entry["id"]),
                    entry["group"],
                    entry["answer"].strip(),
                    tuple(entry["phrasings"]),
                    tuple(entry.get("held_out", ())),
                )
            )
    return found


def normal(text: str) -> str:
    """A prompt without case, punctuation and politeness, to compare prompts."""
    return " ".join(re.sub(r"[^\w+#*/]+", " ", _POLITE.sub(" ", text.lower())).split())


def cores(phrasing: str) -> list[tuple[str, tuple[str, ...]]]:
    """What a phrasing asks about, each with the templates that can ask it again."""
    bare = _TAIL.sub("", phrasing.strip().rstrip("?.! "))
    if match := _DIFFERENCE.search(bare):
        return [(match[1], DIFFERENCE_TEMPLATES)]
    if match := _VERSUS.match(bare):
        return [(f"{match[1]} and {match[2]}", DIFFERENCE_TEMPLATES)]
    if match := _WAY.match(bare):
        return [(match[1], WAY_TEMPLATES)]
    if match := _WORK.match(bare):
        return [(match[1], WORK_TEMPLATES)]
    match = _USE.match(bare) or _NOUN.match(bare)
    core = next((part for part in match.groups() if part), "") if match else ""
    if core and not _CLAUSE.search(core) and len(core.split()) <= 7:
        return [(core, NOUN_TEMPLATES)]
    return []


def variants(questions: list[Question]) -> dict[str, list[str]]:
    """Template variants by question id, without held-out phrasings and without ambiguous ones."""
    held = {normal(text) for q in questions for text in q.held_out}
    own = {normal(text): q.id for q in questions for text in q.phrasings}
    made: dict[str, dict[str, str]] = {q.id: {} for q in questions}
    owners: dict[str, set[str]] = {}
    for question in questions:
        for phrasing in question.phrasings:
            for core, templates in cores(phrasing):
                for template in templates:
                    text = template.format(x=core, b=_ARTICLE.sub("", core))
                    key = normal(text)
                    if key not in held and own.get(key, question.id) == question.id:
                        made[question.id][key] = text
                        owners.setdefault(key, set()).add(question.id)
    return {name: [t for k, t in sorted(texts.items()) if len(owners[k]) == 1] for name, texts in made.items()}


_PREFIXES = (
    "Please ",
    "Can you tell me: ",
    "Hi, ",
    "Hello! ",
    "Quick question: ",
    "Question: ",
    "Q: ",
    "Hey, ",
    "Could you tell me: ",
    "I have a question. ",
)
_SUFFIXES = (
    " Please answer briefly.",
    " Keep it short.",
    " Thanks!",
    " Please.",
    " Briefly.",
    " Answer in one sentence.",
    " Thank you.",
)
_STOP = {"a", "an", "the", "is", "are", "do", "does", "of", "in", "to", "me", "what", "how"}
_SWAPS = {
    "explain": "describe",
    "describe": "explain",
    "use": "need",
    "define": "explain",
    "works": "operates",
    "work": "function",
    "why": "for what reason",
    "often": "frequently",
    "choose": "pick",
    "use a": "pick a",
    "item": "element",
    "items": "elements",
    "help": "assist",
    "get": "obtain",
    "make": "create",
    "fast": "quick",
}


def noisy(text: str, rng: random.Random) -> str:
    """The text with a little of what people type: politeness, case, punctuation, a lost word, a typo."""
    words = text.split()
    if rng.random() < 0.15:
        words = [_SWAPS.get(w, w) for w in words]
    if rng.random() < 0.15 and len(words) > 3:
        words = [w for w in words if w.lower() not in _STOP or rng.random() < 0.4] or words
    if rng.random() < 0.08:
        index = rng.randrange(len(words))
        word = words[index]
        if len(word) > 4:
            cut = rng.randrange(1, len(word) - 2)
            kind = rng.random()
            words[index] = (
                word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :] if kind < 0.5 else word[:cut] + word[cut + 1 :]
            )
    text = " ".join(words)
    if rng.random() < 0.12:
        text = rng.choice(_PREFIXES) + text
    if rng.random() < 0.3:
        text = text.rstrip("?.!") + rng.choice(("", "", "?", ".", "??", " ?", "!"))
    if rng.random() < 0.08:
        text = text.rstrip(".") + rng.choice(_SUFFIXES) if text[-1:] in ".?!" else text + "." + rng.choice(_SUFFIXES)
    if rng.random() < 0.2:
        text = text.lower()
    elif rng.random() < 0.02:
        text = text.upper()
    return text


def message_row(prompt: str, answer: str, rng: random.Random) -> dict[str, object]:
    """A chat row, sometimes with a general system message."""
    messages = [{"role": "system", "content": rng.choice(SYSTEMS)}] if rng.random() < 0.15 else []
    return {"messages": [*messages, {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


def rows(seed: int, count: int, questions: list[Question] | None = None) -> list[dict[str, object]]:
    """`count` training rows: every question equally often, half as written in the corpus and half varied."""
    questions = load() if questions is None else questions
    rng = random.Random(f"questions-{seed}")
    more = variants(questions)
    held = {normal(text) for q in questions for text in q.held_out}
    found: list[dict[str, object]] = []
    order: list[Question] = []
    while len(found) < count:
        if not order:
            order = rng.sample(questions, len(questions))
        question = order.pop()
        varied = more[question.id]
        prompt = rng.choice(varied if varied and rng.random() < 0.45 else question.phrasings)
        changed = noisy(prompt, rng) if rng.random() < 0.65 else prompt
        prompt = prompt if normal(changed) in held else changed
        found.append(message_row(prompt, question.answer, rng))
    return found


def held_out_rows(questions: list[Question] | None = None) -> list[dict[str, object]]:
    """Every held-out phrasing with the answer of the corpus, without a system message."""
    return [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": q.answer}], "id": q.id}
        for q in (load() if questions is None else questions)
        for text in q.held_out
    ]
