"""E4xx: supports."""

from __future__ import annotations

from guidedsl.diagnostics import Diagnostic, Label
from guidedsl.errors.wording import be
from guidedsl.source import Span


def support_leaves(
    name: str, model: str, dist: str, dist_support: str, span: Span, site: Span, hint: str
) -> Diagnostic:
    return Diagnostic(
        "E401",
        f"`{name}` lives on {model}; {dist} covers {dist_support}",
        Label(span, f"covers {dist_support}"),
        Label(site, f"lives on {model}"),
        hint,
    )


def joint_support(names: str, dist: str, support: str, span: Span, first: Span) -> Diagnostic:
    return Diagnostic(
        "E401",
        f"a joint of `{names}` is over unconstrained coordinates; {dist} covers {support}",
        Label(span, f"covers {support}"),
        Label(first, "the first of its latents"),
        "take a distribution on all reals: the joint pushes its draws onto the latents' types",
    )


def argument_support(
    argument: str, wanted: str, expression: str, got: str, span: Span, declared: Span | None, hint: str
) -> Diagnostic:
    """`got` is the support of the expression, or its value where it is a number."""
    number = got.lstrip("-")[:1].isdigit()
    said = f", not {got}" if number else f"; `{expression}` is {be(got)}"
    return Diagnostic(
        "E402",
        f"{argument} must be {be(wanted)}{said}",
        Label(span, f"not {be(wanted)}" if number else f"this is {be(got)}"),
        Label(declared, "declared here") if declared is not None else None,
        hint,
    )


def literal_argument(argument: str, owner: str, wanted: str, problem: str, span: Span, hint: str) -> Diagnostic:
    return Diagnostic(
        "E402", f"{argument} of {owner} must be {be(wanted)}: {problem}", Label(span, f"not {be(wanted)}"), hint=hint
    )


def parts_differ(first: str, dist: str, first_support: str, support: str, span: Span, first_span: Span) -> Diagnostic:
    return Diagnostic(
        "E402",
        f"the components of mixture must be on values of one kind: {first} is on {first_support}, {dist} on {support}",
        Label(span, f"on {support}"),
        Label(first_span, f"on {first_support}"),
        "mix distributions on numbers with each other, on counts with each other, or on one structured type",
    )


def not_on_counts(dist: str, support: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E402",
        f"the base of ZeroInflated must be on counts; {dist} is on {support}",
        Label(span, f"on {support}"),
        hint="use a distribution on counts, such as Poisson; zeros among continuous values are data of their own",
    )


def no_distribution_function(dist: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E402",
        f"the base of Truncated must have a distribution function; {dist} has none",
        Label(span, "cannot be normalised"),
        hint="docs/reference.md lists those that have one, under `mass`",
    )


def not_drawn(dist: str, name: str, support: str, span: Span, site: Span) -> Diagnostic:
    return Diagnostic(
        "E405",
        f"{dist} cannot be drawn from: it has a density alone",
        Label(span, "sampled here"),
        Label(site, f"lives on {support}"),
        f"use TruncatedNormal, another distribution on {support}, or `{name} ~ Normal(…) via type`",
    )


def outside_support(what: str, dist: str, support: str, got: str, span: Span, dist_span: Span) -> Diagnostic:
    return Diagnostic(
        "E402",
        f"{what} must be in the support of {dist}, {support}; it is {be(got)}",
        Label(span, f"{be(got)}: its density is zero"),
        Label(dist_span, f"on {support}"),
        "check which value belongs to which distribution",
    )


def init_outside(value: str, support: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E403",
        f"initial value {value} is not {be(support)}",
        Label(span, f"not {be(support)}"),
        Label(declared, f"declared {support}"),
        "start inside the support",
    )


def condition_not_data(text: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E104",
        f"the condition `{text}` of `when` is random",
        Label(span, "depends on a latent or a param"),
        hint="a condition reads data only: which values are there is known before sampling",
    )


def init_on_edge(value: str, support: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E403",
        f"initial value {value} is on the edge of {support}, infinitely far out for the optimiser",
        Label(span, "on the edge"),
        Label(declared, f"declared {support}"),
        "start inside the support",
    )


def default_outside(value: str, support: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E403",
        f"default {value} is not {be(support)}",
        Label(span, f"not {be(support)}"),
        Label(declared, f"declared {support}"),
        "give a default inside the type",
    )


def let_outside(value: str, support: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E403",
        f"value {value} is not {be(support)}",
        Label(span, f"not {be(support)}"),
        Label(declared, f"declared {support}"),
        "give a value inside the type, or declare another type",
    )


def empty_support(text: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E404",
        f"{text} is empty",
        Label(span, "no value lies in it"),
        hint="swap the bounds: the lower one comes first",
    )


def no_density(dist: str, name: str, span: Span, site: Span, hint: str = "") -> Diagnostic:
    return Diagnostic(
        "E405",
        f"{dist} has no density on the continuous site `{name}`",
        Label(span, "a single point"),
        Label(site, "continuous"),
        hint or f"for a point estimate write `auto map for {name}`",
    )


