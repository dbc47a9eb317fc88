"""The checked program: every expression typed, every shape known by dim name, every auto written out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from guidedsl.library.distributions import Distribution, Form
from guidedsl.library.functions import Function
from guidedsl.library.makers import Activation
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
    """An unknown. `written` is the order of its plates in the text.

    `steps` is the size of the scan that it is a site of, the first event dim of its type; None outside of scans.
    """

    name: str
    type: Type
    bounds: Bounds
    plates: tuple[str, ...]
    span: Span
    written: tuple[str, ...] = ()
    steps: Size | None = None


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
class Flow:
    """A normalizing flow over `size` coordinates: noise through `transforms` layers of nets with `hidden` units."""

    name: str
    store_name: str
    kind: str
    size: Size
    transforms: Size
    hidden: Size


@dataclass(frozen=True)
class JointDraw:
    """Samples several latents at once, through their bijections."""

    dist: Dist | Flow
    latents: tuple[Latent, ...]
    plates: tuple[str, ...]
    span: Span


@dataclass(frozen=True)
class Emit(Let):
    """A let of a scan's step that is read whole behind the scan, with the scan's dim in front."""


@dataclass(frozen=True)
class Carry:
    """A value handed from step to step: `init` is what the first step reads, `next` what the following one does.

    Both have the carry's event shape, or none (one number for all entries), and lie in its support. A `next` reads the
    carries of its own step: all are replaced at once, when the step ends.
    """

    name: str
    type: Type
    init: Expr
    next: Expr
    plates: tuple[str, ...]
    span: Span
    next_span: Span


@dataclass(frozen=True)
class Scan:
    """A recurrence: the statements once for each of `size` steps, 0 first, the carries handed on.

    All types inside are of one step, without the scan's dim: a site's `Var` is this step's value, `step` (role "step")
    the step's number, a carry (role "carry") what the step before handed on. Behind the scan a site or an emit (role
    "let") has the scan's dim in front of its event, and a carry's name (role "let") is the last carry. `sites` names
    what the scan of a model declares, latent or observed, and what that of a guide samples.
    """

    step: str
    size: Size
    sites: tuple[str, ...]
    carries: tuple[Carry, ...]
    statements: tuple[Let | Term | Draw, ...]
    plates: tuple[str, ...]
    span: Span
    written: tuple[str, ...] = ()

    @property
    def emits(self) -> tuple[Emit, ...]:
        return tuple(statement for statement in self.statements if isinstance(statement, Emit))


@dataclass(frozen=True)
class Classes:
    """A finite discrete latent as an axis of the values `low`, `low` + 1, …, `size` of them.

    `step` is the axis of the scan that it is a site of. `carried` names the carry by which a step is handed the value
    of the one before: then this is the axis of that.
    """

    latent: Latent
    low: int
    size: Size
    step: str | None = None
    carried: str | None = None

    @property
    def name(self) -> str:
        return self.carried or self.latent.name

    @property
    def plates(self) -> tuple[str, ...]:
        """The plates that its value varies over, the steps of its scan among them."""
        return self.latent.plates if self.step is None else (*self.latent.plates, self.step)


@dataclass(frozen=True)
class SumOut:
    """log Σ exp, over the values of one latent, of the sum of all terms that read it.

    `axes` are the plates of the latent and every enumerated latent that the terms read, itself among them. A term is
    summed over those of its plates that are not among these. `message` is what is left: a value with the other axes.
    """

    classes: Classes
    terms: tuple[Term, ...]
    axes: tuple[str, ...]
    message: Var

    @property
    def plates(self) -> tuple[str, ...]:
        return self.classes.plates

    @property
    def span(self) -> Span:
        return self.classes.latent.span


@dataclass(frozen=True)
class Link:
    """A site of a scan that is handed on: its values, those that a step was handed, and the first of these.

    `start` is the site's prior at the first step where that is written apart, and reads nothing that was handed on.
    """

    site: Classes
    state: Classes
    init: Expr
    start: Expr | None


@dataclass(frozen=True)
class SumChain:
    """log Σ exp over all paths of one or more chains through a scan, of the sum of all terms that read them.

    `axes` are the plates, the enumerated latents that are constant along the scan, the states that a step is handed,
    the sites, and last the steps. `message` is what is left: a value with the plates and those latents.
    """

    links: tuple[Link, ...]
    terms: tuple[Term, ...]
    axes: tuple[str, ...]
    message: Var

    @property
    def plates(self) -> tuple[str, ...]:
        return self.links[0].site.latent.plates

    @property
    def span(self) -> Span:
        return self.links[0].site.latent.span


@dataclass(frozen=True)
class Summed:
    """A model with some latents summed out exactly, each an axis of its own to the right of the plates.

    Lets and terms that read one have its axis instead of its plates; `statements` ends with the sums. `axes` are all
    latents that are axes, and the states that steps are handed, in the order of axes.
    """

    classes: tuple[Classes, ...]
    axes: tuple[Classes, ...]
    statements: tuple[Let | Param | Term | Scan | SumOut | SumChain, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(classes.name for classes in self.classes)


ModelStatement = Let | Param | Term | Scan
GuideStatement = Let | Param | Draw | JointDraw | Scan


def terms_of(statements: Iterable[object]) -> tuple[Term, ...]:
    """Every term among statements, those of scans included."""
    found: list[Term] = []
    for statement in statements:
        inside = statement.statements if isinstance(statement, Scan) else (statement,)
        found.extend(one for one in inside if isinstance(one, Term))
    return tuple(found)


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
    nets: tuple[Callee, ...]
    span: Span
    framework: str | None = None

    def plate(self, name: str) -> Plate:
        return next(plate for plate in self.plates if plate.name == name)

    @property
    def terms(self) -> tuple[Term, ...]:
        """Every term of the log density, those of scans included."""
        return terms_of(self.statements)

    @property
    def derived(self) -> tuple[Let, ...]:
        """The lets that read only data; they are computed once, when data is bound."""
        return tuple(s for s in self.statements if isinstance(s, Let) and s.value.type.stage <= Stage.DATA)


@dataclass(frozen=True)
class Laplace:
    """That a guide is a Laplace approximation, and the store's names of its location and of its factor."""

    loc: str
    scale_tril: str
    span: Span


@dataclass(frozen=True)
class Guide:
    name: str
    docstring: str | None
    model: Model
    statements: tuple[GuideStatement, ...]
    nets: tuple[Callee, ...]
    span: Span
    summed: Summed | None = None
    laplace: Laplace | None = None

    @property
    def params(self) -> tuple[Param, ...]:
        return tuple(s for s in self.statements if isinstance(s, Param))


@dataclass(frozen=True)
class Program:
    source: Source
    docstring: str | None
    models: tuple[Model, ...]
    guides: tuple[Guide, ...]
    externs: tuple[Callee, ...]
