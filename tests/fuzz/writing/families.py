"""Random distributions of the registry over a wanted type."""

from __future__ import annotations

from dataclasses import dataclass, field

from fuzz.writing.expressions import Expressions
from fuzz.writing.scope import Event, Plates, Scope

from guidedsl.check.signatures import Notation
from guidedsl.check.signatures import read as notation_of
from guidedsl.library import supports as s
from guidedsl.library.distributions import DISTRIBUTIONS, Argument, Distribution, Form
from guidedsl.library.supports import KINDS


def _plain(row: Distribution) -> bool:
    """Whether params may be its arguments as they are: no direction, which has no bijection, and no `real[K - 1]`."""
    types = [argument.type for form in row.forms for argument in form.arguments]
    return not any("unit_vector" in type or "-" in type.partition("[")[2] for type in types)


ROWS = [row for row in DISTRIBUTIONS.values() if row.rule is None and not row.guide_only and _plain(row)]
COMPOSITE = {row.rule: row.name for row in DISTRIBUTIONS.values() if row.rule is not None}
TOTALS = (3, 5, 6, 7)
"""Counts as arguments, in order: what is drawn is less than what it is drawn from."""


def over(row: Distribution) -> Notation:
    """What a family without parts is over."""
    return notation_of(row.support)


def numeric(row: Distribution) -> bool:
    """Whether the bounds of its support are numbers, so that it has the same support wherever it stands."""
    return all(bound.lstrip("-")[:1].isdigit() for bound in over(row).bounds)


def named_bounds(row: Distribution) -> tuple[str, ...]:
    """The arguments that are bounds of its support."""
    names = {argument.name for form in row.forms for argument in form.arguments}
    return tuple(bound for bound in over(row).bounds if bound in names)


def carries(row: Distribution) -> bool:
    """Whether a guide may give it event dims: bounds and totals are single numbers here."""
    return any(a.name not in named_bounds(row) and a.type != "count" for a in row.forms[0].arguments)


def element_wise(row: Distribution) -> bool:
    return not over(row).dims


def range_of(row: Distribution) -> s.Range:
    """The hull of its values, where that is known without arguments."""
    notation = over(row)
    if not notation.bounds:
        return KINDS[notation.kind].range
    if numeric(row):
        low, high = map(float, notation.bounds)
        return s.Range(low, high)
    return s.REAL


def rows_over(kind: str, more: int = 0) -> list[Distribution]:
    """Families whose support is of a type, with so many event dims more than the type itself has."""
    return [row for row in ROWS if over(row).kind == kind and len(over(row).dims) == KINDS[kind].rank + more]


def rows_around(kind: str) -> list[Distribution]:
    """Families on numbers that a type without bounds can restrict, all of them with a distribution function."""
    if KINDS[kind].discrete:
        return []
    return [
        row
        for row in ROWS
        if row.has_mass and element_wise(row) and not over(row).bounds and not KINDS[over(row).kind].discrete
        if KINDS[kind].range.within(range_of(row), almost=True) and over(row).kind != kind
    ]


