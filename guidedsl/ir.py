"""The checked program: every expression typed, every shape known by dim name, every auto written out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from guidedsl.library.distributions import Distribution, Form
from guidedsl.library.functions import Function
from guidedsl.library.supports import Support
from guidedsl.sizes import Size
from guidedsl.source import Source, Span


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


# Expressions


@dataclass(frozen=True)
class Const:
    value: float
    type: Type


@dataclass(frozen=True)
class DimValue:
    """The size of a dim, or arithmetic over sizes, as a number."""

    size: Size
    type: Type


Role = Literal["data", "observed", "derived", "latent", "let", "param", "aux"]


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
    """`x[p]` inside plate p: the first event axis becomes the plate's."""

    base: Expr
    plate: str
    type: Type


@dataclass(frozen=True)
class Range:
    low: Expr | None
    high: Expr | None


@dataclass(frozen=True)
class NewAxis:
    pass


@dataclass(frozen=True)
class Subscript:
    """Event indexing: an expression drops its axis, a `Range` keeps part of it, `NewAxis` adds one."""

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


# Declarations and statements


@dataclass(frozen=True)
class Dim:
    name: str
    default: int | None
    span: Span


@dataclass(frozen=True)
class Plate:
    name: str
    size: Size
    batching: Literal["subsample", "minibatch"] | None
    batch: Size | None
    span: Span


@dataclass(frozen=True)
class Field:
    """An input: data or observed. `written` is the order of its plates in the text.

    `support` and `bounds` are what its values are checked against: its type's, or the narrower ones of the
    distribution that it is observed under. `total` is what the entries of an event add up to.
    """

    name: str
    role: Literal["data", "observed"]
    type: Type
    support: Support
    bounds: Bounds
    plates: tuple[str, ...]
    written: tuple[str, ...]
    default: Expr | None
    index_base: int
    span: Span
    total: Expr | None = None


@dataclass(frozen=True)
class Latent:
    """An unknown. `written` is the order of its plates in the text."""

    name: str
    type: Type
    bounds: Bounds
    plates: tuple[str, ...]
    span: Span
    written: tuple[str, ...] = ()


@dataclass(frozen=True)
class Param:
    """A learnable value. `type.plates` are the plates that it is local to: stored at full size, one row each."""

    name: str
    store_name: str
    type: Type
    bounds: Bounds
    init: Expr | None
    transform: str | None
    lr: float | None
    frozen: bool
    span: Span


@dataclass(frozen=True)
class Let:
    """A deterministic value. `written` is the order of its plates in the text."""

    name: str
    value: Expr
    asserted: Support | None
    bounds: Bounds
    plates: tuple[str, ...]
    event: tuple[Size, ...]
    span: Span
    written: tuple[str, ...] = ()


@dataclass(frozen=True)
class Term:
    """A term of the log density: a site's, or a factor's (then `dist` is None and `value` the term).

    The support of `value` is where it is known to lie.
    """

    name: str | None
    value: Expr
    dist: Dist | None
    normalised: bool
    plates: tuple[str, ...]
    when: Expr | None
    span: Span


@dataclass(frozen=True)
class Draw:
    """Samples a latent, or (with `latent` None) auxiliary noise. `via` pushes the draw onto the latent's support."""

    name: str
    dist: Dist
    latent: Latent | None
    via: tuple[Support, Bounds] | None
    type: Type
    plates: tuple[str, ...]
    span: Span


@dataclass(frozen=True)
class JointDraw:
    """Samples several latents at once, through their bijections."""

    dist: Dist
    latents: tuple[Latent, ...]
    plates: tuple[str, ...]
    span: Span


ModelStatement = Let | Param | Term
GuideStatement = Let | Param | Draw | JointDraw


@dataclass(frozen=True)
class Model:
    name: str
    docstring: str | None
    interface: bool
    origin: str | None
    dims: tuple[Dim, ...]
    plates: tuple[Plate, ...]
    fields: tuple[Field, ...]
    latents: tuple[Latent, ...]
    statements: tuple[ModelStatement, ...]
    span: Span

    def plate(self, name: str) -> Plate:
        return next(plate for plate in self.plates if plate.name == name)

    @property
    def derived(self) -> tuple[Let, ...]:
        """The lets that read only data; they are computed once, when data is bound."""
        return tuple(s for s in self.statements if isinstance(s, Let) and s.value.type.stage <= Stage.DATA)


@dataclass(frozen=True)
class Guide:
    name: str
    docstring: str | None
    model: Model
    statements: tuple[GuideStatement, ...]
    span: Span

    @property
    def params(self) -> tuple[Param, ...]:
        return tuple(s for s in self.statements if isinstance(s, Param))


@dataclass(frozen=True)
class Program:
    source: Source
    docstring: str | None
    models: tuple[Model, ...]
    guides: tuple[Guide, ...]
