"""What the compiler says: one constructor for each finding, each with a stable code.

A message says what is wrong, the label where, the hint which edit mends it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from guidedsl.diagnostics import Diagnostic, Label
from guidedsl.library import foreign
from guidedsl.source import Span


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` is most likely a slip of."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.65)
    return by_lower[close[0]] if close else None


def _did_you_mean(name: str, candidates: Iterable[str], otherwise: str | None = None) -> str | None:
    close = closest(name, candidates)
    return f"did you mean `{close}`?" if close else otherwise


# E1xx: words and names


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
        hint=_did_you_mean(name, candidates, f"declare it: `dim {name}`"),
    )


def not_declared(name: str, span: Span, candidates: Iterable[str], what: str = "") -> Diagnostic:
    known = sorted(candidates)
    otherwise = f"declare it, or use one of: {', '.join(known[:8])}" if known else "declare it in this file"
    noun = f"{what} " if what else ""
    return Diagnostic(
        "E104",
        f"{noun}`{name}` is not declared",
        Label(span, "not known here"),
        hint=_did_you_mean(name, known, otherwise),
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
    hint = _did_you_mean(name, candidates, "docs/reference.md lists the functions")
    return Diagnostic("E104", f"there is no function `{name}`", Label(span, "not known"), hint=hint)


def unknown_maker(name: str, span: Span, usages: dict[str, str]) -> Diagnostic:
    otherwise = f"write `{'` or `'.join(usages.values())}`; a net of your own: leave `= {name}(…)` out"
    return Diagnostic(
        "E104",
        f"there is no net maker `{name}`",
        Label(span, "not known"),
        hint=_did_you_mean(name, usages, otherwise),
    )


def unknown_activation(name: str, span: Span, known: Iterable[str]) -> Diagnostic:
    options = list(known)
    return Diagnostic(
        "E105",
        f"there is no activation `{name}`",
        Label(span, "not known"),
        hint=_did_you_mean(name, options, f"the activations are {', '.join(options)}"),
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
    hint = _did_you_mean(name, known, f"the families are {', '.join(known)}")
    return Diagnostic("E104", f"there is no automatic guide `{name}`", Label(span, "not known"), hint=hint)


def unknown_option(name: str, owner: str, span: Span, known: Iterable[str]) -> Diagnostic:
    options = sorted(known)
    otherwise = f"{owner} takes {', '.join(options)}" if options else f"{owner} takes no options"
    return Diagnostic(
        "E105",
        f"{owner} has no option `{name}`",
        Label(span, "not known"),
        hint=_did_you_mean(name, options, otherwise),
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
        hint=_did_you_mean(name, options, otherwise),
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
    hint = _did_you_mean(name, known, f"the types are {', '.join(known)}")
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


def used_before(name: str, span: Span, later: Span, verb: str) -> Diagnostic:
    """`verb` is what happens to the name further down: declared or sampled."""
    if later.line == span.line and later.start < span.start:
        hint = f"`{name}` cannot be made of itself: use another name"
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
        _did_you_mean(name, carries, f"declare it: `carry ({name} : real = 0)`"),
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


# E2xx: shapes, dims and plates


def scan_differs(name: str, model: str, here: str, span: Span, site: Span) -> Diagnostic:
    return Diagnostic(
        "E210",
        f"`{name}` has {model} steps in the model, {here} here",
        Label(span, f"a scan of {here} steps"),
        Label(site, f"a scan of {model} steps"),
        f"sample it in a scan of its own, `scan t in {model} {{ {name} ~ … }}`, or whole, outside of all scans",
    )


def no_site_of_scan(name: str, span: Span, site: Span) -> Diagnostic:
    return Diagnostic(
        "E210",
        f"`{name}` is no site of a scan in the model",
        Label(span, "would be sampled at every step"),
        Label(site, "sampled once"),
        f"move `{name} ~ …` out of the scan",
    )


def shapes_differ(left: str, left_span: Span, right: str, right_span: Span, why: str = "") -> Diagnostic:
    return Diagnostic(
        "E201",
        f"event shapes {left} and {right} do not match{why}",
        Label(right_span, f"event shape {right}"),
        Label(left_span, f"event shape {left}") if left_span != right_span else None,
        "dims match by name, not by size; a single number may stand beside any shape",
    )


def wrong_shape(what: str, wanted: str, got: str, span: Span, hint: str) -> Diagnostic:
    return Diagnostic(
        "E201", f"{what} must have event shape {wanted}, not {got}", Label(span, f"event shape {got}"), hint=hint
    )


def components_differ(weights: str, wanted: str, got: str, span: Span, part: Span) -> Diagnostic:
    return Diagnostic(
        "E201",
        f"{weights} of mixture have shape {wanted}, the components {got}",
        Label(part, f"the last dim must be {wanted}"),
        Label(span, "of this mixture"),
        f"give an argument of the component the last dim {wanted}; for different families write `[D1, D2, …]`",
    )


def missing_event_dims(name: str, model: str, guide: str, span: Span, site: Span, hint: str) -> Diagnostic:
    return Diagnostic(
        "E202",
        f"site `{name}` has event shape {model} in the model, {guide} here",
        Label(span, f"its arguments give event shape {guide}"),
        Label(site, f"event shape {model}"),
        hint,
    )


def joint_shape(names: str, wanted: str, got: str, span: Span, first: Span, hint: str) -> Diagnostic:
    return Diagnostic(
        "E202",
        f"a joint of `{names}` is over event shape {wanted}, the distribution over {got}",
        Label(span, f"its arguments give event shape {got}"),
        Label(first, "the first of its latents"),
        hint,
    )


def aux_shape(name: str, declared: str, got: str, span: Span, type: Span, hint: str) -> Diagnostic:
    return Diagnostic(
        "E202",
        f"aux `{name}` is declared with event shape {declared}, its distribution has {got}",
        Label(span, f"its arguments give event shape {got}"),
        Label(type, f"event shape {declared}"),
        hint,
    )


def wrong_plates(name: str, model: tuple[str, ...], here: tuple[str, ...], span: Span, site: Span) -> Diagnostic:
    def said(plates: tuple[str, ...]) -> str:
        if not plates:
            return "outside all plates"
        shown = " and ".join(f"`{plate}`" for plate in plates)
        return f"in plate {shown}" if len(plates) == 1 else f"in plates {shown}"

    missing = [plate for plate in model if plate not in here]
    hint = f"wrap it in `plate {', '.join(missing)} {{ }}`" if missing else "move it out of the plate"
    return Diagnostic(
        "E203",
        f"`{name}` is {said(model)} in the model, {said(here)} here",
        Label(span, said(here)),
        Label(site, said(model)),
        hint,
    )


def local_to_plate(name: str, plates: tuple[str, ...], span: Span, declared: Span) -> Diagnostic:
    shown = " and ".join(f"`{plate}`" for plate in plates)
    rows = ", ".join("ijklmn"[: len(plates)])
    all_rows = ", ".join(":" for _ in plates)
    return Diagnostic(
        "E204",
        f"`{name}` is local to plate{'s' if len(plates) > 1 else ''} {shown}",
        Label(span, "used outside"),
        Label(declared, f"declared in {shown}"),
        f"index it (`{name}[{rows}]` with `i : index({plates[0]})`), reduce `{name}[{all_rows}]`, "
        "or move this into the plate",
    )


def index_missing(name: str, plates: tuple[str, ...], given: int, span: Span, declared: Span) -> Diagnostic:
    order = ", ".join(plates)
    return Diagnostic(
        "E204",
        f"`{name}` is local to {len(plates)} plates and takes an index for each, {given} given",
        Label(span, f"`{plates[given]}` has no index"),
        Label(declared, f"declared in {order}"),
        f"give one index a plate, outermost first: `{name}[{', '.join('ijklmn'[: len(plates)])}]` for {order}",
    )


def plate_without_size(name: str, span: Span, candidates: Iterable[str]) -> Diagnostic:
    return Diagnostic(
        "E205",
        f"plate `{name}` has no size here and none above",
        Label(span, "not declared yet"),
        hint=_did_you_mean(name, candidates, f"declare it with its size: `plate {name}[N] {{ }}`"),
    )


def no_plate(owner: str, name: str, span: Span, candidates: Iterable[str]) -> Diagnostic:
    known = list(candidates)
    otherwise = f"its plates are {', '.join(known)}" if known else f"{owner} has no plates"
    return Diagnostic(
        "E205",
        f"{owner} has no plate `{name}`",
        Label(span, "no such plate"),
        hint=_did_you_mean(name, known, otherwise),
    )


def entered_twice(name: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E103",
        f"plate `{name}` is entered twice",
        Label(span, "already inside this plate"),
        Label(declared, "declared here"),
        "leave it out here; for pairs of rows declare a second plate of the same size",
    )


def plate_sized_again(name: str, span: Span, first: Span) -> Diagnostic:
    return Diagnostic(
        "E103",
        f"plate `{name}` already has its size at {first.line}:{first.column}",
        Label(span, "sized again here"),
        Label(first, "first declared here"),
        f"re-enter it by name alone: `plate {name} {{ }}`",
    )


def init_shape(name: str, init: str, param: str, span: Span, hint: str) -> Diagnostic:
    return Diagnostic(
        "E206", f"init of `{name}` has shape {init}, the param is {param}", Label(span, f"shape {init}"), hint=hint
    )


def unbound_dim(name: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "W207",
        f"nothing binds dim `{name}`",
        Label(span, "no data has an axis of this name"),
        hint=f"it becomes a required argument; or give a default: `dim {name} = 10`",
    )


def no_axis(function: str, axis: int, event: str, last: int, span: Span) -> Diagnostic:
    return Diagnostic(
        "E201",
        f"{function} has no axis {axis} to go along: its argument has event shape {event}",
        Label(span, f"event shape {event}"),
        hint="event axes are counted from 0" + (f" to {last}" if last else "; there is one, `axis = 0`"),
    )


def too_many_indices(text: str, event: str, takes: int, given: int, span: Span) -> Diagnostic:
    holds = "is a single number" if takes == 0 else f"has event shape {event}"
    return Diagnostic(
        "E201",
        f"`{text}` {holds}: it takes {takes or 'no'} {'index' if takes == 1 else 'indices'}, {given} given",
        Label(span, "too many indices"),
        hint="a value takes one index for every plate outside of which it is read, then one for each event dim",
    )


def free_shape_differs(name: str, wanted: str, got: str, span: Span, site: Span) -> Diagnostic:
    return Diagnostic(
        "E202",
        f"`{name}` has unconstrained coordinates of shape {wanted}; the distribution gives {got}",
        Label(span, f"its arguments give event shape {got}"),
        Label(site, f"coordinates of shape {wanted}"),
        f"give an argument the shape {wanted}: `param {name}_loc : real{wanted}`",
    )


def flat_misused(name: str, problem: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E105",
        f"`Flat` {problem}",
        Label(span, problem),
        hint=f"it stands alone, on a continuous latent: `latent {name} : real ~ Flat`",
    )


def axis_without_size(name: str, event: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E201",
        f"`{name}` would have event shape {event}, in which `new` has no size",
        Label(span, "an axis that nothing has filled yet"),
        hint="write `x[:, new]` where it meets another shape, as in `x[:, new] * z`",
    )


def factor_shape(shape: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E201",
        f"a factor must be one number a row, not {shape}",
        Label(span, f"event shape {shape}"),
        hint="add up its entries: `factor sum(…)`",
    )


def not_a_slice(text: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E207",
        f"`{text}` is not a slice of known size",
        Label(span, "its ends move"),
        hint="the ends of a slice are whole numbers or dims: `y[1:]`, `y[:T - 1]`",
    )


def wrong_slice(text: str, why: str, shape: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E207",
        f"slice `{text}` {why} of an axis {shape}",
        Label(span, why),
        hint="positions count from 0, and the end is not included: `y[1:]` leaves out the first entry",
    )


def wrong_index(what: str, found: str, plate: str, span: Span, other: Span | None = None) -> Diagnostic:
    """`found` is what it indexes instead, or what it is instead of an index."""
    wanted = f"`{plate}`" if found.startswith("indexes") else f"an `index({plate})`"
    return Diagnostic(
        "E207",
        f"{what} {found}, not {wanted}",
        Label(span, f"this {found}"),
        Label(other, f"local to `{plate}`") if other is not None else None,
        f"use an `index({plate})`",
    )


def two_vectors_of_positions(text: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E207",
        f"`{text}` has two vectors of positions, and it is not said whether they go in pairs",
        Label(span, "one vector of positions at a time"),
        hint="for pairs use a plate of the pairs, where each is one position; for all with all write `x[a][:, b]`",
    )


def step_outside(text: str, why: str, span: Span, hint: str) -> Diagnostic:
    return Diagnostic(
        "E207",
        f"position `{text}` {why}",
        Label(span, "not within the axis at every step"),
        hint=hint,
    )


def position_outside(text: str, last: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E207",
        f"position `{text}` is outside 0 to {last}",
        Label(span, "no entry here"),
        hint=f"positions count from 0: the last one is `{last}`, or `-1`",
    )


def not_these_rows(text: str, shape: str, plate: str, size: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E207",
        f"`{text}` has event shape {shape}, but plate `{plate}` has {size} rows",
        Label(span, f"event shape {shape}"),
        Label(declared, f"`{plate}` has {size} rows"),
        f"declare `{text}` with the plate's size, `[{size}]`, or use an index of its own",
    )


def _batched(mode: str) -> str:
    return "subsampled" if mode == "subsample" else "minibatched"


def all_rows_of_batch(
    expression: str, plate: str, mode: str, of_params: bool, span: Span, declared: Span
) -> Diagnostic:
    """`of_params`: it is made of params and data, all rows of which are stored."""
    mend = "read the rows of the params that it is made of" if of_params else "use a value that is not local to it"
    return Diagnostic(
        "E209",
        f"`{expression}` reads all rows of the {_batched(mode)} plate `{plate}`",
        Label(span, "needs every row"),
        Label(declared, f"`{plate}` is declared with {mode}"),
        f"only this batch's rows exist: declare the plate without `{mode}(…)`, or {mend}",
    )


# E3xx: sites


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
        hint=_did_you_mean(name, candidates, f"`aux {name} : real ~ …` if it is the guide's own randomness"),
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
    one_hot = kind == "one_hot"
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
        f"`{name}` cannot be enumerated: its sum needs all rows of the {_batched(mode)} plate `{plate}`",
        Label(span, "asked for here"),
        Label(term, f"one term a row of `{plate}` reads `{name}`"),
        f"declare plate `{plate}` without `{mode}(…)`, or sample it: `{name} ~ …`",
    )


# E4xx: supports


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


def be(support: str) -> str:
    """A support behind `is` or `must be`: positive, in interval(0, 1), a simplex."""
    kind = support.partition("(")[0]
    if kind in ("real", "positive", "nonnegative", "ordered", "positive_ordered", "bool"):
        return support
    ranges = ("unit", "interval", "greater_than", "less_than", "int")
    return f"in {support}" if kind in ranges else f"a {support}"


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


def observed_narrower(name: str, type: str, dist: str, support: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E407",
        f"`{name} : {type}` is narrower than {dist}'s support, {support}",
        Label(span, f"covers {support}"),
        Label(declared, f"declared {type}"),
        f"declare `{name} : {support}`, or use a distribution on {type}",
    )


def latent_wider(name: str, type: str, dist: str, support: str, span: Span, declared: Span) -> Diagnostic:
    return Diagnostic(
        "E407",
        f"`{name} : {type}` is wider than {dist}'s support, {support}",
        Label(span, f"covers only {support}"),
        Label(declared, f"declared {type}"),
        f"declare `{name} : {support}`, or use a distribution on all of {type}",
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


# E5xx: autos


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
        f"{family} over `{name}` in the {_batched(mode)} plate `{plate}`",
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


# W6xx: what is legal and likely not meant


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
