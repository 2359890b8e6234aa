"""A Jinja template over a table's columns: a row -> the text of a prompt.

The language is a part of Jinja: expressions, `if`, `for`, `set` and most filters. It runs in Jinja's sandbox, a name
that is no column is an error and never an empty text, and work, time and size of one row are limited: a template may
come from a folder that somebody else wrote. A missing cell is written as nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from batch.errors import SourceError
from batch.sources.tables import Row, cell_text, plain, the_columns

LONGEST = 4_000_000  # characters of one rendered row, and of any text or list on the way there
STEPS = 1_000_000  # rounds of loops, and calls, for one row
SECONDS = 5.0  # for one row
WHOLE_ROW = "row"  # the name for the row as a mapping, for columns whose names are no names in Jinja: row["unit price"]
_MOST_VALUES = 100_000  # in a list that a template makes, what is in its lists included
_BITS = 100_000  # of a whole number on the way
_CHECK_CLOCK = 256  # steps between two looks
_OPEN, _CLOSE = "\uf8f0", "\uf8f1"  # private-use characters around values in a preview

_FILTERS = (
    *("abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "last", "length"),
    *("list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "round", "select", "selectattr"),
    *("sort", "striptags", "sum", "title", "trim", "truncate", "unique", "upper", "wordcount"),
)
_GLOBALS = ("range", "dict", "namespace")
_NODES = (
    *("Template", "Output", "TemplateData", "If", "For", "Assign", "NSRef", "Name", "Const", "Tuple", "List", "Dict"),
    *("Pair", "Keyword", "CondExpr", "Filter", "Test", "Call", "Getitem", "Getattr", "Slice", "Concat", "Compare"),
    *("Operand", "Mul", "Div", "FloorDiv", "Add", "Sub", "Mod", "Pow", "Not", "Neg", "Pos", "And", "Or"),
)
# Methods of texts whose result may be far longer than the text.
_GROWING = ("center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "translate", "maketrans")


class TemplateError(SourceError):
    """A template cannot be used, or not with this row; the text says why."""


class PromptTemplate:
    """A template, compiled. Raises TemplateError where it is wrong or, given the columns, names what is none.

    One thread renders at a time.
    """

    def __init__(self, text: str, columns: Sequence[str] | None = None, *, name: str = "the template") -> None:
        self.text, self.name = text, name
        environment, budget = _environment(marked=False)
        self._budget = budget
        self._environment = environment
        self.columns = self._used(columns)  # the table's columns that it writes, in no order
        self._template = self._compiled(environment)

    def render(self, row: Row) -> str:
        """The prompt of a row."""
        return self._rendered(self._template, self._budget, row)

    def says_nothing(self, row: Row) -> bool:
        """Whether every column that the template uses is missing or blank in this row: there is nothing to ask."""
        used = self.columns or row.keys()
        return all(not cell_text(row.get(name)).strip() for name in used)

    def preview(self, row: Row) -> list[tuple[str, bool]]:
        """The prompt of a row in pieces, each with whether it is a value from the row."""
        environment, budget = _environment(marked=True)
        text = self._rendered(self._compiled(environment), budget, row)
        pieces: list[tuple[str, bool]] = []
        for part in text.split(_OPEN):
            value, closed, rest = part.rpartition(_CLOSE)
            pieces += [(value, True), (rest, False)] if closed else [(part, False)]
        return [piece for piece in pieces if piece[0]]

    def _rendered(self, template: Any, budget: _Budget, row: Row) -> str:
        from jinja2 import TemplateError as JinjaError
        from jinja2 import UndefinedError

        budget.begin()
        size = 0
        parts: list[str] = []
        try:
            for part in template.root_render_func(template.new_context({WHOLE_ROW: row, **row})):
                size += len(part)
                if size > LONGEST:
                    _refuse(f"the prompt is longer than {LONGEST:,} characters")
                parts.append(part)
        except _Limit as error:
            raise TemplateError(f"{self.name}: {error}") from None
        except UndefinedError as error:
            raise TemplateError(f"{self.name}: {error.message}") from None
        except JinjaError as error:
            raise TemplateError(f"{self.name}: {error}") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise TemplateError(f"{self.name}: {type(error).__name__}: {' '.join(str(error).split())}") from None
        return "".join(parts)

    def _compiled(self, environment: Any) -> Any:
        from jinja2 import Template
        from jinja2 import TemplateError as JinjaError

        try:
            tree = _bounded(self._parsed(environment))
            code = environment.compile(tree, name=self.name)
        except (JinjaError, RecursionError, SyntaxError, OverflowError, MemoryError) as error:
            raise TemplateError(f"{self.name} cannot be compiled: {' '.join(str(error).split())}") from None
        return Template.from_code(environment, code, environment.globals)

    def _parsed(self, environment: Any) -> Any:
        from jinja2 import TemplateSyntaxError, nodes

        try:
            tree = environment.parse(self.text)
        except TemplateSyntaxError as error:
            raise TemplateError(f"{self.name}, line {error.lineno}: {error.message}") from None
        except RecursionError:
            raise TemplateError(f"{self.name} is nested too deeply") from None
        for node in tree.find_all(nodes.Node):
            kind = type(node).__name__
            if kind not in (*_NODES, "Gt") and not isinstance(node, nodes.Expr):
                raise TemplateError(f"{self.name}, line {node.lineno}: {kind.lower()} is not for prompts")
            if isinstance(node, nodes.Expr) and kind not in _NODES:
                raise TemplateError(f"{self.name}, line {node.lineno}: {kind.lower()} is not for prompts")
            if isinstance(node, nodes.For) and node.recursive:
                raise TemplateError(f"{self.name}, line {node.lineno}: a recursive loop is not for prompts")
        return tree

    def _used(self, columns: Sequence[str] | None) -> tuple[str, ...]:
        """The columns that it names. Raises TemplateError for the first that is none."""
        from jinja2 import TemplateAssertionError, meta, nodes

        tree = self._parsed(self._environment)
        try:
            named: set[str] = set(meta.find_undeclared_variables(tree)) - set(_GLOBALS)
        except TemplateAssertionError as error:  # a filter or test that is none
            raise TemplateError(f"{self.name}, line {error.lineno}: {error.message}") from None
        if columns is None or WHOLE_ROW not in columns or _names_whole_row(tree):
            named.discard(WHOLE_ROW)
        for node in tree.find_all((nodes.Getitem, nodes.Getattr)):
            if isinstance(node.node, nodes.Name) and node.node.name == WHOLE_ROW:
                if isinstance(node, nodes.Getattr):
                    named.add(node.attr)
                elif isinstance(node.arg, nodes.Const):
                    named.add(str(node.arg.value))
        if columns is not None:
            for name in sorted(named - set(columns) - _METHODS):
                raise TemplateError(f'{self.name} names "{name}", which is no column; {the_columns(columns, name)}')
            named &= set(columns)
        return tuple(named)


_METHODS = frozenset({"items", "keys", "values", "get"})  # of the row as a mapping


class _Limit(Exception):
    """A row took more than it may."""


class _Budget:
    """What is left of the steps and the time of one row."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A new row."""
        self._steps = 0
        self._until = time.monotonic() + SECONDS

    def step(self) -> None:
        """One round or call."""
        self._steps += 1
        if self._steps > STEPS:
            _refuse(f"more than {STEPS:,} steps for one row")
        if not self._steps % _CHECK_CLOCK and time.monotonic() > self._until:
            _refuse(f"more than {SECONDS:g} seconds for one row")

    def rounds(self, values: Iterable[Any]) -> Iterator[Any]:
        """The values of a loop, each a step."""
        for value in values:
            self.step()
            yield value


