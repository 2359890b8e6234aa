"""The HTML report in a real browser, on a phone's width and on a desk's: nothing is cut, ids stay on their line."""

from __future__ import annotations

import contextlib
import html as markup
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from batch.evaluation.compare import compare
from batch.evaluation.forms import html
from batch.evaluation.options import EvaluationOptions
from batch.evaluation.pairs import Pair

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (390, 1280)
# In a frame as wide as the page is to be: a browser's window has a least width of its own.
MEASURE = """
const found = {};
for (const frame of document.querySelectorAll("iframe")) {
  const page = frame.contentDocument, seen = [];
  for (const each of page.querySelectorAll("details")) each.open = true;
  const shown = (e) => e.getClientRects().length > 0;
  const box = (e) => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  found[frame.width] = {
    scroll: page.documentElement.scrollWidth,
    cards: [...page.querySelectorAll(".card")].map((e) => [e.scrollWidth, e.clientWidth]),
    charts: [...page.querySelectorAll("svg")].map((e) => ({
      box: box(e),
      texts: [...e.querySelectorAll("text")].filter(shown).map((t) => [t.getAttribute("class"), ...box(t)]),
    })),
    ids: [...page.querySelectorAll("td.id")].map((e) => {
      const range = page.createRange(); range.selectNodeContents(e); return range.getClientRects().length; }),
    heads: [...page.querySelectorAll("td.t")].map((e) => page.defaultView.getComputedStyle(e, "::before").content),
  };
}
document.body.textContent = JSON.stringify(found);
"""


def page() -> str:
    """A report with long names, both alphabets and figures as wide as they come."""
    kinds = ("particle", "a very long name of an error type that nobody reads", "助詞の誤り・敬語の誤り・その他の誤り")
    rows = [
        Pair("私が本は読む。" * (at % 7 + 1), "私が本を読む。", "私が本を読む。" if at % 3 else "彼が本を読む。",
             f"validation-split-{at:06}-3f2a9c1e", error_type=kinds[at % 3], error="lost" if at % 20 == 9 else None)
        for at in range(60)
    ]  # fmt: skip
    before = [Pair(p.input, p.expected, p.input, p.example_id, None, p.error_type) for p in rows]
    options = EvaluationOptions(samples=50, fluency=False, tokeniser="script", task="correction", rows=5)
    return html(*compare(lambda: rows, lambda: before, options, name="run.jsonl", against="old.jsonl"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a browser says of the page at each width."""
    if CHROMIUM is None:
        pytest.skip("needs a browser: chromium, chromium-browser or google-chrome on PATH")
    folder: Path = tmp_path_factory.mktemp("page")
    frames = "".join(f'<iframe width="{w}" height="900" srcdoc="{markup.escape(page())}"></iframe>' for w in WIDTHS)
    (folder / "outer.html").write_text(
        f"<!DOCTYPE html><meta charset=utf-8><body>{frames}<script>onload = () => {{ {MEASURE} }}</script>"
    )
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    done = None
    for attempt in range(3):  # now and then one never begins
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                [*command, f"--user-data-dir={folder / f'{attempt}'}", "--dump-dom", (folder / "outer.html").as_uri()],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            break
    assert done is not None, "the browser came to no end"
    body = re.search(r"<body[^>]*>(.*?)</body>", done.stdout, re.DOTALL)
    assert body and body[1].startswith("{"), done.stderr[-2_000:]
    found: dict[str, Any] = json.loads(markup.unescape(body[1]))
    return found


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_not_wider_than_the_screen(measured: dict[str, Any], width: int) -> None:
    seen = measured[str(width)]
    assert seen["scroll"] <= width
    assert all(inner <= outer for inner, outer in seen["cards"])


@pytest.mark.parametrize("width", WIDTHS)
def test_charts_are_whole(measured: dict[str, Any], width: int) -> None:
    """Every text of a chart is inside of it, and no two lie on each other."""
    charts = measured[str(width)]["charts"]
    assert len(charts) == 6
    for chart in charts:
        left, top, right, bottom = chart["box"]
        assert 0 <= left < right <= width
        assert len(chart["texts"]) > 5
        for kind, *box in chart["texts"]:
            assert left - 1 <= box[0] and box[2] <= right + 1 and top - 1 <= box[1] and box[3] <= bottom + 1, (
                kind,
                box,
            )
        for at, (_, *one) in enumerate(chart["texts"]):
            for _, *other in chart["texts"][at + 1 :]:
                apart = (
                    one[2] <= other[0] + 1 or other[2] <= one[0] + 1 or one[3] <= other[1] + 4 or other[3] <= one[1] + 4
                )
                assert apart, (one, other)


@pytest.mark.parametrize("width", WIDTHS)
def test_ids_stay_on_one_line(measured: dict[str, Any], width: int) -> None:
    ids = measured[str(width)]["ids"]
    assert len(ids) > 10 and set(ids) == {1}


def test_a_row_is_a_list_with_names_where_it_is_narrow(measured: dict[str, Any]) -> None:
    assert set(measured["390"]["heads"]) >= {'"Input"', '"Expected"', '"Predicted"', '"Before"', '"Now"'}
    assert set(measured["1280"]["heads"]) == {"none"}
