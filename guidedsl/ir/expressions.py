"""Typed expressions and distributions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

from guidedsl.library.distributions import Distribution, Form
from guidedsl.library.functions import Function
from guidedsl.library.makers import Activation
from guidedsl.library.supports import Support
from guidedsl.sizes import Size
from guidedsl.source import Span

if TYPE_CHECKING:
    from guidedsl.ir.statements import Latent


class Stage(IntEnum):
    """What a value depends on, which decides when it can be computed and whether it has a particle axis."""

    CONSTANT = 0
    DATA = 1
    PARAM = 2
    LATENT = 3


@dataclass(frozen=True)
class Type:
    """The type of an expression.

    `plates` are the plate axes that the value has, in the model's order; `event` its event dims; `number` says that
    it is a Python number, not a tensor; `value` is the value of a literal or of an expression of literals.
    """

    event: tuple[Size, ...]
    support: Support
    plates: tuple[str, ...] = ()
    stage: Stage = Stage.CONSTANT
    number: bool = False
    value: float | None = None


@dataclass(frozen=True)
class Const:
    value: float
    type: Type


@dataclass(frozen=True)
class DimValue:
    """The size of a dim, or arithmetic over sizes, as a number."""

    size: Size
    type: Type


Role = Literal["data", "observed", "derived", "latent", "let", "param", "aux", "step", "carry"]


@dataclass(frozen=True)
class Var:
    name: str
    role: Role
    type: Type


@dataclass(frozen=True)
class Chain:
    """Sums and products, kept flat: `terms` are (operator, operand) from left to right."""

    terms: tuple[tuple[str, Expr], ...]
    type: Type


@dataclass(frozen=True)
class MatMul:
    left: Expr
    right: Expr
    type: Type


@dataclass(frozen=True)
class Negative:
    operand: Expr
    type: Type


@dataclass(frozen=True)
class Power:
    base: Expr
    exponent: Expr
    type: Type


@dataclass(frozen=True)
class Compare:
    operator: str
    left: Expr
    right: Expr
    type: Type


@dataclass(frozen=True)
class Apply:
    """A function of the registry. `axis` is counted from the right (−1 is the last event axis)."""

    function: Function
    arguments: tuple[Expr, ...]
    axis: int | None
    sizes: tuple[Size, ...]
    type: Type


@dataclass(frozen=True)
class Gather:
    """A local value read from outside its plates: one row index a plate."""

    base: Expr
    indices: tuple[tuple[str, Expr], ...]
    type: Type


@dataclass(frozen=True)
class AllRows:
    """`x[:]`: the axis of `plate` becomes the first event axis."""

    base: Expr
    plate: str
    type: Type


@dataclass(frozen=True)
class RowOf:
    """`x[p]` inside plate p: an event axis, mostly the first, becomes the plate's."""

    base: Expr
    plate: str
    type: Type
    axis: int = 0


@dataclass(frozen=True)
class Range:
    low: Expr | None
    high: Expr | None


@dataclass(frozen=True)
class NewAxis:
    pass


@dataclass(frozen=True)
class Subscript:
    """Event indexing: a position drops its axis, a vector of positions puts its own event axes there, a `Range` keeps
    part of it, `NewAxis` adds one."""

    base: Expr
    items: tuple[Expr | Range | NewAxis, ...]
    type: Type


@dataclass(frozen=True)
class Stack:
    items: tuple[Expr, ...]
    type: Type


@dataclass(frozen=True)
class LogProb:
    dist: Dist
    value: Expr
    type: Type


@dataclass(frozen=True)
class Free:
    """The unconstrained coordinates of a latent, as one vector."""

    base: Expr
    latent: Latent
    type: Type


@dataclass(frozen=True)
class Concat:
    parts: tuple[Expr, ...]
    type: Type


@dataclass(frozen=True)
class LogTable:
    """The log probabilities of all values of a finite discrete family, along the event axis."""

    dist: Dist
    type: Type


CalleeKind = Literal["generated", "passed", "imported", "extern"]


@dataclass(frozen=True)
class Value:
    """An input or an output of a signature; `name` is empty for an output that stands alone."""

    name: str
    type: Type
    bounds: Bounds


@dataclass(frozen=True)
class Layer:
    """A linear layer."""

    name: str
    inputs: Size
    outputs: Size


@dataclass(frozen=True)
class Layers:
    """A generated net: hidden layers, an activation behind each, then a head for each output."""

    hidden: tuple[Layer, ...]
    heads: tuple[Layer, ...]
    activation: Activation

    @property
    def all(self) -> tuple[Layer, ...]:
        return (*self.hidden, *self.heads)


@dataclass(frozen=True)
class Callee:
    """A net or an extern.

    `kind` says where it comes from: layers that are generated, a module that the user passes in, or Python code that is
    imported from `origin`, called with `options` if it is a net's class. `store_name` begins the names of a net's
    weights.
    """

    name: str
    kind: CalleeKind
    store_name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    layers: Layers | None
    origin: str | None
    options: tuple[tuple[str, Expr | str], ...]
    span: Span

    @property
    def what(self) -> str:
        return "extern" if self.kind == "extern" else "net"


@dataclass(frozen=True)
class Call:
    """A net or an extern on arguments in the order of its inputs; `type` is that of its first output."""

    callee: Callee
    arguments: tuple[Expr, ...]
    type: Type


@dataclass(frozen=True)
class Output:
    """One of several outputs of a call."""

    call: Call
    position: int
    type: Type


Expr = (
    Const
    | DimValue
    | Var
    | Chain
    | MatMul
    | Negative
    | Power
    | Compare
    | Apply
    | Gather
    | AllRows
    | RowOf
    | Subscript
    | Stack
    | LogProb
    | Free
    | Concat
    | LogTable
    | Call
    | Output
)


@dataclass(frozen=True)
class Bounds:
    """The bounds of a support as expressions; (None, None) for a kind without."""

    low: Expr | None
    high: Expr | None


@dataclass(frozen=True)
class Dist:
    """A distribution with its arguments in the order of its form.

    `type` is what it is over: event dims (batch dims by brackets, then the family's own), support and plates.
    `own` counts the family's own event dims; `ranks` those of each argument; `bounds` are those of its support.
    `parts` are the arguments that are distributions; `listed` says that they were written as a list.
    """

    row: Distribution
    form: Form
    arguments: tuple[Expr, ...]
    ranks: tuple[int, ...]
    own: int
    type: Type
    bounds: Bounds
    parts: tuple[Dist, ...] = ()
    listed: bool = False

    @property
    def has_mass(self) -> bool:
        """Whether there is a distribution function."""
        return self.row.has_mass and all(part.has_mass for part in self.parts)

    @property
    def not_drawn(self) -> Dist | None:
        """What in it cannot be sampled."""
        if self.row.model_only:
            return self
        return next((found for part in self.parts if (found := part.not_drawn) is not None), None)