def _refuse(what: str) -> NoReturn:
    raise _Limit(what)


def _names_whole_row(tree: Any) -> bool:
    from jinja2 import nodes

    return any(
        isinstance(node.node, nodes.Name) and node.node.name == WHOLE_ROW
        for node in tree.find_all((nodes.Getitem, nodes.Getattr))
    )


def _bounded(tree: Any) -> Any:
    """The same tree with its loops counted, and `a ~ b` as a sum of texts, whose size is looked at."""
    from jinja2 import nodes

    for node in list(tree.find_all((nodes.List, nodes.Tuple, nodes.Dict))):
        if getattr(node, "ctx", "load") == "load":
            _replace_node(tree, node, nodes.Filter(node, "_made", [], [], None, None, lineno=node.lineno))
    for node in tree.find_all(nodes.For):
        node.iter = nodes.Filter(node.iter, "_rounds", [], [], None, None, lineno=node.lineno)
    for node in list(tree.find_all(nodes.Concat)):
        _replace_node(tree, node, _sum(node))
    return tree


def _replace_node(tree: Any, old: Any, new: Any) -> None:
    """Put one node of a tree in another's place."""
    from jinja2 import nodes

    for node in list(tree.find_all(nodes.Node)):
        if node is new:
            continue
        for field, value in list(node.iter_fields()):
            if value is old:
                setattr(node, field, new)
            elif isinstance(value, list) and any(v is old for v in value):
                setattr(node, field, [new if v is old else v for v in value])


def _sum(concat: Any) -> Any:
    from jinja2 import nodes

    total: Any
    total, *rest = (nodes.Filter(n, "_text", [], [], None, None, lineno=n.lineno) for n in concat.nodes)
    for node in rest:
        total = nodes.Add(total, node, lineno=concat.lineno)
    return total


def _written(value: Any) -> str:
    """A value as a template writes it: nothing for a missing cell, JSON for what is no text."""
    if value is None or isinstance(value, str):
        return value or ""
    if type(value) is int:
        return str(value)
    value = plain(value)
    return value if isinstance(value, str) else _json(value)


