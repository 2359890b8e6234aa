"""The palette: everything by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from ai_router.memory import Memory, MemoryFileError
from ai_router.tui.actions import ACTIONS
from ai_router.tui.actions.action import Action
from ai_router.tui.finding import Found, read_things
from ai_router.tui.places import anywhere

KEY = "palette.lately"
LATELY = 5
AT_ONCE = 5  # jobs and files, before a word is typed
BY_WORDS = 0.1  # the score of what matches by what is said of it
THEME = "Theme: "
SKIPPED = ("Tables", "Menu", "Batch")  # what moves a cursor, and menus, whose places are found as such


class Finder(Provider):
    """Everything by name: what can be done here (`Group: verb`), places, and what there is in the workspace.

    Text from outside is shown, never read as markup.
    """

    async def startup(self) -> None:
        """Begin to read what there is; the actions need not wait for it."""
        app: Any = self.app
        self._reading = asyncio.create_task(asyncio.to_thread(read_things, app))
        self._memory = Memory(app.workspace.checkpoints)

    async def _wait_init(self) -> None:
        """As Textual's; but a search that the next letter cancels does not cancel the beginning of all of them."""
        if self._init_task is not None:
            await asyncio.shield(self._init_task)

    async def _things(self) -> Mapping[str, list[Found]]:
        """What there is, when it is read: for this search, or the one that takes its place."""
        return await asyncio.shield(self._reading)

    def _actions(self) -> Iterator[Found]:
        """What can be done here."""
        app: Any = self.app
        seen: set[str] = set()
        for active in self.screen.active_bindings.values():
            action = ACTIONS.get(active.binding.id or "")
            if action is None or action.id in seen or not active.enabled or action.group in SKIPPED:
                continue
            seen.add(action.id)
            if action.id in ("app.palette", "app.up"):
                continue
            key = app.get_key_display(active.binding)
            yield _label(action), f"{action.help}  ({key})", partial(app.run_action, active.binding.action, active.node)

    async def discover(self) -> Hits:
        """Before a word is typed: what was found lately, what can be done here, the last jobs and files, the places."""
        here, others = list(self._actions()), list(places(self.app))
        shown = {label for label, _, _ in here}
        lately = self._lately()
        if not shown.issuperset(lately):  # else it need not be waited for
            others += [found for group in (await self._things()).values() for found in group]
        known = {found[0]: found for found in (*here, *others)}
        first = [known[label] for label in lately if label in known]
        for found in (*first, *(found for found in here if found not in first)):
            yield self._discovered(found)
        groups = await self._things()
        things = [found for name in ("jobs", "files") for found in groups.get(name, [])[:AT_ONCE]]
        for found in (*things, *places(self.app)):
            if found[0] not in lately and not found[0].startswith(THEME):  # of themes there are too many
                yield self._discovered(found)

    async def search(self, query: str) -> Hits:
        """What matches by its name, or has all the words in what is said of it."""
        matcher, words = self.matcher(query), query.casefold().split()
        things = (found for group in (await self._things()).values() for found in group)
        for found in (*self._actions(), *places(self.app), *things):
            label, said, _ = found
            score, offsets = matcher.fuzzy_search.match(matcher.query, label)
            if score <= 0 and words and all(word in f"{label} {said}".casefold() for word in words):
                score = BY_WORDS
            score *= _closeness(query, label)
            if score > 0:
                name = Content(label)
                for at in offsets:
                    name = name.stylize(matcher.match_style, at, at + 1)
                yield Hit(score, _shown(name, said), self._doing(found), text=label)

    def _discovered(self, found: Found) -> DiscoveryHit:
        return DiscoveryHit(_shown(Content(found[0]), found[1]), self._doing(found), text=found[0])

    def _doing(self, found: Found) -> Callable[[], Any]:
        """What it does, remembered as found."""

        def do() -> object:
            with suppress(MemoryFileError):  # a list that is not longer is no reason to fail
                self._memory.keep(KEY, [found[0], *(label for label in self._lately() if label != found[0])][:LATELY])
            return found[2]()

        return do

    def _lately(self) -> list[str]:
        labels = self._memory.recall(KEY, [])
        return [label for label in labels if isinstance(label, str)] if isinstance(labels, list) else []


def _closeness(query: str, label: str) -> float:
    """What a match counts for: most where the query is the whole name, more where the name begins with it."""
    name, wanted = label.partition(": ")[2].casefold(), query.strip().casefold()
    return 2.0 if name == wanted else 1.5 if name.startswith(wanted) else 1.0


def _shown(name: Content, said: str) -> Content:
    """Both in one text: the help that Textual adds by itself is read as markup."""
    return Content.assemble(name, "\n", (said, "not bold $text-muted"))


def _label(action: Action) -> str:
    return f"{action.group}: {action.title or action.label}"


def places(app: Any) -> Iterator[Found]:
    """Where one can go from everywhere, and the themes."""
    for place in anywhere():
        yield f"Go to: {place.title}", place.help, partial(app.go, place.name)
    yield "Help: tour", "What is where, in six steps", partial(app.run_action, "tour")
    yield "Own theme: begin one", "A file with the colours of now", app.begin_theme
    for theme in app.available_themes:
        yield f"{THEME}{theme}", "Until the end of this session; Settings keeps it", partial(app.apply_theme, theme)
