"""Templates over a table's columns: what they may say, what they may cost, and what a person is shown of them."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("jinja2")
from batch.sources import templates
from batch.sources.templates import PromptTemplate, TemplateError

ROW: dict[str, Any] = {"title": "A <b>", "n": 3, "tags": ["x", "y"], "none": None, "unit price": 1.5, "ok": True}


def render(text: str, row: dict[str, Any] | None = None) -> str:
    row = ROW if row is None else row
    return PromptTemplate(text, list(row)).render(row)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("{{ title }}: {{ n }}\n", "A <b>: 3"),  # no HTML, and an editor's last line end is no part of it
        ("[{{ none }}]", "[]"),
        ("{{ row['unit price'] }} {{ row.title }}", "1.5 A <b>"),
        ("{% for tag in tags %}{{ loop.index }}{{ tag }}{% if not loop.last %}, {% endif %}{% endfor %}", "1x, 2y"),
        ("{% for a, b in [[1, 2], [3, 4]] %}{{ a + b }} {% endfor %}", "3 7 "),
        ("{% set a, b = 1, 'x' %}{{ a ~ b ~ tags }}", '1x["x", "y"]'),
        ("{{ tags }} {{ ok }} {{ tags|tojson }}", '["x", "y"] true ["x", "y"]'),
        ("{{ title|upper|replace('A', 'ä') }} {{ tags|join('-') }} {{ title[0:1] }}", "ä <B> x-y A"),
        ("{{ none|default('no', true) }} {{ 'yes' if n > 2 and n in [3] else 'no' }}", "no yes"),
        ("{% set ns = namespace(c=0) %}{% for t in tags %}{% set ns.c = ns.c + 1 %}{% endfor %}{{ ns.c }}", "2"),
        ("{{ title.split(' ')|first }} {{ ' '.join(tags) }}", "A x y"),
        ("{# nothing #}{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
    ],
)
def test_what_a_template_makes(text: str, prompt: str) -> None:
    assert render(text) == prompt


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ titel }}", 'names "titel", which is no column; the columns are: title, n, '),
        ("{{ titel }}", 'did you mean "title"'),
        ("{{ Title }}", 'did you mean "title"'),
        ("{% for t in tag %}{% endfor %}", 'did you mean "tags"'),
        ("{{ row.titel }}", 'names "titel"'),
        ("{{ row['unit prise'] }}", 'did you mean "unit price"'),
        ("a\n{{ title", "line 2"),
        ("{% include 'x' %}", "include is not for prompts"),
        ("{% macro x() %}{% endmacro %}", "macro is not for prompts"),
        ("{% set x %}{% endset %}", "assignblock is not for prompts"),
        ("{% for t in tags recursive %}{% endfor %}", "recursive"),
        ("{{ title|nope }}", "No filter named 'nope'"),
    ],
)
def test_what_is_wrong_with_a_template_is_said_before_a_row(text: str, says: str) -> None:
    with pytest.raises(TemplateError) as caught:
        PromptTemplate(text, list(ROW))
    assert says in str(caught.value) and "\n" not in str(caught.value)


GREEDY = [
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * [1] }}",
    "{{ 9**(9**9) }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in title * 1000 %}{% for b in title * 1000 %}{% endfor %}{% endfor %}",
    "{% set n = namespace(x=title) %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% set n = namespace(x=title) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x={}) %}{% for i in range(99) %}{% set n.x = dict(a=n.x, b=n.x) %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x=7) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}{{ n.x }}",
    "{% set b = title * 100000 %}{% for i in range(99999) %}{{ b }}{% endfor %}",
    "{{ [title * 400000] * 100 }}",
    "{{ title|replace('', title * 400000) }}",
    "{{ title.replace('', title * 400000) }}",
    "{{ (title * 400000).join(['a'] * 90000) }}",
    "{{ (['a'] * 90000)|join(title * 400000) }}",
    "{{ [title * 400000] * 90000|int }}",
    "{{ range(10**9) }}",
]


@pytest.mark.parametrize("text", GREEDY)
def test_a_greedy_template_fails_its_row(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "STEPS", 50_000)
    with pytest.raises(TemplateError) as caught:
        render(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "text",
    [
        "{{ title.__class__ }}",
        "{{ title.center(10) }}",
        "{{ '%9d' % 1 }}",
        "{{ '{:>9}'.format(1) }}",
        "{{ tags.append(1) }}",
        "{{ row.update({}) }}",
        "{{ title.nope }}",
        "{{ 1 / 0 }}",
        "{{ n + title }}",
        "{{ lipsum(9) }}",
    ],
)
def test_what_the_sandbox_refuses_or_the_row_cannot_do_is_an_error(text: str) -> None:
    with pytest.raises(TemplateError):
        render(text)
    assert ROW["tags"] == ["x", "y"]


def test_a_row_that_lacks_a_key_is_an_error_and_never_an_empty_text() -> None:
    template = PromptTemplate("{{ title }} {{ n }}")
    assert template.render({"title": "a", "n": 1}) == "a 1"
    with pytest.raises(TemplateError, match="'n' is undefined"):
        template.render({"title": "a"})


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "SECONDS", -1.0)
    with pytest.raises(TemplateError, match="seconds for one row"):
        render("{% for a in range(999) %}{{ a }}{% endfor %}")


CELL = st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")) | st.dates()


@settings(max_examples=60)
@given(CELL, CELL)
def test_a_preview_is_the_prompt_with_its_values_marked(a: Any, b: Any) -> None:
    template = PromptTemplate("<{{ a }}| {% if true %}{{ b }}{% endif %}>", ["a", "b"])
    row = {"a": a, "b": b}
    pieces = template.preview(row)
    written = template.render(row)
    if not any(mark in written for mark in (templates._OPEN, templates._CLOSE)):
        assert "".join(text for text, _ in pieces) == written
    assert "".join(text for text, from_row in pieces if not from_row) == "<| >"


def test_rows_that_say_nothing() -> None:
    template = PromptTemplate("Say {{ title }} {{ row['unit price'] }}", list(ROW))
    assert template.says_nothing({"title": None, "unit price": " ", "n": 5})
    assert not template.says_nothing({"title": None, "unit price": 0})
    assert render("{{ d }}", {"d": datetime.datetime(2026, 1, 2, 3)}) == "2026-01-02T03:00:00"
