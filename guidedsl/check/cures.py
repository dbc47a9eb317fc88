"""What to write in place of a value that is not shown to lie in the support that is asked for."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from guidedsl import errors, ir
from guidedsl.check import signatures
from guidedsl.check.shapes import Event, show
from guidedsl.check.walk import variables
from guidedsl.library import supports as s
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.library.functions import FUNCTIONS, SPECIAL
from guidedsl.syntax import ast

if TYPE_CHECKING:
    from guidedsl.check.scope import Scope
    from guidedsl.check.types import Declared

_INTO = {"positive": "softplus({})", "unit": "inv_logit({})", "simplex": "softmax({})"}
"""What takes any real to a kind."""

_DECLARED = ("param", "data", "latent", "aux")


def cure(argument: str, wanted: str, node: ast.Expr, text: str, value: ir.Expr, scope: Scope) -> str:
    """The edit. `argument` is what the value is, as in `scale of Normal`; `wanted` the support; `text` the value's."""
    if value.type.value is not None:
        return f"give a value that is {errors.be(wanted)}"
    written = type_text(wanted, value.type.event)
    into = None if value.type.support.row.discrete else _INTO.get(wanted)
    if isinstance(node, ast.Ref) and node.name in scope.symbols:
        role = scope.symbols[node.name].role
        if role in _DECLARED and written is not None:
            return f"`{role} {node.name} : {written}`" + (f", or `{into.format(node.name)}`" if into else "")
        if role in ("let", "derived") and written is not None:
            known = f"where you know that it is, `let {node.name} : {written} = …`, which is checked when it runs"
            return f"{known}; else `{into.format(node.name)}`" if into else known
    if written is None:
        return f"use an expression that is {errors.be(wanted)}"
    name = _free_name(argument, scope)
    asserted = f"`let {name} : {written} = {text}`"
    if wanted == "simplex" and value.type.support.range.within(s.POSITIVE) and len(value.type.event) == 1:
        short = isinstance(node, ast.Ref | ast.Call | ast.Index)
        shares = f"`{text} / sum({text})`" if short else f"`let {name} = {text}` and `{name} / sum({name})`"
        return f"shares of its sum are one: {shares}; where it adds up to 1 already, {asserted}, checked when it runs"
    if into is None or _suggests(value):
        return f"where you know that it is, {asserted}, which is checked when it runs"
    return f"`{into.format(text)}`, or declare what it is made of as {wanted}"


def type_text(wanted: str, event: Event) -> str | None:
    """A support as the type of a value of this event shape, `cov[K]`; None where it is for another shape."""
    kind = s.KINDS.get(wanted.partition("(")[0])
    if kind is None or len(event) < kind.rank or (kind.square and event[-1] != event[-2]):
        return None
    dims = event[:-1] if kind.square else event
    return f"{wanted}{show(dims) if dims else ''}"


def other_family(name: str, declared: Declared, dist: ir.Dist) -> str:
    """How a site and a distribution on another support are brought together."""
    type = type_text(str(dist.type.support), declared.event)
    families = families_on(declared.support, dist.row.name)
    other = f"use a distribution on {declared.support}" + (f", such as {' or '.join(families)}" if families else "")
    return f"declare `{name} : {type}`, or {other}" if type is not None else other


def families_on(support: s.Support, like: str) -> list[str]:
    """Up to two distributions on values of this kind, first those whose names are like another."""
    if support.target is not None:
        return ["Categorical"]
    kinds = {"int": ("int", "count")}.get(support.kind, (support.kind,))
    rows = (row for row in DISTRIBUTIONS.values() if not row.guide_only and not row.model_only and row.rule is None)
    over = {row.name: signatures.read(row.support) for row in rows}
    structured = s.KINDS[support.kind].rank > 0
    names = [name for name, row in over.items() if row.kind in kinds and bool(row.dims) == structured]
    close = difflib.get_close_matches(like, names, n=2, cutoff=0.6)
    return [*close, *(name for name in names if name not in close)][:2]


def _suggests(value: ir.Expr) -> bool:
    """Whether a value is made of what is not below zero, so that it likely is not either."""
    return all(var.type.support.range.within(s.NONNEGATIVE) for var in variables(value))


def _free_name(argument: str, scope: Scope) -> str:
    """A name for the value: the argument's, where nothing else has it."""
    first = re.match(r"(\w+) of ", argument)
    names = (first[1] if first and first[1] != "argument" else "x", "x", "a", "value")
    taken = (scope.symbols, scope.dims, scope.plates, scope.later, scope.callees, FUNCTIONS, SPECIAL, DISTRIBUTIONS)
    return next((name for name in names if not any(name in owned for owned in taken)), "x")
