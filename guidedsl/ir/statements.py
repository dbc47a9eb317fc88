"""Declarations and statements of models and guides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from guidedsl.ir.expressions import Bounds, Dist, Expr, Type
from guidedsl.library.supports import Support
from guidedsl.sizes import Size
from guidedsl.source import Span


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


ModelStatement = Let | Param | Term | Scan


GuideStatement = Let | Param | Draw | JointDraw | Scan


def terms_of(statements: Iterable[object]) -> tuple[Term, ...]:
    """Every term among statements, those of scans included."""
    found: list[Term] = []
    for statement in statements:
        inside = statement.statements if isinstance(statement, Scan) else (statement,)
        found.extend(one for one in inside if isinstance(one, Term))
    return tuple(found)
