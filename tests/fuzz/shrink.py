"""A smaller program that still fails: lines are left out, then expressions are replaced by what stands in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fuzz.features import nodes

from guidedsl.pipeline import check
from guidedsl.source import Source
from guidedsl.syntax import ast
from guidedsl.syntax.parser import parse

EXPRESSIONS = (ast.Call, ast.Chain, ast.Power, ast.Index, ast.Negative, ast.Compare, ast.Vector)
SIMPLE = ("1", "0.5")


def shrink(text: str, fails: Callable[[str], bool], tries: int = 400) -> str:
    """The smallest program found; `fails` says whether a program without errors shows the same failure."""
    left = tries

    def holds(candidate: str) -> bool:
        nonlocal left
        if left <= 0 or not _well_formed(candidate):
            return False
        left -= 1
        return fails(candidate)

    before = ""
    while text != before and left > 0:
        before = text
        for candidates in (_without_lines, _with_simpler_expressions):
            text = _descend(text, candidates, holds)
    return text


def _descend(text: str, candidates: Callable[[str], Iterator[str]], holds: Callable[[str], bool]) -> str:
    """Takes the first candidate that holds for as long as there is one."""
    while True:
        smaller = next((one for one in candidates(text) if len(one) < len(text) and holds(one)), None)
        if smaller is None:
            return text
        text = smaller


def _well_formed(text: str) -> bool:
    return not any(d.severity == "error" for d in check(Source("fuzz.guide", text)).diagnostics)


def _without_lines(text: str) -> Iterator[str]:
    """Without whole guides, then without more and more single lines, the last first: nothing below reads them."""
    file = parse(Source("fuzz.guide", text)).file
    for guide in file.guides if len(file.guides) > 1 else ():
        yield text[: guide.span.start] + text[guide.span.end :]
    lines = text.split("\n")
    for number in range(len(lines) - 1, 0, -1):
        if lines[number].strip() and not lines[number].startswith(("model", "guide", "}", "  dim")):
            yield "\n".join(lines[:number] + lines[number + 1 :])


def _with_simpler_expressions(text: str) -> Iterator[str]:
    """With one expression replaced by a part of it or by a number, the longest first."""
    found = [node for node in nodes(parse(Source("fuzz.guide", text)).file.items) if isinstance(node, EXPRESSIONS)]
    for node in sorted(found, key=lambda node: node.span.start - node.span.end):
        start, end = node.span.start, node.span.end
        parts = [inner for inner in nodes(node) if isinstance(inner, (*EXPRESSIONS, ast.Ref)) and inner is not node]
        spans = {(part.span.start, part.span.end) for part in parts}
        for low, high in sorted(spans, key=lambda span: span[1] - span[0]):
            yield text[:start] + text[low:high] + text[end:]
        for number in SIMPLE:
            yield text[:start] + number + text[end:]
