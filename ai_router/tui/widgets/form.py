"""Form fields made from an options dataclass: each shows its help, and says at once what is wrong with its value."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import Field, fields
from typing import Any, Generic, TypeVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Collapsible, Input, Static

from ai_router.tui.widgets.choice import ChoiceLine
from batch.options import OptionError, build_options, option_default, option_type, parse_option
from batch.running.policy import ErrorStrategy

O = TypeVar("O")  # noqa: E741 - "O" for options

LIST_SEPARATOR = "|"
SLIM = 50  # cells
NO, YES = "no", "yes"
DEFAULT_THRESHOLD = "5"


class OptionField(Horizontal):
    """One option in one line: label, control, and its help or what is wrong with the value."""

    DEFAULT_CSS = """
    OptionField {
        height: 1; width: 100%; margin-bottom: 0;
        & > .field--label { width: 20; color: $foreground; text-wrap: nowrap; text-overflow: ellipsis; }
        & > Input { width: 14; margin-right: 2; background: $foreground 8%; padding: 0 1; }
        & > Input:focus { background: $accent 18%; }
        & > Input.-wide { width: 1fr; }
        & > ChoiceLine { width: auto; min-width: 14; margin-right: 2; padding-left: 1; }
        & > Input.field--threshold { width: 8; margin-right: 2; }
        & > .field--help { width: 1fr; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
        &.-wide-field > .field--help { display: none; }
        &.-wide-field > .field--help.-error { display: block; width: auto; }
        & > .field--help.-error { color: $text-error; }
        &.-slim > .field--label { width: 14; }
        &.-slim > .field--help { display: none; }
        &.-slim > ChoiceLine { width: 1fr; margin-right: 0; }
        &.-slim > .field--help.-error { display: block; }
        &.-whole { height: auto; }
        &.-whole > .field--help { text-wrap: wrap; height: auto; }
        &:focus-within > .field--label { text-style: bold; color: $text-accent; }
    }
    """

    class Changed(Message):
        """The value of a field is another one now."""

        def __init__(self, field: OptionField) -> None:
            super().__init__()
            self.field = field

        @property
        def control(self) -> OptionField:
            """The field."""
            return self.field

    def __init__(self, cls: type, spec: Field[Any], value: Any) -> None:
        self.wide = not spec.metadata.get("choices") and option_type(cls, spec.name) in (str, list, dict)
        super().__init__(id=f"field-{spec.name.replace('_', '-')}", classes="-wide-field" if self.wide else "")
        self.option_class = cls
        self.spec = spec
        self.error: str | None = None
        self.value: Any = value  # the last good one
        self._help = Static(self.help_text(), classes="field--help", markup=False)

    @property
    def option(self) -> str:
        """The option's name."""
        return self.spec.name

    def help_text(self) -> str:
        """What the option does."""
        return str(self.spec.metadata.get("help", ""))

    def full_help(self) -> str:
        """All there is to say: what it does, its range, its default."""
        data, default = self.spec.metadata, option_default(self.spec)
        parts = [str(data.get("help", ""))]
        low, high = data.get("minimum"), data.get("maximum")
        if low is not None and high is not None:
            parts.append(f"{low:g} to {high:g}")
        elif low is not None:
            parts.append(f"{low:g} or more")
        if option_type(self.option_class, self.option) is list:
            parts.append(f"several with {LIST_SEPARATOR} between; \\n is a line break")
        parts.append(f"default {self.as_text(default) or 'none'}")
        return " · ".join(parts)

    def compose(self) -> ComposeResult:
        yield Static(self.option.replace("_", " "), classes="field--label", markup=False)
        yield from self.controls()
        yield self._help

    def on_resize(self, event: events.Resize) -> None:
        """Where a letter of the help would be left, it is left out."""
        self.set_class(event.size.width < SLIM, "-slim")

    def controls(self) -> Iterator[Widget]:
        """The widgets that hold the value."""
        choices: Sequence[str] = self.spec.metadata.get("choices") or ()
        kind = option_type(self.option_class, self.option)
        if choices:
            yield ChoiceLine(choices, str(self.value))
        elif kind is bool:
            yield ChoiceLine((NO, YES), YES if self.value else NO)
        else:
            classes = "-wide" if self.wide else ""
            yield Input(self.as_text(self.value), compact=True, placeholder=self.placeholder(), classes=classes)

    def placeholder(self) -> str:
        """What an empty field stands for; of a long one, its help, which has no other place."""
        default = option_default(self.spec)
        if self.wide:
            return str(self.spec.metadata.get("help", ""))
        return "—" if default in (None, []) else f"{default:g}" if isinstance(default, float) else str(default)

    def as_text(self, value: Any) -> str:
        """A value as it is typed."""
        if value is None:
            return ""
        if isinstance(value, list):
            return f" {LIST_SEPARATOR} ".join(_escape(str(entry)) for entry in value)
        if isinstance(value, dict):
            return json.dumps(value, ensure_ascii=False)
        return f"{value:g}" if isinstance(value, float) else str(value)

    @on(Input.Changed)
    @on(ChoiceLine.Changed)
    def _control_changed(self, event: Message) -> None:
        event.stop()
        self.check()
        self.post_message(self.Changed(self))

    def check(self) -> bool:
        """Read the controls; sets `value`, or `error` and shows it. A field that was never shown is as it was."""
        if not self.children:
            return True
        try:
            self.value = self.read()
            self.error = None
        except OptionError as error:
            self.error = str(error)
        shown = f"✗ {self.error.partition(': ')[2] or self.error}" if self.error else self.help_text()
        self._help.update(shown)
        self._help.set_class(self.error is not None, "-error")
        return self.error is None

    def read(self) -> Any:
        """The value in the controls; raises OptionError."""
        for choice in self.query(ChoiceLine):
            return choice.value == YES if choice.choices == (NO, YES) else choice.value
        return self.parse(self.query_one(Input).value)

    def parse(self, text: str) -> Any:
        """A typed text as a value; an empty one is the default. Raises OptionError."""
        if not text.strip():
            return option_default(self.spec)
        if option_type(self.option_class, self.option) is list:
            parts = [_unescape(part.strip()) for part in text.split(LIST_SEPARATOR) if part.strip()]
            return parse_option(self.option_class, self.option, parts)
        return parse_option(self.option_class, self.option, text)


class StrategyField(OptionField):
    """The error strategy: one of three words, and a number beside the third."""

    def __init__(self, cls: type, spec: Field[Any], value: Any) -> None:
        super().__init__(cls, spec, value)
        self.wide = False
        self.remove_class("-wide-field")

    def controls(self) -> Iterator[Widget]:
        """The three strategies and the number of failures."""
        name, _, number = str(self.value).partition(":")
        yield ChoiceLine(("continue", "stop", "threshold"), name)
        count = Input(number or DEFAULT_THRESHOLD, compact=True, classes="field--threshold", type="integer")
        count.display = name == "threshold"
        yield count

    def help_text(self) -> str:
        """What the chosen strategy does."""
        name = str(self.value).partition(":")[0]
        return {"stop": "at the first failure", "threshold": "failures end the job"}.get(name, "failures are kept")

    def read(self) -> str:
        """`continue`, `stop` or `threshold:N`."""
        name = self.query_one(ChoiceLine).value
        count = self.query_one(".field--threshold", Input)
        count.display = name == "threshold"
        if name != "threshold":
            return name
        text = f"threshold:{count.value.strip()}"
        try:
            ErrorStrategy.parse(text)
        except OptionError:
            raise OptionError("on-error: a whole number above 0") from None
        return text


class OptionForm(Vertical, Generic[O]):
    """All options of a dataclass; those marked `advanced` are folded away until asked for.

    `only` and `without` choose options by name; the help of each is shown `whole`, or cut at the edge. `build` gives
    the object back, or raises what is wrong.
    """

    DEFAULT_CSS = """
    OptionForm {
        height: auto; width: 100%;
        & Collapsible { background: transparent; border-top: none; padding: 0; }
        & CollapsibleTitle {
            padding: 0; max-width: 100%; text-wrap: nowrap; text-overflow: ellipsis; color: $text-muted;
        }
        & CollapsibleTitle:focus { background: $primary 30%; color: $foreground; }
        & Contents { padding: 0; }
    }
    """

    def __init__(
        self,
        cls: type[O],
        values: O | Mapping[str, Any] | None = None,
        *,
        only: Collection[str] | None = None,
        without: Collection[str] = (),
        whole: bool = False,
        id: str | None = None,  # noqa: A002 - the word of Textual
    ) -> None:
        super().__init__(id=id)
        self.option_class = cls
        chosen = [f for f in fields(cls) if f.name not in without and (only is None or f.name in only)]  # type: ignore[arg-type]
        self.fields: dict[str, OptionField] = {}
        for spec in chosen:
            if isinstance(values, Mapping):
                value = values.get(spec.name, option_default(spec))
            else:
                value = option_default(spec) if values is None else getattr(values, spec.name)
            kind = StrategyField if spec.name == "on_error" else OptionField
            self.fields[spec.name] = kind(cls, spec, value)
            self.fields[spec.name].set_class(whole, "-whole")

    def compose(self) -> ComposeResult:
        advanced = self._advanced()
        yield from (f for f in self.fields.values() if f not in advanced)
        if advanced:
            changed = any(f.value != option_default(f.spec) for f in advanced)
            names = ", ".join(f.option.replace("_", " ") for f in advanced)
            # Folded fields are made when they are first asked for: they would be half of the time to the first frame.
            yield Collapsible(*(advanced if changed else ()), title=f"more: {names}", collapsed=not changed)

    def _advanced(self) -> list[OptionField]:
        return [f for f in self.fields.values() if f.spec.metadata.get("advanced")]

    @on(Collapsible.Expanded)
    def _unfolded(self, event: Collapsible.Expanded) -> None:
        contents = event.collapsible.query_one(Collapsible.Contents)
        if not contents.children:
            contents.mount(*self._advanced())

    @property
    def errors(self) -> dict[str, str]:
        """What is wrong, by option."""
        return {name: f.error for name, f in self.fields.items() if f.error}

    def values(self) -> dict[str, Any]:
        """The value of each field; raises OptionError for the first that has none."""
        for field in self.fields.values():
            if not field.check() and field.error:
                raise OptionError(field.error)
        return {name: f.value for name, f in self.fields.items()}

    def build(self) -> O:
        """The options as an object; raises OptionError."""
        return build_options(self.option_class, self.values())

    def focus_error(self) -> bool:
        """Put the cursor into the first field with a bad value, unfolding what hides it."""
        for name in self.errors:
            field = self.fields[name]
            for ancestor in field.ancestors:
                if isinstance(ancestor, Collapsible):
                    ancestor.collapsed = False
            for control in field.query("Input, ChoiceLine").results(Widget):
                if control.display:
                    control.focus()
            return True
        return False


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def _unescape(text: str) -> str:
    return text.replace("\\\\", "\0").replace("\\n", "\n").replace("\\t", "\t").replace("\0", "\\")
