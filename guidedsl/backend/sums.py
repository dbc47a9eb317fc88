"""Sums over enumerated latents as Python: terms added up on named axes, then log Σ exp over some of these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from guidedsl import ir
from guidedsl.backend.code import ATOM, PRODUCT, UNARY, Code, added
from guidedsl.backend.emit import Emitter
from guidedsl.backend.names import Locals
from guidedsl.backend.statements import Statement
from guidedsl.backend.terms import log_density
from guidedsl.check.shapes import latest
from guidedsl.ir import Stage
from guidedsl.sizes import Size

Resolve = Callable[[ir.Term], tuple[ir.Term, Emitter]]
"""A term as it is emitted, one of a scan for all steps at once, and what emits it."""


def classes_statement(classes: ir.Classes, emitter: Emitter) -> Statement:
    """`c = torch.arange(K, …)`: all values of a latent, row numbers as integers and others as the data's numbers; the
    rows of `data.new_eye(K)` where each value is a vector with a single 1."""
    if classes.latent.type.support.kind == "one_hot":
        value = f"data.new_eye({emitter.size(classes.size)})"
        return Statement(f"{emitter.local(classes.name)} = {value}", classes.latent.span.line)
    stop = emitter.size(classes.size + Size.of(classes.low))
    start = f"{classes.low}, " if classes.low else ""
    dtype = "" if classes.latent.type.support.target is not None else "dtype=data.dtype, "
    value = f"torch.arange({start}{stop}, {dtype}device=data.device)"
    return Statement(f"{emitter.local(classes.name)} = {value}", classes.latent.span.line)


class SumWriter:
    """Writes the sums of one density into `body`."""

    def __init__(self, emitter: Emitter, names: Locals, body: list[Statement], resolve: Resolve) -> None:
        self.emitter, self.names, self.body, self.resolve = emitter, names, body, resolve

    def write(self, summed: ir.SumOut | ir.SumChain) -> Code | None:
        """Write a sum; gives what it adds to the density, or None where other latents are still in it."""
        name = self.emitter.local(summed.message.name)
        code = self._sum_out(summed, name) if isinstance(summed, ir.SumOut) else self._chain(summed, name)
        if summed.message.type.plates != summed.plates:
            self.body.append(Statement(f"{name} = {code.text}", summed.span.line))
            return None
        return _over(code, summed.plates, summed.plates)

    def _sum_out(self, summed: ir.SumOut, name: str) -> Code:
        inner = self._add(name, summed.terms, summed.axes, summed.plates, summed.span.line)
        self._tilt(name, [summed.classes], summed.axes, inner)
        place = summed.axes.index(summed.classes.name) - len(summed.axes)
        return Code(f"fn.sum_out({name}, {place})")

    def _chain(self, summed: ir.SumChain, name: str) -> Code:
        """First steps, moves from step to step, and what is seen of the classes at each; then the forward algorithm."""
        sites, states = ([part.name for part in parts] for parts in zip(*_pairs(summed), strict=True))
        step = summed.axes[-1]
        line = summed.span.line
        moving = [term for term in summed.terms if not set(states).isdisjoint(term.plates)]
        seen = [term for term in summed.terms if term not in moving]
        here = tuple(axis for axis in summed.axes if axis not in states)
        moves = self.names.fresh(f"{name}_move")
        if moving:
            self._add(moves, moving, summed.axes, (), line)
        else:
            self.body.append(Statement(f"{moves} = data.new_zeros({(1,) * (2 * len(sites) + 1)})", line))
        start = self._start(summed, name, moves, here[:-1])
        inner = self._add(name, seen, here, (*summed.plates, step), line)
        self._tilt(name, [link.site for link in summed.links], here, inner)
        count = f", {len(sites)}" if len(sites) > 1 else ""
        return Code(f"fn.forward({start}, {moves}, {name}{count})")

    def _start(self, summed: ir.SumChain, name: str, moves: str, axes: Sequence[str]) -> str:
        """The weights of the first classes: written apart, or a row of the moves from what that step is handed."""
        first = self.names.fresh(f"{name}_first")
        outer = summed.message.type.plates
        line = summed.span.line
        if any(link.start is None for link in summed.links):
            states = [self._state(link, outer) for link in summed.links]
            comma = "," if len(states) == 1 else ""
            text = f"fn.first_move({moves}, ({', '.join(states)}{comma}))"
            self.body.append(Statement(f"{first} = {text}", line))
            return first
        for position, link in enumerate(summed.links):
            assert link.start is not None
            span = next(term.span for term in summed.terms if term.name == link.site.name)
            term = ir.Term(None, link.start, None, True, link.start.type.plates, None, span)
            whole, inner = self.resolve(term)
            code, own = inner.emit(whole.value), whole.value.type.plates
            if link.site.step in own:
                code, own = Code(f"{code.at(ATOM)}[..., 0]"), own[:-1]
            code = inner.lifted(code, whole.value.type.stage, own, axes)
            text = f"{first} = {added(first, code)}" if position else f"{first} = {code.text}"
            self.body.append(Statement(text, span.line))
        return first

    def _state(self, link: ir.Link, axes: Sequence[str]) -> str:
        value = link.init.type.value
        if value is not None:
            return str(int(value) - link.site.low)
        index = self.emitter.aligned(link.init, axes, 0)
        return index.text if not link.site.low else f"{index.at(ATOM)} - {link.site.low}"

    def _add(
        self, name: str, terms: Sequence[ir.Term], axes: Sequence[str], needed: Iterable[str], line: int
    ) -> Emitter:
        """Add terms up on `axes`, with every row of those in `needed`; gives what emits values with these axes."""
        reached: set[str] = set()
        inner = self.emitter
        for position, term in enumerate(terms):
            whole, emitter = self.resolve(term)
            inner = emitter if set(axes) <= {*emitter.plates} else inner
            code, own = _term(whole, axes, emitter)
            reached |= set(own)
            self.body.append(
                Statement(f"{name} = {added(name, code)}" if position else f"{name} = {code.text}", term.span.line)
            )
        if not terms:
            self.body.append(Statement(f"{name} = data.new_zeros({inner.shape(axes, ())})", line))
        elif not reached >= set(needed):
            self.body.append(Statement(f"{name} = fn.expand({name}, {inner.shape(axes, ())})", line))
        return inner

    def _tilt(self, name: str, classes: Iterable[ir.Classes], axes: Sequence[str], emitter: Emitter) -> None:
        """`if tilt is not None: …`: log weights on the classes, whose gradient is the probability of each."""
        inner: list[Statement] = []
        for one in classes:
            site = one.latent.name
            read = f'tilt["{site}"]' if one.step is None else f'tilt["{site}"].mT'
            own = tuple(axis for axis in axes if axis in (*one.plates, site))
            code = emitter.lifted(Code(read), Stage.LATENT, own, axes)
            inner.append(Statement(f"{name} = {name} + {code.text}", one.latent.span.line))
        self.body.append(Statement("if tilt is not None:", inner[0].line, tuple(inner)))


def _pairs(summed: ir.SumChain) -> list[tuple[ir.Classes, ir.Classes]]:
    return [(link.site, link.state) for link in summed.links]


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
