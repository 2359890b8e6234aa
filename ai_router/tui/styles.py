"""Textual's style sheet, without the work that it does again for every widget and every screen.

It looks at all rules (of all widgets and screens seen so far) to find those that may concern a widget, and reads all of
its sources again when one comes to it. Both are a third of what it takes to show a screen.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from textual.app import App
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.css.types import CSSLocation
from textual.dom import DOMNode
from textual.screen import Screen


class Styles(Stylesheet):
    """The same rules for the same widgets; sources are parsed once a theme, rules looked for once a kind of node."""

    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._parsed: dict[tuple[object, ...], list[RuleSet]] = {}
        self._parts: dict[frozenset[str], _Part] = {}  # by the selectors that concern a node
        self._parts_of: list[RuleSet] | None = None

    @classmethod
    def like(cls, other: Stylesheet) -> Styles:
        """Of the same sources and colours."""
        made = cls(variables=other._variables.copy())
        made.source = other.source.copy()
        made._require_parse = bool(made.source)
        return made

    def set_variables(self, variables: dict[str, str]) -> None:
        """Other colours."""
        super().set_variables(variables)
        self._parsed.clear()

    def copy(self) -> Styles:
        """Of the same sources and colours."""
        return Styles.like(self)

    def reparse(self) -> None:
        """Take what has come; where that is wrong, the rules of before stay."""
        self.parse()

    def _parse_rules(
        self,
        css: str,
        read_from: CSSLocation,
        is_default_rules: bool = False,
        tie_breaker: int = 0,
        scope: str = "",
    ) -> list[RuleSet]:
        key = (css, read_from, is_default_rules, tie_breaker, scope)
        if key not in self._parsed:
            self._parsed[key] = super()._parse_rules(css, read_from, is_default_rules, tie_breaker, scope)
        return self._parsed[key]

    def apply(self, node: DOMNode, *, animate: bool = False, cache: dict[tuple[Any, ...], Any] | None = None) -> None:
        """Give a node its styles."""
        if self.rules is not self._parts_of:
            self._parts, self._parts_of = {}, self.rules
        names = frozenset(self.rules_map.keys() & node._selector_names)
        if (part := self._parts.get(names)) is None:
            part = self._parts[names] = _Part(self, names)
        part.apply(node, animate=animate, cache=cache)


class _Part(Stylesheet):
    """The rules that may concern nodes with some selectors."""

    def __init__(self, whole: Styles, names: frozenset[str]) -> None:
        super().__init__()
        self._whole = whole
        self._rules = [rule for rule in whole.rules if not rule.selector_names.isdisjoint(names)]
        self._rules_map = {name: whole.rules_map[name] for name in names}

    def _process_component_classes(self, node: DOMNode) -> None:
        self._whole._process_component_classes(node)  # other rules may concern these


class StyledApp(App[int]):
    """An app that gives styles once."""

    def __init__(self) -> None:
        super().__init__()
        self.stylesheet = Styles.like(self.stylesheet)
        self._came_up: WeakSet[Screen[Any]] = WeakSet()

    def refresh_css(self, animate: bool = True) -> None:
        """Bring styles to a changed theme; before the first screen there are none, and only its colours are kept."""
        if self.screen_stack:
            super().refresh_css(animate)
        else:
            self.stylesheet.set_variables(self.get_css_variables())

    def update_styles(self, node: DOMNode, animate: bool = True) -> None:
        """Bring styles to what a node is now; not of a screen that comes up, whose nodes just got them one by one."""
        if isinstance(node, Screen) and not animate and node not in self._came_up:
            self._came_up.add(node)
        else:
            super().update_styles(node, animate)
