"""The parts of the evaluation's screens: rows in order, bars, tabs, stretches of text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult

from ai_router.tui.results.pages import RowSearch
from ai_router.tui.scoring.data import FilePairs, Scored, Scorer, Stopped
from ai_router.tui.scoring.score_rows import TITLE, bar_cells, forest, score_columns
from ai_router.tui.scoring.screen import ALL, VERDICT_TABS
from ai_router.tui.scoring.spans import labelled, same, spans_block
from ai_router.tui.widgets.columns import laid_out
from ai_router.tui.widgets.tabs import CountTabs
from ai_router.tui.widgets.wrapping import Block, wrap_blocks
from batch.evaluation.diff import marked, spans
from batch.evaluation.options import EvaluationOptions

TEXTS = st.text(alphabet=st.sampled_from("ab cd日本 語é🙂x\n\x1b\u202e "))
ROWS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([None, "verb", "noun"])), max_size=40)


@given(ROWS, st.randoms(use_true_random=False))
def test_rows_are_in_the_order_of_their_places(rows: list[tuple[int, str | None]], random: object) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    kept = Scored()
    for place in order:
        kept.add(place, *rows[place])
    kept = kept.copy_in_order()
    assert list(kept.places) == list(range(len(rows)))
    for verdict in range(7):
        wanted = [at for at, row in enumerate(rows) if row[0] == verdict]
        assert list(kept.select(verdict)) == wanted and kept.count(verdict) == len(wanted)
        assert list(kept.select(verdict, "verb")) == [at for at in wanted if rows[at][1] == "verb"]
    assert list(kept.select(None, "noun")) == [at for at, row in enumerate(rows) if row[1] == "noun"]
    assert list(kept.select(None, "unknown")) == []


def test_a_scoring_can_be_stopped(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text('{"input": "a", "expected": "b", "predicted": "b", "example_id": 1}\n')
    scorer = Scorer(FilePairs(file), EvaluationOptions())
    scorer.stop()
    with pytest.raises(Stopped):
        scorer.run(lambda: None)
    assert scorer.report is None


def test_pairs_of_a_file_are_found_again(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    lines = [f'{{"input": "日本{n}", "expected": "b", "predicted": "{n}", "example_id": {n}}}\n' for n in range(2_000)]
    file.write_text("\ufeff" + "".join(lines), encoding="utf-8")
    source = FilePairs(file)
    placed = list(source.scan())
    with source.opened() as read:
        assert read([place for place, _ in reversed(placed)]) == [pair for _, pair in reversed(placed)]
    search = RowSearch(source.opened, range(2_000), lambda row: placed[row][0], lambda p: (p.input,), "本1999")
    assert list(search.run(lambda: None).found) == [1999]
    search = RowSearch(source.opened, range(2_000), lambda row: placed[row][0], lambda p: (p.input,), "本")
    search.stop()
    assert list(search.run(lambda: None).found) == []


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(9, 41))
def test_a_bar_has_its_dot_within_its_interval(a: float, b: float, c: float, width: int) -> None:
    low, value, high = sorted((a, b, c))
    bar = forest(value, low, high, width)
    assert len(bar) == width and bar.count("●") == 1
    inner = bar.strip("·")
    assert "·" not in inner and abs(bar.index("●") - value * (width - 1)) <= 0.5
    assert forest(value, None, None, width).strip("·") == "●"


@given(st.integers(40, 220), st.booleans())
def test_the_scale_is_as_wide_as_its_bars(width: int, numbers: bool) -> None:
    bar = bar_cells(width, numbers=numbers)
    columns = score_columns(bar, numbers=numbers)
    shown = laid_out(columns, width)
    if bar:
        title = columns[-1].title
        assert len(title) == bar and title.startswith("0") and title.endswith("100") and shown[-1][1] is columns[-1]
    assert shown[0][2] >= TITLE or width < 60  # no name is cut for a bar


@given(TEXTS, TEXTS, st.integers(4, 30), st.booleans())
def test_differences_survive_wrapping(before: str, after: str, width: int, marks: bool) -> None:
    """Every line fits, and what is styled in the lines is what was styled in the text."""
    block = spans_block(spans(before, after), marks=marks)
    lines = wrap_blocks([block], width)
    assert all(cell_len(line.text) <= width for line in lines)

    def squeezed(kind: str) -> str:
        return "".join("".join(line.text[a:b] for a, b, k in line.parts if k == kind) for line in lines)

    for kind in ("deleted", "inserted"):
        wanted = "".join(block.text[a:b] for a, b, k in block.parts if k == kind)
        assert squeezed(kind).replace(" ", "") == wanted.replace(" ", "").replace("\n", "")
    if marks and "\x1b" not in before + after and "\u202e" not in before + after:
        assert block.text == marked(spans(before, after))


def test_texts_stand_beside_their_names_where_all_fit() -> None:
    short = labelled([("input", same("日本語")), ("expected", same("b"))], 20, marks=False)
    assert [block.text for block in short] == ["input      日本語", "expected   b"]
    long = labelled([("input", same("日本語日本")), ("expected", same("b"))], 20, marks=False)
    assert long[0] == Block("INPUT", "title") and long[-1].text == "b"
    lines = labelled([("input", same("a\nb")), ("expected", same("b"))], 20, marks=False)
    assert [block.text for block in lines] == ["INPUT", "a\nb", "", "EXPECTED", "b"]


class TabsApp(App[None]):
    """One line of tabs."""

    def compose(self) -> ComposeResult:
        yield CountTabs()


@pytest.mark.parametrize("count", [0, 500, 100_000])
@pytest.mark.parametrize("width", [50, 80, 110, 140, 200])
async def test_tabs_fit_and_keep_their_counts(count: int, width: int) -> None:
    app = TabsApp()
    async with app.run_test(size=(width, 3)):
        tabs = app.query_one(CountTabs)
        shown = [ALL, *VERDICT_TABS[:6]]
        tabs.show(shown, {tab.name: count for tab in shown}, "wrong")
        line = "".join(tabs.texts())
        assert cell_len(line) <= width - 2 or (width == 50 and count == 100_000)
        assert "[3" in line and f"{count:,}" in line
        assert all(tab.key in line for tab in shown)
