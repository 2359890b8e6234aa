"""No button is cut, whatever room there is for them."""

from __future__ import annotations

import pytest
from driving import shown
from textual.app import App, ComposeResult
from textual.widgets import Button, Static

from ai_router.tui.widgets.button_row import ButtonRow

LABELS = ("All 28", "Failed 1", "Answered 1", "Pending 26")


class Row(App[None]):
    """Four buttons, and what stands below them."""

    CSS = "Button { height: 1; min-width: 8; border: none; margin-left: 1; padding: 0 1; } #below { height: 1; }"

    def compose(self) -> ComposeResult:
        with ButtonRow():
            for label in LABELS:
                yield Button(label, compact=True)
        yield Static("below", id="below")


@pytest.mark.parametrize("height", [12, 24])
@pytest.mark.parametrize(("width", "lines"), [(80, 1), (40, 2), (28, 3), (20, 4)])
async def test_buttons_are_whole(width: int, lines: int, height: int) -> None:
    """And two lines of them stand apart where there is room: one button above another looks like a high one."""
    app = Row()
    async with app.run_test(size=(width, height)) as pilot:
        await pilot.pause()
        text = shown(app)
        assert all(label in text for label in LABELS)
        assert text.splitlines()[lines if height == 12 else 2 * lines - 1].startswith("below")
        assert {button.region.right for button in app.query(Button)} & {width}
        assert all(button.region.right <= width for button in app.query(Button))
