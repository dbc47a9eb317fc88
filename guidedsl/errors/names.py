"""E1xx: words and names."""

from __future__ import annotations

from collections.abc import Iterable

from guidedsl.diagnostics import Diagnostic, Label
from guidedsl.errors.wording import STEP_BEFORE, closest, did_you_mean
from guidedsl.library import foreign
from guidedsl.source import Span


def unexpected(
    span: Span, *, expected: str, found: str, opened: Span | None, opened_text: str, hint: str | None
) -> Diagnostic:
    if opened is not None and hint is None:
        hint = f"`{opened_text}` opened at {opened.line}:{opened.column} is not closed"
    return Diagnostic(
        "E101",
        f"expected {expected}, found {found}",
        Label(span, f"expected {expected}"),
        Label(opened, f"`{opened_text}` is opened here") if opened is not None else None,
        hint,
    )


def unknown_character(span: Span, found: str, hint: str) -> Diagnostic:
    return Diagnostic("E101", f"unexpected {found}", Label(span, "not understood"), hint=hint)


def number_too_large(text: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E101",
        f"the number {text[:20]} is too large",
        Label(span, "beyond 1.8e308"),
        hint="for no bound at all use a type without one, such as real or greater_than(0)",
    )


def reserved_word(word: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E102", f"`{word}` is a reserved word", Label(span, "used as a name"), hint=f"rename it, say `{word}_`"
    )


def nested_too_deep(span: Span) -> Diagnostic:
    return Diagnostic(
        "E108",
        "nested too deep",
        Label(span, "this is nested deeper than anyone could read"),
        hint="split it with `let`",
    )


def already_declared(name: str, span: Span, first: Span) -> Diagnostic:
    return Diagnostic(
        "E103",
        f"`{name}` is already declared at {first.line}:{first.column}",
        Label(span, "declared again here"),
        Label(first, "first declared here"),
        "rename one of the two",
    )


def clashes(name: str, what: str, span: Span, owner: str) -> Diagnostic:
    return Diagnostic(
        "E103",
        f"`{name}` is {what} of the language",
        Label(span, f"declared as {owner} here"),
        hint=f"rename it, say `{name}_{owner.split()[-1]}`",
    )


def auto_declares(family: str, name: str, span: Span, first: Span) -> Diagnostic:
    return Diagnostic(
        "E103",
        f"this `auto {family}` declares `{name}`, which is already declared at {first.line}:{first.column}",
        Label(span, f"stands for statements with a `{name}` of their own"),
        Label(first, "first declared here"),
        f"rename your `{name}`; `guidedsl expand` prints the names that an auto takes",
    )


def unknown_dim(name: str, span: Span, candidates: Iterable[str]) -> Diagnostic:
    return Diagnostic(
        "E104",
        f"dim `{name}` is not declared",
        Label(span, "not known here"),
        hint=did_you_mean(name, candidates, f"declare it: `dim {name}`"),
    )


def not_declared(name: str, span: Span, candidates: Iterable[str], what: str = "") -> Diagnostic:
    known = sorted(candidates)
    otherwise = f"declare it, or use one of: {', '.join(known[:8])}" if known else "declare it in this file"
    noun = f"{what} " if what else ""
    return Diagnostic(
        "E104",
        f"{noun}`{name}` is not declared",
        Label(span, "not known here"),
        hint=did_you_mean(name, known, otherwise),
    )


def not_a_value(name: str, what: str, span: Span, hint: str) -> Diagnostic:
    return Diagnostic("E104", f"`{name}` is {what}, not a value", Label(span, "a value is needed here"), hint=hint)


def model_let(name: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E104",
        f"`{name}` is a let of the model that depends on latents: a guide does not see it",
        Label(span, "not known here"),
        Label(declared, "declared in the model"),
        f"write it out in the guide, under another name: `let {name}_q = …`",
    )


def not_a_size(text: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E104",
        f"`{text}` is not a size",
        Label(span, "not known when data is bound"),
        hint="a size is a whole number, a dim, or a sum or product of these: `K - 1`",
    )


def empty_size(text: str, span: Span) -> Diagnostic:
    return Diagnostic("E404", f"size {text} is empty", Label(span, "no entries"), hint="a size is at least 1")


def init_not_known(name: str, text: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E104",
        f"the init of `{name}` reads `{text}`, which has no value before sampling",
        Label(span, "a latent or a param"),
        hint="an init is made of numbers, dims and data",
    )


def unknown_distribution(name: str, span: Span, candidates: Iterable[str]) -> Diagnostic:
    by_plain = {foreign.plain(candidate): candidate for candidate in candidates}
    known = foreign.DISTRIBUTIONS.get(foreign.plain(name))
    close = known if known in by_plain.values() else by_plain.get(closest(foreign.plain(name), by_plain) or "")
    hint = f"did you mean `{close}`?" if close else "docs/reference.md lists the distributions"
    return Diagnostic("E104", f"there is no distribution `{name}`", Label(span, "not known"), hint=hint)


