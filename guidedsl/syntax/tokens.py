"""The text as a person laid it out: every token with the comments and the empty lines around it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from guidedsl.source import Source
from guidedsl.syntax.parser import tokenize

_COMMENT_OR_NEWLINE = re.compile(r"#[^\n]*|\n")


@dataclass(frozen=True)
class Comment:
    """A comment on a line of its own."""

    text: str
    blank: bool
    """Whether an empty line stands before it."""


@dataclass(frozen=True)
class Lexeme:
    """A token, or the end of the text (of type `$END`)."""

    type: str
    text: str
    start: int
    end: int
    above: tuple[Comment, ...]
    blank: bool
    """Whether an empty line stands before it, below the comments above it."""
    trailing: str
    """The comment behind it on its line, or nothing."""


def lexemes(source: Source) -> list[Lexeme]:
    """The tokens of a text without syntax errors, in order; the last is the end of the text."""
    tokens = [(token.type, str(token), token.start_pos or 0, token.end_pos or 0) for token in tokenize(source)]
    tokens.append(("$END", "", len(source.text), len(source.text)))
    ends = [0, *(end for _, _, _, end in tokens[:-1])]
    gaps = [_gap(source, end, start) for end, (_, _, start, _) in zip(ends, tokens, strict=True)]
    trailing = [*(trailing for trailing, _, _ in gaps[1:]), ""]
    return [
        Lexeme(*token, above, blank, behind)
        for token, (_, above, blank), behind in zip(tokens, gaps, trailing, strict=True)
    ]


def comment_spans(source: Source, start: int, end: int) -> list[tuple[int, int]]:
    """Where the comments between two places stand."""
    tokens = [token for token in tokenize(source) if start <= (token.start_pos or 0) < end]
    before = [start, *(token.end_pos or 0 for token in tokens)]
    behind = [*(token.start_pos or 0 for token in tokens), end]
    found: list[tuple[int, int]] = []
    for edges in zip(before, behind, strict=True):
        found.extend(m.span() for m in _COMMENT_OR_NEWLINE.finditer(source.text, *edges) if m[0] != "\n")
    return found


def _gap(source: Source, start: int, end: int) -> tuple[str, tuple[Comment, ...], bool]:
    """What stands between two tokens: the comment behind the first, those above the second, a blank line before it."""
    trailing = ""
    above: list[Comment] = []
    newlines = 0
    for match in _COMMENT_OR_NEWLINE.finditer(source.text, start, end):
        if match[0] == "\n":
            newlines += 1
            continue
        if start > 0 and newlines == 0:
            trailing = match[0].rstrip()
        else:
            above.append(Comment(match[0].rstrip(), newlines > 1))
        newlines = 0
    return trailing, tuple(above), newlines > 1
