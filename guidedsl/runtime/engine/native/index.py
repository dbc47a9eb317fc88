"""Positions in loops: integer combinations of loop variables, and how views of tensors move them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Index:
    """const + Σ factor · term. A term is a loop variable, or C text for what is no such sum.

    `limits` has, for each term, the number that it stays below; 0 where that is not known.
    """

    terms: tuple[tuple[str, int], ...] = ()
    const: int = 0
    limits: tuple[tuple[str, int], ...] = ()

    @staticmethod
    def of(text: str, limit: int = 0) -> Index:
        """One loop variable, or other C text."""
        return Index(((text, 1),), 0, ((text, limit),))

    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return Index(self.terms, self.const + other, self.limits)
        factors = dict(self.terms)
        for term, factor in other.terms:
            factors[term] = factors.get(term, 0) + factor
        kept = tuple(sorted((term, factor) for term, factor in factors.items() if factor))
        return Index(kept, self.const + other.const, tuple(sorted({**dict(self.limits), **dict(other.limits)}.items())))

    def __mul__(self, factor: int) -> Index:
        if factor == 0:
            return Index()
        return Index(tuple((term, n * factor) for term, n in self.terms), self.const * factor, self.limits)

    def split(self, size: int) -> tuple[Index, Index]:
        """The quotient and the remainder by `size`, of a number that is not negative."""
        if size == 1:
            return self, Index()
        limits = dict(self.limits)
        whole = Index(tuple((t, n // size) for t, n in self.terms if n % size == 0), self.const // size, self.limits)
        rest = Index(tuple((t, n) for t, n in self.terms if n % size), self.const % size, self.limits)
        known = all(limits[t] > 0 and n > 0 for t, n in rest.terms)
        if known and rest.const + sum(n * (limits[t] - 1) for t, n in rest.terms) < size:
            return whole, rest
        return Index.of(f"({self.text} / {size})"), Index.of(f"({self.text} % {size})")

    @property
    def text(self) -> str:
        """As C."""
        parts = [term if factor == 1 else f"{factor} * {term}" for term, factor in self.terms]
        if self.const or not parts:
            parts.append(str(self.const))
        return parts[0] if len(parts) == 1 else f"({' + '.join(parts)})"

    def factor(self, term: str) -> int | None:
        """What the position moves by when the loop variable does; None where it is within other text."""
        if any(term in other and term != other for other, _ in self.terms):
            return None
        return dict(self.terms).get(term, 0)


Position = tuple[Index, ...]
Shape = tuple[int, ...]


def offset(at: Sequence[Index], shape: Shape) -> Index:
    """The position in a contiguous tensor."""
    total = Index()
    for one, size in zip(at, shape, strict=True):
        total = total * size + one
    return total


def unravel(position: Index, shape: Shape) -> Position:
    """The position as an index of a tensor of this shape."""
    found: list[Index] = []
    for size in reversed(shape[1:]):
        position, rest = position.split(size)
        found.append(rest)
    return (position, *reversed(found)) if shape else ()


def reshaped(at: Position, new: Shape, old: Shape) -> Position:
    """Where the element `at` of a tensor viewed as `new` lies in the `old` shape."""
    if prod(new) != prod(old):
        raise ValueError(f"{new} is no view of {old}")
    return unravel(offset(at, new), old)


def broadcast(at: Position, shape: Shape) -> Position:
    """Where the element of a result lies in an operand of this shape."""
    if not shape:
        return ()
    return tuple(Index() if size == 1 else one for one, size in zip(at[len(at) - len(shape) :], shape, strict=True))


def compact(shape: Shape) -> Shape:
    """The axes that need a loop."""
    return tuple(size for size in shape if size != 1)


def variables(space: Shape) -> Position:
    """Loop variables for the axes that need a loop, outermost first."""
    found: list[Index] = []
    loops = 0
    for size in space:
        found.append(Index() if size == 1 else Index.of(f"i{loops}", size))
        loops += size != 1
    return tuple(found)
