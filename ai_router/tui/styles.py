"""Textual's style sheet, without the work that it does again for every widget and every screen.

It looks at all rules (of all widgets and screens seen so far) to find those that may concern a widget, asks them again
for a widget like one before, and reads all of its sources again when one comes to it: a third of what a screen takes.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from textual.app import App
from textual.css.model import RuleSet
from textual.css.styles import RulesMap
from textual.css.stylesheet import Stylesheet
from textual.css.types import CSSLocation
from textual.dom import DOMNode
from textual.screen import Screen
from textual.theme import Theme

MOST_PLACES = 1024  # of nodes with the same selectors


class Styles(Stylesheet):
    """The same rules for the same widgets; sources are parsed once a theme, rules looked for once a kind of node."""

    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._parsed: dict[tuple[object, ...], list[RuleSet]] = {}
        self._parts: dict[frozenset[str], _Part] = {}  # by the selectors that concern a node
        self._parts_of: list[RuleSet] | None = None
        self.generation = 0  # of the rules for widgets that are there: what a new kind of widget brings is its own

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
        self.generation += 1

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

        self._pseudo = frozenset[str]().union(*(rule.pseudo_classes for rule in self._rules))
        self.known: dict[tuple[object, ...], RulesMap] = {}  # what came out for nodes in such places

    def apply(self, node: DOMNode, *, animate: bool = False, cache: dict[tuple[Any, ...], Any] | None = None) -> None:
        """Give a node its styles; of one in a place as another was in, Textual need not look for them."""
        super().apply(node, animate=animate, cache=_Known(self.known, self._place(node)))

    def _place(self, node: DOMNode) -> tuple[object, ...]:
        """All that a selector may ask of a node and of those that it is in."""
        return tuple(
            (type(one), one._id, one.classes, *(one.has_pseudo_class(name) for name in self._pseudo))
            for one in node.css_path_nodes
        )

    def _process_component_classes(self, node: DOMNode) -> None:
        self._whole._process_component_classes(node)  # other rules may concern these


class _Known(dict[tuple[Any, ...], Any]):
    """Textual's cache of one pass over some nodes, in the shape of one that stays; it asks only where it may."""

    def __init__(self, known: dict[tuple[object, ...], RulesMap], place: tuple[object, ...]) -> None:
        super().__init__()
        self._known, self._place = known, place

    def get(self, key: tuple[Any, ...], default: Any = None) -> Any:
        """What a node in this place got, whatever it is called."""
        return self._known.get(self._place, default)

    def __setitem__(self, key: tuple[Any, ...], value: Any) -> None:
        if len(self._known) >= MOST_PLACES:
            self._known.clear()
        self._known[self._place] = value


class StyledApp(App[int]):
    """An app that gives styles once."""

    stylesheet: Styles

    def __init__(self) -> None:
        super().__init__()
        self.stylesheet = Styles.like(self.stylesheet)
        self._styled: WeakKeyDictionary[Screen[Any], tuple[object, ...]] = WeakKeyDictionary()

    @property
    def current_theme(self) -> Theme:
        """The theme; asked for by every selector that tells dark from light, so without a copy of all themes."""
        return self._registered_themes.get(self.theme) or super().current_theme

    def refresh_css(self, animate: bool = True) -> None:
        """Bring styles to a changed theme; before the first screen there are none, and only its colours are kept."""
        if self.screen_stack:
            super().refresh_css(animate)
        else:
            self.stylesheet.set_variables(self.get_css_variables())

    def update_styles(self, node: DOMNode, animate: bool = True) -> None:
        """Bring styles to what a node is now.

        A screen that comes up has its styles: its nodes got them one by one as they came, and as they changed.
        """
        if not isinstance(node, Screen):
            super().update_styles(node, animate)
            return
        now = (self.stylesheet.generation, self.classes, self.app_focus, node.classes)
        before = self._styled.setdefault(node, now)
        self._styled[node] = now
        if animate or before != now:
            super().update_styles(node, animate)