def unknown_function(name: str, span: Span, candidates: Iterable[str]) -> Diagnostic:
    hint = did_you_mean(name, candidates, "docs/reference.md lists the functions")
    return Diagnostic("E104", f"there is no function `{name}`", Label(span, "not known"), hint=hint)


def unknown_maker(name: str, span: Span, usages: dict[str, str]) -> Diagnostic:
    otherwise = f"write `{'` or `'.join(usages.values())}`; a net of your own: leave `= {name}(…)` out"
    return Diagnostic(
        "E104",
        f"there is no net maker `{name}`",
        Label(span, "not known"),
        hint=did_you_mean(name, usages, otherwise),
    )


def not_of_maker(maker: str, span: Span, mended: str) -> Diagnostic:
    problem = "takes its sizes side by side, and its activation by name"
    return Diagnostic("E105", f"`{maker}` {problem}", Label(span, "not a size"), hint=f"write `{mended}`")


def unknown_activation(name: str, span: Span, known: Iterable[str]) -> Diagnostic:
    options = list(known)
    return Diagnostic(
        "E105",
        f"there is no activation `{name}`",
        Label(span, "not known"),
        hint=did_you_mean(name, options, f"the activations are {', '.join(options)}"),
    )


def bad_origin(text: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E105",
        f'"{text}" does not say what to import',
        Label(span, "not a module and a name"),
        hint='write `from "package.module:name"`',
    )


def unknown_family(name: str, span: Span, candidates: Iterable[str]) -> Diagnostic:
    known = sorted(candidates)
    hint = did_you_mean(name, known, f"the families are {', '.join(known)}")
    return Diagnostic("E104", f"there is no automatic guide `{name}`", Label(span, "not known"), hint=hint)


def unknown_option(name: str, owner: str, span: Span, known: Iterable[str]) -> Diagnostic:
    options = sorted(known)
    otherwise = f"{owner} takes {', '.join(options)}" if options else f"{owner} takes no options"
    return Diagnostic(
        "E105",
        f"{owner} has no option `{name}`",
        Label(span, "not known"),
        hint=did_you_mean(name, options, otherwise),
    )


def bad_dim_default(name: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E105",
        f"the default of dim `{name}` must be a whole number from 1",
        Label(span, "this is not"),
        hint=f"write `dim {name} = 8`; a size that depends on other dims is written where it is used: `[2 * {name}]`",
    )


def unknown_transform(name: str, type: str, span: Span, known: Iterable[str]) -> Diagnostic:
    options = list(known)
    otherwise = (
        f"{type} takes via {' or '.join(options)}" if options else f"{type} has one bijection only: leave `via` out"
    )
    return Diagnostic(
        "E105",
        f"type `{type}` has no transform `{name}`",
        Label(span, "not known for this type"),
        hint=did_you_mean(name, options, otherwise),
    )


def option_takes_no_value(name: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E105", f"option `{name}` takes no value", Label(span, "stands alone"), hint=f"write `{name}` without `=`"
    )


def bad_option(name: str, wanted: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E105",
        f"option `{name}` must be {wanted}",
        Label(span, "this is not"),
        hint=f"write `{name} = …` with {wanted}",
    )


def no_argument(owner: str, name: str, span: Span, signatures: tuple[str, ...]) -> Diagnostic:
    return Diagnostic(
        "E105", f"`{owner}` has no argument `{name}`", Label(span, "no such argument"), hint=_signature_hint(signatures)
    )


def wrong_arguments(owner: str, problem: str, span: Span, signatures: tuple[str, ...]) -> Diagnostic:
    return Diagnostic("E105", f"`{owner}` {problem}", Label(span, problem), hint=_signature_hint(signatures))


def _signature_hint(signatures: tuple[str, ...]) -> str:
    return f"signature: {signatures[0]}" if len(signatures) == 1 else "signatures: " + "; ".join(signatures)


def unknown_type(name: str, span: Span, candidates: Iterable[str]) -> Diagnostic:
    known = list(candidates)
    ours = foreign.TYPES.get(name.lower())
    hint = did_you_mean(name, known, f"the types are {', '.join(known)}")
    if ours is not None and ours.partition("[")[0].partition("(")[0] in known:
        hint = f"write `{ours}`" + ("; brackets are event dims, of any type" if ours.startswith("real[") else "")
    return Diagnostic("E106", f"unknown type `{name}`", Label(span, "not a type"), hint=hint)


def malformed_type(name: str, problem: str, span: Span, usage: str) -> Diagnostic:
    return Diagnostic("E106", f"type `{name}` {problem}", Label(span, problem), hint=f"write `{usage}`")


