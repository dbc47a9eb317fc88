"""Recovery from syntax mistakes: one report for each, at its place, and nothing that only follows from one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from guidedsl.check import Checked
from guidedsl.diagnostics import Diagnostic
from guidedsl.pipeline import check
from guidedsl.source import Source
from guidedsl.syntax import ast
from guidedsl.syntax.parser import MAX_MISTAKES, parse, tokenize
from guidedsl.syntax.spell import spell

ROOT = Path(__file__).resolve().parent.parent.parent
GOOD = [
    *sorted((ROOT / "tests" / "cases" / "errors").glob("*/good.guide")),
    *sorted((ROOT / "examples").glob("*/*.guide")),
]


def _check(text: str) -> Checked:
    return check(Source("test.guide", text))


def _found(text: str) -> list[str]:
    """`line:column code` of every finding, in the order of the report."""
    return [f"{d.primary.span.line}:{d.primary.span.column} {d.code}" for d in _check(text).diagnostics]


def _one(text: str) -> Diagnostic:
    """The only finding."""
    found = _check(text).diagnostics
    assert len(found) == 1, [d.message for d in found]
    return found[0]


# A model whose guide is fine around whatever is put into the two.
_MODEL = """model M {{
  dim N
  latent mu : real ~ Normal(0, 1)
  {}
  plate p[N] {{ observed y : real ~ Normal(mu, 1) }}
}}
guide G for M {{ mu ~ Normal(0, 1) }}
"""
_GUIDE = """model M {{
  dim N
  latent mu : real ~ Normal(0, 1)
  plate p[N] {{ observed y : real ~ Normal(mu, 1) }}
}}
guide G for M {{
  {}
}}
"""


BROKEN = {
    # A model's statement, broken: what is expected, what is found, and a part of the hint.
    "latent a : real ~ Normal(0, 1": ("4:32", "expected `,` or `)`, found `plate`", "`(` opened at 4:27 is not closed"),
    "latent a : real[3 ~ Normal(0, 1)": ("4:21", "expected `,` or `]`, found `~`", "`[` opened at 4:18"),
    "latent a real ~ Normal(0, 1)": ("4:12", "expected `:`, found `real`", "`a : real`"),
    "latent a ~ Normal(0, 1)": ("4:12", "expected `:`, found `~`", "`latent a : real ~ …`"),
    "latent a : ~ Normal(0, 1)": ("4:14", "expected a type, found `~`", "a latent is written"),
    "latent a : real ~": ("4:20", "expected a distribution, found `plate`", "a latent is written"),
    "latent a : real ~ 3": ("4:21", "expected a distribution, found `3`", "a latent is written"),
    "latnt a : real ~ Normal(0, 1)": ("4:3", "expected a statement or `}`, found `latnt`", "did you mean `latent`?"),
    "observd a : real ~ Normal(0, 1)": ("4:3", "expected a statement or `}`, found `observd`", "mean `observed`?"),
    "let a = mu ** 2": ("4:15", "expected an expression, found `*`", "`x ^ 2`"),
    "let a = mu // half": ("4:15", "expected an expression, found `/`", "comments begin with `#`"),
    "let a := mu": ("4:10", "expected a type, found `=`", "`=` alone"),
    "let a == mu": ("4:9", "expected `:` or `=`, found `==`", "one `=` declares"),
    "let a ~ Normal(0, 1)": ("4:9", "expected `:` or `=`, found `~`", "a let has a value"),
    "let a = (mu + ) * 2": ("4:17", "expected an expression, found `)`", "`+` needs a value on its right"),
    "let a = [mu, ]": ("4:16", "expected an expression, found `]`", "a value is missing between `,` and `]`"),
    "let a = 3 $ 4": ("4:13", "unexpected `$`", "remove it"),
    "let a = mu;": ("4:13", "unexpected `;`", "no `;`"),
    "let a = 'text'": ("4:11", "unexpected `'`", "double quotes"),
    'let a = "text': ("4:11", "unexpected a string that does not end", 'close it with "'),
    "factor not mu": ("4:14", "expected a statement or `}`, found `mu`", "`1 - c`"),
    "factor mu if mu > 0 else 0": ("4:13", "expected a statement or `}`, found `if`", "`where(c, a, b)`"),
    "for i in range(3) { let b = i }": ("4:3", "expected a statement or `}`, found `for`", "a plate"),
    "mu2 ~ Normal(0, 1)": ("4:3", "expected a statement or `}`, found `mu2`", "`latent mu2 : real ~ …`"),
    "auto mean_field for mu": ("4:3", "expected a statement or `}`, found `auto`", "stands in a guide"),
    "latent a : real ~ Normal(0, 1) via positive": ("4:34", "expected a statement or `}`, found `via`", "in guides"),
    "plate [N] { }": ("4:9", "expected a name, found `[`", "`plate p[N] { … }`"),
    "plate q[N] subsample { }": ("4:24", "expected `(`, found `{`", "a plate is written"),
    "dim K = 3,": ("4:13", "expected a name, found `plate`", "dims are written"),
    "factor mu < 0 < ": ("4:18", "expected an expression, found `plate`", "`<` needs a value on its right"),
}

BROKEN_IN_GUIDES = {
    "mu = Normal(0, 1)": ("7:6", "expected `~`, found `=`", "to sample write `mu ~ …`"),
    "mu ~ Normal(0, 1": ("7:19", "expected `,` or `)`, found `}`", "`(` opened at 7:14 is not closed"),
    "mu ~ Normal(0 1)": ("7:17", "expected `,` or `)`, found `1`", "between `0` and `1` a `,` or an operator"),
    "latent mu : real ~ Normal(0, 1)": ("7:3", "expected a statement or `}`, found `latent`", "`aux z : real ~ …`"),
    "joint mu nu ~ Normal(0, 1)": ("7:12", "expected `~`, found `nu`", "`joint a, b ~ "),
    "param s : real = 0 lr = 0.1 mu ~ Normal(s, 1)": ("7:25", "expected `~`, found `=`", "set apart by commas"),
    "auto mean_field rest": ("7:19", "expected `(` or `for`, found `rest`", "`auto mean_field for rest`"),
    "param mu : real = 0 via": ("7:26", "expected a type or a transform, found `}`", "a param is written"),
}


@pytest.mark.parametrize("statement", BROKEN)
def test_one_mistake_in_a_model_is_one_report(statement: str) -> None:
    place, message, hint = BROKEN[statement]
    found = _one(_MODEL.format(statement))
    assert f"{found.primary.span.line}:{found.primary.span.column}" == place
    assert (found.code, found.message) == ("E101", message)
    assert hint in (found.hint or "")


@pytest.mark.parametrize("statement", BROKEN_IN_GUIDES)
def test_one_mistake_in_a_guide_is_one_report(statement: str) -> None:
    place, message, hint = BROKEN_IN_GUIDES[statement]
    found = _one(_GUIDE.format(statement))
    expected_place = f"{found.primary.span.line}:{found.primary.span.column}"
    assert (found.code, found.message) == ("E101", message)
    assert hint in (found.hint or "")
    assert expected_place == place


THREE = {
    "a bracket, a colon and a distribution": (
        "model M {\n  latent a : real ~ Normal(0, 1\n  latent b real ~ Normal(0, 1)\n  latent c : real ~\n}",
        ["2:32 E101", "3:12 E101", "4:20 E101"],
    ),
    "in a model and two guides": (
        "model M {\n  latent a : real ~ Normal(0 1)\n}\n"
        "guide G for M { a = Normal(0, 1) }\nguide H for M { auto mean_field a }",
        ["2:30 E101", "4:19 E101", "5:33 E101"],
    ),
    "a keyword, a power and a semicolon": (
        "model M {\n  latnt a : real ~ Normal(0, 1)\n  let b = a ** 2\n  factor b;\n}",
        ["2:3 E101", "3:14 E101", "4:11 E101"],
    ),
    "in nested plates": (
        "model M {\n  dim N\n  plate p[N] {\n    data x real\n    plate q[N] {\n      data z : real[\n"
        "    }\n  }\n  observed y : real Normal(0, 1)\n}",
        ["4:12 E101", "6:21 E101", "9:21 E101"],
    ),
    "reserved words as names": (
        "model M {\n  latent data : real ~ Normal(0, 1)\n  latent let : real ~ Normal(data, 1)\n"
        "  latent scan : real ~ Normal(let, 1)\n}\nguide G for M { auto mean_field for rest }",
        ["2:10 E102", "3:10 E102", "4:10 E102"],
    ),
    "strings and strange characters": (
        'model M {\n  let a = "abc\n  let b = 2 % 3\n  let c = b ? 1 : 2\n}',
        ["2:11 E101", "3:13 E101", "4:13 E101"],
    ),
    "headers": (
        "model { }\nguide G M { }\nmodel N ~ { }",
        ["1:7 E101", "2:9 E101", "3:9 E101"],
    ),
}


@pytest.mark.parametrize("name", THREE)
def test_three_mistakes_are_three_reports(name: str) -> None:
    text, expected = THREE[name]
    assert _found(text) == expected


def test_what_is_not_broken_is_checked_all_the_same() -> None:
    text = (
        "model M {\n  dim N\n  latent a : real ~ Normal(0, -1)\n  latent b : real ~ Normal(0, 1\n"
        "  plate p[N] { observed y : real ~ Normal(b, s) }\n}\n"
        "guide G for M {\n  param s : positve = 1\n  a ~ Normal(q, s)\n  b ~ Normal(0, s)\n}"
    )
    assert _found(text) == ["3:31 E402", "4:32 E101", "5:46 E104", "8:13 E106", "9:14 E104"]


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("model M {\n  latent a : real ~ Normal(0, 1)\n", "2:33", "`{` opened at 1:9 is not closed"),
        (
            "model M {\n  latent a : real ~ Flat\nguide G for M { a ~ Normal(0, 1) }",
            "3:1",
            "`{` opened at 1:9 is not closed",
        ),
        (
            "model M {\n  dim N\n  plate p[N] {\n    latent z : real ~ Normal(0, 1)\n"
            "    observed y : real ~ Normal(z, 1)\n}\nguide G for M { auto mean_field for rest }",
            "7:1",
            "`{` opened at 3:14 is not closed",
        ),
        ("model M {\n  dim N = 3\n}\n}\nguide G for M { }", "4:1", "there is a `}` too many"),
        ("model M { }\nguide G for M", "2:14", "`guide G for M { … }`"),
        ("model M { }\nguide G for M {", "2:16", "`{` opened at 2:15 is not closed"),
    ],
)
def test_braces(text: str, place: str, hint: str) -> None:
    found = _one(text)
    assert found.code == "E101"
    assert f"{found.primary.span.line}:{found.primary.span.column}" == place
    assert hint in (found.hint or "")


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# a comment\n", "# a comment\n# and another", '"""A docstring."""', "dim N", " \t\f\n"]
)
def test_files_without_models_have_no_syntax_mistakes(text: str) -> None:
    assert parse(Source("test.guide", text)).diagnostics == ()


def test_unterminated_docstring_swallows_the_rest() -> None:
    found = _one('"""never\nends\nmodel M { latent }\nguide')
    assert found.message == "unexpected a string that does not end"
    assert (found.primary.span.line, found.primary.span.column) == (1, 1)


