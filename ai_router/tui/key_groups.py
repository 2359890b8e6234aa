"""The keys that work on a screen at the moment, in groups: help and the panel of keys are made from it."""

from __future__ import annotations

from typing import Any

from textual.screen import Screen

from ai_router.tui.actions import ACTIONS

Groups = list[tuple[str, list[tuple[str, str, str]]]]


def help_groups(screen: Screen[Any]) -> tuple[Groups, str]:
    """Groups of (keys, label, help), those of the screen first; and a word on changing keys."""
    keys: dict[str, list[str]] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        # Terminals with the Kitty protocol say shift+g where others say G.
        if binding.id in ACTIONS and not binding.key.startswith("shift+"):
            key = screen.app.get_key_display(binding)
            if key not in keys.setdefault(binding.id or "", []):
                keys[binding.id or ""].append(key)
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for name, shown in keys.items():
        action = ACTIONS[name]
        groups.setdefault(action.group, []).append(("  ".join(shown), action.label, action.help))
    order = sorted(groups, key=lambda group: {"Everywhere": 2, "Tables": 1}.get(group, 0))
    names = ", ".join(name for name in keys if not name.startswith("app."))
    ending = f"Keys are changed in the settings, or under keymap in ai-router.yaml by the names of the actions: {names}"
    return [(group, groups[group]) for group in order], ending
