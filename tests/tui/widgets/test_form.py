"""Form fields from options: what is shown, what is read back, what is refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from driving import type_text, until
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Collapsible, Input, Static

from ai_router.settings import Settings
from ai_router.tui.widgets.choice import ChoiceLine
from ai_router.tui.widgets.form import OptionField, OptionForm
from batch.options import OptionError, RunOptions, SamplingOptions, option


@dataclass(slots=True)
class Small:
    """One option of each kind."""

    number: int = option(3, "a whole number", minimum=1, maximum=9)
    share: float = option(0.5, "a share", minimum=0, maximum=1)
    word: str | None = option(None, "any text")
    kind: str = option("a", "one of three", choices=("a", "b", "c"))
    on: bool = option(False, "on or off")
    ends: list[str] = option([], "some texts", advanced=True)


class FormApp(App[None]):
    """A form and nothing else."""

    def __init__(self, form: OptionForm) -> None:  # type: ignore[type-arg]
        super().__init__()
        self.form = form
        self.changes: list[str] = []

    def compose(self) -> ComposeResult:
        yield self.form

    def on_option_field_changed(self, event: OptionField.Changed) -> None:
        self.changes.append(event.field.option)


def field_input(form: OptionForm, name: str) -> Input:  # type: ignore[type-arg]
    return form.fields[name].query_one(Input)


async def unfold(pilot: Pilot[None], form: OptionForm) -> None:  # type: ignore[type-arg]
    form.query_one(Collapsible).collapsed = False
    await until(pilot, lambda: all(field.children for field in form.fields.values()))


def help_of(form: OptionForm, name: str) -> Static:  # type: ignore[type-arg]
    return form.fields[name].query_one(".field--help", Static)


async def test_untouched_form_gives_the_defaults() -> None:
    form: OptionForm[Small] = OptionForm(Small)
    async with FormApp(form).run_test():
        assert form.build() == Small()
        assert not form.errors


async def test_values_come_in_and_go_out_again() -> None:
    given = Small(number=7, share=0.25, word="x [b]y[/b]", kind="c", on=True, ends=["\n", "a\\b"])
    form: OptionForm[Small] = OptionForm(Small, given)
    async with FormApp(form).run_test():
        assert form.build() == given
        assert field_input(form, "share").value == "0.25"


async def test_typed_values_are_parsed() -> None:
    form: OptionForm[Small] = OptionForm(Small)
    async with FormApp(form).run_test() as pilot:
        await unfold(pilot, form)
        field_input(form, "number").focus()
        await pilot.press("ctrl+u", "8")
        field_input(form, "ends").value = r"END | \n\n"
        form.fields["kind"].query_one(ChoiceLine).focus()
        await pilot.press("right")
        form.fields["on"].query_one(ChoiceLine).focus()
        await pilot.press("space")
        await pilot.pause()
        assert form.build() == Small(number=8, kind="b", on=True, ends=["END", "\n\n"])
        assert pilot.app.changes[0] == "number"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("number", "0", "below the least allowed, 1"),
        ("number", "10", "above the most allowed, 9"),
        ("number", "x", "not a whole number"),
        ("share", "nan", "nan"),
        ("share", "half", "not a number"),
    ],
)
async def test_a_bad_value_is_said_beside_the_field_at_once(name: str, text: str, said: str) -> None:
    form: OptionForm[Small] = OptionForm(Small)
    async with FormApp(form).run_test(size=(120, 20)) as pilot:
        field_input(form, name).focus()
        await pilot.press("ctrl+u")
        await type_text(pilot, text)
        await pilot.pause()
        assert said in form.errors[name]
        assert help_of(form, name).has_class("-error")
        assert str(help_of(form, name).content).startswith("✗ ")
        with pytest.raises(OptionError, match=name):
            form.build()
        await pilot.press("ctrl+u", "1")
        await pilot.pause()
        assert not form.errors
        assert not help_of(form, name).has_class("-error")


async def test_an_empty_field_is_the_default() -> None:
    form: OptionForm[Small] = OptionForm(Small, Small(number=5))
    async with FormApp(form).run_test() as pilot:
        field_input(form, "number").value = ""
        await pilot.pause()
        assert form.build().number == 3


async def test_advanced_options_are_folded_until_one_differs() -> None:
    for value, collapsed in (([], True), (["x"], False)):
        form: OptionForm[Small] = OptionForm(Small, Small(ends=value))
        async with FormApp(form).run_test():
            fold = form.query_one(Collapsible)
            assert fold.collapsed is collapsed
            assert "ends" in fold.title


async def test_focus_goes_to_the_first_error_and_unfolds_it() -> None:
    form: OptionForm[SamplingOptions] = OptionForm(SamplingOptions)
    async with FormApp(form).run_test() as pilot:
        await unfold(pilot, form)
        field_input(form, "top_k").value = "-1"
        await pilot.pause()
        form.query_one(Collapsible).collapsed = True
        assert form.focus_error()
        await pilot.pause()
        assert pilot.app.focused is field_input(form, "top_k")
        assert not form.query_one(Collapsible).collapsed


async def test_error_strategy_is_a_choice_with_a_number() -> None:
    form: OptionForm[RunOptions] = OptionForm(RunOptions)
    async with FormApp(form).run_test() as pilot:
        choice = form.fields["on_error"].query_one(ChoiceLine)
        count = form.fields["on_error"].query_one(Input)
        assert form.build().on_error == "continue"
        assert not count.display
        choice.focus()
        await pilot.press("2")
        assert form.build().on_error == "stop"
        await pilot.press("3")
        await pilot.pause()
        assert count.display
        count.value = "12"
        assert form.build().on_error == "threshold:12"
        count.value = "0"
        await pilot.pause()
        assert "above 0" in form.errors["on_error"]


async def test_a_form_of_strategy_threshold_shows_its_number() -> None:
    form: OptionForm[RunOptions] = OptionForm(RunOptions, {"on_error": "threshold:3"})
    async with FormApp(form).run_test():
        assert form.fields["on_error"].query_one(Input).value == "3"
        assert form.build().on_error == "threshold:3"


async def test_choice_answers_the_mouse() -> None:
    form: OptionForm[Small] = OptionForm(Small, only=("kind",))
    async with FormApp(form).run_test() as pilot:
        choice = form.query_one(ChoiceLine)
        await pilot.click(ChoiceLine, offset=(choice.gutter.left + len("● a  ○ b  ") + 1, 0))
        assert choice.value == "c"


async def test_chosen_fields_only() -> None:
    form: OptionForm[Settings] = OptionForm(Settings, Settings(), without=("keymap",))
    async with FormApp(form).run_test():
        assert "keymap" not in form.fields
        assert form.values()["bell"] is True