def _json(value: Any, indent: int | None = None) -> str:
    size = 0
    parts = []
    for part in json.JSONEncoder(ensure_ascii=False, indent=indent).iterencode(plain(value)):
        size += len(part)
        if size > LONGEST:
            _refuse(f"a text longer than {LONGEST:,}")
        parts.append(part)
    return "".join(parts)


def _made(value: Any) -> Any:
    """A list or the like just made; refused where there is too much in it, and in what is in it."""
    left = _MOST_VALUES
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            one = list(one.values())
        if isinstance(one, list | tuple):
            left -= len(one)
            if left < 0:
                _refuse(f"a list with more than {_MOST_VALUES:,} values in it")
            waiting += [part for part in one if isinstance(part, list | tuple | Mapping)]
    return value


def _environment(*, marked: bool) -> tuple[Any, _Budget]:
    """Jinja's sandbox with what prompts need, and the budget that its loops and calls draw on."""
    try:
        from jinja2 import StrictUndefined, Undefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise SourceError('templates need jinja2: pip install "ai-router[tables]"') from None

    budget = _Budget()

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["*", "**", "+", "%"])

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            _check_size(operator, left, right)
            return _made(super().call_binop(context, operator, left, right))

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            return bool(super().is_safe_attribute(obj, attr, value)) and not (
                attr in _GROWING and isinstance(obj, str | bytes)
            )

        def wrap_str_format(self, value: Any) -> None:
            """No text's `format`: what it pads to is not looked at."""

        def call(self, context: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
            budget.step()
            owner, method = getattr(function, "__self__", None), getattr(function, "__name__", "")
            if isinstance(owner, str) and method == "replace":
                _check_replace(owner, *args[:2])
            elif isinstance(owner, str) and method == "join":
                return _join(args[0] if args else (), owner)
            return _made(super().call(context, function, *args, **kwargs))

    def finalize(value: Any) -> Any:
        if isinstance(value, Undefined):
            return value  # says what is missing when it is written
        text = _written(value)
        return f"{_OPEN}{text.replace(_OPEN, '').replace(_CLOSE, '')}{_CLOSE}" if marked else text

    environment = Sandbox(undefined=StrictUndefined, finalize=finalize, autoescape=False, keep_trailing_newline=False)
    environment.optimized = False  # constants too are worked out under the budget
    environment.globals = {name: environment.globals[name] for name in _GLOBALS}
    environment.filters = {name: _counted(environment.filters[name], budget) for name in _FILTERS} | {
        "replace": lambda text, old, new, count=-1: _replace(_written(text), str(old), str(new), count),
        "join": lambda values, between="", attribute=None: _join(_picked(values, attribute), str(between)),
        "tojson": lambda value, indent=None: _json(value, _indent(indent)),
        "string": _written,
        "_rounds": budget.rounds,
        "_text": _written,
        "_made": _made,
    }
    return environment, budget


def _counted(function: Callable[..., Any], budget: _Budget) -> Callable[..., Any]:
    """A filter whose every call is a step."""
    from functools import wraps

    @wraps(function)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        budget.step()
        return function(*args, **kwargs)

    return filtered


def _check_size(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation whose result would be huge, before it is done."""
    if operator == "%" and isinstance(left, str | bytes):
        _refuse('a text before "%" is not for prompts; use ~')
    sized = (str, bytes, list, tuple)
    if operator == "*":
        for one, times in ((left, right), (right, left)):
            if isinstance(one, sized) and isinstance(times, int) and len(one) * max(0, times) > LONGEST:
                _refuse(f"a text or list longer than {LONGEST:,}")
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > _BITS:
            _refuse("a number with too many digits")
    elif operator == "+" and isinstance(left, sized) and isinstance(right, sized) and len(left) + len(right) > LONGEST:
        _refuse(f"a text or list longer than {LONGEST:,}")
    elif operator == "**" and isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > _BITS:
        _refuse("a number with too many digits")


def _replace(text: str, old: str, new: str, count: int | None) -> str:
    _check_replace(text, old, new)
    return text.replace(old, new, -1 if count is None else count)


def _check_replace(text: str, old: Any = "", new: Any = "") -> None:
    if isinstance(old, str) and isinstance(new, str) and len(new) > len(old):
        times = text.count(old) if old else len(text) + 1
        if len(text) + times * len(new) > LONGEST:
            _refuse(f"a text longer than {LONGEST:,}")


def _picked(values: Iterable[Any], attribute: Any) -> Iterable[Any]:
    if attribute is None:
        return values
    return (value[attribute] if isinstance(value, Mapping) else getattr(value, str(attribute)) for value in values)


def _join(values: Iterable[Any], between: str) -> str:
    parts: list[str] = []
    size = 0
    for value in values:
        text = _written(value)
        size += len(text) + len(between)
        if size > LONGEST:
            _refuse(f"a text longer than {LONGEST:,}")
        parts.append(text)
    return between.join(parts)


def _indent(wanted: Any) -> int | None:
    return None if wanted is None else min(8, max(0, int(wanted)))