def test_reserved_word_is_read_as_a_name() -> None:
    parsed = parse(Source("test.guide", "model M {\n  latent data : real ~ Normal(0, 1)\n  let x = data + 1\n}"))
    assert [d.code for d in parsed.diagnostics] == ["E102"]
    assert [s.name.text for s in parsed.file.models[0].body if isinstance(s, ast.Latent | ast.Let)] == ["data", "x"]


@pytest.mark.parametrize("word", ["model", "latent", "plate", "for", "via", "when", "aux", "net", "scan", "emit"])
def test_reserved_words_are_no_names(word: str) -> None:
    found = _one(_MODEL.format(f"let {word} = mu"))
    assert (found.code, found.message) == ("E102", f"`{word}` is a reserved word")


@pytest.mark.parametrize("name", ["rest", "size", "normal", "type", "lambda", "None", "_x", "subsample", "Normal"])
def test_other_words_are_names(name: str) -> None:
    assert _found(_MODEL.format(f"let {name} = mu")) == []


def test_findings_are_in_the_order_of_the_text() -> None:
    text = "\n".join(_MODEL.format("let a = q").replace("M", f"M{i}").replace("G", f"G{i}") for i in range(5))
    spans = [d.primary.span.start for d in _check(text).diagnostics]
    assert len(spans) == 5
    assert spans == sorted(spans)


