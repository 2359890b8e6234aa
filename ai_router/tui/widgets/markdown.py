"""Markdown as lines of text with styles: code in colours, tables, lists. Links are text: nothing is followed.

Rendered by rich. What its own renderer would lose (HTML, definitions of links, addresses of pictures) is shown as text.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt
from pygments.token import (  # type: ignore[import-untyped]
    Comment,
    Keyword,
    Literal,
    Name,
    Number,
    String,
    Token,
)
from rich import box
from rich import markdown as rich_markdown
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.rule import Rule
from rich.segment import Segment
from rich.style import Style
from rich.syntax import Syntax, SyntaxTheme
from rich.table import Table
from rich.theme import Theme

if TYPE_CHECKING:
    from markdown_it.token import Token as MarkdownToken

LEAST_WIDTH = 20  # cells below which nothing is laid out
NESTED, DEEPEST = 60, 24  # levels that are read, and that are laid out: a list has two, a quotation one
PLAIN = frozenset({"text", "softbreak", "hardbreak"})
FRAME = frozenset({"inline", "paragraph_open", "paragraph_close"})
INDENT = 2  # of code
CODE = ((Comment, "comment"), (Keyword, "keyword"), (String, "string"), (Number, "number"), (Literal, "number"),
        (Name.Function, "name"), (Name.Class, "name"), (Name.Decorator, "keyword"), (Name.Tag, "keyword"))  # fmt: skip

DrawnLine = tuple[str, tuple[tuple[int, int, Style], ...]]  # a text, and its stretches with a style


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": NESTED})
    return parser.enable(["strikethrough", "table"]).disable("reference")


def _tokens(text: str) -> list[MarkdownToken]:
    return _parser().parse(text)


def code_blocks(text: str) -> list[tuple[str, str]]:
    """The fenced code of a text: language and code of each, in order."""
    return [(token.info.strip().partition(" ")[0], token.content) for token in _tokens(text) if token.type == "fence"]


def _marked_up(tokens: list[MarkdownToken]) -> bool:
    return any(
        token.type not in FRAME or any(child.type not in PLAIN for child in token.children or ()) for token in tokens
    ) and all(token.level < DEEPEST for token in tokens)


def is_marked_up(text: str) -> bool:
    """Whether a text has any Markdown in it, beside paragraphs, and none that is nested too deep."""
    return _marked_up(_tokens(text))


def lay_out(text: str, width: int, styles: Mapping[str, Style], *, flows: bool = False) -> list[DrawnLine] | None:
    """A harmless text as lines of at most `width` cells; None where it has no Markdown in it, or too little room.

    `styles` are those of `MARKDOWN_STYLES`, without a ground. The lines of a paragraph end where they did, or the text
    `flows`.
    """
    tokens = _tokens(text)
    if width < LEAST_WIDTH or not _marked_up(tokens):
        return None
    console = Console(file=io.StringIO(), width=width, theme=_theme(styles), color_system="truecolor", highlight=False,
                      legacy_windows=False, _environ={})  # fmt: skip
    lines = console.render_lines(_Markdown(text, tokens, styles, flows=flows), console.options, pad=False)
    drawn = [_drawn(line) for line in lines]
    while drawn and not drawn[0][0]:
        drawn.pop(0)
    while drawn and not drawn[-1][0]:
        drawn.pop()
    return drawn


def _drawn(line: list[Segment]) -> DrawnLine:
    text, parts = "", []
    for piece, style, _ in line:
        if style:
            parts.append((len(text), len(text) + len(piece), style))
        text += piece
    end = len(text.rstrip())
    return text[:end], tuple((start, min(stop, end), style) for start, stop, style in parts if start < end)


def _theme(styles: Mapping[str, Style]) -> Theme:
    heading, bold = styles["heading"], Style(bold=True)
    return Theme(
        {
            "markdown.h1": heading + Style(bold=True, underline=True),
            "markdown.h2": heading + bold,
            **{f"markdown.h{level}": bold for level in range(3, 7)},
            "markdown.strong": bold,
            "markdown.em": Style(italic=True),
            "markdown.s": Style(strike=True),
            "markdown.code": styles["code"],
            "markdown.block_quote": styles["quote"],
            "markdown.item.bullet": heading,
            "markdown.item.number": heading,
            "markdown.link": Style(underline=True),
            "markdown.link_url": styles["link"],
            "markdown.hr": styles["muted"],
            "markdown.table.border": styles["muted"],
            "markdown.table.header": bold,
        },
        inherit=False,
    )


class _CodeTheme(SyntaxTheme):
    """The colours of code, on no ground of its own."""

    def __init__(self, styles: Mapping[str, Style]) -> None:
        self._of = {kind: styles[name] for kind, name in CODE}

    def get_style_for_token(self, token_type: Any) -> Style:
        """That of the nearest kind above."""
        while token_type is not Token:
            if token_type in self._of:
                return self._of[token_type]
            token_type = token_type.parent
        return Style.null()

    def get_background_style(self) -> Style:
        """None."""
        return Style.null()


class _Heading(rich_markdown.Heading):
    LEVEL_ALIGN = dict.fromkeys(rich_markdown.Heading.LEVEL_ALIGN, "left")


class _Code(rich_markdown.CodeBlock):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip("\n")
        shown = Syntax(code, self.lexer_name, theme=self.theme).highlight(code)
        shown.rstrip()
        shown.no_wrap, shown.overflow = False, "fold"
        yield Padding(shown, (0, 0, 0, INDENT))


class _Rule(rich_markdown.HorizontalRule):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Rule(style="markdown.hr")


class _ListItem(rich_markdown.ListItem):
    behind = "."  # the number

    @classmethod
    def create(cls, markdown: rich_markdown.Markdown, token: MarkdownToken) -> _ListItem:
        item = cls()
        item.behind = token.markup
        return item

    def render_bullet(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return self._hang(console, options, " • ", "markdown.item.bullet")

    def render_number(self, console: Console, options: ConsoleOptions, number: int, last_number: int) -> RenderResult:
        mark = f"{number}{self.behind} ".rjust(len(str(last_number)) + 3)
        return self._hang(console, options, mark, "markdown.item.number")

    def _hang(self, console: Console, options: ConsoleOptions, mark: str, name: str) -> Iterator[Segment]:
        """The lines of the item behind its mark."""
        room = options.update(width=max(1, options.max_width - len(mark)))
        style, ahead = console.get_style(name), mark
        for line in console.render_lines(self.elements, room, style=self.style) or [[]]:
            yield Segment(ahead, style)
            yield from line
            yield Segment.line()
            ahead = " " * len(mark)


class _Table(rich_markdown.TableElement):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False, style="markdown.table.border",
                      header_style="markdown.table.header")  # fmt: skip
        cells = self.header.row.cells if self.header is not None and self.header.row is not None else []
        for cell in cells:
            table.add_column(cell.content, overflow="fold", justify=cell.justify)
        for row in self.body.rows if self.body is not None else ():
            table.add_row(*(cell.content for cell in row.cells))
        yield table


class _Markdown(rich_markdown.Markdown):
    elements = {  # noqa: RUF012 - no ClassVar in the base class
        **rich_markdown.Markdown.elements,
        "heading_open": _Heading,
        "fence": _Code,
        "code_block": _Code,
        "hr": _Rule,
        "list_item_open": _ListItem,
        "table_open": _Table,
    }

    def __init__(
        self, text: str, tokens: list[MarkdownToken], styles: Mapping[str, Style], *, flows: bool = False
    ) -> None:
        super().__init__("", code_theme=_CodeTheme(styles), hyperlinks=False)  # type: ignore[arg-type]
        self.markup, self.parsed = text, tokens
        for token in self.parsed:
            if token.children:
                token.children = list(_kept(token.children, flows=flows))


def _kept(children: list[MarkdownToken], *, flows: bool) -> Iterator[MarkdownToken]:
    """The pieces of a line, changed so that nothing is lost: lines end where they did, addresses stand there once."""
    own = False  # within a link that is its own text
    for child in children:
        if child.type == "softbreak" and not flows:
            child.type = "hardbreak"
        elif child.type == "image":
            child.type, child.tag = "text", ""
            child.content = f"![{child.content}]({child.attrs.get('src', '')})"
            child.children = None
        elif child.type in ("link_open", "link_close"):
            own = (own and child.type == "link_close") or child.info == "auto"
            if own:
                continue
        yield child
