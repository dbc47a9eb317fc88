"""Text to syntax tree, with recovery: one report for each mistake, and nothing that only follows from one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from itertools import islice
from typing import Any, get_args

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedToken
from lark.parsers.lalr_analysis import Shift
from lark.parsers.lalr_interactive_parser import InteractiveParser

from guidedsl import errors
from guidedsl.diagnostics import Diagnostic
from guidedsl.source import Source, Span
from guidedsl.syntax import ast, syntax_errors
from guidedsl.syntax.build import Build, token_span
from guidedsl.syntax.syntax_errors import MISPLACED_IN_SCANS
from guidedsl.syntax.tables import load_parser
from guidedsl.syntax.words import STATEMENT_KEYWORDS

MAX_MISTAKES = 100
"""After so many the text is likely no program, and nobody reads on."""
MAX_DEPTH = 80
_EXPRESSIONS = get_args(ast.Expr)
_UNKNOWN = re.compile(r"#[^\n]*|\s+|(?P<unknown>\"[^\n]*|[^\s#\"]+)")
_LONG_QUOTE = '"""'
_STATEMENT_END = ("NAME", "NUMBER", "STRING", "RPAR", "RSQB", "LBRACE", "RBRACE")
_KEYWORD_TOKENS = frozenset(word.upper() for word in STATEMENT_KEYWORDS) | {"$END"}
_TARGETS = _KEYWORD_TOKENS | {"NAME", "RBRACE"}
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
    """All tokens but comments."""
    return list(grammar().lex(source.text))


def unknown_characters(source: Source, tokens: list[Token]) -> list[Span]:
    """Where characters stand that begin no token; neighbours are taken together. At most `MAX_MISTAKES`."""
    found = list(islice(_unknown(source, tokens), MAX_MISTAKES))
    return [span for number, span in enumerate(found) if not _closes_quote(source, found[:number], span)]


def _unknown(source: Source, tokens: list[Token]) -> Iterator[Span]:
    starts = [0, *(token.end_pos or 0 for token in tokens)]
    ends = [*(token.start_pos or 0 for token in tokens), len(source.text)]
    for start, end in zip(starts, ends, strict=True):
        for match in _UNKNOWN.finditer(source.text, start, end):
            if match["unknown"]:
                first, last = match.span()
                if match[0].startswith('"') and source.text[first - 2 : first] + '"' == _LONG_QUOTE:
                    first -= 2
                yield source.span(first, last)


def _closes_quote(source: Source, before: list[Span], span: Span) -> bool:
    """Whether this is the second single quote of a pair on one line, of which the first says enough."""
    if not source.excerpt(span).startswith("'"):
        return False
    return sum(source.excerpt(s).startswith("'") and s.line == span.line for s in before) % 2 == 1


def _between_quotes(source: Source, span: Span) -> list[str]:
    """What stands behind a single quote up to the next one on its line."""
    line_end = source.text.find("\n", span.start) if "\n" in source.text[span.start :] else len(source.text)
    parts = source.text[span.start : line_end].split("'")
    return [parts[1].replace('"', "")] if source.excerpt(span) == "'" and len(parts) > 2 else []


def _quoted(source: Source, tokens: list[Token], unknown: list[Span]) -> list[Token]:
    """The tokens with what stands between single quotes on one line taken for the string that it was meant to be."""
    for span in unknown:
        inside = _between_quotes(source, span)
        if not inside:
            continue
        text, close = inside[0], source.text.find("'", span.start + 1)
        string = Token("STRING", f'"{text}"', span.start, span.line, span.column, span.line, span.column, close + 1)
        before = [token for token in tokens if (token.end_pos or 0) <= span.start]
        tokens = [*before, string, *(token for token in tokens if (token.start_pos or 0) > close)]
    return tokens


def parse(source: Source) -> Parsed:
    """Parse a whole file. Every mistake is reported once; what could be read around it is in the tree."""
    return _Parser(source).run()


def syntax_tree(source: Source) -> Tree[Token]:
    """The grammar's own tree of a file without mistakes."""
    parser = _Parser(source)
    parser.run()
    interactive = grammar().parse_interactive("")
    result = None
    for token in parser.tokens:
        result = interactive.feed_token(token)
    assert isinstance(result, Tree)
    return result


