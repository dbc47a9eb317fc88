"""The canonical layout, case by case, and the expansion of autos."""

from __future__ import annotations

from pathlib import Path

import pytest

from guidedsl.diagnostics import CompileError
from guidedsl.pipeline import check
from guidedsl.source import Source, read_source
from guidedsl.syntax.expand import expand_source
from guidedsl.syntax.format import WIDTH, format_source
from guidedsl.syntax.parser import tokenize

EXAMPLES = ("eight_schools/eight_schools.guide", "radon/radon.guide")

EIGHT_SCHOOLS = '''\
"""Eight schools (Rubin 1981)."""

model EightSchools {
  dim J
  latent mu  : real     ~ Normal(0, 5)
  latent tau : positive ~ HalfCauchy(5)
  plate schools[J] {
    data     sigma : positive
    latent   theta : real ~ Normal(mu, tau)
    observed y     : real ~ Normal(theta, sigma)
  }
}

guide MeanField for EightSchools {
  param mu_loc    : real     = 0
  param mu_scale  : positive = 1
  param tau_loc   : real     = 0
  param tau_scale : positive = 0.5

  mu  ~ Normal(mu_loc, mu_scale)
  tau ~ LogNormal(tau_loc, tau_scale)

  plate schools {
    param theta_loc   : real     = 0  # stored as [J], event_dim 0
    param theta_scale : positive = 1
    theta ~ Normal(theta_loc, theta_scale)
  }
}

guide FullRank for EightSchools { auto full_rank for rest }
'''

RADON = """\
model Radon {
  dim N, G
  latent mu_a  : real     ~ Normal(0, 10)
  latent tau_a : positive ~ HalfNormal(1)
  latent beta  : real     ~ Normal(0, 10)
  latent sigma : positive ~ HalfNormal(1)
  plate county[G] { latent alpha : real ~ Normal(mu_a, tau_a) }
  plate house[N] {
    data     home  : index(county)  # checked when data is bound: 0 <= home < G
    data     floor : real
    observed y     : real ~ Normal(alpha[home] + beta * floor, sigma)
  }
}

guide Mixed for Radon {
  auto low_rank(rank = 2) for mu_a, tau_a, beta, sigma
  auto mean_field for rest
}
"""


def formatted(text: str) -> str:
    result = format_source(Source("test", text))
    assert format_source(Source("test", result)) == result
    return result


def in_model(*lines: str) -> str:
    return "model M {\n" + "".join(f"  {line}\n" if line else "\n" for line in lines) + "}\n"


def in_guide(*lines: str) -> str:
    return "guide G for M {\n" + "".join(f"  {line}\n" if line else "\n" for line in lines) + "}\n"


@pytest.mark.parametrize("text", [EIGHT_SCHOOLS, RADON], ids=["eight_schools", "radon"])
def test_programs_of_the_language_design_are_canonical(text: str) -> None:
    assert formatted(text) == text


