"""How diagnostics are shown: text with excerpts, JSON, GitHub annotations."""

from __future__ import annotations

import json
import textwrap

import pytest

from guidedsl.cli.excerpts import display_width, printable, render_text
from guidedsl.cli.render import Finding, render_github, render_json, summary_line
from guidedsl.diagnostics import Diagnostic, Label
from guidedsl.source import Source


def label(source: Source, word: str, text: str, occurrence: int = 1) -> Label:
    start = -1
    for _ in range(occurrence):
        start = source.text.index(word, start + 1)
    return Label(source.span(start, start + len(word)), text)


def shown(
    source: Source, primary: Label, secondary: Label | None = None, hint: str | None = None, **options: int
) -> str:
    diagnostic = Diagnostic("E402", "scale must be positive", primary, secondary, hint)
    return render_text(source, diagnostic, **options)


def block(text: str) -> str:
    return textwrap.dedent(text).removeprefix("\n")


def test_both_places_and_the_edit() -> None:
    text = "model M {\n}\n\n\n\n\n\n\n\nguide G {\n  param s : real\n\n\n  mu ~ Normal(0, s)\n}\n"
    source = Source("radon.guide", text)
    found = shown(
        source, label(source, "s)", "this is real"), label(source, "param s", "declared here"), "say positive"
    )
    assert found == block("""
        error[E402]: scale must be positive
          --> radon.guide:14:18
           |
        11 |   param s : real
           |   ------- declared here
        ...
        14 |   mu ~ Normal(0, s)
           |                  ^^ this is real
           |
        hint: say positive
        """)


def test_two_places_on_one_line() -> None:
    source = Source("a.guide", "  param p : unit = 1.5\n")
    found = shown(source, label(source, "1.5", "not unit"), label(source, "unit", "declared unit"))
    assert found == block("""
        error[E402]: scale must be positive
         --> a.guide:1:20
          |
        1 |   param p : unit = 1.5
          |             ----   ^^^ not unit
          |             |
          |             declared unit
          |
        """)


def test_a_place_inside_the_other() -> None:
    source = Source("a.guide", "Normal(0, -1)\n")
    found = shown(source, label(source, "-1", "negative"), label(source, "Normal(0, -1)", "here"))
    assert "1 | Normal(0, -1)\n  | ----------^^-\n  |           |\n  |           negative\n  | |\n  | here\n" in found


@pytest.mark.parametrize("between", [1, 2, 3])
def test_lines_between_two_places(between: int) -> None:
    source = Source("a.guide", "a\n" + "x\n" * between + "b\n")
    lines = shown(source, label(source, "b", "two"), label(source, "a", "one")).split("\n")
    assert ("2 | x" in lines) == (between == 1)
    assert ("..." in lines) == (between > 1)


def test_tabs_and_wide_characters_stay_aligned() -> None:
    source = Source("a.guide", "\tx = 日本 + e\u0301 + bad\n")
    lines = shown(source, label(source, "bad", "here")).split("\n")
    code, marks = lines[3], lines[4]
    assert "\t" not in code
    assert display_width(code[: code.index("bad")]) == marks.index("^")


def test_long_lines_are_cut_around_the_place() -> None:
    source = Source("a.guide", "x + " * 100 + "bad" + " + y" * 100 + "\n")
    lines = shown(source, label(source, "bad", "here"), width=80).split("\n")
    code, marks = lines[3], lines[4]
    assert code.index("bad") == marks.index("^^^")
    assert len(code) <= 80
    assert code.startswith("1 | …")
    assert code.endswith("…")


@pytest.mark.parametrize("width", [10, 40, 80, 120])
def test_two_far_places_on_a_long_line_are_two_excerpts(width: int) -> None:
    source = Source("a.guide", "first" + " + y" * 200 + " last\n")
    lines = shown(source, label(source, "last", "two"), label(source, "first", "one"), width=width).split("\n")
    assert lines[4].endswith("----- one")
    assert lines[5] == "..."
    assert lines[6].index("last") == lines[7].index("^^^^")


def test_a_place_over_many_lines_is_marked_on_its_first() -> None:
    source = Source("a.guide", "plate p {\n  x\n}\n")
    found = shown(source, Label(source.span(0, len(source.text)), "here"))
    assert "1 | plate p {\n  | ^^^^^^^^^ here\n" in found


def test_the_end_of_the_file_and_an_empty_file() -> None:
    for text in ("", "x", "x\n"):
        source = Source("a.guide", text)
        assert "^ here" in shown(source, Label(source.span(len(text), len(text)), "here"))


def test_nothing_in_a_file_moves_the_cursor() -> None:
    source = Source("a\x1b[2J.guide", "x \x1b[31m\u202e\u0085 bad\r\u2028\n")
    found = shown(source, label(source, "bad", "this\x07"))
    assert all(char.isprintable() or char == "\n" for char in found)
    assert printable("\x1b[2J\ta\nb") == "\ufffd[2J\ta\nb"


def test_colour_changes_nothing_but_colour() -> None:
    import re

    source = Source("a.guide", "  param p : unit = 1.5\n")
    places = label(source, "1.5", "not unit"), label(source, "unit", "declared")
    diagnostic = Diagnostic("W601", "message", *places, "hint")
    plain, painted = render_text(source, diagnostic), render_text(source, diagnostic, color=True)
    assert plain != painted
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == plain
    assert plain.startswith("warning[W601]: message\n")


def finding(source: Source, code: str = "E402") -> Finding:
    places = label(source, "bad", "a label"), label(source, "x", "another")
    return Finding("50% of a: b", source, Diagnostic(code, "50% of a: b", *places, "an edit"))


def test_json_has_places_with_exclusive_ends() -> None:
    (found,) = json.loads(render_json([finding(Source("a.guide", "x\n  bad\n"))]))
    assert found == {
        "code": "E402",
        "severity": "error",
        "message": "50% of a: b",
        "file": "a.guide",
        "line": 2,
        "column": 3,
        "end_line": 2,
        "end_column": 6,
        "label": "a label",
        "secondary": {"line": 1, "column": 1, "end_line": 1, "end_column": 2, "label": "another"},
        "hint": "an edit",
    }
    assert json.loads(render_json([])) == []


def test_json_of_an_error_without_a_place_has_the_same_keys() -> None:
    with_place, without = json.loads(render_json([finding(Source("a", "x bad")), Finding("no such file")]))
    assert with_place.keys() == without.keys()
    assert (without["message"], without["severity"], without["line"]) == ("no such file", "error", None)


def test_github_annotations_are_escaped() -> None:
    text = render_github(finding(Source("a,b:c.guide", "x\n  bad\n"), "W601"))
    assert text == (
        "::warning file=a%2Cb%3Ac.guide,line=2,endLine=2,col=3,endColumn=6,title=W601::50%25 of a: b%0Ahint: an edit\n"
    )
    assert render_github(Finding("first\nsecond")) == "::error::first%0Asecond\n"


def test_the_summary_counts() -> None:
    one, other = Source("a.guide", "x bad"), Source("b.guide", "x bad")
    assert summary_line([finding(one), finding(one), finding(one, "W601")]) == "2 errors, 1 warning in a.guide"
    assert summary_line([finding(one), finding(other)]) == "2 errors in 2 files"
    assert summary_line([Finding("no such file")]) == ""
