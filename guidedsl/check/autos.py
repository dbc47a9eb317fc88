"""Writes an `auto` out as the statements that it stands for."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from guidedsl import errors, ir
from guidedsl.check.expressions import Expressions
from guidedsl.check.models import declared_names
from guidedsl.check.shapes import as_size, show
from guidedsl.check.types import moving_bound
from guidedsl.library import families
from guidedsl.library import supports as s
from guidedsl.library.families import FAMILIES, Family
from guidedsl.sizes import Size
from guidedsl.source import Source, Span
from guidedsl.syntax import ast
from guidedsl.syntax.parser import parse
from guidedsl.syntax.words import RESERVED

if TYPE_CHECKING:
    from guidedsl.check.guides import GuideChecker

_LARGE = 1000
"""Above this many coordinates a full covariance is likely not meant (W605)."""


def expand_auto(
    node: ast.Auto, guide: GuideChecker, enclosing: tuple[str, ...], named: set[str], number: int
) -> tuple[ast.Statement, ...] | None:
    """The statements of an `auto`, all placed where it stands, or None after reporting what is wrong with it.

    One that enumerates stands for none: its latents are noted in the guide.
    """
    text = auto_text(node, guide, enclosing, named, number)
    if text is None:
        return None
    statements = parse_statements(text, node.span)
    for name in declared_names(statements):
        if name.text in guide.taken:
            guide.report.add(
                errors.auto_declares(node.family.text, name.text, node.span, guide.taken[name.text]), name.text
            )
            for latent in guide.latents.values():
                if guide.auto_spans.get(latent.name) == node.span:
                    guide.lose(latent, node.span, in_auto=True)
            return None
    return statements


def auto_text(
    node: ast.Auto, guide: GuideChecker, enclosing: tuple[str, ...], named: set[str], number: int
) -> str | None:
    family = FAMILIES.get(node.family.text)
    if family is None:
        guide.report.add(errors.unknown_family(node.family.text, node.family.span, FAMILIES), node.family.text)
        _give_up(node, guide, enclosing, named)
        return None
    options = _options(node, family, Expressions(guide.report, guide.scope(enclosing)))
    latents = _latents(node, family, guide, enclosing, named)
    if options is None:
        for latent in latents:
            guide.lose(latent, node.span, in_auto=True)
    if options is None or not latents:
        return None
    if family.sums_out:
        for latent in latents:
            guide.enumerate(latent, _place(node, latent))
        return None
    assert family.expand is not None
    if any(latent.name in RESERVED for latent in latents):
        _give_up(node, guide, enclosing, named)
        return None
    for latent in latents:
        guide.auto_spans[latent.name] = node.span
    if family.quadratic:
        _warn_large(node, family, latents, guide, enclosing)
    known = tuple(_described(latent, enclosing) for latent in latents)
    prefix = "joint" if number == 1 else f"joint{number}"
    text = family.expand(known, prefix, options)
    guide.expansions.append((node.span, text))
    return text


def _give_up(node: ast.Auto, guide: GuideChecker, enclosing: tuple[str, ...], named: set[str]) -> None:
    """Count the latents of an auto that cannot be written out as sampled: they are not missing because of that."""
    names = {name.text for name in node.names}
    family = FAMILIES.get(node.family.text)
    for latent in _rest(family, guide, enclosing, named) if _is_rest(node, guide) else guide.latents.values():
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


def _options(node: ast.Auto, family: Family, expressions: Expressions) -> dict[str, str] | None:
    report = expressions.report
    given: dict[str, str] = {}
    for position, argument in enumerate(node.arguments):
        value = argument.value
        name = argument.keyword.text if argument.keyword is not None else None
        if name is None and position < len(family.required):
            name = family.required[position]
        if name not in family.required:
            at = argument.keyword.span if argument.keyword is not None else value.span
            shown = name or report.text(value.span)
            report.add(errors.unknown_option(shown, f"`{family.name}`", at, family.required))
            return None
        checked = expressions.check(value)
        size = as_size(checked) if checked is not None else None
        if checked is None:
            return None
        if size is None or (size.constant is not None and size.constant < 1):
            report.add(errors.bad_option(name, "a whole number from 1", value.span))
            return None
        given[name] = report.text(value.span)
    missing = [name for name in family.required if name not in given]
    if missing:
        example = ", ".join(f"{name} = 8" for name in missing)
        report.add(errors.option_needed(family.name, missing[0], node.family.span, example))
        return None
    return given


def _latents(
    node: ast.Auto, family: Family, guide: GuideChecker, enclosing: tuple[str, ...], named: set[str]
) -> list[ir.Latent]:
    if _is_rest(node, guide):
        rest = _rest(family, guide, enclosing, named)
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
    return found if fine else []


def _is_rest(node: ast.Auto, guide: GuideChecker) -> bool:
    return len(node.names) == 1 and node.names[0].text == "rest" and "rest" not in guide.latents


def _rest(family: Family | None, guide: GuideChecker, enclosing: tuple[str, ...], named: set[str]) -> list[ir.Latent]:
    """The latents that no other statement samples, as far as the open plates and their types allow."""
    discrete = family is not None and family.sums_out
    return [
        latent
        for latent in guide.latents.values()
        if latent.name not in named
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
            finding = errors.joint_in_subsampled(family.name, latent.name, plate, mode, span, latent.span)
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


def _described(latent: ir.Latent, enclosing: tuple[str, ...]) -> families.Latent:
    support, event = latent.type.support, latent.type.event
    free = s.free_shape(support, event)
    assert free is not None
    square = support.row.square
    written = event[:-1] if square else event
    return families.Latent(
        latent.name,
        f"{support}{_brackets(written)}",
        _brackets(free),
        support.kind == "real",
        tuple(plate for plate in latent.plates if plate not in enclosing),
    )


def _brackets(event: tuple[Size, ...]) -> str:
    return show(event) if event else ""


def _warn_large(
    node: ast.Auto, family: Family, latents: list[ir.Latent], guide: GuideChecker, enclosing: tuple[str, ...]
) -> None:
    expressions = Expressions(guide.report, guide.scope(enclosing))
    sizes = [expressions.coordinates(latent) for latent in latents]
    defaults = {dim.name: dim.default for dim in guide.dims.values() if dim.default is not None}
    total = 0
    for size in sizes:
        if size is None or not size.names <= set(defaults):
            continue
        total += size.value(defaults)
    if total > _LARGE:
        count = total * (total + 1) // 2
        shown = f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"
        guide.report.add(errors.many_parameters(family.name, total, shown, node.span))
