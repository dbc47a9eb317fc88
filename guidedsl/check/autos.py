"""Writes an `auto` out as the statements that it stands for."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from guidedsl import errors, ir
from guidedsl.check.expressions import Expressions
from guidedsl.check.shapes import as_size, show
from guidedsl.library import families
from guidedsl.library import supports as s
from guidedsl.library.families import FAMILIES, Family
from guidedsl.sizes import Size
from guidedsl.source import Source, Span
from guidedsl.syntax import ast
from guidedsl.syntax.parser import parse

if TYPE_CHECKING:
    from guidedsl.check.guides import GuideChecker

_LARGE = 1000
"""Above this many coordinates a full covariance is likely not meant (W605)."""


def expand_auto(
    node: ast.Auto, guide: GuideChecker, enclosing: tuple[str, ...], named: set[str], number: int
) -> tuple[ast.Statement, ...] | None:
    """The statements of an `auto`, all placed where it stands, or None after reporting what is wrong with it."""
    text = auto_text(node, guide, enclosing, named, number)
    return None if text is None else parse_statements(text, node.span)


def auto_text(
    node: ast.Auto, guide: GuideChecker, enclosing: tuple[str, ...], named: set[str], number: int
) -> str | None:
    family = FAMILIES.get(node.family.text)
    if family is None:
        guide.report.add(errors.unknown_family(node.family.text, node.family.span, FAMILIES), node.family.text)
        return None
    options = _options(node, family, Expressions(guide.report, guide.scope(enclosing)))
    latents = _latents(node, family, guide, enclosing, named)
    if options is None or not latents:
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
    rest = len(node.names) == 1 and node.names[0].text == "rest" and "rest" not in guide.latents
    if rest:
        return [
            latent
            for latent in guide.latents.values()
            if latent.name not in named
            and latent.name not in guide.sampled
            and latent.name not in guide.auto_spans
            and set(enclosing) <= set(latent.plates)
            and latent.type.support.row.free is not None
            and _may_join(node, family, latent, guide, enclosing, node.span)
        ]
    found: list[ir.Latent] = []
    fine = True
    for name in node.names:
        latent = guide.latents.get(name.text)
        if latent is None:
            guide.claim(name, in_auto=True)
            fine = False
        elif latent.type.support.row.free is None:
            support = str(latent.type.support)
            guide.report.add(errors.no_bijection(family.name, name.text, support, name.span, latent.span), name.text)
            guide.sampled[name.text] = (name.span, True)
            fine = False
        elif name.text in guide.sampled:
            guide.claim(name, in_auto=True)
            fine = False
        elif not set(enclosing) <= set(latent.plates):
            guide.report.add(
                errors.wrong_plates(latent.name, latent.plates, enclosing, name.span, latent.span), latent.name
            )
            guide.sampled[name.text] = (name.span, True)
            fine = False
        elif _may_join(node, family, latent, guide, enclosing, name.span):
            found.append(latent)
        else:
            fine = False
    for latent in found if not fine else ():
        guide.sampled[latent.name] = (node.span, True)
    return found if fine else []


def _may_join(
    node: ast.Auto, family: Family, latent: ir.Latent, guide: GuideChecker, enclosing: tuple[str, ...], span: Span
) -> bool:
    """A joint family may not tie rows of a subsampled plate together."""
    for plate in latent.plates if family.joint else ():
        mode = guide.plates[plate].batching
        if plate not in enclosing and mode is not None:
            guide.report.add(
                errors.joint_in_subsampled(family.name, latent.name, plate, mode, span, latent.span), latent.name
            )
            guide.sampled[latent.name] = (span, True)
            return False
    return True


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