@dataclass
class Families:
    """Writes distributions for one place of a program; in a guide every argument that can carries the event's shape."""

    scope: Scope
    expressions: Expressions
    in_guide: bool = False
    used: list[str] = field(default_factory=list)

    def call(
        self,
        row: Distribution,
        event: Event,
        inside: Plates,
        given: dict[str, str] | None = None,
        constant: bool = False,
    ) -> str:
        """A distribution over events of this shape, with the arguments in `given` as they are there."""
        form = self.scope.choices.pick(row.forms)
        letters = self._letters(row, event)
        batch = event[: len(event) - len(over(row).dims)]
        counts = iter(TOTALS)
        arguments: dict[str, str] = {}
        for argument in form.arguments:
            if given and argument.name in given:
                arguments[argument.name] = given[argument.name]
            elif argument.type == "count":
                arguments[argument.name] = str(next(counts))
            elif constant:
                arguments[argument.name] = self.expressions.pick(*CONSTANTS[argument.type])
            else:
                arguments[argument.name] = self.argument(argument, letters, batch, inside)
        if row.name == "ProjectedNormal":  # Pyro's density cancels opposite to a long loc
            arguments["loc"] = f"tanh({arguments['loc']})"
        self.used.append(row.name)
        return f"{row.name}({self._written(row, form, arguments)})"

    def _letters(self, row: Distribution, event: Event) -> dict[str, str]:
        """The dims that a family's letters stand for: its own are the last of the event."""
        notation = over(row)
        return dict(zip(notation.dims, event[len(event) - len(notation.dims) :], strict=True))

    def argument(self, argument: Argument, letters: dict[str, str], batch: Event, inside: Plates) -> str:
        """An expression of an argument's type; a letter that nothing binds is some dim."""
        notation = notation_of(argument.type)
        dims = tuple(letters.setdefault(letter, self.expressions.pick("K", "L")) for letter in notation.dims)
        if notation.bounds:  # such as greater_than(K - 1)
            letter = notation.bounds[0].split()[0]
            more = self.expressions.of("positive", batch, inside, exact=self.in_guide)
            return f"{letters[letter]} + {more}"
        if not notation.dims:
            return self.expressions.of(notation.kind, batch, inside, exact=self.in_guide)
        if KINDS[notation.kind].rank == 0:
            wide = (*batch, *dims) if self.in_guide else dims
            return self.expressions.of(notation.kind, wide, inside, exact=True)
        return self.expressions.of(notation.kind, (*batch, *dims) if self.in_guide else dims, inside)

    def _written(self, row: Distribution, form: Form, arguments: dict[str, str]) -> str:
        """Arguments by position where the form is the first one, or by name; one at its default may be left out."""
        values = dict(arguments)
        while values and form.arguments[len(values) - 1].default is not None and self.scope.choices.chance(30):
            values.popitem()
        if form is row.forms[0] and self.scope.choices.chance(60):
            return ", ".join(values.values())
        return ", ".join(f"{name} = {value}" for name, value in values.items())

    # Families of families

    def composite(self, kind: str, event: Event, inside: Plates, guide: bool = False) -> str:
        """A mixture, or on counts also one with extra zeros, of families over `kind`."""
        rows = [row for row in rows_over(kind) if not named_bounds(row) and row.sums_to is None]
        if kind == "count" and self.scope.choices.chance(50):
            self.used.append(COMPOSITE["zero_inflated"])
            base = self.call(self.scope.family(rows), event, inside)
            gate = self.expressions.of("unit", event, inside, exact=self.in_guide)
            return f"{COMPOSITE['zero_inflated']}({gate}, {base})"
        self.used.append(COMPOSITE["mixture"])
        if not self.scope.pyro and self.scope.choices.chance(50):
            weight = self.expressions.unit(inside, ())
            weights = self.expressions.pick("[0.3, 0.7]", f"[{weight}, 1 - {weight}]", "softmax([0, 0.5])")
            parts = [self.call(self.scope.family(rows), event, inside) for _ in range(2)]
            return f"{COMPOSITE['mixture']}({weights}, [{', '.join(parts)}])"
        dim = self.expressions.pick("K", "L")
        own = KINDS[kind].rank
        wide = (*event[: len(event) - own], dim, *event[len(event) - own :])
        choice = Families(self.scope, self.expressions, in_guide=True)
        part = choice.call(self.scope.family(rows), wide, inside)
        self.used += choice.used
        if self.scope.choices.chance(50):
            return f"{COMPOSITE['mixture']}({self.expressions.structured('simplex', (dim,), inside)}, {part})"
        logits = self.expressions.of("real", (dim,), inside, exact=True)
        return f"{COMPOSITE['mixture']}(logits = {logits}, components = {part})"


CONSTANTS = {"real": ("0", "0.5", "-1"), "positive": ("2", "1", "1.5"), "unit": ("0.4",)}
