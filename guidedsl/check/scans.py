"""Scans: the step's number, the carries, and what is seen of the sites and emits in a step and behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from guidedsl import errors, ir
from guidedsl.check.cures import type_text
from guidedsl.check.expressions import Expressions
from guidedsl.check.scope import Report, Symbol
from guidedsl.check.shapes import as_size, indexed_size, show
from guidedsl.check.structured import problem_of
from guidedsl.check.types import Declared, check_type
from guidedsl.check.walk import refs, variables
from guidedsl.ir import Bounds, Stage, Type
from guidedsl.library import supports as s
from guidedsl.sizes import Size
from guidedsl.source import Span
from guidedsl.syntax import ast


@dataclass(frozen=True)
class _Carry:
    """A carry whose `next` may still be to come."""

    node: ast.Carry
    declared: Declared
    type: Type
    init: ir.Expr


@dataclass
class OpenScan:
    """A scan whose body is checked. `whole` holds what its names are behind it, `local` those that end with it."""

    node: ast.Scan
    size: Size
    carries: dict[str, _Carry]
    nexts: dict[str, ir.Expr | None] = field(default_factory=dict)
    next_spans: dict[str, Span] = field(default_factory=dict)
    whole: dict[str, Symbol] = field(default_factory=dict)
    local: dict[str, Span] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """What the head and the body have declared so far."""
        return (*self.carries, *self.whole, *self.local)

    def declared(self, symbol: Symbol, *, local: bool) -> None:
        """Note what a name of the body will be behind the scan: gone, or one event with the scan's dim in front."""
        if local:
            self.local[symbol.name] = symbol.span
        elif symbol.role != "carry":
            # A `let` of data alone is computed at binding; what a scan makes is computed with its density.
            least = Stage.PARAM if symbol.role == "let" else Stage.DATA
            type = replace(symbol.type, event=(self.size, *symbol.type.event), number=False, value=None)
            self.whole[symbol.name] = replace(symbol, type=replace(type, stage=max(type.stage, least)))


def open_scan(node: ast.Scan, expressions: Expressions) -> OpenScan | None:
    """The head of a scan, or None after reporting what is wrong with its size."""
    size = expressions.size(node.size)
    checked = [_carry(carry, expressions) for carry in node.carries]
    if size is None:
        return None
    return OpenScan(node, size, {carry.node.name.text: carry for carry in checked if carry is not None})


class _Declare(Protocol):
    def __call__(self, name: ast.Name, symbol: Symbol, *, local: bool = False) -> bool: ...


def declare_head(
    scan: OpenScan, declare: _Declare, lost: Callable[[ast.Name], None], enclosing: tuple[str, ...]
) -> None:
    """Declare the step's number and the carries for the body."""
    step = scan.node.step
    number = Type((), s.Support("int", s.COUNT, ("0", str(scan.size - Size.of(1)))), number=True)
    declare(step, Symbol(step.text, "step", number, (), step.span), local=True)
    for carry in scan.node.carries:
        name = carry.name
        found = scan.carries.get(name.text)
        if found is None:
            lost(name)
        elif not declare(name, Symbol(name.text, "carry", found.type, enclosing, name.span)):
            del scan.carries[name.text]


def _carry(node: ast.Carry, expressions: Expressions) -> _Carry | None:
    declared = check_type(node.type, expressions)
    init = expressions.check(node.init)
    if declared is None or init is None:
        return None
    name = node.name.text
    if not _shaped(f"the first value of carry `{name}`", init, declared, node.init.span, expressions.report):
        return None
    if not _starts_inside(node, init, declared, expressions):
        return None
    # What a carry reads is known behind the body only; taking it for random is right for all of them.
    type = declared.type(expressions.scope.enclosing, Stage.LATENT)
    return _Carry(node, declared, type, init)


def _shaped(what: str, value: ir.Expr, declared: Declared, span: Span, report: Report) -> bool:
    if value.type.event in ((), declared.event):
        return True
    hint = f"the carry is declared {show(declared.event)}" if declared.event else "the carry is declared one number"
    report.add(errors.wrong_shape(what, show(declared.event), show(value.type.event), span, hint))
    return False


def _inside(value: ir.Expr, declared: Declared, expressions: Expressions) -> bool:
    """Whether a value lies in the declared support, as far as the lattice shows."""
    support, target = declared.support, declared.support.target
    if target is not None:
        scope = expressions.scope
        size = indexed_size(target, scope.plates)
        number = as_size(value)
        if number is not None and number.constant is not None:
            beyond = (number - size).constant
            return number.constant >= 0 and (beyond is None or beyond < 0)
        support = scope.positions(support)
        return value.type.support.within(declared.support) or value.type.support.within(support)
    return value.type.support.within(support)


