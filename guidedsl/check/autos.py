"""Writes an `auto` out as the statements that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from guidedsl import errors, ir
from guidedsl.check.dependencies import Reading, readings
from guidedsl.check.expressions import Expressions
from guidedsl.check.shapes import as_size, show
from guidedsl.check.statements import declared_names
from guidedsl.check.types import moving_bound
from guidedsl.library import families
from guidedsl.library import supports as s
from guidedsl.library.families import FAMILIES, Family, Option, Parent
from guidedsl.sizes import Size, total
from guidedsl.source import Source, Span
from guidedsl.syntax import ast
from guidedsl.syntax.parser import parse
from guidedsl.syntax.words import RESERVED

if TYPE_CHECKING:
    from guidedsl.check.guides import GuideChecker

LARGE = 1000
"""A matrix of more rows than this is likely not meant as a param (W605)."""


def expand_auto(
    node: ast.Auto, guide: GuideChecker, enclosing: tuple[str, ...], number: int
) -> tuple[ast.Statement, ...] | None:
    """The statements of an `auto`, all placed where it stands, or None after reporting what is wrong with it.

    One that enumerates stands for none: its latents are noted in the guide.
    """
    auto = _understood(node, guide, enclosing)
    if auto is None:
        return None
    family, options, latents = auto
    suffix = "" if number == 1 else str(number)
    if family.expand is None:
        # Flows are counted by themselves, so that they keep their names where other autos are written out.
        before = sum(isinstance(one, ir.JointDraw) and isinstance(one.dist, ir.Flow) for one in guide.statements)
        _flow(node, guide, latents, options, f"flow{before + 1 if before else ''}")
        return None
    prefix = f"joint{suffix}"
    known = _described(latents, guide, enclosing)
    text = family.expand(known, prefix, {name: text for name, (text, _) in options.items()})
    if family.whole:
        owner = guide.node.name.text
        guide.laplace = ir.Laplace(f"{owner}.{prefix}_loc", f"{owner}.{prefix}_scale_tril", node.span)
    if not family.kept:
        guide.expansions.append((node.span, text))
    statements = parse_statements(text, node.span)
    for name in declared_names(statements):
        if name.text in guide.declared_at:
            guide.report.add(
                errors.auto_declares(node.family.text, name.text, node.span, guide.declared_at[name.text]), name.text
            )
            for latent in latents:
                guide.lose(latent, node.span, in_auto=True)
            return None
    return statements


_Options = dict[str, tuple[str, Size | None]]
"""Each option as text, and as a size where it is a number."""


def _understood(
    node: ast.Auto, guide: GuideChecker, enclosing: tuple[str, ...]
) -> tuple[Family, _Options, list[ir.Latent]] | None:
    """The family, its options and its latents, or None after saying what is wrong with them."""
    family = FAMILIES.get(node.family.text)
    if family is None:
        guide.report.add(errors.unknown_family(node.family.text, node.family.span, FAMILIES), node.family.text)
        _give_up(node, guide, enclosing)
        return None
    options = _options(node, family, Expressions(guide.report, guide.scope(enclosing)))
    latents = _latents(node, family, guide, enclosing)
    if options is None:
        for latent in latents:
            guide.lose(latent, node.span, in_auto=True)
    if options is None or not latents:
        return None
    if family.sums_out:
        for latent in latents:
            guide.enumerate(latent, _place(node, latent))
        return None
    if any(latent.name in RESERVED for latent in latents):
        _give_up(node, guide, enclosing)
        return None
    if enclosing and family.kept:
        plate = enclosing[-1]
        guide.report.add(errors.auto_in_plate(family.name, plate, node.span, guide.plates[plate].span))
        _give_up(node, guide, enclosing)
        return None
    if family.quadratic:
        _warn_large(node, family, latents, guide, enclosing)
    return family, options, latents


def _flow(node: ast.Auto, guide: GuideChecker, latents: list[ir.Latent], options: _Options, name: str) -> None:
    """Add the draw of a flow, which no statement of the language says."""
    expressions = Expressions(guide.report, guide.scope())
    sizes = [size for latent in latents if (size := expressions.coordinates(latent)) is not None]
    transforms, hidden = options["transforms"][1], options["hidden"][1]
    assert transforms is not None
    assert hidden is not None
    owner = guide.node.name.text
    flow = ir.Flow(name, f"{owner}.{name}", options["kind"][0], total(sizes), transforms, hidden)
    for latent in latents:
        guide.lose(latent, node.span, in_auto=True)
    guide.statements.append(ir.JointDraw(flow, tuple(latents), (), node.span))


def _give_up(node: ast.Auto, guide: GuideChecker, enclosing: tuple[str, ...]) -> None:
    """Count the latents of an auto that cannot be written out as sampled: they are not missing because of that."""
    names = {name.text for name in node.names}
    family = FAMILIES.get(node.family.text)
    for latent in _rest(family, guide, enclosing) if _is_rest(node, guide) else guide.latents.values():
        if _is_rest(node, guide) or latent.name in names:
            guide.lose(latent, node.span, in_auto=True)


def _place(node: ast.Auto, latent: ir.Latent) -> Span:
    """Where an auto names a latent."""
    return next((name.span for name in node.names if name.text == latent.name), node.names[0].span)


def parse_statements(text: str, span: Span) -> tuple[ast.Statement, ...]:
    parsed = parse(Source("auto", f"guide g for m {{\n{text}\n}}"))
    assert not parsed.diagnostics, f"an auto expands to {text!r}: this should never happen, please file a bug"
    body: tuple[ast.Statement, ...] = _placed(parsed.file.guides[0].body, span)
    return body


def _placed(node: Any, span: Span) -> Any:
    """The same tree with every node at `span`."""
    if isinstance(node, tuple):
        return tuple(_placed(item, span) for item in node)
    if isinstance(node, Span):
        return span
    if is_dataclass(node) and not isinstance(node, type):
        return replace(node, **{field.name: _placed(getattr(node, field.name), span) for field in fields(node)})
    return node


def _options(node: ast.Auto, family: Family, expressions: Expressions) -> _Options | None:
    report = expressions.report
    known = {option.name: option for option in family.options}
    given: _Options = {}
    for position, argument in enumerate(node.arguments):
        value = argument.value
        name = argument.keyword.text if argument.keyword is not None else None
        if name is None and position < len(family.options):
            name = family.options[position].name
        if name not in known:
            at = argument.keyword.span if argument.keyword is not None else value.span
            shown = name or report.text(value.span)
            report.add(errors.unknown_option(shown, f"`{family.name}`", at, known))
            return None
        option = _option(known[name], value, expressions)
        if option is None:
            return None
        given[name] = option
    missing = [option for option in family.options if option.default is None and option.name not in given]
    if missing:
        example = ", ".join(next(iter(one.words)) if one.words else f"{one.name} = 8" for one in missing)
        report.add(errors.option_needed(family.name, missing[0].name, node.family.span, example))
        return None
    left = {o.name: (o.default, Size.of(int(o.default))) for o in family.options if o.default and o.name not in given}
    return given | left


def _option(option: Option, value: ast.Expr, expressions: Expressions) -> tuple[str, Size | None] | None:
    report = expressions.report
    text = report.text(value.span)
    if option.words is not None:
        if text in option.words:
            return text, None
        report.add(errors.bad_option(option.name, f"one of {', '.join(option.words)}", value.span))
        return None
    checked = expressions.check(value)
    size = as_size(checked) if checked is not None else None
    if checked is None:
        return None
    if size is None or (size.constant is not None and size.constant < 1):
        report.add(errors.bad_option(option.name, "a whole number from 1", value.span))
        return None
    return text, size


def _latents(node: ast.Auto, family: Family, guide: GuideChecker, enclosing: tuple[str, ...]) -> list[ir.Latent]:
    if _is_rest(node, guide):
        rest = _rest(family, guide, enclosing)
        fitting = [latent for latent in rest if _fits(node, family, latent, guide, enclosing, node.names[0].span)]
        if len(fitting) < len(rest):
            for other in rest:
                guide.lose(other, node.span, in_auto=True)
            return []
        return fitting
    found: list[ir.Latent] = []
    fine = True
    for name in node.names:
        latent = guide.latents.get(name.text)
        if latent is None:
            guide.claim(name, in_auto=True)
            fine = False
        elif latent.type.support.row.free is None and not family.sums_out:
            support = str(latent.type.support)
            guide.report.add(
                errors.no_bijection(f"`auto {family.name}`", name.text, support, name.span, latent.span), name.text
            )
            guide.lose(latent, name.span, in_auto=True)
            fine = False
        elif name.text in guide.sampled or name.text in {one.name for one in found}:
            guide.sampled.setdefault(name.text, (name.span, True))
            guide.claim(name, in_auto=True)
            fine = False
        elif not set(enclosing) <= set(latent.plates):
            guide.report.add(
                errors.wrong_plates(latent.name, latent.plates, enclosing, name.span, latent.span), latent.name
            )
            guide.lose(latent, name.span, in_auto=True)
            fine = False
        elif _fits(node, family, latent, guide, enclosing, name.span):
            found.append(latent)
        else:
            fine = False
    for sampled in found if not fine else ():
        guide.lose(sampled, node.span, in_auto=True)
    if family.ordered:
        found.sort(key=list(guide.latents.values()).index)
    return found if fine else []


def _is_rest(node: ast.Auto, guide: GuideChecker) -> bool:
    return len(node.names) == 1 and node.names[0].text == "rest" and "rest" not in guide.latents


def _rest(family: Family | None, guide: GuideChecker, enclosing: tuple[str, ...]) -> list[ir.Latent]:
    """The latents that no other statement samples, as far as the open plates and their types allow."""
    discrete = family is not None and family.sums_out
    return [
        latent
        for latent in guide.latents.values()
        if latent.name not in guide.named
        and latent.name not in guide.sampled
        and set(enclosing) <= set(latent.plates)
        and (latent.type.support.row.discrete if discrete else latent.type.support.row.free is not None)
    ]


def _fits(
    node: ast.Auto, family: Family, latent: ir.Latent, guide: GuideChecker, enclosing: tuple[str, ...], span: Span
) -> bool:
    """Whether the family's params for a latent can be: not tied to rows that come and go, nor to bounds that move."""
    if family.sums_out:
        return guide.may_enumerate(latent, span)
    finding = None
    for plate in latent.plates:
        declared = guide.plates[plate]
        if family.joint and plate not in enclosing and declared.batching is not None:
            mode = declared.batching
            row = not family.kept
            finding = errors.joint_in_subsampled(family.name, latent.name, plate, mode, span, latent.span, row=row)
        elif declared.batching == "minibatch":
            finding = errors.auto_in_minibatch(family.name, latent.name, plate, span, declared.span)
        if finding is not None:
            break
    if finding is None and family.in_bounds and moving_bound(latent.bounds) is not None:
        finding = errors.map_in_moving_bounds(latent.name, str(latent.type.support), span, latent.span)
    if finding is None:
        return True
    guide.report.add(finding, latent.name)
    guide.lose(latent, span, in_auto=True)
    return False


