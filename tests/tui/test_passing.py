"""What answers a key is said in one place, once, and not over a question."""

from __future__ import annotations

from driving import on_screen, shown, until

from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.dialogs import ConfirmDialog


async def test_the_newest_answer_to_a_key_takes_the_place_of_the_one_before(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.notify("a job has ended", timeout=60)
        app.notify("something is wrong", severity="warning")
        for number in range(5):
            app.notify(f"{number} → {number + 1} at once", timeout=2)
        await until(pilot, lambda: "4 → 5 at once" in shown(app))
        text = shown(app)
        assert "3 → 4" not in text and "a job has ended" in text and "something is wrong" in text


async def test_no_answer_to_a_key_lies_over_a_question(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(40, 12), notifications=True) as pilot:
        app.notify("It goes on")
        await until(pilot, lambda: "It goes on" in shown(app))
        app.push_screen(ConfirmDialog("Leave?", "It runs.", [("yes", "Yes", "primary"), ("no", "No", "")]))
        await on_screen(pilot, ConfirmDialog)
        await until(pilot, lambda: "It goes on" not in shown(app))
