"""The canonical layout of a `.guide` text.

Only white space changes: the tokens stay what they are, and every comment stays before the same token.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lark import Token, Tree

from guidedsl.diagnostics import CompileError
from guidedsl.source import Source
from guidedsl.syntax.parser import parse, syntax_tree
from guidedsl.syntax.tokens import Lexeme, lexemes

WIDTH = 100
"""Statements longer than this many columns are wrapped. Comments do not count."""

INDENT = "  "
HANGING = "    "

_LAST_ALIGNED = 70
"""Columns that would begin further right than this in their statement are not lined up."""

_OPERAND_END = frozenset(("NAME", "NUMBER", "STRING", "RPAR", "RSQB"))
_BINDING = {"COMPARE": 5, "PLUS": 6, "MINUS": 6, "STAR": 7, "SLASH": 7, "AT": 7, "CIRCUMFLEX": 8}
_CLAUSES = frozenset(("VIA", "WHEN", "FOR", "FROM"))
_SITES = frozenset(("DATA", "LATENT", "OBSERVED"))


def format_source(source: Source) -> str:
    """The text in its canonical layout.

    Raises:
        CompileError: the text has syntax errors.
    """
    source = Source(source.name, re.sub(r"\r+\n", "\n", source.text))
    parsed = parse(source)
    if parsed.diagnostics:
        raise CompileError(source, parsed.diagnostics)
    tokens = lexemes(source)
    writer = _Writer(source)
    writer.block(_file(source, tokens), tokens[-1], depth=0)
    text = "".join(f"{line}\n" for line in writer.lines)
    assert _content(lexemes(Source(source.name, text))) == _content(
        tokens
    ), "formatting would change more than white space: this should never happen, please file a bug"
    return text


def _content(tokens: list[Lexeme]) -> list[tuple[str, ...]]:
    return [(*(c.text for c in token.above), token.type, token.text, token.trailing) for token in tokens]


@dataclass(frozen=True)
class _Statement:
    """A statement, an item or a docstring. One with a block has its `{` last in `head`, and a `close`."""

    head: tuple[Lexeme, ...]
    body: tuple[_Statement, ...] = ()
    close: Lexeme | None = None

    @property
    def last(self) -> Lexeme:
        return self.close or self.head[-1]

    @property
    def is_docstring(self) -> bool:
        return self.head[0].type == "STRING"

    @property
    def has_inner_comments(self) -> bool:
        """Whether comments stand inside the head: lines must end there."""
        return any(token.trailing for token in self.head[:-1]) or any(token.above for token in self.head[1:])

    @property
    def is_single(self) -> bool:
        """Whether no block in it has more than one statement."""
        return not self.is_docstring and len(self.body) <= 1 and all(inner.is_single for inner in self.body)

    def flat(self) -> list[Lexeme]:
        """All its tokens."""
        closing = [self.close] if self.close else []
        return [*self.head, *(token for inner in self.body for token in inner.flat()), *closing]


def _file(source: Source, tokens: list[Lexeme]) -> tuple[_Statement, ...]:
    """The statements as the parser finds them: what stands behind the `{` of one are its own."""
    starts = [token.start for token in tokens]

    def statement(node: Tree[Token]) -> _Statement:
        first, behind = bisect_left(starts, node.meta.start_pos), bisect_left(starts, node.meta.end_pos)
        for position in range(first, behind):
            if tokens[position].type == "LBRACE":
                inner = [child for child in _trees(node) if child.meta.start_pos > starts[position]]
                body = tuple(statement(child) for child in inner)
                return _Statement(tuple(tokens[first : position + 1]), body, tokens[behind - 1])
        return _Statement(tuple(tokens[first:behind]))

    return tuple(statement(child) for child in _trees(syntax_tree(source)))


def _trees(node: Tree[Token]) -> list[Tree[Token]]:
    return [child for child in node.children if isinstance(child, Tree) and not child.meta.empty]


class _Word(NamedTuple):
    """A token as it is written: the space before it in its line, and what it costs to begin a line with it."""

    space: str
    text: str
    cost: int | None

    @property
    def width(self) -> int:
        return len(self.space) + len(self.text)


class _Writer:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.lines: list[str] = []

    def block(self, statements: tuple[_Statement, ...], close: Lexeme, depth: int) -> None:
        """Write statements and the comments behind them, up to `close`."""
        aligned = _align(statements)
        for number, statement in enumerate(statements):
            dims = statement.head[0].type == "DIM" and statements[number - 1].head[0].type == "DIM"
            apart = depth == 0 and number > 0 and not dims
            self._above(statement.head[0], depth, opening=number == 0, apart=apart)
            self._statement(statement, aligned[number], depth)
        self._above(close, depth, opening=not statements, apart=False)

    def _above(self, token: Lexeme, depth: int, *, opening: bool, apart: bool) -> None:
        """Write the comments above a token, and the empty line before it, if any; `opening` is where none may be."""
        for comment in token.above:
            if (comment.blank or apart) and not opening:
                self.lines.append("")
            self.lines.append(INDENT * depth + comment.text)
            opening = apart = False
        if (token.blank or apart) and not opening and token.type not in ("RBRACE", "$END"):
            self.lines.append("")

    def _statement(self, statement: _Statement, words: list[_Word], depth: int) -> None:
        if statement.close is None:
            self._flow(statement.head, words, depth)
        elif not statement.body and not statement.close.above and not statement.head[-1].trailing:
            whole = (*statement.head, statement.close)
            self._flow(whole, _words(whole), depth)
        elif (line := self._one_line(statement, depth)) is not None:
            self.lines.append(_with_comment(line, statement.last))
        else:
            self._flow(statement.head, words, depth)
            self.block(statement.body, statement.close, depth + 1)
            self.lines.append(_with_comment(INDENT * depth + statement.close.text, statement.close))

    def _one_line(self, statement: _Statement, depth: int) -> str | None:
        """A block with one statement that was written on one line, if it fits there."""
        if "\n" in self.source.text[statement.head[0].start : statement.last.start] or not statement.is_single:
            return None
        line = INDENT * depth + _joined(_words(statement.flat()))
        return line if len(line) <= WIDTH or _allows((statement.last,)) else None

    def _flow(self, tokens: Sequence[Lexeme], words: list[_Word], depth: int) -> None:
        """Write tokens in as few lines as the width and the comments among them allow."""
        indent = INDENT * depth
        hanging = indent + HANGING
        wide = _allows(tokens)
        first = 0
        for behind in range(1, len(tokens) + 1):
            if behind < len(tokens) and not tokens[behind - 1].trailing and not tokens[behind].above:
                continue
            if first > 0:
                self.lines.extend(hanging + comment.text for comment in tokens[first].above)
            lines = _wrapped(words[first:behind], hanging if first else indent, hanging, wide)
            lines[-1] = _with_comment(lines[-1], tokens[behind - 1])
            self.lines.extend(lines)
            first = behind


def _with_comment(line: str, token: Lexeme) -> str:
    return f"{line}  {token.trailing}" if token.trailing else line


def _allows(tokens: Sequence[Lexeme]) -> bool:
    """Whether a comment behind one of them allows a warning: it does so for its line, which must stay whole."""
    return any(token.trailing[1:].split()[:1] == ["allow"] for token in tokens)


def _joined(words: Sequence[_Word]) -> str:
    return "".join(word.space + word.text for word in words)[len(words[0].space) :]


def _words(tokens: Sequence[Lexeme]) -> list[_Word]:
    """The tokens of a statement with the spaces between them and the places where it may be wrapped."""
    words: list[_Word] = []
    brackets: list[str] = []
    unary = typed = False
    for number, here in enumerate(tokens):
        before = tokens[number - 1] if number else None
        if here.type in ("RPAR", "RSQB"):
            brackets.pop()
        inside = brackets[-1] if brackets else ""
        space = "" if before is None or unary else _space(before.type, here.type, inside)
        operand = before is not None and before.type in _OPERAND_END
        cost = None
        if before is not None and before.type == "COMMA":
            cost = 10 * len(brackets) or 5
        elif here.type in _BINDING and operand:
            cost = 10 * len(brackets) + _BINDING[here.type]
        elif not brackets and here.type in ("TILDE", "EQUAL", *_CLAUSES):
            cost = 15 if number == 1 or (here.type == "EQUAL" and not typed) else 0
        words.append(_Word(space, here.text, cost))
        unary = here.type == "MINUS" and not operand
        if not brackets and here.type in ("COLON", "COMMA"):
            typed = here.type == "COLON"
        if here.type in ("LPAR", "LSQB"):
            brackets.append(here.type)
    return words


def _space(before: str, here: str, inside: str) -> str:
    """The space between two tokens on a line; `inside` is the innermost open bracket."""
    tight = (
        before in ("LPAR", "LSQB")
        or here in ("RPAR", "RSQB", "COMMA")
        or (here == "LPAR" and before in ("NAME", "STRING"))
        or (here == "LSQB" and before in _OPERAND_END)
        or (here == "COLON" and inside and before != "COMMA")
        or (before == "COLON" and inside == "LSQB")
    )
    return "" if tight else " "


def _wrapped(words: Sequence[_Word], indent: str, hanging: str, wide: bool) -> list[str]:
    """The lines of least cost: nothing too long, then few lines, then breaks outside of brackets."""
    flat = indent + _joined(words)
    if len(flat) <= WIDTH or wide or "\n" in flat:
        return [flat]
    starts = [0, *(number for number in range(1, len(words)) if words[number].cost is not None), len(words)]
    ends = [0]
    for word in words:
        ends.append(ends[-1] + word.width)
    best: list[tuple[tuple[int, int, int], int]] = [((0, 0, 0), 0)] * len(starts)
    for at in range(len(starts) - 2, -1, -1):
        start = starts[at]
        column = len(indent if at == 0 else hanging) - ends[start] - len(words[start].space)
        found: tuple[tuple[int, int, int], int] | None = None
        for to in range(at + 1, len(starts)):
            over = max(0, column + ends[starts[to]] - WIDTH)
            excess, lines, cost = best[to][0]
            total = (excess + over, lines + 1, cost + (words[start].cost or 0))
            if found is None or total <= found[0]:
                found = total, to
            if over:
                break
        assert found is not None
        best[at] = found
    result = []
    at = 0
    while at < len(starts) - 1:
        to = best[at][1]
        result.append((hanging if at else indent) + _joined(words[starts[at] : starts[to]]))
        at = to
    return result


def _align(statements: tuple[_Statement, ...]) -> list[list[_Word]]:
    """The words of each statement's head, with spaces that line up the columns of neighbouring declarations.

    A `let` between the sites of a model does not part them.
    """
    result = [_words(statement.head) for statement in statements]
    columns = [
        {column: at for column, at in _columns(statement.head).items() if _position(words, at) <= _LAST_ALIGNED}
        for statement, words in zip(statements, result, strict=True)
    ]
    groups: list[list[int]] = []
    current: dict[str, list[int]] = {}
    for number, statement in enumerate(statements):
        first = statement.head[0]
        if first.blank or first.above:
            current = {}
        if statement.is_docstring or statement.close or statement.has_inner_comments:
            current = {}
            continue
        kind = "SITE" if first.type in _SITES else first.type
        if kind == "LET":
            kind = "LET :" if "colon" in columns[number] else "LET"
            current = {key: rows for key, rows in current.items() if key in (kind, "SITE")}
        else:
            current = {key: rows for key, rows in current.items() if key == kind}
        if kind not in current:
            groups.append([])
            current[kind] = groups[-1]
        current[kind].append(number)
    for rows in groups:
        for column in ("name", "colon", "value"):
            having = [row for row in rows if column in columns[row]]
            target = max((_position(result[row], columns[row][column]) for row in having), default=0)
            for row in having:
                at = columns[row][column]
                word = result[row][at]
                missing = target - _position(result[row], at)
                result[row][at] = word._replace(space=word.space + " " * missing)
    return result


def _position(words: Sequence[_Word], at: int) -> int:
    """How many columns stand before a word."""
    return sum(word.width for word in words[:at]) + len(words[at].space)


def _columns(tokens: Sequence[Lexeme]) -> dict[str, int]:
    """Which tokens of a declaration line up: its name, its `:`, and its `~` or `=`."""
    columns = {} if tokens[0].type == "NAME" or len(tokens) == 1 else {"name": 1}
    depth = 0
    for number, token in enumerate(tokens):
        depth += (token.type in ("LPAR", "LSQB")) - (token.type in ("RPAR", "RSQB"))
        if depth > 0:
            continue
        if token.type == "COLON":
            columns["colon"] = number
        elif token.type in ("TILDE", "EQUAL"):
            columns["value"] = number
            break
        elif token.type in _CLAUSES or (token.type == "COMMA" and tokens[0].type != "JOINT"):
            break
    return columns
