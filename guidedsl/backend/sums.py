"""The sum over one enumerated latent as Python: its terms added up on named axes, then log Σ exp over its own."""

from __future__ import annotations

from collections.abc import Sequence

from guidedsl import ir
from guidedsl.backend.emit import ATOM, PRODUCT, UNARY, Code, Emitter, added
from guidedsl.backend.statements import Statement
from guidedsl.backend.terms import log_density
from guidedsl.check.shapes import latest
from guidedsl.ir import Stage
from guidedsl.sizes import Size


def classes_statement(classes: ir.Classes, emitter: Emitter) -> Statement:
    """`c = torch.arange(K, …)`: all values of a latent, row numbers as integers and others as the data's numbers."""
    stop = emitter.size(classes.size + Size.of(classes.low))
    start = f"{classes.low}, " if classes.low else ""
    dtype = "" if classes.latent.type.support.target is not None else "dtype=data.dtype, "
    value = f"torch.arange({start}{stop}, {dtype}device=data.device)"
    return Statement(f"{emitter.local(classes.name)} = {value}", classes.latent.span.line)


def sum_statements(summed: ir.SumOut, emitter: Emitter) -> list[Statement]:
    """`log_c = …`, a line for each term and one for `tilt`; then the sum itself, where others are still in it."""
    name, site = emitter.local(summed.message.name), summed.classes.name
    plates = summed.classes.latent.plates
    body: list[Statement] = []
    reached: set[str] = set()
    for term in summed.terms:
        code, own = _term(term, summed.axes, emitter)
        reached |= set(own)
        text = f"{name} = {added(name, code)}" if body else f"{name} = {code.text}"
        body.append(Statement(text, term.span.line))
    if not reached >= set(plates):
        shape = emitter.shape(summed.axes, ())
        body.append(Statement(f"{name} = fn.expand({name}, {shape})", summed.span.line))
    tilt = emitter.lifted(Code(f'tilt["{site}"]'), Stage.LATENT, (*plates, site), summed.axes)
    body.append(Statement(f"if tilt is not None:\n    {name} = {name} + {tilt.text}", summed.span.line))
    if summed.message.type.plates != plates:
        body.append(Statement(f"{name} = {_over_classes(summed, name)}", summed.span.line))
    return body


def summed_total(summed: ir.SumOut, emitter: Emitter) -> Code | None:
    """The sum over the latent's values and its rows; None where other latents are still in it."""
    plates = summed.classes.latent.plates
    if summed.message.type.plates != plates:
        return None
    return _over(Code(_over_classes(summed, emitter.local(summed.message.name))), plates, plates)


def _over_classes(summed: ir.SumOut, name: str) -> str:
    site = summed.classes.name
    return f"fn.log_sum_exp({name}, {summed.axes.index(site) - len(summed.axes)})"


def _term(term: ir.Term, axes: Sequence[str], emitter: Emitter) -> tuple[Code, tuple[str, ...]]:
    """A term with the axes of the sum, those that it lacks of size 1; and those that it has."""
    parts = [part for part in (term.value, term.dist, term.when) if part is not None]
    own = tuple(axis for axis in term.plates if any(axis in part.type.plates for part in parts))
    code, batch = (emitter.emit(term.value), 0) if term.dist is None else log_density(term, term.dist, emitter, own)
    gone = [axis for axis in own if axis not in axes]
    code = _over(code, own, gone, batch)
    repeats = [emitter.size(emitter.plates[axis].size) for axis in term.plates if axis not in (*own, *axes)]
    if repeats:
        repeats = [size if size.isidentifier() or size.isdigit() else f"({size})" for size in repeats]
        code = Code(" * ".join([*repeats, code.at(UNARY)]), PRODUCT)
    left = tuple(axis for axis in own if axis in axes)
    return emitter.lifted(code, latest(part.type for part in parts), left, axes), left


def _over(code: Code, own: Sequence[str], gone: Sequence[str], batch: int = 0) -> Code:
    """`code` summed over some of its axes and its last `batch`."""
    count = len(own) + batch
    places = [own.index(axis) - count for axis in gone] + list(range(-batch, 0))
    if not places:
        return code
    shown = str(places[0]) if len(places) == 1 else f"({', '.join(map(str, places))})"
    return Code(f"{code.at(ATOM)}.sum({shown})")