@pytest.mark.parametrize("text", [EIGHT_SCHOOLS, RADON], ids=["eight_schools", "radon"])
def test_one_token_a_line_comes_back(text: str) -> None:
    tokens = [str(token) for token in tokenize(Source("test", text))]
    again = formatted("\n".join(tokens))
    assert [str(token) for token in tokenize(Source("test", again))] == tokens
    assert again == formatted(again.replace("\n", "\r\n"))
    assert "  plate schools {\n    param theta_loc   : real     = 0\n" in again or "plate house[N] {\n    data" in again


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_keep_their_tokens(root: Path, name: str) -> None:
    source = read_source(root / "examples" / name)
    again = Source(name, formatted(source.text))
    assert [(t.type, str(t)) for t in tokenize(again)] == [(t.type, str(t)) for t in tokenize(source)]
    assert [d.message for d in check(again).diagnostics] == [d.message for d in check(source).diagnostics]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        (" \n\n\t\n", ""),
        ("# only\n\n\n\n   # comments  \n\n", "# only\n\n# comments\n"),
        ("dim N", "dim N\n"),
        ("\n\ndim N\ndim K=8\n\n\n\ndim T,S=2*K", "dim N\ndim K = 8\n\ndim T, S = 2 * K\n"),
        ('"""Doc\n   as it is  \n"""dim N', '"""Doc\n   as it is  \n"""\n\ndim N\n'),
        ("model M{}", "model M { }\n"),
        ("model M\n{\n\n}\nguide G for M{}", "model M { }\n\nguide G for M { }\n"),
        ('model M from pyro"ratings:model"{latent x:real}', 'model M from pyro "ratings:model" { latent x : real }\n'),
        ("# a\nmodel M { }\n# b\n# c\n\nguide G for M { } # d\n# e", None),
    ],
)
def test_files(before: str, after: str | None) -> None:
    if after is None:
        after = "# a\nmodel M { }\n\n# b\n# c\n\nguide G for M { }  # d\n# e\n"
    assert formatted(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a+b-c*d/e@f^g", "a + b - c * d / e @ f ^ g"),
        ("- x^-2", "-x ^ -2"),
        ("a- - b", "a - -b"),
        ("a*-(b+c)", "a * -(b + c)"),
        ("- -x", "--x"),
        ("a<=b", "a <= b"),
        ("where( c==0 ,a ,b )", "where(c == 0, a, b)"),
        ("( a )", "(a)"),
        ("f ( )", "f()"),
        ("x [ : ]", "x[:]"),
        ("x [1 : K]", "x[1:K]"),
        ("x[ : , : - 1 ]", "x[:, :-1]"),
        ("x[ a+1 : , 2 ]", "x[a + 1:, 2]"),
        ("f(x) [1] [2]", "f(x)[1][2]"),
        ("(a) [1]", "(a)[1]"),
        ("[ 1,2 , -3 ]", "[1, 2, -3]"),
        ("[1,2] [0]", "[1, 2][0]"),
        ("1.5e-3*.5", "1.5e-3 * .5"),
        ("f(a=1,b = -2)", "f(a = 1, b = -2)"),
        ("a\n\n\n+\n b", "a + b"),
    ],
)
def test_expressions(before: str, after: str) -> None:
    assert formatted(f"model M{{\nfactor {before}\n}}") == in_model(f"factor {after}")
    assert formatted(f"model M{{\nlet z={before}\n}}") == in_model(f"let z = {after}")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("param w:real[K]=0 via softplus,lr=0.01,frozen", "param w : real[K] = 0 via softplus, lr = 0.01, frozen"),
        ("z~Normal(0,1)via positive", "z ~ Normal(0, 1) via positive"),
        ("joint a,b~ D ( )", "joint a, b ~ D()"),
        ("aux e:real [2]~Normal(0,1)", "aux e : real[2] ~ Normal(0, 1)"),
        ("auto low_rank(rank=2)for a,b", "auto low_rank(rank = 2) for a, b"),
        ("let a:interval ( 0,1 )[K,2]=f(x)", "let a : interval(0, 1)[K, 2] = f(x)"),
        ("plate p,q{\n}", "plate p, q { }"),
    ],
)
def test_guide_statements(before: str, after: str) -> None:
    assert formatted(f"guide G for M {{\n{before}\n}}") == in_guide(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("plate p [ N ] subsample ( 256 ),q[K]{\n}", "plate p[N] subsample(256), q[K] { }"),
        ("observed y:real[T]~D(x)when m==1", "observed y : real[T] ~ D(x) when m == 1"),
        ("data x:index(p,base=1)=0", "data x : index(p, base = 1) = 0"),
    ],
)
def test_model_statements(before: str, after: str) -> None:
    assert formatted(f"model M {{\n{before}\n}}") == in_model(after)


def test_statements_of_a_line_are_parted() -> None:
    assert formatted("model M { dim N latent x : real factor -x data y : real }") == in_model(
        "dim N", "latent x : real", "factor -x", "data y : real"
    )


def test_blank_lines() -> None:
    before = "model M {\n\n\n  dim N\n\n\n\n  # c\n\n  latent x : real\n  latent y : real\n\n\n}\n\n\n"
    assert formatted(before) == in_model("dim N", "", "# c", "", "latent x : real", "latent y : real")


