"""The syntax tree: what was written, with its place, and nothing inferred. A node equals itself alone."""

from __future__ import annotations

from dataclasses import dataclass

from guidedsl.source import Span


@dataclass(frozen=True, eq=False)
class Name:
    text: str
    span: Span


# Expressions


@dataclass(frozen=True, eq=False)
class Number:
    text: str
    span: Span

    @property
    def value(self) -> float:
        return float(self.text)


@dataclass(frozen=True, eq=False)
class Text:
    value: str
    span: Span


@dataclass(frozen=True, eq=False)
class Ref:
    name: str
    span: Span


@dataclass(frozen=True, eq=False)
class Argument:
    keyword: Name | None
    value: Expr


@dataclass(frozen=True, eq=False)
class Call:
    function: Name
    arguments: tuple[Argument, ...]
    span: Span


@dataclass(frozen=True, eq=False)
class Slice:
    """`a:b`, with open ends as None; `:` alone selects all."""

    low: Expr | None
    high: Expr | None
    span: Span


@dataclass(frozen=True, eq=False)
class Index:
    base: Expr
    subscripts: tuple[Expr | Slice, ...]
    span: Span


@dataclass(frozen=True, eq=False)
class Negative:
    operand: Expr
    span: Span


@dataclass(frozen=True, eq=False)
class Term:
    """One operand of a chain with the operator before it (`+` before the first of a sum, `*` of a product)."""

    operator: str
    value: Expr


@dataclass(frozen=True, eq=False)
class Chain:
    """A left-associative chain of operators of one precedence, kept flat so that long sums are not deep."""

    terms: tuple[Term, ...]
    span: Span


@dataclass(frozen=True, eq=False)
class Power:
    base: Expr
    exponent: Expr
    span: Span


@dataclass(frozen=True, eq=False)
class Compare:
    operator: str
    left: Expr
    right: Expr
    span: Span


@dataclass(frozen=True, eq=False)
class Vector:
    items: tuple[Expr, ...]
    span: Span


Expr = Number | Text | Ref | Call | Index | Negative | Chain | Power | Compare | Vector


@dataclass(frozen=True, eq=False)
class TypeExpr:
    """`name(bounds)[dims]`."""

    name: Name
    arguments: tuple[Argument, ...]
    dims: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, eq=False)
class DistExpr:
    name: Name
    arguments: tuple[Argument, ...]
    span: Span


# Statements


@dataclass(frozen=True, eq=False)
class DimDecl:
    name: Name
    default: Expr | None
    span: Span


@dataclass(frozen=True, eq=False)
class Data:
    name: Name
    type: TypeExpr
    default: Expr | None
    span: Span


@dataclass(frozen=True, eq=False)
class Latent:
    name: Name
    type: TypeExpr
    dist: DistExpr | None
    span: Span


@dataclass(frozen=True, eq=False)
class Observed:
    name: Name
    type: TypeExpr
    dist: DistExpr | None
    when: Expr | None
    span: Span


@dataclass(frozen=True, eq=False)
class Factor:
    value: Expr
    span: Span


@dataclass(frozen=True, eq=False)
class Let:
    name: Name
    type: TypeExpr | None
    value: Expr
    span: Span


@dataclass(frozen=True, eq=False)
class Unpack:
    """`let (a, b) = f(x)`."""

    names: tuple[Name, ...]
    value: Expr
    span: Span


@dataclass(frozen=True, eq=False)
class Value:
    """An input or an output of a signature; `name` is None for an output that stands alone."""

    name: Name | None
    type: TypeExpr
    span: Span


@dataclass(frozen=True, eq=False)
class Signature:
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    span: Span


@dataclass(frozen=True, eq=False)
class Net:
    """A neural net: generated (`maker`), imported (`origin` with `arguments`), or passed in (neither)."""

    name: Name
    signature: Signature
    maker: Call | None
    origin: Text | None
    arguments: tuple[Argument, ...]
    span: Span


@dataclass(frozen=True, eq=False)
class Extern:
    name: Name
    signature: Signature
    origin: Text
    span: Span


@dataclass(frozen=True, eq=False)
class Carry:
    """A value handed from step to step of a scan, with the one that the first step sees."""

    name: Name
    type: TypeExpr
    init: Expr
    span: Span


@dataclass(frozen=True, eq=False)
class Next:
    """`next h = e`: what the following step sees."""

    name: Name
    value: Expr
    span: Span


@dataclass(frozen=True, eq=False)
class Emit:
    """`emit v = e`: one entry a step, read whole behind the scan."""

    name: Name
    type: TypeExpr | None
    value: Expr
    span: Span


@dataclass(frozen=True, eq=False)
class Scan:
    """`scan t in T carry (h: S = e) { … }`."""

    step: Name
    size: Expr
    carries: tuple[Carry, ...]
    body: tuple[Statement, ...]
    span: Span


@dataclass(frozen=True, eq=False)
class Option:
    name: Name
    value: Expr | None


@dataclass(frozen=True, eq=False)
class Param:
    name: Name
    type: TypeExpr
    init: Expr | None
    via: Name | None
    options: tuple[Option, ...]
    span: Span


@dataclass(frozen=True, eq=False)
class Sample:
    name: Name
    dist: DistExpr
    via: TypeExpr | None
    span: Span


@dataclass(frozen=True, eq=False)
class Joint:
    names: tuple[Name, ...]
    dist: DistExpr
    span: Span


@dataclass(frozen=True, eq=False)
class Aux:
    name: Name
    type: TypeExpr
    dist: DistExpr
    span: Span


@dataclass(frozen=True, eq=False)
class Auto:
    family: Name
    arguments: tuple[Argument, ...]
    names: tuple[Name, ...]
    span: Span


@dataclass(frozen=True, eq=False)
class PlateItem:
    name: Name
    size: Expr | None
    batching: Name | None
    batch: Expr | None
    span: Span


@dataclass(frozen=True, eq=False)
class Plate:
    items: tuple[PlateItem, ...]
    body: tuple[Statement, ...]
    span: Span


Statement = (
    DimDecl
    | Data
    | Latent
    | Observed
    | Factor
    | Let
    | Unpack
    | Param
    | Net
    | Sample
    | Joint
    | Aux
    | Auto
    | Plate
    | Scan
    | Next
    | Emit
)


@dataclass(frozen=True, eq=False)
class Origin:
    framework: Name | None
    path: Text
    span: Span


@dataclass(frozen=True, eq=False)
class Model:
    name: Name
    origin: Origin | None
    docstring: str | None
    body: tuple[Statement, ...]
    span: Span


@dataclass(frozen=True, eq=False)
class Guide:
    name: Name
    model: Name
    docstring: str | None
    body: tuple[Statement, ...]
    span: Span


Item = DimDecl | Extern | Model | Guide


@dataclass(frozen=True, eq=False)
class File:
    docstring: str | None
    items: tuple[Item, ...]

    @property
    def externs(self) -> tuple[Extern, ...]:
        return tuple(item for item in self.items if isinstance(item, Extern))

    @property
    def models(self) -> tuple[Model, ...]:
        return tuple(item for item in self.items if isinstance(item, Model))

    @property
    def guides(self) -> tuple[Guide, ...]:
        return tuple(item for item in self.items if isinstance(item, Guide))
