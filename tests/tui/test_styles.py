"""The style sheet that knows what it did before, beside Textual's."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode
from textual.widgets import Button, Static

from ai_router import tui
from ai_router.tui.styles import StyledApp, Styles

SHEET = """
Static { width: 10; } .a { width: 11; } .b Static { height: 3; } #x { width: 12; } #y.a > Static { width: 13; }
Vertical:focus-within Static { height: 4; } Button:focus { width: 14; } Button:disabled { width: 15; }
.a Static:first-child { height: 5; } Vertical.b > .a:last-child { width: 16; } Screen.b .a Button { height: 6; }
Static:dark { color: red; } Static:light { color: blue; } Vertical .b:hover { height: 7; } Static:odd { margin: 1; }
"""
STEPS = st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["a", "b", "focus", "disabled"])), max_size=8)


class Tree(StyledApp):
    CSS = SHEET

    def compose(self) -> ComposeResult:
        with Vertical(id="y"):
            yield Static("1", classes="a")
            yield Static("2", id="x")
            with Vertical():
                yield Button("3", classes="a")
                yield Static("4", classes="b")
        with Vertical(classes="b"):
            yield Button("5")
            yield Static("6", classes="a")


def styles(node: DOMNode) -> tuple[Any, ...]:
    return node.styles.base.get_rules(), {name: part.get_rules() for name, part in node._component_styles.items()}


async def test_the_same_styles_after_any_changes() -> None:
    """Each node is what Textual's own sheet makes of it, after classes, focus and the like came and went."""
    app = Tree()
    async with app.run_test() as pilot:
        plain = Stylesheet(variables=app.get_css_variables())
        plain.source = app.stylesheet.source.copy()
        plain.reparse()

        @settings(max_examples=25, deadline=None)
        @given(STEPS)
        def check(steps: list[tuple[int, str]]) -> None:
            nodes = list(app.screen.walk_children(with_self=True))
            for place, what in steps:
                node: Any = nodes[place % len(nodes)]
                if what == "focus":
                    app.screen.set_focus(node if node.focusable else None)
                elif what == "disabled":
                    node.disabled = not node.disabled
                else:
                    node.toggle_class(what)
            app.stylesheet.update(app.screen)
            ours = [styles(node) for node in nodes]
            plain.update(app.screen)
            assert ours == [styles(node) for node in nodes]

        check()
        await pilot.pause()


def test_a_source_is_parsed_once_and_again_in_other_colours() -> None:
    sheet = Styles(variables={"primary": "red"})
    sheet.add_source("Static { color: $primary; }")
    (rule,) = sheet.rules
    sheet.add_source("Button { width: 1; }")
    sheet.reparse()
    assert sheet.rules[0] is rule and len(sheet.rules) == 2
    sheet.set_variables({"primary": "blue"})
    sheet.reparse()
    assert sheet.rules[0].styles.color != rule.styles.color
    again = sheet.copy()
    assert isinstance(again, Styles) and len(again.rules) == 2


def test_a_screen_s_rules_are_for_its_own_widgets() -> None:
    """A sheet that has once been read counts for all screens: what two of them call the same is told apart there."""
    sheets: dict[str, set[Path]] = defaultdict(set)  # in which a rule for an id begins
    screens: dict[str, set[str]] = defaultdict(set)  # sheets of the modules that give the id
    folder = Path(str(tui.__file__)).parent
    for sheet in folder.rglob("*.tcss"):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
        for selectors in re.findall(r"([^{}]+)\{[^{}]*\}", text):
            for name in re.findall(r"(?:^|,)\s*#([\w-]+)", selectors):
                sheets[name].add(sheet)
    for module in folder.rglob("*.py"):
        source = module.read_text(encoding="utf-8")
        constants: dict[str, str] = {}
        for names, values in re.findall(r'^([A-Z_]+(?:, [A-Z_]+)*) = ("[\w-]+"(?:, "[\w-]+")*)$', source, re.MULTILINE):
            constants |= zip(names.split(", "), re.findall(r"[\w-]+", values), strict=True)
        own = re.findall(r'CSS_PATH = "([\w.]+)"', source)
        for name in re.findall(r"\bid=\"?([\w-]+)\"?", source):
            screens[constants.get(name, name)] |= {str(module.with_name(one)) for one in own}
    mixed = {name: paths for name, paths in sheets.items() if len(screens[name] | {str(p) for p in paths}) > 1}
    assert not mixed
