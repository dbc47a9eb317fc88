"""Sizes of dims as polynomials over dim names: equal sizes are equal values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product as product_of

Monomial = tuple[str, ...]


@dataclass(frozen=True)
class Size:
    """A polynomial: coefficients by monomial (sorted dim names), none of them zero."""

    terms: tuple[tuple[Monomial, Fraction], ...]

    @staticmethod
    def of(value: int | str) -> Size:
        return _size({(): Fraction(value)} if isinstance(value, int) else {(value,): Fraction(1)})

    def __add__(self, other: Size) -> Size:
        total = dict(self.terms)
        for monomial, coefficient in other.terms:
            total[monomial] = total.get(monomial, Fraction(0)) + coefficient
        return _size(total)

    def __sub__(self, other: Size) -> Size:
        return self + other * Size.of(-1)

    def __mul__(self, other: Size) -> Size:
        total: dict[Monomial, Fraction] = {}
        for left, a in self.terms:
            for right, b in other.terms:
                key = tuple(sorted((*left, *right)))
                total[key] = total.get(key, Fraction(0)) + a * b
        return _size(total)

    def half(self) -> Size:
        return _size({monomial: coefficient / 2 for monomial, coefficient in self.terms})

    @property
    def length(self) -> int:
        """How much there is to write: terms and their factors."""
        return sum(1 + len(names) for names, _ in self.terms)

    @property
    def exact(self) -> bool:
        """Whether every coefficient is also a floating-point number."""
        return all(abs(coefficient) < 2**53 for _, coefficient in self.terms)

    def divided(self, divisor: int) -> Size | None:
        """A part of the size, or None where that is not a whole number for every value of the dims."""
        if divisor <= 0:
            return None
        part = _size({monomial: coefficient / divisor for monomial, coefficient in self.terms})
        degree = max((len(monomial) for monomial, _ in self.terms), default=0)
        names = sorted(self.names)
        # A polynomial is whole everywhere if it is on a grid as wide as its degree (Pólya).
        if (degree + 1) ** len(names) > 1000:
            return None
        grid = (dict(zip(names, point, strict=True)) for point in product_of(range(degree + 1), repeat=len(names)))
        return part if all(part._exact(dims).denominator == 1 for dims in grid) else None

    @property
    def constant(self) -> int | None:
        """The value, where no dim occurs."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and self.terms[0][0] == ():
            return int(self.terms[0][1])
        return None

    @property
    def name(self) -> str | None:
        """The dim, where the size is one dim by its bare name."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            return self.terms[0][0][0]
        return None

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for monomial, _ in self.terms for name in monomial)

    def value(self, dims: Mapping[str, int]) -> int:
        """The number, given every dim."""
        return int(self._exact(dims))

    def _exact(self, dims: Mapping[str, int]) -> Fraction:
        total = Fraction(0)
        for monomial, coefficient in self.terms:
            product = coefficient
            for name in monomial:
                product *= dims[name]
            total += product
        return total

    def __str__(self) -> str:
        return self.render(lambda name: name)

    @property
    def written(self) -> str:
        """As a `.guide` file writes it."""
        return self.render(lambda name: name, "/")

    def render(self, spell: Callable[[str], str], division: str = "//") -> str:
        """As an expression over dim names, spelled by `spell`, what is subtracted last; halves are one division."""
        if not self.terms:
            return "0"
        denominator = max(coefficient.denominator for _, coefficient in self.terms)
        parts: list[str] = []
        for monomial, coefficient in sorted(self.terms, key=lambda term: (term[1] < 0, -len(term[0]), term[0])):
            scaled = int(coefficient * denominator)
            factors = [spell(name) for name in monomial]
            if abs(scaled) != 1 or not factors:
                factors.insert(0, str(abs(scaled)))
            sign = "-" if scaled < 0 else "+"
            text = " * ".join(factors)
            parts.append(f"{sign} {text}" if parts else (f"-{text}" if scaled < 0 else text))
        body = " ".join(parts)
        return body if denominator == 1 else f"({body}) {division} {denominator}"


def _size(terms: Mapping[Monomial, Fraction]) -> Size:
    return Size(tuple(sorted((m, c) for m, c in terms.items() if c)))


def total(sizes: Iterable[Size]) -> Size:
    result = Size.of(0)
    for size in sizes:
        result = result + size
    return result


def product(sizes: Iterable[Size]) -> Size:
    result = Size.of(1)
    for size in sizes:
        result = result * size
    return result
