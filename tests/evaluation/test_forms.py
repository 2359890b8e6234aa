"""Reports as JSON, Markdown and HTML: complete, and inert whatever the texts hold."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.evaluation.compare import compare
from batch.evaluation.evaluate import evaluate
from batch.evaluation.forms import document, html, markdown
from batch.evaluation.options import EvaluationOptions
from batch.evaluation.pairs import Pair
from batch.evaluation.report import Comparison, Report

OPTIONS = EvaluationOptions(samples=50, fluency=False, tokeniser="script", task="correction")
HOSTILE = '<script>alert(1)</script> & "q" \x1b[31m\u202eevil\0 | `x` *b* </td>\n# head ]]> <img src=x onerror=y>'
ROWS = [
    Pair("私が本は読む。", "私が本を読む。", "私が本を読む。", "1", error_type="particle"),
    Pair("私が本は読む。", "私が本を読む。", "彼が本を読む。", "2", error_type="particle"),
    Pair("私が本は読む。", "私が本を読む。", "私が本は読む。", "3", error_type="verb"),
    Pair("長い" * 9, "長い" * 8, "長い" * 30, "4"),
    Pair("a", "b", "a", "5", error="timed out"),
]


class Page(HTMLParser):
    """What a browser would see: balanced tags, their attributes, the text."""

    VOID = ("meta", "rect", "line", "path", "circle")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def both(rows: list[Pair]) -> tuple[Report, Comparison]:
    before = [Pair(p.input, p.expected, p.input, p.example_id, p.error, p.error_type) for p in rows]
    return compare(lambda: rows, lambda: before, OPTIONS, name="run.jsonl", against="old.jsonl")


def test_the_document_has_the_reference_s_keys() -> None:
    pytest.importorskip("numpy")
    report, comparison = both(ROWS)
    found = json.loads(json.dumps(document(report, comparison)))
    summary = found["evaluation_summary"]
    assert (summary["total_examples"], summary["successful_predictions"], summary["failed_predictions"]) == (5, 4, 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", summary["timestamp"])
    assert found["sentence_level_metrics"] == {
        "exact_match_accuracy": 0.25,
        "perfect_matches": 1,
        "perfect_match_rate": 0.2,
    }
    assert set(found["token_level_metrics"]) == {"precision", "recall", "f1_score"}
    assert set(found["fluency_metrics"]) == {"bleu_score", "chrf_score", "gleu_score"}
    distance = found["edit_distance_metrics"]
    assert distance["edit_accuracy"] == 1 - distance["normalized_edit_distance"]
    assert found["error_analysis"] == {
        "total_examples": 5,
        "perfect_matches": 1,
        "partial_corrections": 1,
        "no_corrections": 1,
        "overcorrections": 1,
        "failed_predictions": 1,
    }
    assert found["performance_breakdown"]["failure_rate"] == 0.2
    assert found["settings"]["tokeniser"] == "script" and found["failures"] == [{"error": "timed out", "count": 1}]
    assert found["comparison"]["fixed"] == 1 and found["comparison"]["changes"]["fixed"][0]["example_id"] == "1"
    scores = {score["key"]: score for score in found["scores"]}
    assert scores["exact_match"]["interval"] == "wilson" and scores["gleu"]["interval"] == "bootstrap"


def test_the_page_is_one_file_with_plots_and_marked_differences() -> None:
    report, comparison = both(ROWS)
    text = html(report, comparison)
    page = Page(text)
    names = [tag for tag, _ in page.tags]
    assert names.count("svg") == 6 and "script" not in names and "link" not in names and "img" not in names
    assert not any({"src", "href"} & set(attrs) for _, attrs in page.tags)
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text and "url(" not in text
    assert all(attrs["aria-label"] for tag, attrs in page.tags if tag == "svg")
    assert "<del>は</del>" in text and "<ins>を</ins>" in text
    for said in ("timed out", "over-corrected", "particle", "Against old.jsonl", "normalisation", "script"):
        assert said in page.text


def test_every_chart_has_a_drawing_for_narrow_pages() -> None:
    """What can be seen without a browser; `test_page_in_a_browser` looks at it in one."""
    text = html(*both(ROWS))
    assert text.count('<g class="wide">') == text.count('<g class="narrow" display="none"') == text.count("<svg") == 6
    style, narrow = text.split("@media screen and (max-width: 640px)")[0], text.split("(max-width: 640px)")[1]
    assert "svg .narrow { display: none; }" in style and "min-width: 5" not in style
    assert "svg .wide { display: none; }" in narrow and "white-space: nowrap" in style.split(".id {")[1].split("}")[0]
    for drawing in re.findall(r'<g class="narrow"[^>]*>(.*?)</g>', text, re.DOTALL):
        places = [float(x) for x in re.findall(r' x="([\d.]+)"', drawing)]
        assert places and all(0 <= x <= 320 for x in places)


def test_texts_from_outside_are_inert_on_the_page() -> None:
    row = Pair(HOSTILE, HOSTILE + "x", HOSTILE + "y", HOSTILE, error_type=HOSTILE)
    lost = Pair(HOSTILE, "x", HOSTILE, "2", error=HOSTILE)
    plain = Pair("a", "b", "c", "1", error_type="t")
    report = evaluate([row, lost], OPTIONS, name=HOSTILE)
    page, shape = Page(html(report)), Page(html(evaluate([plain, Pair("", "", "", "2", error="e")], OPTIONS)))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in shape.tags} | {"ins", "del"}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert not set("\x1b\0\u202e") & set(page.text) and "␛[31m\\u202eevil␀" in page.text
    assert "<script>alert(1)</script>" in page.text


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
@settings(deadline=None, max_examples=40)
def test_any_text_gives_a_balanced_page(given_text: str, expected: str, predicted: str) -> None:
    options = EvaluationOptions(samples=0, fluency=False, tokeniser="script", task="correction")
    report = evaluate([Pair(given_text, expected, predicted, predicted, error_type=expected)], options, name=given_text)
    html(report).encode()
    Page(html(report))
    markdown(report).encode()


def test_markdown_says_the_same_and_stays_a_table() -> None:
    report, comparison = both([*ROWS, Pair(HOSTILE, HOSTILE + "x", HOSTILE, "a|b")])
    text = markdown(report, comparison)
    assert "| Exact match | 20.0 |" in text and "## Against old\\.jsonl" in text
    assert (
        "| 3 | 私が本<del>は</del>読む。 | 私が本<ins>を</ins>読む。 | 私が本<del>を</del><ins>は</ins>読む。 |" in text
    )
    assert "<script" not in text and "<img" not in text and "\x1b" not in text
    width = 0
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not width or not cells or cells == width
        width = cells


def test_few_rows_are_shown_where_few_are_asked_for() -> None:
    report = evaluate([Pair("a b", "a c", "a b", str(at)) for at in range(9)], OPTIONS)
    assert "Not corrected: 2 of 9" in markdown(report, rows=2)
    assert markdown(report, rows=2).count("<ins>c</ins> |") == 2
