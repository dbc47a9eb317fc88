"""`fmt` over every program of the repository: a second run changes nothing, and no comment is lost or moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from guidedsl.source import Source, read_source
from guidedsl.syntax.format import format_source
from guidedsl.syntax.parser import parse, tokenize

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted([*ROOT.glob("tests/cases/**/*.guide"), *ROOT.glob("examples/**/*.guide")])
WELL_FORMED = [path for path in PROGRAMS if not parse(read_source(path)).diagnostics]


def comments(text: str) -> list[tuple[str, str]]:
    """Each comment with the token before it, in order."""
    source = Source("text", text)
    tokens = tokenize(source)
    found = []
    ends = [(token.end_pos or 0, str(token)) for token in tokens]
    starts = [*((token.start_pos or 0) for token in tokens), len(text)]
    for (end, before), start in zip([(0, ""), *ends], starts, strict=True):
        for line in text[end:start].split("\n"):
            if "#" in line:
                found.append((before, line[line.index("#") :].rstrip()))
    return found


def test_there_are_programs() -> None:
    assert len(WELL_FORMED) > 100


@pytest.mark.parametrize("path", WELL_FORMED, ids=lambda path: str(path.relative_to(ROOT)))
def test_fmt_is_idempotent_and_keeps_comments_and_tokens(path: Path) -> None:
    source = read_source(path)
    once = format_source(source)
    assert format_source(Source(source.name, once)) == once
    assert comments(once) == comments(source.text)
    assert [str(t) for t in tokenize(Source("", once))] == [str(t) for t in tokenize(source)]


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/**/*.guide")), ids=lambda path: path.parent.name)
def test_examples_are_laid_out(path: Path) -> None:
    source = read_source(path)
    assert format_source(source) == source.text
