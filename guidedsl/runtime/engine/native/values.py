"""What a program in loops is made of: values that are read where they lie, and values that a loop computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from guidedsl.runtime.engine.native.index import Position, Shape, variables
from guidedsl.runtime.engine.record import Unrecordable

C_TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.int64: "long",
    torch.int32: "int",
    torch.bool: "bool",
}


class NotNative(Unrecordable):
    """The program has an operation that loops are not written for."""


def c_type(dtype: torch.dtype) -> str:
    """Raises NotNative for a type that no loop computes with."""
    if dtype not in C_TYPES:
        raise NotNative(f"numbers of type {dtype}")
    return C_TYPES[dtype]


@dataclass(eq=False)
class Value:
    """A tensor of the program."""

    shape: Shape
    dtype: torch.dtype

    @property
    def numel(self) -> int:
        return prod(self.shape)


Read = Callable[[Value, Position], str]
"""The C text of an element of a value."""
Element = Callable[[Position, Read], str]
"""The C text of an element, of what it reads."""


@dataclass(eq=False)
class Literal(Value):
    """The same number everywhere."""

    number: float | int | bool


@dataclass(eq=False)
class Stored(Value):
    """A contiguous array that is there before the loops run; `name` is its pointer."""

    name: str


@dataclass(eq=False)
class Seen(Value):
    """Other values, looked at in another way: `element` reads one of them, or chooses between them."""

    element: Element


@dataclass(eq=False)
class Computed(Value):
    """A value that a loop computes: `element` is the C text at a position of the loop.

    `space` is the shape that the loop runs over. Where that is not the value's own, the value is a reduction: `kept`
    are the axes of `space` that it has, and `combine` is how an element joins what was found before. `order` is the
    order of the loops, outermost first, of a loop that no other may join. `terms` are the operands of a plain addition.
    """

    space: Shape
    element: Element
    combine: str = ""
    kept: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    terms: tuple[Value, ...] = ()
    number: int = 0


@dataclass(eq=False)
class Scattered(Value):
    """A copy of `base` to whose elements at `place(position)` the `element`s over `space` are added, or set."""

    base: Value
    space: Shape
    place: Callable[[Position, Read], Position]
    element: Element
    adds: bool
    number: int = 0


@dataclass(eq=False)
class Called(Value):
    """A value that a C function makes of arrays, matrix by matrix; `call` is its text, with {0}, {1} … and {out}."""

    arrays: list[Value]
    call: str
    number: int = 0
    space: Shape = ()


Statement = Computed | Scattered | Called


@dataclass
class Program:
    """Values to compute, in an order that respects what they read.

    `moved` are those that are found elsewhere, `constants` the tensors that are read, by the name of their pointer.
    """

    statements: list[Statement] = field(default_factory=list)
    moved: dict[Value, Value] = field(default_factory=dict)
    constants: dict[str, Tensor] = field(default_factory=dict)

    def constant(self, tensor: Tensor) -> Value:
        """A tensor as a value."""
        c_type(tensor.dtype)
        shape = tuple(tensor.shape)
        if tensor.numel() and bool((tensor == (first := tensor.reshape(-1)[0])).all()):
            return Literal(shape, tensor.dtype, first.item())
        name = f"c{len(self.constants)}"
        self.constants[name] = tensor.contiguous()
        return Stored(shape, tensor.dtype, name)

    def compute(
        self,
        shape: Shape,
        dtype: torch.dtype,
        element: Element,
        space: Shape | None = None,
        *,
        combine: str = "",
        kept: tuple[int, ...] = (),
        order: tuple[int, ...] = (),
    ) -> Computed:
        """A new value."""
        c_type(dtype)
        value = Computed(shape, dtype, shape if space is None else space, element, combine, kept, order)
        self._add(value)
        return value

    def scatter(
        self,
        base: Value,
        space: Shape,
        place: Callable[[Position, Read], Position],
        element: Element,
        adds: bool,
    ) -> Scattered:
        """A new value."""
        value = Scattered(base.shape, base.dtype, base, space, place, element, adds)
        self._add(value)
        return value

    def call(self, shape: Shape, dtype: torch.dtype, arrays: list[Value], call: str) -> Called:
        """A new value."""
        value = Called(shape, dtype, arrays, call, space=shape)
        self._add(value)
        return value

    def _add(self, value: Statement) -> None:
        value.number = len(self.statements)
        self.statements.append(value)

    def reads(self, element: Element, at: Position) -> tuple[str, list[tuple[Value, Position]]]:
        """The text of an element, with @n@ for the n-th number that it reads in an array, and where those lie."""
        found: list[tuple[Value, Position]] = []

        def read(value: Value, at: Position) -> str:
            value = self.moved.get(value, value)
            if isinstance(value, Seen):
                return value.element(at, read)
            found.append((value, at))
            return f"@{len(found) - 1}@"

        return element(at, read), found

    def reads_in(self, value: Value) -> list[tuple[Value, Position]]:
        """Where the elements of a value lie."""
        return self.reads(lambda at, read: read(value, at), variables(value.shape))[1]

    def reads_of(self, statement: Statement) -> list[tuple[Value, Position]]:
        """What a statement reads, of what it reads as a whole the first number."""
        if isinstance(statement, Called):
            return [(self.moved.get(array, array), ()) for array in statement.arrays]
        at = variables(statement.space)
        found = self.reads(statement.element, at)[1]
        if isinstance(statement, Scattered):
            found += self.reads(lambda at, read: str(statement.place(at, read)), at)[1]
            found += self.reads_in(statement.base)
        return found

    def looked_at(self, value: Value, at: Position) -> tuple[Value, Position] | None:
        """The array in which the element of a value lies, and where; None where other arrays say which."""
        text, found = self.reads(lambda at, read: read(value, at), at)
        return found[0] if text == "@0@" and len(found) == 1 else None


def cast(text: str, have: torch.dtype, want: torch.dtype) -> str:
    """The same number as another type."""
    return text if have is want else f"(({c_type(want)}){text})"


def literal(number: float | int | bool, dtype: torch.dtype) -> str:
    """A number as C."""
    if not dtype.is_floating_point:
        return str(int(number))
    if math.isnan(number):
        return "NAN"
    if math.isinf(number):
        return "INFINITY" if number > 0 else "(-INFINITY)"
    text = repr(float(number)) + ("f" if dtype is torch.float32 else "")
    return f"({text})" if number < 0 else text


def view(base: Value, shape: Sequence[int], move: Callable[[Position], Position]) -> Value:
    """`base` seen in another shape: `move` tells where an element lies in it."""
    if isinstance(base, Literal):
        return Literal(tuple(shape), base.dtype, base.number)
    return Seen(tuple(shape), base.dtype, lambda at, read: read(base, move(at)))
