"""E3xx: sites."""

from __future__ import annotations

from collections.abc import Iterable

from guidedsl.diagnostics import Diagnostic, Label
from guidedsl.errors.wording import batched, did_you_mean
from guidedsl.source import Span


def not_sampled(guide: str, name: str, span: Span, site: Span, suggestion: str) -> Diagnostic:
    return Diagnostic(
        "E301",
        f"{guide} does not sample `{name}` (model, {site.line}:{site.column})",
        Label(span, f"no statement samples `{name}`"),
        Label(site, "declared here"),
        f"add `{suggestion}`, or `auto mean_field for rest`",
    )


def not_a_latent(name: str, model: str, span: Span, candidates: Iterable[str]) -> Diagnostic:
    return Diagnostic(
        "E302",
        f"`{name}` is not a latent of {model}",
        Label(span, "no such latent"),
        hint=did_you_mean(name, candidates, f"`aux {name} : real ~ …` if it is the guide's own randomness"),
    )


def is_data(name: str, what: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E302",
        f"`{name}` is {what}, not a latent",
        Label(span, "sampled here"),
        Label(declared, "declared here"),
        f"only latents are sampled: remove this statement, or read `{name}` as it is",
    )


def is_observed(name: str, span: Span, site: Span) -> Diagnostic:
    return Diagnostic(
        "E303",
        f"`{name}` is observed",
        Label(span, "sampled here"),
        Label(site, "observed in the model"),
        f"remove this statement; the guide can read `{name}` as data",
    )


def sampled_twice(name: str, span: Span, first: Span, from_auto: bool) -> Diagnostic:
    hint = f"take `{name}` out of the `auto`" if from_auto else "drop one of the two"
    return Diagnostic(
        "E304",
        f"`{name}` is sampled twice ({first.line}:{first.column}, {span.line}:{span.column})",
        Label(span, "sampled again here"),
        Label(first, "first sampled here"),
        hint,
    )


def discrete_not_sampled(guide: str, name: str, span: Span, site: Span, finite: bool) -> Diagnostic:
    enumerate = f", or `auto enumerate for {name}`" if finite else "; its values are too many to enumerate"
    return Diagnostic(
        "E305",
        f"discrete latent `{name}` is neither sampled nor enumerated in {guide}",
        Label(span, f"no statement is about `{name}`"),
        Label(site, "declared here"),
        f"sample it: `{name} ~ …`{enumerate}",
    )


def infinitely_many(name: str, type: str, span: Span, site: Span) -> Diagnostic:
    return Diagnostic(
        "E306",
        f"`{name}` has infinitely many values",
        Label(span, "asked for here"),
        Label(site, f"declared {type}"),
        f"it cannot be enumerated: sample it, `{name} ~ …`, or bound it, `int(0, 20)`",
    )


def continuous_enumerated(name: str, type: str, span: Span, site: Span) -> Diagnostic:
    return Diagnostic(
        "E306",
        f"`{name}` is continuous: it has more values than can be enumerated",
        Label(span, "asked for here"),
        Label(site, f"declared {type}"),
        f"sample it, or `auto mean_field for {name}`",
    )


def event_enumerated(name: str, kind: str, type: str, span: Span, site: Span) -> Diagnostic:
    one_hot = kind == "one_hot"  # of a scan, or several in one event
    count = "an index" if one_hot else "one value a row"
    hint = (
        "declare it `index(K)` in its plate" if one_hot else "put it in a plate, whose rows are summed out one by one"
    )
    return Diagnostic(
        "E306",
        f"`{name}` is a vector of {kind}: only {count} can be enumerated",
        Label(span, "asked for here"),
        Label(site, f"declared {type}"),
        f"{hint}: `plate p[K] {{ latent {name} : … }}`",
    )


def bounds_enumerated(name: str, type: str, span: Span, site: Span) -> Diagnostic:
    return Diagnostic(
        "E306",
        f"how many values `{name}` has is not known: its bounds are no numbers",
        Label(span, "asked for here"),
        Label(site, f"declared {type}"),
        "give it bounds of numbers and dims, `int(0, K)`, or sample it",
    )


