"""A tree of folders and prompt files with several roots, read a folder at a time in a thread."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events, on
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from ai_router.tui.actions import bind
from ai_router.tui.widgets.text import harmless
from batch.sources import FILE_ENDINGS

MOST_ENTRIES = 2000  # of one folder


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file or folder of the tree."""

    path: Path
    is_dir: bool


def read_folder(folder: Path, *, everything: bool = False) -> list[FileEntry]:
    """Folders first, then prompt files, by name; `everything` includes hidden ones and other kinds of files."""
    entries: list[FileEntry] = []
    with os.scandir(folder) as found:
        for entry in found:
            try:
                is_dir = entry.is_dir()
            except OSError:
                continue
            hidden = entry.name.startswith((".", "__"))
            if everything or (not hidden and (is_dir or entry.name.lower().endswith(FILE_ENDINGS))):
                entries.append(FileEntry(Path(entry.path), is_dir))
    entries.sort(key=lambda e: (not e.is_dir, e.path.name.lower()))
    return entries


class FileTree(Tree[FileEntry]):
    """Sends `Highlighted` and `Chosen` with a file's path, and `Typed` where a path is typed instead."""

    DEFAULT_CSS = """
    FileTree { background: transparent; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bind("file.all")

    class Highlighted(Message):
        """The cursor is on a file."""

        def __init__(self, path: Path) -> None:
            super().__init__()
            self.path = path

    class Chosen(Highlighted):
        """Enter, or a click, on a file."""

    class Typed(Message):
        """The first character of a path that someone types without having looked for the field."""

        def __init__(self, character: str) -> None:
            super().__init__()
            self.character = character

    def __init__(self, roots: Sequence[tuple[str, Path]], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__("", id=id)
        self.roots = list(roots)
        self.everything = False
        self.show_root = False
        self.guide_depth = 2

    def on_mount(self) -> None:
        """Show the roots, the first one and the examples opened."""
        self.root.expand()
        self._add_roots()
        self.call_after_refresh(self._to_the_top)

    def _to_the_top(self) -> None:
        self.cursor_line = 0

    def _add_roots(self) -> None:
        for number, (label, path) in enumerate(self.roots):
            node = self.root.add(Text(harmless(label)), FileEntry(path, True))
            if number == 0 or path.name == "examples":
                node.expand()

    def on_key(self, event: events.Key) -> None:
        """Letters begin a path; no key of the tree or the screen is one, nor may `q` in a name quit."""
        if event.character and (event.character.isalnum() or event.character in "/~\\"):
            event.stop()
            event.prevent_default()
            self.post_message(self.Typed(event.character))

    def action_toggle_all(self) -> None:
        """Show files of every kind, or only those that prompts come in."""
        self.everything = not self.everything
        self.root.remove_children()
        self._add_roots()

    def show_folder(self, folder: Path) -> None:
        """Put a folder on top, opened, with the cursor in it."""
        self.roots = [(str(folder), folder), *((label, path) for label, path in self.roots if path != folder)]
        self.root.remove_children()
        self._add_roots()
        self.call_after_refresh(self._to_the_top)
        self.focus()

    @on(Tree.NodeExpanded)
    def _expanded(self, event: Tree.NodeExpanded[FileEntry]) -> None:
        event.stop()
        node = event.node
        if node.data is not None and not node.children:
            self._load(node, node.data.path)

    def _load(self, node: TreeNode[FileEntry], folder: Path) -> None:
        everything = self.everything

        def work() -> None:
            try:
                entries, problem = read_folder(folder, everything=everything), ""
            except OSError as error:
                entries, problem = [], error.strerror or str(error)
            self.app.call_later(self._fill, node, entries, problem)

        self.run_worker(work, thread=True, group=f"folder-{node.id}", exclusive=True)

    def _fill(self, node: TreeNode[FileEntry], entries: list[FileEntry], problem: str) -> None:
        if node.parent is None or node.children:
            return  # the tree was built anew meanwhile
        if problem or not entries:
            node.add_leaf(Text(problem or "nothing here", style="italic dim"))
        for entry in entries[:MOST_ENTRIES]:
            name = harmless(entry.path.name)
            if entry.is_dir:
                child = node.add(Text(name), entry)
                if name == "examples" and node.parent is self.root:
                    child.expand()
            else:
                node.add_leaf(Text(name), entry)
        if len(entries) > MOST_ENTRIES:
            node.add_leaf(Text(f"… {len(entries) - MOST_ENTRIES:,} more; type the path", style="italic dim"))

    def render_label(self, node: TreeNode[FileEntry], base_style: Style, style: Style) -> Text:
        """A sign for folders, so that they differ without colour too."""
        label = node._label.copy()
        label.stylize(style)
        folder = node.data is not None and node.data.is_dir
        sign = ("▾ " if node.is_expanded else "▸ ") if folder else "  "
        return Text.assemble((sign, base_style), label)

    @on(Tree.NodeHighlighted)
    def _highlighted(self, event: Tree.NodeHighlighted[FileEntry]) -> None:
        event.stop()
        if event.node.data is not None and not event.node.data.is_dir and self.has_focus:
            self.post_message(self.Highlighted(event.node.data.path))

    @on(Tree.NodeSelected)
    def _selected(self, event: Tree.NodeSelected[FileEntry]) -> None:
        event.stop()
        if event.node.data is not None and not event.node.data.is_dir:
            self.post_message(self.Chosen(event.node.data.path))


def size_text(size: int) -> str:
    """`812 B`, `1.2 kB`, `3.4 MB`."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