def _described(
    latents: list[ir.Latent], guide: GuideChecker, enclosing: tuple[str, ...]
) -> tuple[families.Latent, ...]:
    """What the family needs to know of its latents."""
    own = {latent.name for latent in latents}
    known = own | set(guide.sampled)
    return tuple(_describe(latent, own, known, guide, enclosing) for latent in latents)


def _describe(
    latent: ir.Latent, own: set[str], known: set[str], guide: GuideChecker, enclosing: tuple[str, ...]
) -> families.Latent:
    support, event = latent.type.support, latent.type.event
    free = s.free_shape(support, event)
    assert free is not None
    square = support.row.square
    written = event[:-1] if square else event
    parents = (_parent(reading, guide, own) for reading in readings(latent, guide.model) if reading.latent in known)
    return families.Latent(
        latent.name,
        f"{support}{_brackets(written)}",
        _brackets(free),
        len(free),
        support.kind == "real",
        tuple(plate for plate in latent.plates if plate not in enclosing),
        tuple(parent for parent in parents if parent is not None),
    )


def _parent(reading: Reading, guide: GuideChecker, own: set[str]) -> Parent | None:
    """A latent that a prior reads as the guide reads it, its location taken off where this auto has one. Rows that an
    index picks have unconstrained coordinates only where these are the latent itself."""
    latent = guide.latents[reading.latent]
    shape = s.free_shape(latent.type.support, latent.type.event)
    if shape is None:
        return None
    name, real = latent.name, latent.type.support.kind == "real"
    index = ", ".join((*reading.rows, *((reading.row_of,) if reading.row_of else ())))
    if index:
        if not real or len(shape) > 1:
            return None
        value, less = f"{name}[{index}]", f"{name}_loc[{index}]"
        size = shape[0].written if shape and not reading.row_of else ""
        return Parent("_".join((name, *reading.rows)), f"({value} - {less})" if name in own else value, size)
    size = "" if not shape else shape[0].written if len(shape) == 1 else f"size({name})"
    value = name if real and len(shape) < 2 else f"free({name})" if shape else f"free({name})[0]"
    return Parent(name, f"({value} - {name}_loc)" if name in own else value, size)


def _brackets(event: tuple[Size, ...]) -> str:
    return show(event) if event else ""


def _warn_large(
    node: ast.Auto, family: Family, latents: list[ir.Latent], guide: GuideChecker, enclosing: tuple[str, ...]
) -> None:
    def size(latent: ir.Latent) -> int:
        around = enclosing if family.joint else latent.plates
        return known_size(Expressions(guide.report, guide.scope(around)).coordinates(latent), guide.dims) or 0

    rows = sum(map(size, latents)) if family.joint else max(map(size, latents))
    if rows > LARGE:
        hint = "try `low_rank(rank = 8)`" if family.joint else "try `mean_field`, which has no matrix for an event"
        guide.report.add(errors.many_parameters(family.name, rows, node.span, hint))


def known_size(size: Size | None, dims: Mapping[str, ir.Dim]) -> int | None:
    """A size as a number, where the defaults of dims in the file say it."""
    defaults = {dim.name: dim.default for dim in dims.values() if dim.default is not None}
    return None if size is None or not size.names <= set(defaults) else size.value(defaults)