LONG = {
    "sum": " + ".join(["mu"] * 2000),
    "difference": " - ".join(["mu"] * 2000),
    "product": " * ".join(["mu"] * 2000),
    "sum of products": " + ".join(["2 * mu"] * 2000),
    "product of dims": " * ".join(["(N + 1)"] * 2000),
    "sum of dims": " + ".join(["N"] * 2000),
    "brackets that mean nothing": "(" * 2000 + "mu" + ")" * 2000,
    "vector": f"[{', '.join(['mu'] * 2000)}]",
}

DEEP = {
    "calls": "exp(" * 2000 + "mu" + ")" * 2000,
    "minus signs": "-" * 2000 + "mu",
    "vectors": "[" * 2000 + "mu" + "]" * 2000,
    "powers": " ^ ".join(["mu"] * 2000),
    "comparisons": " < ".join(["mu"] * 2000),
    "indices": "mu" + "[0]" * 2000,
    "subscripts": "mu[" * 2000 + "0" + "]" * 2000,
    "matrix products": " @ ".join(["mu"] * 2000),
    "sums in brackets": "(1 + " * 2000 + "mu" + ")" * 2000,
}


@pytest.mark.parametrize("name", LONG)
def test_long_expressions_check_fast(name: str) -> None:
    assert _found(_MODEL.format(f"let a = {LONG[name]}")) == []