class _Parser:
    def __init__(self, source: Source) -> None:
        self.source = source
        tokens = tokenize(source)
        self.unknown = unknown_characters(source, tokens)
        self.skipped: set[str] = set()
        for position, span in enumerate(self.unknown):
            if source.excerpt(span).startswith(_LONG_QUOTE):  # what follows is inside of the string
                self.skipped = {str(token) for token in tokens if (token.start_pos or 0) >= span.start}
                tokens = [token for token in tokens if (token.start_pos or 0) < span.start]
                self.unknown = self.unknown[: position + 1]
                break
        self.skipped.update(text for span in self.unknown for text in _between_quotes(source, span))
        tokens = _quoted(source, tokens, self.unknown)
        end = Token("$END", "", start_pos=len(source.text), end_pos=len(source.text))
        last = source.span(len(source.text), len(source.text))
        end.line, end.column = last.line, last.column
        self.tokens = [*tokens, end]
        self.interactive: InteractiveParser = grammar().parse_interactive("")
        self.open: list[Token] = []
        self.suspect: Token | None = None
        """The first `{` whose `}` stands further to the left than its line: likely the one that is not closed."""
        self.diagnostics: list[Diagnostic] = [
            syntax_errors.unknown(source.excerpt(span), span) for span in self.unknown
        ]
        self.reserved: set[str] = set()

    def run(self) -> Parsed:
        position = 0
        result: Any = None
        statement_start = 0
        stuck = -1
        while position < len(self.tokens) and len(self.diagnostics) < MAX_MISTAKES:
            token = self.tokens[position]
            try:
                result = self.interactive.feed_token(token)
            except UnexpectedToken:
                renamed = self._reserved_name(position)
                if renamed is not None:
                    self.tokens[position] = renamed
                    continue
                self._report(position, statement_start)
                if self._enter_block(token):
                    continue
                if self._complete(position):
                    statement_start = position
                recovered = self._recover(position, statement_start)
                # The token that parsing goes on with is accepted there; were it not, it would be skipped here.
                position = recovered if recovered > position or recovered != stuck else position + 1
                stuck = statement_start = recovered
                continue
            self._track(token)
            stack = self.interactive.parser_state.state_stack
            if len(stack) > 1 and self._is_list(stack[-2]):
                statement_start = position
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

    def _track(self, token: Token) -> None:
        if token.type in _CLOSING.values():
            self.open.append(token)
        elif token.type in _CLOSING and self.open and self.open[-1].type == _CLOSING[token.type]:
            opened = self.open.pop()
            if token.type == "RBRACE" and self._indent(token) < self._indent(opened) and self._is_first(token):
                self.suspect = self.suspect or opened
        if not self.open:
            self.suspect = None

    def _indent(self, token: Token) -> int:
        line = self.source.lines[(token.line or 1) - 1]
        return len(line) - len(line.lstrip())

    def _is_first(self, token: Token) -> bool:
        """Whether a token is the first on its line."""
        return self._indent(token) == (token.column or 1) - 1

    def _reserved_name(self, position: int) -> Token | None:
        """A reserved word where a name must stand: report it and read it as the name that it was meant to be.

        Names of arguments are not the program's to choose, so these may be reserved words.
        """
        token = self.tokens[position]
        if not syntax_errors.is_misplaced_keyword(self.tokens, position) or "NAME" not in self.interactive.accepts():
            return None
        if self.open and self.open[-1].type == "LPAR" and self.tokens[position + 1].type == "EQUAL":
            return Token.new_borrow_pos("NAME", str(token), token)
        if str(token) not in self.reserved:
            self.diagnostics.append(errors.reserved_word(str(token), token_span(token)))
        self.reserved.add(str(token))
        self.skipped.add(str(token))
        return Token.new_borrow_pos("NAME", str(token), token)

    def _report(self, position: int, start: int) -> None:
        token = self.tokens[position]
        behind = self.tokens[position - 1].end_pos or 0 if position else 0
        for span in self.unknown:
            between = behind <= span.start <= (token.start_pos or 0)
            if between and (span.line == token.line or self.source.excerpt(span).startswith('"')):
                return
        if self._is_list(self.interactive.parser_state.state_stack[-1]):
            start = position
        accepted = frozenset(self.interactive.accepts())
        unclosed = self.open[-1] if self.open else None
        if unclosed is not None and unclosed.type == "LBRACE":
            outside = token.type in ("MODEL", "GUIDE", "$END")
            outside |= token.type in MISPLACED_IN_SCANS and self._in_scan() and not self._is_misplaced(token)
            unclosed = (self.suspect or unclosed) if outside else None
        elif unclosed is not None and self._is_closed(position, unclosed):
            unclosed = None
        self.diagnostics.append(
            syntax_errors.describe(self.tokens, position, accepted, unclosed, self.tokens[min(start, position)])
        )

    def _is_closed(self, position: int, opened: Token) -> bool:
        """Whether a bracket that is open at `position` is closed before the next statement."""
        depth = 0
        for token in self.tokens[position:]:
            if token.type in _KEYWORD_TOKENS or token.type in ("LBRACE", "RBRACE"):
                return False
            if depth == 0 and _CLOSING.get(token.type) == opened.type:
                return True
            depth += (token.type in _CLOSING.values()) - (token.type in _CLOSING and depth > 0)
        return False

    def _enter_block(self, token: Token) -> bool:
        """Read a `{` that is missing before the first statement of a block, so that the block is read as one."""
        if "LBRACE" not in self.interactive.accepts() or token.type not in _KEYWORD_TOKENS:
            return False
        state = self.interactive.parser_state
        stacks = list(state.state_stack), list(state.value_stack)
        brace = Token.new_borrow_pos("LBRACE", "{", token)
        self.interactive.feed_token(brace)
        if token.type in self.interactive.accepts():
            self._track(brace)
            return True
        state.state_stack[:], state.value_stack[:] = stacks
        return False

    def _complete(self, position: int) -> bool:
        """Finish the statement before a keyword or a line that cannot stand here: only what begins there is broken."""
        token = self.tokens[position]
        new_line = position == 0 or (token.line or 1) > (self.tokens[position - 1].end_line or 1)
        if token.type not in _KEYWORD_TOKENS and not new_line:
            return False
        for word in ("LET", "MODEL"):
            if word in self.interactive.accepts():
                self.interactive.feed_token(Token(word, word.lower()))
                state = self.interactive.parser_state
                del state.state_stack[-1], state.value_stack[-1]
                return True
        return False

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
        broken = self.tokens[min(statement_start, skip_from) : position]
        self.skipped.update(str(token) for token in broken if token.type == "NAME")
        if broken and broken[0].type in ("AUTO", "JOINT", "TILDE"):  # which latents it samples is not known
            self.skipped.add("rest")
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
        if token.type not in _TARGETS or (token.type == "NAME" and not self._begins_sample(position)):
            return None
        stack = self.interactive.parser_state.state_stack
        lists = [length for length in range(len(stack), 0, -1) if self._is_list(stack[length - 1])]
        found = next((length for length in lists if token.type in self._actions(stack[length - 1])), None)
        return None if found != lists[0] and self._is_misplaced(token) else found

    def _is_misplaced(self, token: Token) -> bool:
        """Whether this stands in a scan by intent, though a scan has no such statement: deeper than the scan's line."""
        if token.type not in MISPLACED_IN_SCANS or not self.open or not self._in_scan():
            return False
        opened = self.open[-1]
        return token.line == opened.line or self._indent(token) > self._indent(opened)

    def _in_scan(self) -> bool:
        """Whether the innermost block is that of a scan."""
        states = reversed(self.interactive.parser_state.state_stack)
        return "NEXT" in self._actions(next(state for state in states if self._is_list(state)))

    def _begins_sample(self, position: int) -> bool:
        """Whether the name at `position` begins `z ~ …`, and is not the type before a distribution."""
        before = self.tokens[position - 1]
        apart = before.type in _STATEMENT_END and (before.type != "NAME" or self._is_first(self.tokens[position]))
        return self.tokens[position + 1].type == "TILDE" and apart

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
    """The place of an expression, or else a block, nested deeper than any reader or the checker would follow."""
    stack: list[tuple[Any, int, Any, Span]] = [(file, 0, file, Span(0, 0, 1, 1))]
    while stack:
        node, depth, root, span = stack.pop()
        if not isinstance(root, _EXPRESSIONS):
            root = node
            span = getattr(node, "span", span)
        if depth > MAX_DEPTH:
            return span
        for field in fields(node):
            value = getattr(node, field.name)
            children = value if isinstance(value, tuple) else (value,)
            stack.extend((child, depth + 1, root, span) for child in children if is_dataclass(child))
    return None