def test_alignment_ends_at_blank_lines_comments_blocks_and_other_keywords() -> None:
    text = in_guide(
        "param a : real = 0",
        "",
        "param long_name : positive = 1",
        "# here",
        "param b  : real[K] = 0",
        "param cc : unit    = 0.5",
        "bb ~ Normal(b, 1)",
        "x  ~ Normal(a, 1)",
        "joint u, v ~ D()",
        "joint w    ~ D()",
        "plate p {",
        "  y ~ Normal(0, 1)",
        "}",
        "zzz ~ Normal(0, 1)",
        "aux e1  : real     ~ Normal(0, 1)",
        "aux e22 : positive ~ Gamma(1, 1)",
        "let s     = 1",
        "let total = 2",
        "let u  : real     = 3",
        "let u2 : positive = 3",
    )
    squeezed = "\n".join(" ".join(line.split()) for line in text.split("\n"))
    assert formatted(squeezed) == text


def test_sites_of_a_model_align_past_a_let() -> None:
    text = in_model(
        "data     sigma : positive",
        "latent   z     : real ~ Normal(0, 1)",
        "let theta = mu + tau * z",
        "observed y     : real ~ Normal(theta, sigma)",
    )
    assert formatted(text) == text


def test_short_types_do_not_wait_for_a_long_one() -> None:
    size = "size(alpha, beta, gamma, delta, epsilon, zeta, eta, theta)"
    text = in_guide(
        "param a   : real     = 0",
        "param bb  : positive = 1",
        f"param ccc : real[{size}] = 0",
    )
    assert formatted(text) == text


def test_long_statements_are_wrapped() -> None:
    words = ", ".join(f"latent_number_{n}" for n in range(9))
    terms = " + ".join(f"latent_number_{n} * weight_number_{n}" for n in range(6))
    result = formatted(
        f"guide G for M {{\nauto mean_field for {words}\nparam p : real = f({words})\nlet s = {terms}\n"
        f"mu ~ Normal({words})\nparam q : real[size({words})] = {terms}, lr = 0.1\n}}"
    )
    assert result == """\
guide G for M {
  auto mean_field for latent_number_0, latent_number_1, latent_number_2, latent_number_3,
      latent_number_4, latent_number_5, latent_number_6, latent_number_7, latent_number_8
  param p : real = f(latent_number_0, latent_number_1, latent_number_2, latent_number_3,
      latent_number_4, latent_number_5, latent_number_6, latent_number_7, latent_number_8)
  let s = latent_number_0 * weight_number_0 + latent_number_1 * weight_number_1
      + latent_number_2 * weight_number_2 + latent_number_3 * weight_number_3
      + latent_number_4 * weight_number_4 + latent_number_5 * weight_number_5
  mu ~ Normal(latent_number_0, latent_number_1, latent_number_2, latent_number_3, latent_number_4,
      latent_number_5, latent_number_6, latent_number_7, latent_number_8)
  param q : real[size(latent_number_0, latent_number_1, latent_number_2, latent_number_3,
      latent_number_4, latent_number_5, latent_number_6, latent_number_7, latent_number_8)]
      = latent_number_0 * weight_number_0 + latent_number_1 * weight_number_1
      + latent_number_2 * weight_number_2 + latent_number_3 * weight_number_3
      + latent_number_4 * weight_number_4 + latent_number_5 * weight_number_5, lr = 0.1
}
"""
    assert max(map(len, result.split("\n"))) <= WIDTH


def test_a_name_too_long_for_any_line_stays() -> None:
    name = "x" * 150
    assert formatted(f"guide G for M {{\n{name} ~ Normal({name}, 1)\n}}") == in_guide(
        name, f"    ~ Normal({name},", "    1)"
    )


def test_a_line_that_allows_a_warning_stays_whole() -> None:
    long = "mu ~ LogNormal(" + " + ".join(["some_name"] * 20) + ", 50)  # allow W606"
    assert formatted(in_guide(long)) == in_guide(long)
    plate = "plate p { " + long.replace("  #", " }  #")
    assert formatted(in_guide(plate)) == in_guide(plate)


def test_blocks_on_one_line() -> None:
    kept = in_guide("plate p { x ~ Normal(0, 1) }", "plate p { plate q { y ~ Normal(0, 1) } }  # both", "plate r { }")
    assert formatted(kept) == kept
    assert formatted(in_guide("plate p { a ~ D b ~ E }")) == in_guide("plate p {", "  a ~ D", "  b ~ E", "}")
    assert formatted(in_guide("plate p { a ~ D # c", "}")) == in_guide("plate p {", "  a ~ D  # c", "}")
    assert formatted(in_guide("plate p {", "a ~ D }")) == in_guide("plate p {", "  a ~ D", "}")
    long = "plate p { a ~ Normal(" + " + ".join(["some_name"] * 7) + ", 1) }"
    assert formatted(in_guide(long)) == in_guide("plate p {", "  " + long[10:-2], "}")
    assert formatted('guide G for M { "doc" }') == 'guide G for M {\n  "doc"\n}\n'


