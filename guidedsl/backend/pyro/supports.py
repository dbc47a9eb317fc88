"""Types in Pyro: constraints, values to start from, and the bijections from unconstrained coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from guidedsl import ir
from guidedsl.backend.code import ATOM, Code, number
from guidedsl.backend.pyro.refusal import Inexpressible
from guidedsl.ir import Bounds
from guidedsl.library.supports import Support
from guidedsl.sizes import Size

if TYPE_CHECKING:
    from guidedsl.backend.pyro.emit import PyroEmitter

CONSTRAINTS = {
    "real": "real",
    "positive": "positive",
    "nonnegative": "nonnegative",
    "unit": "unit_interval",
    "interval": "interval",
    "greater_than": "greater_than",
    "less_than": "less_than",
    "simplex": "simplex",
    "ordered": "ordered_vector",
    "positive_ordered": "positive_ordered_vector",
    "unit_vector": "sphere",
    "lower_cholesky": "lower_cholesky",
    "unit_lower_cholesky": "unit_lower_cholesky",
    "corr_cholesky": "corr_cholesky",
    "corr": "corr_matrix",
    "cov": "positive_definite",
    "bool": "boolean",
    "count": "nonnegative_integer",
    "int": "integer",
    "index": "nonnegative_integer",
    "one_hot": "one_hot",
}
_SOFTPLUS = {"positive": "softplus_positive"}
_PUSHED = ("positive_ordered", "zero_sum", "lower_cholesky", "unit_lower_cholesky", "cov", "corr_cholesky", "corr")
"""Types whose coordinates here are not those of torch's bijection; the module gets a function for each that it uses."""


def pyro_constraint(
    emitter: PyroEmitter,
    support: Support,
    bounds: Bounds,
    transform: str | None,
    plates: Sequence[str] = (),
    rank: int = 0,
) -> str:
    """The constraint of a type. Raises `Inexpressible`."""
    row = support.row
    name = CONSTRAINTS.get(row.name)
    if name is None:
        raise Inexpressible(f"a constraint for {row.name}", "declare it real, or use the torch target")
    if transform not in (None, "exp"):
        if row.name not in _SOFTPLUS:
            raise Inexpressible(f"{row.name} via {transform}", "leave `via` out: Pyro has one bijection for this type")
        name = _SOFTPLUS[row.name]
    given = [bound for bound in (bounds.low, bounds.high) if bound is not None]
    if not given:
        return f"constraints.{name}"
    if row.discrete:
        return f"constraints.integer_interval({', '.join(_whole(emitter, b, plates, rank) for b in given)})"
    return f"constraints.{name}({', '.join(emitter.aligned(bound, plates, rank).text for bound in given)})"


def _whole(emitter: PyroEmitter, bound: ir.Expr, plates: Sequence[str], rank: int) -> str:
    return emitter.whole_number(bound) if bound.type.number else emitter.aligned(bound, plates, rank).text


def default_value(
    emitter: PyroEmitter, support: Support, bounds: Bounds, plates: Sequence[str], event: Sequence[Size]
) -> Code:
    """A value inside a type, which broadcasts to its shape: the one that a parameter starts from by default."""
    low, high = (emitter.aligned(b, plates, len(event)) if b is not None else None for b in (bounds.low, bounds.high))
    match support.row.name:
        case "positive" | "nonnegative":
            return Code("1.0")
        case "unit":
            return Code("0.5")
        case "interval" if low is not None and high is not None:
            return Code(f"0.5 * ({low.text} + {high.text})")
        case "greater_than" if low is not None:
            return Code(f"1.0 + {low.text}")
        case "less_than" if high is not None:
            return Code(f"{high.text} - 1.0")
        case "int" if low is not None:
            return low
        case "simplex":
            size = emitter.size(event[-1])
            return Code(f"torch.full(({size},), 1.0 / {f'({size})' if ' ' in size else size})")
        case "ordered":
            return Code(f"torch.arange(0.0, {emitter.size(event[-1])})")
        case "positive_ordered":
            return Code(f"torch.arange(1.0, {emitter.size(event[-1])} + 1)")
        case "unit_vector" | "one_hot":
            return Code(f"torch.eye({emitter.size(event[-1])})[0]")
        case "lower_cholesky" | "unit_lower_cholesky" | "corr_cholesky" | "corr" | "cov":
            return Code(f"torch.eye({emitter.size(event[-1])})")
        case _:
            return Code(number(0.0))


def has_bijection(support: Support) -> bool:
    """Whether torch's bijection of a type reads the coordinates that the type has here."""
    return support.row.name not in _PUSHED


def pushed(
    emitter: PyroEmitter, support: Support, bounds: Bounds, plates: Sequence[str], event: Sequence[Size], free: str
) -> str:
    """The call that gives value and log-determinant at the coordinates `free`. Raises `Inexpressible`."""
    if not has_bijection(support):
        return f"fn.push_{support.row.name}({free})"
    return f"fn.push(biject_to({pyro_constraint(emitter, support, bounds, None, plates, len(event))}), {free})"


def pyro_free(emitter: PyroEmitter, latent: ir.Latent, value: str) -> Code:
    """The unconstrained coordinates of a latent as one vector. Raises `Inexpressible`."""
    support, event = latent.type.support, latent.type.event
    if support.row.name in _PUSHED:
        raise Inexpressible(f"free({latent.name}) of a {support.row.name}", "use the torch target")
    code = Code(value)
    if support.row.name != "real":
        constraint = pyro_constraint(emitter, support, latent.bounds, None, latent.plates, len(event))
        code = Code(f"biject_to({constraint}).inv({value})")
    if not event:
        return Code(f"{code.at(ATOM)}[..., None]")
    return code if len(event) == 1 else Code(f"{code.at(ATOM)}.flatten({-len(event)})")
