"""E2xx: shapes, dims and plates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from guidedsl.diagnostics import Diagnostic, Label
from guidedsl.errors.wording import STEP_BEFORE, batched, did_you_mean
from guidedsl.source import Span


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
    hint = "dims match by name, not by size; a single number may stand beside any shape"
    if pair := _number_and_dim(left, right):
        number, dim = pair
        hint = f"{number} is no {dim}, even where {dim} = {number}: write `[{number}]` in both places, or `[{dim}]`"
    return Diagnostic(
        "E201",
        f"event shapes {left} and {right} do not match{why}",
        Label(right_span, f"event shape {right}"),
        Label(left_span, f"event shape {left}") if left_span != right_span else None,
        hint,
    )


def _number_and_dim(left: str, right: str) -> tuple[str, str] | None:
    """The first pair of axes of two shapes, from the right, of which one is a number and the other a dim."""
    sizes = (shape.strip("[]").split(", ")[::-1] for shape in (left, right))
    for pair in zip(*sizes, strict=False):
        number, dim = sorted(pair, key=str.isidentifier)
        if number.isdecimal() and dim.isidentifier():
            return number, dim
    return None


def site_shape(name: str, site: str, dist: str, span: Span, type: Span, hint: str) -> Diagnostic:
    """`span` is the part of an argument that brings the distribution's axes."""
    return Diagnostic(
        "E201",
        f"`{name}` is declared with event shape {site}, its distribution has {dist}",
        Label(span, f"brings {dist}"),
        Label(type, f"event shape {site}"),
        hint,
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
        hint=did_you_mean(name, candidates, f"declare it with its size: `plate {name}[N] {{ }}`"),
    )


def no_plate(owner: str, name: str, span: Span, candidates: Iterable[str]) -> Diagnostic:
    known = list(candidates)
    otherwise = f"its plates are {', '.join(known)}" if known else f"{owner} has no plates"
    return Diagnostic(
        "E205",
        f"{owner} has no plate `{name}`",
        Label(span, "no such plate"),
        hint=did_you_mean(name, known, otherwise),
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
        hint=f'say it with the data, `"{name}": 10`, or by `--dim {name}=10`; or give a default: `dim {name} = 10`',
    )


def no_axis(function: str, axis: int, event: str, last: int, span: Span) -> Diagnostic:
    return Diagnostic(
        "E201",
        f"{function} has no axis {axis} to go along: its argument has event shape {event}",
        Label(span, f"event shape {event}"),
        hint="event axes are counted from 0" + (f" to {last}" if last else "; there is one, `axis = 0`"),
    )


def too_many_indices(
    text: str, event: str, takes: int, given: int, span: Span, *, of_step: Literal["", "site", "carry"] = ""
) -> Diagnostic:
    """`of_step`: a value of the steps of the open scan, which is indexed by the number of a step."""
    hint = "a value takes one index for every plate outside of which it is read, then one for each event dim"
    if of_step == "carry":
        hint = f"`{text}` is what the step before handed on: write it without brackets"
    elif of_step:
        hint = f"`{text}` is the value of this step; {STEP_BEFORE}: `carry (before : real = 0)`, `next before = {text}`"
    holds = "is a single number" if takes == 0 else f"has event shape {event}"
    return Diagnostic(
        "E201",
        f"`{text}` {holds}: it takes {takes or 'no'} {'index' if takes == 1 else 'indices'}, {given} given",
        Label(span, "too many indices"),
        hint=hint,
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


def wrong_index(
    what: str, found: str, plate: str, span: Span, other: Span | None = None, data: str | None = None
) -> Diagnostic:
    """`found` is what it indexes instead, or what it is instead of an index; `data` names it where it is data."""
    wanted = f"`{plate}`" if found.startswith("indexes") else f"an `index({plate})`"
    return Diagnostic(
        "E207",
        f"{what} {found}, not {wanted}",
        Label(span, f"this {found}"),
        Label(other, f"local to `{plate}`") if other is not None else None,
        f"use an `index({plate})`" + (f": `data {data} : index({plate})`" if data is not None else ""),
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


def interface_shape(message: str, span: Span, here: str, there: Label | None, hint: str) -> Diagnostic:
    """Plates, sizes or event dims that the Pyro model of an interface has otherwise; `there` is in its Python file."""
    return Diagnostic("E220", message, Label(span, here), there, hint)


def all_rows_of_batch(
    expression: str, plate: str, mode: str, of_params: bool, span: Span, declared: Span
) -> Diagnostic:
    """`of_params`: it is made of params and data, all rows of which are stored."""
    mend = "read the rows of the params that it is made of" if of_params else "use a value that is not local to it"
    return Diagnostic(
        "E209",
        f"`{expression}` reads all rows of the {batched(mode)} plate `{plate}`",
        Label(span, "needs every row"),
        Label(declared, f"`{plate}` is declared with {mode}"),
        f"only this batch's rows exist: declare the plate without `{mode}(…)`, or {mend}",
    )
