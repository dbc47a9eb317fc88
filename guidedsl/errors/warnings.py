"""W6xx: what is legal and likely not meant."""

from __future__ import annotations

from guidedsl.diagnostics import Diagnostic, Label
from guidedsl.source import Span


def unused_param(name: str, span: Span) -> Diagnostic:
    return Diagnostic("W601", f"param `{name}` is unused", Label(span, "nothing reads it"), hint="delete it")


def unused_callee(what: str, name: str, span: Span) -> Diagnostic:
    return Diagnostic("W601", f"{what} `{name}` is unused", Label(span, "nothing calls it"), hint="delete it")


def support_smaller(name: str, guide: str, model: str, span: Span, site: Span) -> Diagnostic:
    return Diagnostic(
        "W603",
        f"the guide's support of `{name}` is smaller: {guide} within {model}",
        Label(span, f"covers {guide}"),
        Label(site, f"lives on {model}"),
        "values outside are never reached: take a distribution on the whole support, or `via type`",
    )


def not_reparameterised(name: str, dist: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "W604",
        f"`{name} ~ {dist}` is not reparameterised",
        Label(span, "no pathwise gradient"),
        hint="its gradient is the score function's, with higher variance: use more particles; "
        "`# allow W604` on the line accepts it",
    )


def many_parameters(what: str, rows: int, span: Span, hint: str) -> Diagnostic:
    count = rows * (rows + 1) // 2
    shown = f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"
    return Diagnostic(
        "W605", f"{what} over dim {rows}: {shown} parameters", Label(span, "quadratic in the dim"), hint=hint
    )


def odd_scale(dist: str, value: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "W606",
        f"{dist}'s literal scale {value} is far outside [0.01, 10]",
        Label(span, "on the log scale"),
        hint="check the units: it is the standard deviation of the logarithm",
    )


def read_where_left_out(name: str, when: str, value: str, span: Span, condition: Span) -> Diagnostic:
    return Diagnostic(
        "W607",
        f"`{name}` is read also where `when {when}` leaves it out: there it is {value}, whatever the data say",
        Label(span, "read at all rows and steps"),
        Label(condition, f"`{name}` counts only here"),
        f"`where({when}, {name}, …)` says what to read in its place",
    )


def rows_alike(name: str, plate: str, param: str, batching: str | None, span: Span, declared: Span) -> Diagnostic:
    """`param` is one of those that the draw of `name` reads, from outside of the plate."""
    own = f"declare in plate `{plate}` what differs from row to row, `{param}` or a param beside it"
    if batching == "minibatch":
        own = "let a net of the row's data say what differs"
    return Diagnostic(
        "W608",
        f"all rows of plate `{plate}` share one distribution of `{name}`",
        Label(span, f"the same at every row of `{plate}`"),
        Label(declared, "one value for all of them"),
        f"{own}; `# allow W608` on the line where they are meant to share",
    )
