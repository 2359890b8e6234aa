"""All actions of the screens in one registry: bindings, footer, help and palette are made from it.

Those of the results and of the comparison of models have files of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from textual.binding import BindingType

from ai_router.tui.actions.action import Action
from ai_router.tui.actions.compare import COMPARE
from ai_router.tui.actions.results import RESULTS
from ai_router.tui.places import HOME, on_menu


def _tabs(screen: str, group: str, *words: str) -> Iterator[Action]:
    """A key from 1 on for each kind of rows of a screen."""
    for key, word in enumerate(words, 1):
        help_text = "Show all rows" if word == "all" else f"Show the rows that are {word}"
        yield Action(f"{screen}.{key}", str(key), word, help_text, group, False, method=f"tab('{key}')")


def _go(prefix: str, group: str, menu: str) -> Iterator[Action]:
    """A key for each place of a menu."""
    for place in on_menu(menu):
        method = f"app.go('{place.name}')"
        yield Action(f"{prefix}.{place.name}", place.key, place.title, place.help, group, False, method=method)


_EVERYWHERE = (
    Action("app.back", "escape", "back", "Go back to where you came from", "Everywhere"),
    Action("app.help", "question_mark", "help", "All keys of this screen", "Everywhere", method="app.help"),
    Action("app.docs", "f1", "documentation", "The documentation, opened at what has the focus", "Everywhere", False,
           method="app.docs"),
    Action("app.keys", "K,shift+k", "keys beside", "Keep the keys of what has the focus beside the screen, or not",
           "Everywhere", False, method="app.toggle_keys"),
    Action("app.palette", "colon", "palette", "Find any action by name (also ctrl+p)", "Everywhere", False,
           method="app.command_palette"),
    Action("app.quit", "q", "quit", "Leave ai-router; asks first while a job is running", "Everywhere", False,
           method="app.quit"),
    Action("app.jump", "ctrl+o", "jump", "A letter on everything that can be reached; it takes you there",
           "Everywhere", False, method="app.jump"),
    Action("app.runs", "ctrl+b", "running job", "To what is running; again: to the next of them", "Everywhere", False,
           method="app.next_run", priority=True),
    Action("app.mouse", "m", "mouse", "Give the mouse to the terminal, to select text with it, or take it back",
           "Everywhere", False, method="app.toggle_mouse"),
    Action("app.up", "0", "back", "Back, on menus", "Everywhere", False, method="back"),
)  # fmt: skip

_MENU = (
    *_go("menu", "Menu", HOME),
    Action("menu.exit", "0", "Exit", "Leave ai-router", "Menu", False, method="app.quit"),
    Action("menu.choose", "enter,right,l,space", "choose", "Go to the entry under the cursor", "Menu"),
    Action("menu.jobs_list", "tab", "last jobs", "To the last jobs", "Menu", method="jobs_list"),
    Action("menu.entries", "tab", "menu", "From the last jobs to the menu", "Menu"),
)

_PANES = (
    Action("panes.zoom", "z", "zoom", "The pane with the focus alone, or all of them again", "Panes", False),
    # In a field ^w takes a word away; in most terminals ^m is the same as enter.
    Action("panes.mode", "ctrl+w,ctrl+l,ctrl+m", "panes", "Arrange the panes: move edges, hide, show, turn", "Panes",
           False, method="panes"),
    Action("panes.wider", "greater_than_sign", "more room", "More room for the pane with the focus", "Panes", False,
           method="wider", key_display=">"),
    Action("panes.narrower", "less_than_sign", "less room", "Less room for the pane with the focus", "Panes", False,
           method="narrower", key_display="<"),
)  # fmt: skip

_FIND = (
    Action("filter.submit", "enter", "to the list", "From the line to what it has left of the list", "Lines",
           method="submit"),
    Action("find.submit", "enter", "find", "Look for what the line says", "Lines", method="submit"),
)  # fmt: skip

_TABLE = (
    Action("table.select", "enter", "open", "Open the row under the cursor", "Tables", False),
    Action("table.down", "down,j", "down", "Next row", "Tables", False, method="cursor_down"),
    Action("table.up", "up,k", "up", "Previous row", "Tables", False, method="cursor_up"),
    Action("table.page_down", "pagedown,ctrl+f", "page down", "A screenful down", "Tables", False),
    Action("table.page_up", "pageup,ctrl+b", "page up", "A screenful up", "Tables", False),
    Action("table.half_down", "ctrl+d", "half page down", "Half a screenful down", "Tables", False),
    Action("table.half_up", "ctrl+u", "half page up", "Half a screenful up", "Tables", False),
    Action("table.first", "home,g", "first", "First row", "Tables", False),
    Action("table.last", "end,G,shift+g", "last", "Last row", "Tables", False),
)

_JOBS = (
    Action("jobs.open", "o", "results", "Read the results of this job", "Jobs", method="open_results"),
    Action("jobs.resume", "r", "resume", "Run what is missing", "Jobs"),
    Action("jobs.watch", "r", "watch", "Watch how this job goes", "Jobs"),
    Action("jobs.retry", "t", "retry failed", "Run the failed prompts again, and what is missing", "Jobs"),
    Action("jobs.export", "e", "export", "Write the results to a file", "Jobs"),
    Action("jobs.again", "a", "again", "A new job of its items, with another model or other options", "Jobs"),
    Action(
        "jobs.compare",
        "equals_sign",
        "compare",
        "Beside the jobs it was compared with, or the marked ones",
        "Jobs",
        False,
        key_display="=",
    ),
    Action("jobs.label", "n", "name", "Give this job, or the marked ones, a name, tags or a note", "Jobs", False),
    Action("jobs.mark", "space", "mark", "Mark this job, or take its mark away", "Jobs", False),
    Action("jobs.delete", "d,delete", "delete", "Move this job, or the marked ones, to the trash", "Jobs"),
    Action(
        "jobs.undo", "ctrl+z,U,shift+u", "undo", "Take back from the trash what was thrown away last", "Jobs", False
    ),
    Action("jobs.filter", "slash", "filter", "Show only jobs with this text", "Jobs", key_display="/"),
    Action("jobs.sort", "s", "sort", "Sort by the next column", "Jobs", False),
    Action("jobs.reverse", "S,shift+s", "reverse", "Turn the order round", "Jobs", False),
    Action("jobs.picture", "p", "picture", "This job in plots: rates, cost, durations, scores", "Jobs", False),
    Action("jobs.details", "i", "details", "Show or hide what is known of this job", "Jobs", False),
    Action("jobs.refresh", "f5,R,shift+r", "refresh", "Read the folder again", "Jobs", False),
    Action(
        "jobs.score", "v", "score", "Of a job with known answers: how many are right, and what is wrong", "Jobs", False
    ),
    Action(
        "jobs.score_file",
        "V,shift+v",
        "score a file",
        "Score a results file (JSONL), or a job of another folder",
        "Jobs",
        False,
    ),
    Action("jobs.skipped", "u", "unreadable", "Files that could not be read, and why", "Jobs", False),
)

_READING = (
    Action("reading.next", "n", "next", "The next item; while something is looked for, its next place", "Reading",
           method="next_hit"),
    Action("reading.previous", "p", "previous", "The item before", "Reading"),
    Action("reading.next_item", "right_square_bracket,right", "next item", "The next item of the list", "Reading",
           False, method="next"),
    Action("reading.previous_item", "left_square_bracket,left", "item before", "The item before, of the list",
           "Reading", False, method="previous"),
    Action("reading.find", "slash", "find", "Find text in this item", "Reading", key_display="/"),
    Action("reading.hit_back", "N,shift+n", "hit before", "To the place before", "Reading", False,
           method="previous_hit"),
    Action("reading.rendered", "m,M,shift+m", "Markdown",
           "Show answers as Markdown, with code in colours; again: as they came", "Reading", key_display="m"),
    Action("reading.thinking", "t,ctrl+t", "thinking", "Show what a model thought before it answered, or fold it",
           "Reading", False),
    Action("reading.edit", "e", "edit, run again", "Change the prompt and run it again, as before or with another",
           "Reading", False),
    Action("reading.editor", "E,shift+e", "open in editor", "Open the text in $EDITOR", "Reading", False,
           method="open_editor"),
    Action("reading.copy", "c,y", "copy answer", "Copy the whole answer", "Reading"),
    Action("reading.copy_prompt", "P,shift+p", "copy prompt", "Copy the whole prompt", "Reading", False),
    Action("reading.copy_json", "Y,shift+y", "copy JSON", "Copy prompt, answer and figures as JSON", "Reading", False),
    Action("reading.open", "o", "open in pager", "Open the text in $PAGER", "Reading", False, method="open_pager"),
    Action("reading.down", "j,down", "down", "Scroll down", "Reading", False, method="scroll_text(1)"),
    Action("reading.up", "k,up", "up", "Scroll up", "Reading", False, method="scroll_text(-1)"),
    Action("reading.page_down", "pagedown,space", "page down", "Scroll a page", "Reading", False,
           method="scroll_page(1)"),
    Action("reading.page_up", "pageup", "page up", "Scroll a page back", "Reading", False, method="scroll_page(-1)"),
    Action("reading.half_down", "ctrl+d", "half page down", "Scroll half a page", "Reading", False,
           method="scroll_page(0.5)"),
    Action("reading.half_up", "ctrl+u", "half page up", "Scroll half a page back", "Reading", False,
           method="scroll_page(-0.5)"),
    Action("reading.first", "g,home", "top", "To the beginning", "Reading", False, method="scroll_top"),
    Action("reading.last", "G,shift+g,end", "end", "To the end", "Reading", False, method="scroll_bottom"),
)  # fmt: skip

_EVALUATION = (
    Action("evaluation.search", "slash", "search", "Find text in inputs, expected and predicted texts, and errors",
           "Scores", key_display="/"),
    Action("evaluation.compare", "a", "compare", "Set this run against another one: what got fixed, what broke",
           "Scores"),
    Action("evaluation.options", "o", "options", "How predictions are scored; scores them again", "Scores"),
    Action("evaluation.export", "e", "export", "Write the report as JSON, Markdown or HTML", "Scores"),
    Action("evaluation.kind", "f", "filter", "Show the next part of rows", "Scores", False, method="next_tab"),
    Action("evaluation.marks", "d", "marks", "Mark differences by [-signs-] {+too+}, or by colours alone", "Scores",
           False),
    Action("evaluation.about", "i", "about", "How it was measured, and what was left out", "Scores", False),
    Action("evaluation.copy", "c,y", "copy", "Copy the prediction (of a failed row, the error)", "Scores", False),
    Action("evaluation.copy_json", "Y,shift+y", "copy JSON", "Copy the row as JSON", "Scores", False),
    Action("evaluation.scores", "s", "scores", "To the scores, and back to the rows", "Scores", False,
           method="scores"),
    *_tabs("evaluation", "Scores", "all", "right", "wrong", "over-corrected", "under-corrected", "not corrected",
           "failed", "unscorable"),
    *_tabs("comparison", "Scores", "all", "fixed", "broken", "both wrong", "both right", "changed"),
)  # fmt: skip

_MODELS = (
    Action("models.default", "d", "make default", "Use this model when none is named", "Models"),
    Action("models.ask", "a", "ask", "Ask this model something", "Models"),
    Action("models.add", "n", "add", "Add a model by its path or address to models.yaml", "Models"),
    Action(
        "models.remove", "x,delete", "remove", "Take this model out of models.yaml; its weights stay", "Models", False
    ),
    Action("models.edit", "E,shift+e", "edit models.yaml", "Open models.yaml in $EDITOR", "Models", False),
    Action("models.pull", "p", "pull", "Fetch a model from the Hugging Face Hub, or stop that", "Models"),
    Action("models.test", "t", "test", "Ask this model a few questions: how quick is it?", "Models"),
    Action("models.adapter", "l", "adapter", "Put a LoRA adapter over this model", "Models", False),
    Action("models.copy", "c", "copy command", "Copy the command that makes this model ready", "Models", False),
    Action("models.refresh", "f5,R,shift+r", "refresh", "Look for models again", "Models", key_display="R"),
)

_DOCS = (
    Action("docs.find", "slash", "find", "Find the topics that hold some words", "Documentation", key_display="/"),
    Action("docs.next", "n", "next", "The next topic", "Documentation", method="next_section"),
    Action("docs.previous", "p", "previous", "The topic before", "Documentation", method="previous_section"),
    Action("docs.keys", "question_mark", "keys", "All keys of the screen that this was opened from", "Documentation"),
)

_KEYS = (
    Action("keys.change", "enter", "change", "Give this action another key", "Keys"),
    Action("keys.own", "backspace,delete", "as it came", "Give this action its own keys back", "Keys"),
    Action("keys.find", "slash", "find", "Find actions by their words, or by a key", "Keys", key_display="/"),
)

_STATS = (
    Action("stats.refresh", "f5,R,shift+r", "refresh", "Count again", "Statistics", key_display="R"),
    Action("picture.report", "e", "report", "Write a page of HTML: figures, plots, prompts and answers", "Statistics"),
)

_ASK = (
    Action("ask.stop", "escape", "stop", "Stop the answer; what has come stays", "Ask"),
    Action("ask.model", "f2", "model", "Choose another model", "Ask", method="choose_model"),
    Action("ask.options", "f3", "options", "Length and sampling of the answer", "Ask"),
    Action("ask.copy", "f4", "copy answer", "Copy the answer", "Ask"),
    Action("ask.next", "f5", "next model", "Ask the next model the same", "Ask"),
    Action("ask.best", "f8", "this is best", "Keep as evidence that this answer is the best of those given", "Ask"),
    Action("ask.new_chat", "ctrl+n", "new chat", "Begin anew; what was said is kept among the chats", "Ask", False),
    Action(
        "ask.chats", "f7", "chats", "Find a chat of before by its words, and go on with it", "Ask", False, priority=True
    ),
    Action(
        "ask.rendered",
        "f9",
        "Markdown",
        "Show answers as Markdown, with code in colours; again: as they came",
        "Ask",
        False,
    ),
    Action(
        "ask.second", "f11", "second model", "Ask another model the same, side by side; again: no more", "Ask", False
    ),
    Action(
        "ask.turn",
        "ctrl+g",
        "other answer",
        "Of two models, one's answers alone, then the other's, then both where there is room",
        "Ask",
    ),
    Action("ask.code", "f10", "code", "Copy a block of code of the last answer, or write it to a file", "Ask", False),
    Action("ask.batch", "f12", "make a batch", "A batch of what was asked here, each prompt by itself", "Ask", False),
    Action(
        "ask.thinking", "ctrl+t", "thinking", "Show what a model thought before it answered, or fold it", "Ask", False
    ),
    Action(
        "ask.again", "f6", "ask again", "Put the last prompt back to change or repeat it", "Ask", False, priority=True
    ),
)

_SETTINGS = (
    Action("settings.keys", "f3", "keys", "All actions with their keys, to be changed", "Settings"),
    Action("settings.save", "f2,ctrl+s", "save", "Write the settings to ai-router.yaml", "Settings"),
    Action("settings.reset", "f4", "undo changes", "Back to what the file says", "Settings"),
)

# The screens that create and run jobs.
_DOING = (
    *_go("batch", "Batch", "batch"),
    Action("file.next", "f2", "continue", "Choose a model for this file", "Prompts file", method="proceed"),
    Action("file.invalid", "f4", "leave out invalid", "Run without the entries that are no prompts", "Prompts file",
           method="toggle_invalid"),
    Action("file.columns", "f3", "columns", "Choose the column of the prompts, or several for a template",
           "Prompts file"),
    Action("file.all", "full_stop", "all files", "Show files of every kind, also hidden ones", "Prompts file",
           key_display=".", method="toggle_all"),
    Action("manual.next", "f2", "continue", "Choose a model for these prompts", "Typed prompts", method="proceed"),
    Action("manual.edit", "enter,e", "edit", "Change the prompt under the cursor", "Typed prompts"),
    Action("manual.delete", "d,delete", "delete", "Delete the prompt under the cursor", "Typed prompts"),
    Action("manual.undo", "u,ctrl+z", "undo", "Take back the last change", "Typed prompts"),
    Action("manual.add", "a,i", "add", "Type another prompt", "Typed prompts"),
    Action("choose.next", "f2", "choose", "Run with the model under the cursor", "Model", method="proceed",
           key_display="enter"),
    Action("choose.auto", "a", "auto", "A model for each prompt: what it brings and costs, beside each model alone",
           "Model"),
    Action("choose.adapter", "l", "adapter", "The adapters there are for this model, or one by its path", "Model"),
    Action("auto.next", "f2", "choose", "Go on with the plan under the cursor", "Auto", method="proceed",
           key_display="enter"),
    Action("options.start", "f2", "start", "Create the job and run it", "Options"),
    Action("options.presets", "f3", "presets", "Take options that were kept: last time's, the model's, or by name",
           "Options"),
    Action("options.keep", "f4", "keep as", "Keep these options by a name", "Options"),
    Action("options.try_some", "f5", "try a few", "Answer the first of them, or any, before all; again: all at once",
           "Options"),
    Action("run.pause", "p,space", "pause", "Give out no further prompts for now", "Run"),
    Action("run.unpause", "p,space", "go on", "Go on after a pause", "Run"),
    Action("run.resume", "p", "resume", "Run what is missing", "Run"),
    Action("run.results", "enter,r,o", "results", "Read all results", "Run", key_display="enter"),
    Action("run.stop", "x", "stop", "Finish what is in flight, or stop now", "Run"),
    Action("run.more", "plus,equals_sign,right_square_bracket", "concurrency", "One more prompt at once", "Run",
           key_display="+/-", title="one more at once"),
    Action("run.fewer", "minus,left_square_bracket", "concurrency", "One prompt fewer at once", "Run", False,
           key_display="-", title="one fewer at once"),
    Action("run.failures", "f", "failures", "Read the failures", "Run"),
    Action("run.retry", "t", "retry failed", "Run the failed prompts again, and what is missing", "Run"),
    Action("run.score", "v", "score", "How many are right so far, and what is wrong with the others", "Run"),
    Action("run.export", "e", "export", "Write the results to a file", "Run"),
    Action("run.collect", "c", "collect", "Take the answers that the provider has by now", "Run"),
    Action("run.look", "l", "ask", "Ask the provider how its batches stand", "Run", title="ask the provider"),
    Action("run.end_batches", "k", "end batches", "Ask the provider to end its batches; what is answered stays", "Run"),
    Action("run.background", "b", "background", "Go on in a process of its own, away from this terminal", "Run"),
)  # fmt: skip

_SEMANTIC = (
    Action("semantic.start", "f2", "start", "Make a job of each chosen model and run them in turn", "Semantic IDs"),
    Action("semantic.mark", "space", "choose", "Choose the model under the cursor, or leave it out", "Semantic IDs"),
    Action("semantic.why", "w", "why not", "What is wrong with the model under the cursor", "Semantic IDs"),
    Action("semantic.export", "e", "write files", "Write the files of codebooks", "Semantic IDs"),
    Action("semantic.collided", "f", "shared", "Only items that share their SID, or all", "Semantic IDs"),
    Action("semantic.goto", "number_sign,ctrl+g", "go to", "Go to an item by its Pid", "Semantic IDs",
           key_display="#"),
    Action("semantic.blocks", "b", "blocks", "The blocks of rows as the job holds them", "Semantic IDs"),
    Action("semantic.run", "r", "run", "Run what is missing; of a running job, watch it", "Semantic IDs",
           method="resume"),
    Action("semantic.copy", "c,y", "copy SID", "Copy the SID under the cursor", "Semantic IDs", False),
)  # fmt: skip

ACTIONS: Mapping[str, Action] = {
    action.id: action
    for group in (
        *(_EVERYWHERE, _PANES, _MENU, _FIND, _TABLE, _JOBS, RESULTS, _READING, _EVALUATION),
        *(_MODELS, _DOCS, _KEYS, _STATS, _ASK, COMPARE, _SETTINGS, _DOING, _SEMANTIC),
    )
    for action in group
}


def bind(*ids: str) -> list[BindingType]:
    """Bindings of actions, for a `BINDINGS`; the footer shows them in this order."""
    return [ACTIONS[name].binding() for name in ids]


def shown(*ids: str) -> list[BindingType]:
    """The same, for the footer too where the actions are not there otherwise."""
    return [replace(ACTIONS[name], show=True).binding() for name in ids]


def unknown_actions(ids: Iterable[str]) -> list[str]:
    """Those of some ids that name no action, as a keymap may."""
    return [name for name in ids if name not in ACTIONS]
