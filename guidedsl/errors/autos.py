"""E5xx: autos."""

from __future__ import annotations

from guidedsl.diagnostics import Diagnostic, Label
from guidedsl.errors.wording import batched
from guidedsl.source import Span


def option_needed(family: str, option: str, span: Span, example: str) -> Diagnostic:
    return Diagnostic(
        "E501", f"{family} needs `{option}`", Label(span, "not given"), hint=f"write `{family}({example})`"
    )


def auto_in_minibatch(family: str, name: str, plate: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E505",
        f"{family} needs local params for `{name}` in the minibatched plate `{plate}`",
        Label(span, "one value a row"),
        Label(declared, "fed rows have no identity"),
        "use `subsample` for the plate, or write the site with params that all rows share",
    )


def joint_in_subsampled(
    family: str, name: str, plate: str, mode: str, span: Span, site: Span, *, row: bool = True
) -> Diagnostic:
    """`row`: whether it may stand for one row instead."""
    return Diagnostic(
        "E502",
        f"{family} over `{name}` in the {batched(mode)} plate `{plate}`",
        Label(span, "its parameters would take the minibatch's shape"),
        Label(site, f"in plate `{plate}`"),
        (
            f"put it inside `plate {plate} {{ }}`, use mean_field, or a net"
            if row
            else "use mean_field or structured, which have params for each row"
        ),
    )


def auto_in_plate(family: str, plate: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E510",
        f"`auto {family}` inside plate `{plate}`",
        Label(span, "there is none for each row"),
        Label(declared, f"`{plate}` is declared here"),
        f"move it out of the plate, or take full_rank, structured or a net for the rows of `{plate}`",
    )


def laplace_not_alone(name: str, span: Span, auto: Span) -> Diagnostic:
    return Diagnostic(
        "E511",
        f"`auto laplace` does not cover `{name}`",
        Label(span, "drawn apart from it"),
        Label(auto, "an expansion around the mode of all latents"),
        "let it cover them all: `auto laplace for rest`; or take full_rank, which stands beside other statements",
    )


def local_param_minibatched(name: str, plate: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E505",
        f"local param `{name}` in the minibatched plate `{plate}`",
        Label(span, "one value a row"),
        Label(declared, "fed rows have no identity"),
        "use `subsample` for the plate, or move the param out of it",
    )


def net_in_plate(name: str, plate: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E505",
        f"net `{name}` is declared in plate `{plate}`",
        Label(span, "a net belongs to no row"),
        Label(declared, f"`{plate}` is declared here"),
        "move the net above the plate: called inside, it sees every row",
    )


def call_argument(callee: str, name: str, wanted: str, got: str, span: Span, declared: Span, cure: str) -> Diagnostic:
    return Diagnostic(
        "E503",
        f"`{callee}` expects {wanted} for `{name}`, got {got}",
        Label(span, f"this is {got}"),
        Label(declared, f"signature of `{callee}`"),
        f"see its signature at {declared.line}:{declared.column}{cure}",
    )


def wrong_count(what: str, values: int, names: int, span: Span, declared: Span | None, hint: str) -> Diagnostic:
    """`names` is 1 where a single value is needed."""
    given = f"{names} names given" if names > 1 else "one value is needed"
    return Diagnostic(
        "E504",
        f"{what} returns {values} value{'s' if values > 1 else ''}, {given}",
        Label(span, given),
        Label(declared, "its signature") if declared is not None else None,
        hint,
    )


def not_a_tuple(text: str, names: int, span: Span) -> Diagnostic:
    return Diagnostic(
        "E504",
        f"`{text}` is one value, {names} names given",
        Label(span, "one value"),
        hint="names in brackets take what a net or an extern with several outputs returns; else write `let a = …`",
    )


def no_bijection(owner: str, name: str, type: str, span: Span, site: Span) -> Diagnostic:
    """`owner` is what would push: an auto, a joint or a `via`."""
    return Diagnostic(
        "E506",
        f"{owner} has no bijection for `{name} : {type}`",
        Label(span, "asked for here"),
        Label(site, f"declared {type}"),
        f"write the site with a distribution on {type}: `{name} ~ …`",
    )


def no_param_bijection(name: str, type: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E506",
        f"a param has no bijection for `{name} : {type}`",
        Label(span, "cannot be optimised as it stands"),
        hint=f"declare `{name}` real and write `normalize({name})` where the direction is needed",
    )
