"""Words in one line, of which one is chosen: none is cut into another word, whatever room there is."""

from __future__ import annotations

import pytest
from driving import on_screen
from stored import make_job
from textual.app import App, ComposeResult

from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.results.export import ExportDialog
from ai_router.tui.results.parts import PARTS
from ai_router.tui.scoring.dialogs import EvaluationOptionsDialog
from ai_router.tui.widgets.choice import ChoiceLine
from ai_router.tui.widgets.tabs import CountTabs
from batch.evaluation.options import EvaluationOptions

FORMATS = ("json", "csv", "jsonl", "openai", "html", "table")
COUNTS = {"all": 60, "done": 53, "failed": 7, "pending": 0}


class Lines(App[None]):
    """Both, as wide as the terminal."""

    CSS = "ChoiceLine { width: 1fr; }"

    def compose(self) -> ComposeResult:
        yield CountTabs()
        yield ChoiceLine(FORMATS)


@pytest.mark.parametrize("width", [20, 24, 40, 80])
async def test_a_choice_shows_whole_words_and_the_chosen_one(width: int) -> None:
    app = Lines()
    async with app.run_test(size=(width, 4)) as pilot:
        line = app.query_one(ChoiceLine)
        for chosen in FORMATS:
            line.value = chosen
            await pilot.pause()
            text = str(line.render())
            words = [word for word in text.split() if word not in "●○…"]
            assert f"● {chosen}" in text and len(text) <= width and set(words) <= set(FORMATS)
            assert ("…" in text) == (len(words) < len(FORMATS))
        before = str(line.render())  # the last one is chosen: those before it are left out where there is no room
        await pilot.click(ChoiceLine, offset=(before.index("○") + 2, 0))
        assert line.value == before[before.index("○") + 2 :].split()[0]


async def test_no_format_of_a_file_is_cut_into_another_one(workspace: Workspace) -> None:
    path = make_job(workspace.checkpoints, ["a"], {0: "b"})
    app = RouterApp(workspace)
    async with app.run_test(size=(40, 12)) as pilot:
        for dialog in (ExportDialog(path), EvaluationOptionsDialog(EvaluationOptions())):
            app.push_screen(dialog)
            await on_screen(pilot, type(dialog))
            await pilot.pause()
            lines = [line for line in app.screen.query(ChoiceLine) if line.region.width]
            assert lines
            for line in lines:
                words = {word for word in str(line.render()).split() if word not in "●○…"}
                text = {word for choice in line.choices for word in choice.split()}
                assert words <= text and line.region.right <= line.parent.region.right < 40
            await pilot.press("escape")


@pytest.mark.parametrize(("width", "said"), [(80, "pending 0"), (44, "left 0"), (40, "4◌0")])
async def test_the_parts_of_a_job_are_all_there(width: int, said: str) -> None:
    app = Lines()
    async with app.run_test(size=(width, 4)) as pilot:
        tabs = app.query_one(CountTabs)
        tabs.show(PARTS, COUNTS, "all")
        await pilot.pause()
        text = str(tabs.render())
        assert said in text and len(text) <= width - 2


async def test_the_chosen_tab_stands_apart_where_nothing_is_free_between_them() -> None:
    app = Lines()
    async with app.run_test(size=(40, 4)) as pilot:
        tabs = app.query_one(CountTabs)
        tabs.show(PARTS, COUNTS, "all")
        await pilot.pause()
        content = tabs.render()
        assert content.plain.startswith("[1 all 60]2")
        assert any("reverse" in str(span.style) and (span.start, span.end) == (0, 10) for span in content.spans)