def discrete_output(callee: str, output: str, type: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E106",
        f"generated net `{callee}` cannot return {output} of the discrete type `{type}`",
        Label(span, "has no gradient"),
        hint="return its probability, a `unit`, or its logit, a `real`",
    )


def moving_signature(callee: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E106",
        f"the bounds in the signature of `{callee}` must be numbers",
        Label(span, "known only with data"),
        hint="declare the input or output real, and assert a type where it is used: `let x : interval(a, b) = …`",
    )


def not_optimised(name: str, type: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E106",
        f"param `{name}` cannot be of the discrete type `{type}`",
        Label(span, "has no gradient"),
        hint="a param is optimised by its gradient: declare it real or positive, or make it `data`",
    )


def used_before(name: str, span: Span, later: Span, verb: str, *, in_scan: bool) -> Diagnostic:
    """`verb` is what happens to the name further down: declared or sampled."""
    if later.line == span.line and later.start < span.start:
        hint = f"`{name}` cannot be made of itself: use another name; what goes from step to step stands in a `scan`"
        if in_scan:
            hint = f"{STEP_BEFORE}: `carry (before : real = 0)`, read `before` here, and `next before = {name}`"
    elif later.line == span.line:
        hint = f"move what is {verb} there to the front"
    else:
        hint = f"move line {later.line} above line {span.line}"
    return Diagnostic(
        "E107",
        f"`{name}` is used before it is {verb} ({later.line}:{later.column})",
        Label(span, "used here"),
        Label(later, f"{verb} here"),
        hint,
    )


def bounds_before(name: str, bound: str, span: Span, later: Span) -> Diagnostic:
    return Diagnostic(
        "E107",
        f"the bounds of `{name}` use `{bound}` before it is sampled",
        Label(span, f"needs `{bound}`"),
        Label(later, f"`{bound}` is declared here"),
        f"sample `{bound}` above this line",
    )


def mixed_interface(name: str, span: Span, other: str, other_span: Span) -> Diagnostic:
    return Diagnostic(
        "E109",
        f"`{name}` has a distribution and `{other}` has none",
        Label(span, "with a distribution"),
        Label(other_span, "without one"),
        "give every site a distribution, or none (then the model is an interface)",
    )


def carry_not_updated(name: str, span: Span, scan: Span) -> Diagnostic:
    return Diagnostic(
        "E110",
        f"carry `{name}` has no `next`",
        Label(span, "every step would read its first value"),
        Label(scan, "nothing in this scan hands it on"),
        f"add `next {name} = …`, or write `let {name} = …` above the scan if it stays the same",
    )


def carry_updated_twice(name: str, span: Span, first: Span) -> Diagnostic:
    return Diagnostic(
        "E110",
        f"carry `{name}` has two `next` ({first.line}:{first.column}, {span.line}:{span.column})",
        Label(span, "updated again here"),
        Label(first, "first updated here"),
        "drop one of the two: a carry has one value a step",
    )


def next_of_no_carry(name: str, span: Span, scan: Span, carries: Iterable[str]) -> Diagnostic:
    return Diagnostic(
        "E110",
        f"`{name}` is no carry of this scan",
        Label(span, "nothing to hand on"),
        Label(scan, "its carries stand in this line"),
        did_you_mean(name, carries, f"declare it: `carry ({name} : real = 0)`"),
    )


def local_to_step(name: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E111",
        f"`{name}` is local to the steps of a scan",
        Label(span, "read outside of it"),
        Label(declared, "has a value at each step only"),
        f"`emit {name}_all = {name}` in the scan makes it readable behind, with the scan's dim in front",
    )


def read_below_next(name: str, span: Span, updated: Span) -> Diagnostic:
    return Diagnostic(
        "E112",
        f"`{name}` is read below its `next`, where it is still the old value",
        Label(span, "what the step before handed on"),
        Label(updated, "this is what the following step reads"),
        f"move the `next` below this line; for the new value: `let {name}_new = …` and `next {name} = {name}_new`",
    )


def two_densities(name: str, span: Span, path: str, origin: Span) -> Diagnostic:
    return Diagnostic(
        "E109",
        f"`{name}` has a distribution, and the model takes its density from {path}",
        Label(span, "with a distribution"),
        Label(origin, "the density of all sites"),
        "leave `from` out, or every `~`",
    )


def factor_in_interface(name: str, span: Span, other: Span) -> Diagnostic:
    return Diagnostic(
        "E109",
        f"a factor in an interface: `{name}` has no distribution, so the density is elsewhere",
        Label(span, "counted by nobody"),
        Label(other, "without a distribution"),
        "give every site a distribution, or move the factor to where the density is",
    )
