"""Writes every `auto` of a text out as the statements that it stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable

from guidedsl.source import Source, Span
from guidedsl.syntax.format import format_source
from guidedsl.syntax.tokens import comment_spans

_REST_OF_LINE = re.compile(r"[^\S\n]*(#[^\n]*)?")


def expand_source(source: Source, expansions: Iterable[tuple[Span, str]]) -> str:
    """The text with the statements at the given places replaced, in its canonical layout.

    Comments in a replaced statement or behind it come to stand above what replaces it.

    Raises:
        CompileError: the text has syntax errors.
    """
    parts: list[str] = []
    done = 0
    for span, statements in sorted(expansions, key=lambda expansion: expansion[0].start):
        before = source.text[done : span.start]
        comments = [source.text[start:end] for start, end in comment_spans(source, span.start, span.end)]
        rest = _REST_OF_LINE.match(source.text, span.end)
        done = span.end
        if rest is not None and rest[1]:
            comments.append(rest[1])
            done = rest.end()
        parts.append(before)
        if before.rpartition("\n")[2].strip():
            parts.append("\n")
        parts.extend(f"{comment}\n" for comment in comments)
        parts.append(statements)
    parts.append(source.text[done:])
    return format_source(Source(source.name, "".join(parts)))