def interface_enumerated(name: str, model: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E306",
        f"`{name}` cannot be summed out: {model} is an interface, whose density is not known",
        Label(span, "asked for here"),
        Label(declared, "no site has a distribution"),
        f"sample it, `{name} ~ …`, or write the model's distributions",
    )


def enumerated_read(name: str, span: Span, auto: Span | None) -> Diagnostic:
    return Diagnostic(
        "E306",
        f"`{name}` is enumerated: this guide has no value of it",
        Label(span, "a value is needed here"),
        Label(auto, "enumerated here") if auto is not None else None,
        f"leave `{name}` out of the expression, or sample it: `{name} ~ …`",
    )


def enumerated_bound(name: str, bound: str, span: Span, auto: Span | None) -> Diagnostic:
    return Diagnostic(
        "E306",
        f"the bounds of `{name}` read `{bound}`, of which this guide has no value",
        Label(span, f"pushed onto bounds that read `{bound}`"),
        Label(auto, "enumerated here") if auto is not None else None,
        f"sample `{bound}` instead: `{bound} ~ …`",
    )


def other_rows(name: str, plate: str, span: Span, reader: Span) -> Diagnostic:
    return Diagnostic(
        "E306",
        f"`{name}` cannot be enumerated: its value at one row of `{plate}` is read from another",
        Label(span, "asked for here"),
        Label(reader, f"reads `{name}` from outside its plate, where every row meets every other"),
        f"read it inside `plate {plate}` alone, or sample it: `{name} ~ …`",
    )


def classes_meet(
    name: str, plates: tuple[str, ...], other: str, others: tuple[str, ...], span: Span, term: Span
) -> Diagnostic:
    return Diagnostic(
        "E306",
        f"`{name}` (plate {', '.join(plates)}) and `{other}` (plate {', '.join(others)}) cannot both be enumerated: "
        f"every row of the one meets every row of the other",
        Label(span, "asked for here"),
        Label(term, f"reads both `{name}` and `{other}`"),
        f"sample one of them: `{other} ~ …`",
    )


def carried_on(name: str, carry: str, span: Span, next: Span) -> Diagnostic:
    return Diagnostic(
        "E306",
        f"`{name}` cannot be enumerated: carry `{carry}` hands on what is made of it, for every path of its own",
        Label(span, "asked for here"),
        Label(next, f"made of `{name}`"),
        f"hand on `{name}` alone, `next {carry} = {name}`, or sample it: `{name} ~ …`",
    )


def read_behind(name: str, reads: str, span: Span, reader: Span) -> Diagnostic:
    what = f"`{reads}`, made of `{name}`," if reads != name else f"`{name}`"
    return Diagnostic(
        "E306",
        f"`{name}` cannot be enumerated: {what} is read behind its scan, where all steps meet",
        Label(span, "asked for here"),
        Label(reader, f"reads `{reads}`"),
        f"read it in the scan alone, or sample it: `{name} ~ …`",
    )


def scale_inside(name: str, plate: str, mode: str, span: Span, term: Span) -> Diagnostic:
    return Diagnostic(
        "E306",
        f"`{name}` cannot be enumerated: its sum needs all rows of the {batched(mode)} plate `{plate}`",
        Label(span, "asked for here"),
        Label(term, f"one term a row of `{plate}` reads `{name}`"),
        f"declare plate `{plate}` without `{mode}(…)`, or sample it: `{name} ~ …`",
    )


def interface_site(message: str, span: Span, here: str, there: Label | None, hint: str) -> Diagnostic:
    """A site that an interface or its Pyro model alone has; `there` is in its Python file."""
    return Diagnostic("E320", message, Label(span, here), there, hint)


def interface_argument(message: str, span: Span, here: str, there: Label | None, hint: str) -> Diagnostic:
    """An argument that an interface or its Pyro model alone has; `there` is in its Python file."""
    return Diagnostic("E321", message, Label(span, here), there, hint)