@pytest.mark.parametrize("name", DEEP)
def test_deep_expressions_are_refused(name: str) -> None:
    assert [d.code for d in _check(_MODEL.format(f"let a = {DEEP[name]}")).diagnostics] == ["E108"]


def test_deep_plates_are_refused() -> None:
    text = "".join(f"plate p{i}[N] {{ " for i in range(500)) + "}" * 500
    assert [d.code for d in _check(_MODEL.format(text)).diagnostics] == ["E108"]


@pytest.mark.parametrize("text", ["@ # $ ) ] " * 500, "} " * 2000, "model { " * 500, "guide G for M { plate { " * 300])
def test_garbage_ends(text: str) -> None:
    assert all(d.code == "E101" for d in _check(text).diagnostics)


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("1-alpha", "1 - alpha"),
        ("(a+b)*c", "(a + b) * c"),
        ("(a*b)+c", "a * b + c"),
        ("a-(b-c)", "a - (b - c)"),
        ("-(a+b)^2", "-(a + b) ^ 2"),
        ("(-a)^2", "(-a) ^ 2"),
        ("a^-b", "a ^ -b"),
        ("f(x,axis=1)[0,1:,:n]", "f(x, axis = 1)[0, 1:, :n]"),
        ("[a,[b]]", "[a, [b]]"),
        ("(a<b)<c", "a < b < c"),
        ("a<(b<c)", "a < (b < c)"),
        ("a@(b*c)", "a @ (b * c)"),
    ],
)
def test_expressions_are_spelled_in_one_way(text: str, spelled: str) -> None:
    def read(source: str) -> str:
        (model,) = parse(Source("test.guide", f"model M {{ let v = {source} }}")).file.models
        (let,) = model.body
        assert isinstance(let, ast.Let)
        return spell(let.value)

    assert read(text) == spelled
    assert read(spelled) == spelled


def _mutated(source: Source, chance: random.Random, words: list[str]) -> str:
    """The text with one to four tokens left out, put in, replaced or swapped."""
    pieces: list[tuple[str, str]] = []
    done = 0
    for token in tokenize(source):
        pieces.append((source.text[done : token.start_pos], str(token)))
        done = token.end_pos or 0
    for _ in range(chance.randint(1, 4)):
        at, other = chance.randrange(len(pieces)), chance.randrange(len(pieces))
        (gap, text), (other_gap, other_text) = pieces[at], pieces[other]
        match chance.randrange(4):
            case 0 if len(pieces) > 5:
                del pieces[at]
            case 1:
                pieces.insert(at, (" ", chance.choice(words)))
            case 2:
                pieces[at] = gap, chance.choice(words)
            case _:
                pieces[at], pieces[other] = (gap, other_text), (other_gap, text)
    return "".join(gap + text for gap, text in pieces) + source.text[done:]


@pytest.mark.parametrize("seed", range(10))
def test_mutated_programs_are_reported_on_and_never_fail(seed: int) -> None:
    chance = random.Random(seed)
    sources = [Source(path.name, path.read_text(encoding="utf-8")) for path in GOOD]
    words = sorted({str(token) for source in sources for token in tokenize(source)})
    words += ["$", "'", '"', '"""', "#", ";", "scan", "net", "1e999", "²", "\\"]
    for _ in range(30):
        text = _mutated(chance.choice(sources), chance, words)
        found = _check(text).diagnostics
        starts = [d.primary.span.start for d in found]
        assert starts == sorted(starts), text
        assert all(d.message and d.primary.text and d.hint for d in found), text
        assert all(0 <= d.primary.span.start <= d.primary.span.end <= len(text) for d in found), text


@pytest.mark.parametrize("junk", ["; ", "model ", "model M { latent ", "' ", '" '])
def test_text_that_is_no_program_is_given_up(junk: str) -> None:
    found = check(Source("junk.guide", junk * 20_000)).diagnostics
    assert 1 <= len(found) <= MAX_MISTAKES + 1
