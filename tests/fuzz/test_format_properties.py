"""What formatting must keep, on programs with white space and comments between any two tokens."""

from __future__ import annotations

import re
from itertools import chain, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from guidedsl.source import Source
from guidedsl.syntax.format import WIDTH, format_source
from guidedsl.syntax.parser import parse, tokenize

Tokens = list[str]

NAMES = ("a", "x", "mu", "theta_loc", "_", "K", "rest", "type", "subsample", "a_name_of_some_length", "N2")
NUMBERS = ("0", "1", "12", "0.5", "1.", ".5", "1e-3", "2.5E+10")
STRINGS = ('"s"', '""', '"a # b"', '"a\\"b"', '"""long  \n\n  {text"""')
OPERATORS = ("+", "-", "*", "/", "@", "^", "==", "!=", "<=", ">=", "<", ">")
COMMENTS = ("#", "# a", "# b  ", "#c { ~", "# allow W606", '# "quoted', "# ünï ⊕", "## d # e", "# " + "long " * 30)

names = st.sampled_from(NAMES)


def joined(parts: list[Tokens], separator: str = ",") -> Tokens:
    return [token for number, part in enumerate(parts) for token in ([separator] if number else []) + part]


def flat(parts: list[Tokens]) -> Tokens:
    return list(chain.from_iterable(parts))


def listed(part: st.SearchStrategy[Tokens], low: int = 1, high: int = 3) -> st.SearchStrategy[Tokens]:
    return st.lists(part, min_size=low, max_size=high).map(joined)


def sequence(*parts: str | st.SearchStrategy[str] | st.SearchStrategy[Tokens]) -> st.SearchStrategy[Tokens]:
    """Tokens one after the other: words as they are, and what strategies give."""
    drawn = st.tuples(*(st.just(part) if isinstance(part, str) else part for part in parts))
    return drawn.map(lambda found: [t for part in found for t in ([part] if isinstance(part, str) else part)])


def maybe(part: st.SearchStrategy[Tokens]) -> st.SearchStrategy[Tokens]:
    return st.just(list[str]()) | part


def arguments(expression: st.SearchStrategy[Tokens]) -> st.SearchStrategy[Tokens]:
    return sequence("(", listed(maybe(sequence(names, "=")).flatmap(lambda key: expression.map(key.__add__)), 0), ")")


def compound(inner: st.SearchStrategy[Tokens]) -> st.SearchStrategy[Tokens]:
    subscript = inner | sequence(maybe(inner), ":", maybe(inner))
    closed = st.one_of(
        names.map(lambda name: [name]),
        sequence(names, arguments(inner)),
        sequence("(", inner, ")"),
        sequence("[", listed(inner), "]"),
    )
    return st.one_of(
        closed,
        sequence(closed, "[", listed(subscript), "]"),
        sequence("-", inner),
        sequence(inner, st.sampled_from(OPERATORS), inner),
    )


leaves = st.sampled_from(NAMES + NUMBERS + STRINGS).map(lambda token: [token])
expressions = st.recursive(leaves, compound, max_leaves=8)
types = sequence(names, maybe(arguments(expressions)), maybe(sequence("[", listed(expressions), "]")))
dists = sequence(names, maybe(arguments(expressions)))
dims = sequence("dim", listed(sequence(names, maybe(sequence("=", expressions)))))
lets = sequence("let", names, maybe(sequence(":", types)), "=", expressions)
options = st.lists(sequence(",", names, maybe(sequence("=", expressions))), max_size=2).map(flat)
params = sequence("param", names, ":", types, maybe(sequence("=", expressions)), maybe(sequence("via", names)), options)
several = listed(names.map(lambda name: [name]))
model_statements = st.one_of(
    dims,
    lets,
    params,
    sequence("data", names, ":", types, maybe(sequence("=", expressions))),
    sequence("latent", names, ":", types, maybe(sequence("~", dists))),
    sequence("observed", names, ":", types, maybe(sequence("~", dists)), maybe(sequence("when", expressions))),
    sequence("factor", expressions),
)
guide_statements = st.one_of(
    lets,
    params,
    sequence(names, "~", dists, maybe(sequence("via", types))),
    sequence("joint", several, "~", dists),
    sequence("aux", names, ":", types, "~", dists),
    sequence("auto", names, maybe(arguments(expressions)), "for", several),
)
plate_items = listed(
    sequence(names, maybe(sequence("[", expressions, "]")), maybe(sequence(names, "(", expressions, ")"))), 1, 2
)


