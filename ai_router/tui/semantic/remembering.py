"""What was chosen for semantic IDs last time: the place of the models, and what is made of their codes."""

from __future__ import annotations

from ai_router.memory import Memory
from ai_router.tui.widgets.form import OptionForm
from batch.options import OptionError, build_options, options_dict
from batch.semantic_ids.task import CodebookOptions

KEY = "semantic"
NOTHING = {"place": "", "options": {}}


def keep(memory: Memory, place: str, form: OptionForm[CodebookOptions]) -> None:
    """Remember both, where the options are right. Raises MemoryFileError."""
    if form.errors:
        return
    kept = {"place": place, "options": options_dict(form.build())}
    if kept != (memory.recall(KEY) or NOTHING):
        memory.keep(KEY, kept)


def recall(memory: Memory, form: OptionForm[CodebookOptions]) -> str:
    """Put the options into the form, before it is made; returns the place."""
    kept = memory.recall(KEY)
    try:
        options, place = build_options(CodebookOptions, kept["options"]), str(kept["place"])
    except (OptionError, TypeError, KeyError):  # none yet, or another version's
        return ""
    for name, field in form.fields.items():
        field.value = getattr(options, name)
    return place
