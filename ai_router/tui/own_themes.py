"""Themes of one's own: `themes/NAME.yaml` in the workspace or the user's folder, read again as soon as they change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ai_router.trust import home_folder
from ai_router.tui import themes
from batch.errors import BatchError
from batch.options import nearest
from batch.yamlfile import YamlError, YamlMap, as_mapping, read_yaml

if TYPE_CHECKING:
    from textual.theme import Theme

FOLDER = "themes"
COLOURS = ("primary", "secondary", "accent", "success", "warning", "error", "foreground", "background", "surface",
           "panel")  # fmt: skip
VARIABLES = {"muted": "text-muted", "border": "border"}
MOST = 100  # files
NEW = """\
# A theme of your own: the name of this file is its name, and what is saved here is seen at once.
# Colours are #rrggbb or names of CSS; one that is left out is that of the house's dark or light theme.
dark: {dark}
"""


class ThemeError(BatchError):
    """A file is no theme; the text names it, the line and what is meant."""


def folders(root: Path) -> list[Path]:
    """Where themes are looked for: the workspace counts for more than the user's own folder."""
    return list(dict.fromkeys([home_folder() / FOLDER, root / FOLDER]))


def files(root: Path) -> dict[Path, int]:
    """The files of themes, and when each was changed (ns)."""
    found: dict[Path, int] = {}
    for folder in folders(root):
        for path in sorted(folder.glob("*.yaml"))[:MOST] if folder.is_dir() else ():
            try:
                found[path] = path.stat().st_mtime_ns
            except OSError:  # gone meanwhile
                continue
    return found


def read_theme(path: Path) -> Theme:
    """A theme of a file; raises ThemeError."""
    try:
        data = as_mapping(read_yaml(path, what="theme"), str(path))
    except (YamlError, OSError) as error:
        raise ThemeError(str(error)) from None
    dark = data.get("dark", True)
    if not isinstance(dark, bool):
        raise ThemeError(f"{path}: dark is true or false, and not {dark!r}")
    base = themes.DARK if dark else themes.LIGHT
    given = dict(_colours(path, data))
    variables = {**base.variables, **{VARIABLES[key]: given[key] for key in VARIABLES if key in given}}
    colours: dict[str, Any] = {key: given[key] for key in COLOURS if key in given}
    if "primary" in colours:  # the one accent of the screens, unless others are named
        colours = {"accent": colours["primary"], "secondary": colours["primary"], **colours}
    return themes.plainly(replace(base, name=path.stem, variables=variables, **colours))


def _colours(path: Path, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from textual.color import Color, ColorParseError

    lines = data.lines if isinstance(data, YamlMap) else {}
    known = (*COLOURS, *VARIABLES)
    for key, value in data.items():
        where = f"{path}, line {lines[key]}" if key in lines else str(path)
        if key == "dark":
            continue
        if key not in known:
            near = nearest(key, known)
            raise ThemeError(f"{where}: no such colour: {key}" + (f"; did you mean {near}?" if near else ""))
        try:
            if value is None:
                raise ThemeError(f"{where}: {key}: no colour; put it in quotes, as # begins a comment")
            Color.parse(str(value))
        except ColorParseError:
            raise ThemeError(f"{where}: {key}: {str(value)!r} is no colour; write it as #rrggbb, in quotes") from None
        yield key, str(value)


class Themed(Protocol):
    """The app, as far as themes go."""

    theme: str

    def register_theme(self, theme: Theme) -> None:
        """Take a theme, or another one of its name."""
        ...

    def unregister_theme(self, theme_name: str) -> None:
        """Forget it."""
        ...


class OwnThemes:
    """Keeps the themes of the files; `look` says what is wrong with those that changed."""

    def __init__(self) -> None:
        self._seen: dict[Path, int] = {}
        self._names: set[str] = set()

    def look(self, app: Themed, root: Path) -> tuple[list[str], bool]:
        """Take what has changed: what is wrong, a sentence each, and whether the theme in use is another now."""
        now = files(root)
        if now == self._seen:
            return [], False
        before, self._seen = self._seen, now
        wrong: list[str] = []
        changed = False
        names = {path.stem for path in now}
        for gone in self._names - names:
            self._names.discard(gone)
            app.unregister_theme(gone)
        for path in now:
            if path.stem in (themes.DARK.name, themes.LIGHT.name, themes.AUTO):
                wrong += [f"{path}: {path.stem} is a theme of the house; give the file another name"]
                continue
            try:
                app.register_theme(read_theme(path))
            except ThemeError as error:
                wrong += [str(error)] if now[path] != before.get(path) else []
                continue
            self._names.add(path.stem)
            changed |= path.stem == app.theme and now[path] != before.get(path)
        return wrong, changed


def begin_theme(folder: Path, like: Theme) -> Path:
    """Write the first free `mine.yaml`, `mine-2.yaml` … with the colours of a theme; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {key: getattr(like, key) for key in COLOURS}
    named |= {key: like.variables.get(name) for key, name in VARIABLES.items()}
    text = NEW.format(dark=str(like.dark).lower())
    text += "".join(f'{key}: "{value}"\n' for key, value in named.items() if value)
    number = 1
    while True:
        path = folder / ("mine.yaml" if number == 1 else f"mine-{number}.yaml")
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            number += 1
        else:
            return path