def bodies(statements: st.SearchStrategy[Tokens]) -> st.SearchStrategy[Tokens]:
    def body(inner: st.SearchStrategy[Tokens]) -> st.SearchStrategy[Tokens]:
        return st.lists(inner, max_size=4).map(flat)

    nested = st.recursive(statements, lambda inner: sequence("plate", plate_items, "{", body(inner), "}"), max_leaves=4)
    return body(nested)


docstrings = maybe(st.sampled_from(STRINGS).map(lambda token: [token]))
origins = maybe(sequence("from", maybe(names.map(lambda name: [name])), st.sampled_from(STRINGS)))
items = st.one_of(
    dims,
    sequence("model", names, origins, "{", docstrings, bodies(model_statements), "}"),
    sequence("guide", names, "for", names, "{", docstrings, bodies(guide_statements), "}"),
)
files = sequence(docstrings, st.lists(items, max_size=3).map(flat))

spaces = st.sampled_from((" ", "  ", "\t", "\n", "\n\n", "\r\n", " \n \n\n\t", "\f"))
comments = st.sampled_from(COMMENTS).flatmap(
    lambda text: st.sampled_from((" ", "\n", "\n\n  ")).map(lambda s: s + text + "\n")
)
gaps = st.one_of(st.just(" "), spaces, spaces, st.lists(spaces | comments, max_size=3).map("".join))
LOOSE = re.compile(r"[()\[\]{},:~@+*/^]")


@st.composite
def programs(draw: st.DrawFn) -> str:
    tokens = draw(files)
    text = draw(gaps)
    for before, here in pairwise([*tokens, "\n"]):
        gap = draw(gaps)
        text += before + (gap if gap or LOOSE.fullmatch(before) or LOOSE.fullmatch(here) else " ")
    return text


Piece = tuple[str, str, bool]
"""A token or a comment: its type, its text, and (of a comment) whether a line begins with it."""


def pieces(text: str) -> list[Piece]:
    found: list[Piece] = []
    done = 0
    for token in [*tokenize(Source("test", text)), None]:
        start = token.start_pos if token is not None else len(text)
        assert start is not None
        own = done == 0
        for line in text[done:start].split("\n"):
            if "#" in line:
                found.append(("COMMENT", line[line.index("#") :].rstrip(), own))
            own = True
        if token is not None:
            found.append((token.type, str(token), False))
            done = token.end_pos or 0
    return found


@settings(max_examples=30)
@given(programs())
def test_formatting_changes_white_space_only(text: str) -> None:
    assert not parse(Source("test", text)).diagnostics
    result = format_source(Source("test", text))
    assert pieces(result) == pieces(text.replace("\r\n", "\n"))
    assert format_source(Source("test", result)) == result
    bare = re.sub(r'"""(?:[^\\]|\\.)*?"""', '""', result, flags=re.S)
    assert not re.search(r"[ \t\r\f]\n|\n\n\n|^\n|\n\n$|\n\n *\}|\t", bare)
    assert bare == "" or bare.endswith("\n")


@settings(max_examples=30)
@given(files, st.data())
def test_layout_of_the_source_matters_little(tokens: Tokens, data: st.DataObject) -> None:
    """Without comments and empty lines only the choice of blocks on one line depends on how the text was laid out."""
    mixed = "".join(
        token + ("\n" if token == "{" else data.draw(st.sampled_from((" ", "\n", " \n\t")))) for token in tokens
    )
    assert format_source(Source("test", mixed)) == format_source(Source("test", "\n".join(tokens)))


@settings(max_examples=30)
@given(files)
def test_lines_are_short_where_they_can_be(tokens: Tokens) -> None:
    result = format_source(Source("test", "\n".join(tokens)))
    if '"""' in result:
        return
    for line in result.split("\n"):
        # A line with no comma, operator or clause inside is not broken.
        inner = line.strip()[2:]
        assert len(line) <= WIDTH or not re.search(r", | ([-+*/@^~<>]|[=!<>]=|for|via|when) ", inner)