def _starts_inside(node: ast.Carry, init: ir.Expr, declared: Declared, expressions: Expressions) -> bool:
    if _inside(init, declared, expressions):
        return True
    report, support = expressions.report, declared.support
    if support.structured:
        problem = problem_of(support.kind, init)
        if problem:
            report.add(errors.init_not_in_set(support.kind, problem, node.init.span, declared.span))
            return False
    elif init.type.value is not None:
        report.add(errors.init_outside(f"{init.type.value:g}", str(support), node.init.span, declared.span))
        return False
    _refuse(f"the first value of carry `{node.name.text}`", init, node.init, declared, expressions)
    return False


def _refuse(what: str, value: ir.Expr, at: ast.Expr, declared: Declared, expressions: Expressions) -> None:
    text, wanted = expressions.report.text(at.span), str(declared.support)
    got = f"{value.type.value:g}" if value.type.value is not None else str(value.type.support)
    type = type_text(wanted, declared.event)
    hint = f"name it with its type, which is then checked when the program runs: `let x : {type} = {text}`"
    expressions.report.add(errors.argument_support(what, wanted, text, got, at.span, declared.span, hint))


def check_next(node: ast.Next, scan: OpenScan, expressions: Expressions) -> None:
    """Note what a carry becomes."""
    name, report = node.name.text, expressions.report
    value = expressions.check(node.value)
    if name in scan.next_spans:
        report.add(errors.carry_updated_twice(name, node.name.span, scan.next_spans[name]), name)
        return
    if name not in {carry.name.text for carry in scan.node.carries}:
        known = [carry.name.text for carry in scan.node.carries]
        report.add(errors.next_of_no_carry(name, node.name.span, scan.node.step.span, known), name)
        close = errors.closest(name, known)
        if close is not None:
            scan.nexts.setdefault(close, None)
        return
    scan.next_spans[name] = node.name.span
    scan.nexts[name] = None
    carry = scan.carries.get(name)
    if carry is None or value is None:
        return
    if not _shaped(f"`next {name}`", value, carry.declared, node.value.span, report):
        return
    if not _inside(value, carry.declared, expressions):
        _refuse(f"`next {name}`", value, node.value, carry.declared, expressions)
        return
    scan.nexts[name] = value


def check_order(node: ast.Statement, scan: OpenScan, report: Report) -> None:
    """Report a carry that is read below its `next`, where readers expect the new value."""
    if isinstance(node, ast.Next):
        return
    for ref in refs(node):
        if ref.name in scan.next_spans and ref.name in scan.carries:
            report.add(errors.read_below_next(ref.name, ref.span, scan.next_spans[ref.name]), ref.name)
            return


def made_by_scan(bounds: Bounds, scan: OpenScan | None) -> ir.Var | None:
    """What the bounds of a latent, lets written out, read that a scan makes: a value of its steps, or a let still."""
    for var in variables((bounds.low, bounds.high)):
        if var.role in ("step", "carry", "let") or (scan is not None and var.name in scan.whole):
            return var
    return None


def close_scan(
    scan: OpenScan, statements: Iterable[ir.Let | ir.Term | ir.Draw], plates: tuple[str, ...], report: Report
) -> ir.Scan:
    """The scan with its carries; those without a `next` are reported and left out."""
    carries: list[ir.Carry] = []
    for carry in scan.node.carries:
        name = carry.name.text
        if name not in scan.nexts:
            report.add(errors.carry_not_updated(name, carry.name.span, scan.node.step.span), name)
            continue
        found, value = scan.carries.get(name), scan.nexts[name]
        if found is not None and value is not None:
            carries.append(
                ir.Carry(name, found.type, found.init, value, plates, carry.name.span, scan.next_spans[name])
            )
    step = scan.node.step.text
    sites = tuple(name for name, symbol in scan.whole.items() if symbol.role != "let")
    return ir.Scan(step, scan.size, sites, tuple(carries), tuple(statements), plates, scan.node.step.span)


def behind(scan: OpenScan, symbols: dict[str, Symbol]) -> None:
    """Give the names of a closed scan their meaning behind it; what is local to its steps goes."""
    for name, carry in scan.carries.items():
        if name in symbols:
            symbols[name] = replace(symbols[name], role="let", type=carry.type)
    for name in scan.local:
        symbols.pop(name, None)
    symbols.update({name: symbol for name, symbol in scan.whole.items() if name in symbols})


def emitted(let: ir.Let) -> ir.Emit:
    return ir.Emit(let.name, let.value, let.asserted, let.bounds, let.plates, let.event, let.span, let.written)