def point_as_part(dist: str, owner: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E405",
        f"{dist} has no density that {owner} could be made of",
        Label(span, "a single point"),
        hint="for extra zeros among counts write `ZeroInflated(gate, D)`; else give the point a narrow scale",
    )


def moves_with_aux(dist: str, name: str, span: Span, site: Span) -> Diagnostic:
    return Diagnostic(
        "E405",
        f"{dist} has no density on the continuous site `{name}`, whose value is a function of other draws",
        Label(span, "nothing random is left here"),
        Label(site, "continuous"),
        f"sample `{name}` around that value: `{name} ~ Normal(…, scale)`",
    )


def improper(dist: str, name: str, span: Span, site: Span) -> Diagnostic:
    return Diagnostic(
        "E405",
        f"{dist} is improper: `{name}` cannot be drawn from it",
        Label(span, "has no draws"),
        Label(site, "declared here"),
        f"take a distribution that can be drawn, or `auto mean_field for {name}`",
    )


def init_not_in_set(kind: str, problem: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E406",
        f"this initial value is not {be(kind)}: {problem}",
        Label(span, problem),
        Label(declared, f"declared {kind}"),
        "give a value inside the set, or leave the init out",
    )


def let_not_in_set(kind: str, problem: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E406",
        f"this value is not {be(kind)}: {problem}",
        Label(span, problem),
        Label(declared, f"declared {kind}"),
        "give a value inside the set, or declare another type",
    )


def observed_narrower(
    name: str, type: str, dist: str, support: str, span: Span, declared: Span, hint: str
) -> Diagnostic:
    return Diagnostic(
        "E407",
        f"`{name} : {type}` is narrower than {dist}'s support, {support}",
        Label(span, f"covers {support}"),
        Label(declared, f"declared {type}"),
        hint,
    )


def latent_wider(name: str, type: str, dist: str, support: str, span: Span, declared: Span, hint: str) -> Diagnostic:
    return Diagnostic(
        "E407",
        f"`{name} : {type}` is wider than {dist}'s support, {support}",
        Label(span, f"covers only {support}"),
        Label(declared, f"declared {type}"),
        hint,
    )


def latent_of_another_kind(name: str, type: str, dist: str, span: Span, declared: Span, hint: str) -> Diagnostic:
    return Diagnostic(
        "E407",
        f"`{name} : {type}` is discrete, and {dist} is continuous: its density says nothing of single values",
        Label(span, "a density"),
        Label(declared, f"declared {type}"),
        hint,
    )


def bounds_restrict(name: str, type: str, dist: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E407",
        f"`{name} : {type}` restricts {dist} to bounds that move, and its normalising constant moves with them",
        Label(span, f"not made for {type}"),
        Label(declared, f"declared {type}"),
        f"use a distribution with these bounds, such as Uniform or TruncatedNormal, or `{name} ~ Flat`",
    )


def cannot_restrict(name: str, type: str, dist: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E407",
        f"`{name} : {type}` restricts {dist}, whose normalising constant then depends on its arguments",
        Label(span, f"no closed form on {type}"),
        Label(declared, f"declared {type}"),
        f"use constant arguments, or a distribution on {type}",
    )


def bounds_move(what: str, name: str, source: str, span: Span, declared: Span | None) -> Diagnostic:
    """`source` is the latent or param that the bounds read."""
    hint = {
        "param": f"a param's bounds are numbers or data; for a bound that moves with `{source}`, sample with `via`",
        "data": "the bounds of data are numbers or other data",
        "observed": f"declare `{name}` with a wider type, such as real or count: its distribution keeps it in bounds",
    }[what]
    return Diagnostic(
        "E409",
        f"the bounds of {what} `{name}` may not depend on `{source}`",
        Label(span, f"moves with `{source}`"),
        Label(declared, f"`{source}` is declared here") if declared is not None else None,
        hint,
    )


def bounds_of_scan(name: str, source: str, span: Span, declared: Span | None) -> Diagnostic:
    """`source` is what the bounds read: a value of a scan's step, or one that a scan has made."""
    return Diagnostic(
        "E409",
        f"the bounds of `{name}` may not depend on `{source}`, which a scan makes",
        Label(span, f"moves with `{source}`"),
        Label(declared, f"`{source}` is declared here") if declared is not None else None,
        "bounds are numbers, data, or latents from outside of the scan; let the distribution keep it in bounds",
    )


def map_in_moving_bounds(name: str, type: str, span: Span, site: Span) -> Diagnostic:
    return Diagnostic(
        "E409",
        f"map needs a param on {type} for `{name}`, whose bounds depend on a latent",
        Label(span, "asked for here"),
        Label(site, f"declared {type}"),
        f"`auto mean_field for {name}`: it moves with its bounds",
    )


def interface_support(message: str, span: Span, here: str, there: Label | None, hint: str) -> Diagnostic:
    """A support that the Pyro model of an interface has otherwise; `there` is in its Python file."""
    return Diagnostic("E420", message, Label(span, here), there, hint)