def test_comments_stay_where_they_are() -> None:
    before = """\
model M # of what
# and why
{ # opened
# first
 dim N# size

   # x is
   latent x # its name
     : real ~
   # its prior
     Normal(0, 1)   # done   \n
  plate p[N] {
      # nothing yet

      # really
  } # end of p
  # last
}
"""
    assert formatted(before) == """\
model M  # of what
    # and why
    {  # opened
  # first
  dim N  # size

  # x is
  latent x  # its name
      : real ~
      # its prior
      Normal(0, 1)  # done

  plate p[N] {
    # nothing yet

    # really
  }  # end of p
  # last
}
"""


def test_strings_are_verbatim() -> None:
    text = 'model M from pyro "a  # b" {\n  """One\n\n\n     two  \n  """\n  dim N\n}\n'
    assert formatted(text) == text


def test_line_ends() -> None:
    assert formatted('"""a\r\nb"""\r\n# c \r\r\ndim N  \r\n') == '"""a\nb"""\n\n# c\ndim N\n'


@pytest.mark.parametrize("text", ["model M {", "model M { latent : real }", "dim é", "guide G for M { net f }"])
def test_syntax_errors_are_reported(text: str) -> None:
    with pytest.raises(CompileError) as caught:
        format_source(Source("bad.guide", text))
    assert caught.value.diagnostics[0].code.startswith("E1")


def expanded(text: str) -> str:
    source = Source("test", text)
    result = expand_source(source, check(source).expansions)
    again = check(Source("expanded", result))
    assert not [d for d in again.diagnostics if d.severity == "error"]
    assert again.expansions == ()
    assert not any(token.type == "AUTO" for token in tokenize(Source("expanded", result)))
    return result


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_expand(root: Path, name: str) -> None:
    source = read_source(root / "examples" / name)
    comments = [line.partition("#")[2] for line in source.lines if "#" in line]
    result = expanded(source.text)
    assert [line.partition("#")[2] for line in result.split("\n") if "#" in line] == comments


def test_expansion() -> None:
    before = EIGHT_SCHOOLS[: EIGHT_SCHOOLS.index("guide")] + (
        "guide G for EightSchools { # one\n  # two\n  auto mean_field # three\n    for # four\n"
        "    mu # five\n  # six\n  auto map for rest # seven\n}\n"
        "guide H for EightSchools { auto low_rank(rank = # in\n 1 + 1) for rest } # out"
    )
    assert expanded(before)[EIGHT_SCHOOLS.index("guide") :] == """\
guide G for EightSchools {  # one
  # two
  # three
  # four
  # five
  param mu_loc   : real     = 0
  param mu_scale : positive = 0.1
  mu ~ Normal(mu_loc, mu_scale)
  # six
  # seven
  param tau_map : positive
  tau ~ Point(tau_map)
  plate schools {
    param theta_map : real
    theta ~ Point(theta_map)
  }
}

guide H for EightSchools {
  # in
  param joint_loc    : real[size(mu, tau, theta)]        = 0
  param joint_factor : real[size(mu, tau, theta), 1 + 1] = normal(0, 0.01)
  param joint_diag   : positive[size(mu, tau, theta)]    = 0.01
  joint mu, tau, theta ~ LowRankMultivariateNormal(joint_loc, joint_factor, joint_diag)
}  # out
"""


def test_expansion_in_a_plate() -> None:
    result = expanded(
        RADON[: RADON.index("guide")] + "guide G for Radon {\n auto full_rank for mu_a, tau_a, beta, sigma"
        "\n plate county { auto mean_field for rest } }"
    )
    assert result.endswith("""\
  plate county {
    param alpha_loc   : real     = 0
    param alpha_scale : positive = 0.1
    alpha ~ Normal(alpha_loc, alpha_scale)
  }
}
""")


def test_a_text_without_autos_is_only_formatted() -> None:
    text = EIGHT_SCHOOLS[: EIGHT_SCHOOLS.index("guide Full")]
    assert expanded(text + "\n\n") == text.rstrip() + "\n"
