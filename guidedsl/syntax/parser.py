"""Text to syntax tree, with recovery: one report for each mistake, and nothing that only follows from one."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedToken
from lark.parsers.lalr_analysis import Shift
from lark.parsers.lalr_interactive_parser import InteractiveParser

from guidedsl import errors
from guidedsl.diagnostics import Diagnostic
from guidedsl.source import Source, Span
from guidedsl.syntax import ast, syntax_errors
from guidedsl.syntax.build import Build, token_span
from guidedsl.syntax.tables import load_parser
from guidedsl.syntax.words import PLANNED

MAX_DEPTH = 120
_UNKNOWN = re.compile(r"#[^\n]*|\s+|(?P<unknown>\"[^\n]*|[^\s#\"]+)")
_CLOSING = {"RPAR": "LPAR", "RSQB": "LSQB", "RBRACE": "LBRACE"}


@dataclass(frozen=True)
class Parsed:
    """A tree, the mistakes found, and the names in the text that recovery skipped."""

    file: ast.File
    diagnostics: tuple[Diagnostic, ...]
    skipped: frozenset[str]


@cache
def grammar() -> Lark:
    return load_parser()


def tokenize(source: Source) -> list[Token]:
    """All tokens but comments, the words reserved for later among them."""
    return [
        Token.new_borrow_pos(token.upper(), token, token) if token.type == "NAME" and token in PLANNED else token
        for token in grammar().lex(source.text)
    ]


def unknown_characters(source: Source, tokens: list[Token]) -> list[Span]:
    """Where characters stand that begin no token; neighbours are taken together."""
    found = []
    gaps = zip([0, *(t.end_pos or 0 for t in tokens)], [*(t.start_pos or 0 for t in tokens), len(source.text)])
    for start, end in gaps:
        for match in _UNKNOWN.finditer(source.text, start, end):
            if match["unknown"]:
                found.append(source.span(*match.span()))
    return found


def parse(source: Source) -> Parsed:
    """Parse a whole file. Every mistake is reported once; what could be read around it is in the tree."""
    return _Parser(source).run()


class _Parser:
    def __init__(self, source: Source) -> None:
        self.source = source
        tokens = tokenize(source)
        end = Token("$END", "", start_pos=len(source.text), end_pos=len(source.text))
        last = source.span(len(source.text), len(source.text))
        end.line, end.column = last.line, last.column
        self.tokens = [*tokens, end]
        self.interactive: InteractiveParser = grammar().parse_interactive("")
        self.open: list[Token] = []
        self.starts: list[int] = []
        self.diagnostics: list[Diagnostic] = [
            syntax_errors.unknown(source.excerpt(span), span) for span in unknown_characters(source, tokens)
        ]
        self.skipped: set[str] = set()

    def run(self) -> Parsed:
        position = 0
        result: Any = None
        statement_start = 0
        while position < len(self.tokens):
            token = self.tokens[position]
            if self._at_list():
                statement_start = position
            try:
                result = self.interactive.feed_token(token)
            except UnexpectedToken:
                renamed = self._reserved_name(position)
                if renamed is not None:
                    self.tokens[position] = renamed
                    continue
                self._report(position)
                position = self._recover(position, statement_start)
                continue
            self._track(token)
            position += 1
        file = Build(visit_tokens=False).transform(result) if isinstance(result, Tree) else ast.File(None, ())
        deep = _too_deep(file)
        if deep is not None:
            self.diagnostics.append(errors.nested_too_deep(deep))
            file = ast.File(None, ())
        return Parsed(file, tuple(self.diagnostics), frozenset(self.skipped))

    def _actions(self, state: int) -> dict[str, Any]:
        table: dict[Any, dict[str, Any]] = self.interactive.parser_state.parse_conf.parse_table.states
        return table[state]

    def _is_list(self, state: int) -> bool:
        """Whether the parser may start a statement (in a block) or an item (in the file) in this state."""
        actions = self._actions(state)
        return any(actions.get(word, (None,))[0] is Shift for word in ("LET", "MODEL"))

    def _at_list(self) -> bool:
        return self._is_list(self.interactive.parser_state.state_stack[-1])

    def _track(self, token: Token) -> None:
        if token.type in _CLOSING.values():
            self.open.append(token)
        elif token.type in _CLOSING and self.open and self.open[-1].type == _CLOSING[token.type]:
            self.open.pop()

    def _reserved_name(self, position: int) -> Token | None:
        """A reserved word where a name must stand: report it and read it as the name that it was meant to be."""
        token = self.tokens[position]
        if not syntax_errors.is_misplaced_keyword(self.tokens, position) or "NAME" not in self.interactive.accepts():
            return None
        self.diagnostics.append(errors.reserved_word(str(token), token_span(token)))
        self.skipped.add(str(token))
        return Token.new_borrow_pos("NAME", str(token), token)

    def _report(self, position: int) -> None:
        accepted = frozenset(self.interactive.accepts())
        unclosed = [token for token in self.open if token.type in ("LPAR", "LSQB")]
        self.diagnostics.append(
            syntax_errors.describe(self.tokens, position, accepted, unclosed[-1] if unclosed else None, bool(self.open))
        )

    def _recover(self, position: int, statement_start: int) -> int:
        """Drop the broken statement: skip to a token that can follow a statement, unwind the parser to where it can."""
        skip_from = position
        depth = 0
        while position < len(self.tokens):
            token = self.tokens[position]
            if depth == 0 and (unwound := self._target(position)) is not None:
                break
            depth += token.type == "LBRACE"
            depth -= token.type == "RBRACE" and depth > 0
            position += 1
        else:
            unwound = 1
        for token in self.tokens[min(statement_start, skip_from) : position]:
            if token.type == "NAME":
                self.skipped.add(str(token))
        self._unwind(unwound)
        self._reopen(position)
        return position

    def _unwind(self, length: int) -> None:
        """Forget what was read of the broken statement, and close the blocks that the text left open around it."""
        state = self.interactive.parser_state
        inner = next(n for n in range(len(state.state_stack), 0, -1) if self._is_list(state.state_stack[n - 1]))
        del state.state_stack[inner:]
        del state.value_stack[inner - 1 :]
        for _ in range(_count_open(state.value_stack[length - 1 :])):
            self.interactive.feed_token(Token("RBRACE", "}"))

    def _target(self, position: int) -> int | None:
        """The length of the state stack at which parsing can go on with this token, or None."""
        token = self.tokens[position]
        if token.type == "NAME" and self.tokens[position + 1].type != "TILDE":
            return None
        stack = self.interactive.parser_state.state_stack
        for length in range(len(stack), 0, -1):
            state = stack[length - 1]
            if self._is_list(state) and token.type in self._actions(state):
                return length
        return None

    def _reopen(self, position: int) -> None:
        """Recount the brackets that are open in what the parser has kept."""
        braces = [token for token in self.open if token.type == "LBRACE"]
        self.open = braces[: _count_open(self.interactive.parser_state.value_stack)]


def _count_open(values: list[Any]) -> int:
    """How many blocks are open among the parser's values: a brace stays there until its block is closed."""
    return sum(isinstance(value, Token) and value.type == "LBRACE" for value in values) - sum(
        isinstance(value, Token) and value.type == "RBRACE" for value in values
    )


def _too_deep(file: ast.File) -> Span | None:
    """The place of the first node nested deeper than any reader or the checker would follow."""
    stack: list[tuple[Any, int, Span]] = [(file, 0, Span(0, 0, 1, 1))]
    while stack:
        node, depth, span = stack.pop()
        span = getattr(node, "span", span)
        if depth > MAX_DEPTH:
            return span
        for field in fields(node):
            value = getattr(node, field.name)
            children = value if isinstance(value, tuple) else (value,)
            stack.extend((child, depth + 1, span) for child in children if is_dataclass(child))
    return None
