"""Random expressions of a wanted type and event shape, from the registries of types and of functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuzz.writing.scope import DATA, Event, Plates, Read, Scope, Value, brackets

from guidedsl.check.signatures import read as notation_of
from guidedsl.library import supports as s
from guidedsl.library.functions import FUNCTIONS, Function
from guidedsl.library.supports import KINDS

TAME = s.Range(-20, 20)
"""Values that may stand as they are; what may be larger stands in a tanh."""
ABOVE = frozenset({"log_diff_exp"})
"""Functions whose first argument is above the second."""
SHARP = frozenset({"tan", "pow", "lags"})
"""Functions with poles among the arguments that are written here, and those with a notation of their own."""


def _functions(*shapes: str) -> list[Function]:
    rows = [row for function in FUNCTIONS.values() for row in (function, *function.others)]
    return [row for row in rows if row.shape in shapes and row.name not in SHARP]


def _gives(function: Function) -> tuple[str, int]:
    """The type of a signature's result, and its rank."""
    assert function.signature is not None
    notation = notation_of(function.signature[1])
    return notation.kind, len(notation.dims)


UNARY = [f for f in _functions("elementwise") if len(f.parameters) == 1]
BINARY = [f for f in _functions("elementwise") if len(f.parameters) == 2]
REDUCTIONS, ALONG = _functions("reduce"), _functions("last")
SIGNED = _functions("signature")
SCALARS = [f for f in SIGNED if _gives(f)[1] == 0]
VECTORS = [f for f in SIGNED if f.signature is not None and f.signature[1] == "real[A]"]
MAKERS = {kind: [f for f in SIGNED if _gives(f)[0] == kind and _gives(f)[1] == row.rank] for kind, row in KINDS.items()}
"""Functions that give a structured type."""
EYES = ("lower_cholesky", "unit_lower_cholesky", "corr_cholesky", "corr", "cov")


@dataclass
class Expressions:
    """Writes expressions for one place of a program.

    `demand(kind, event, plates)` declares a value of a type that nothing in scope has, data or a param, and gives its
    name. What is written is bounded, unless it is data or a latent's own value.
    """

    scope: Scope
    demand: Callable[[str, Event, Plates], Value]

    def pick(self, *options: str) -> str:
        return self.scope.choices.pick(options)

    def of(self, kind: str, event: Event, inside: Plates, depth: int = 1, exact: bool = False) -> str:
        """An expression of a type of the registry with this event shape, or (unless `exact`) a scalar beside it."""
        match kind:
            case "real":
                return self._spread(self.real(inside, event, depth), event, "{} + zeros({})", exact)
            case "positive" | "nonnegative":
                return self._spread(self.positive(inside, event, depth), event, "{} * ones({})", exact)
            case "unit":
                return self._spread(self.unit(inside, event, depth), event, "{} * ones({})", exact)
        return self.structured(kind, event, inside, depth)

    def _spread(self, text: str, event: Event, pattern: str, exact: bool) -> str:
        return f"({pattern.format(text, ', '.join(event))})" if exact and event else text

    # Numbers

    def real(self, inside: Plates, event: Event, depth: int = 2) -> str:
        """A bounded real expression."""
        if depth == 0 or self.scope.choices.chance(30):
            return self.leaf(inside, event)
        match self.scope.choices.number(0, 9):
            case 0:
                return self._unary(inside, event, depth)
            case 1:
                return self._of_vectors(inside, event, depth)
            case 2:
                function = self.scope.choices.pick(BINARY)
                if function.name == "where":
                    a, b, c = (self.real(inside, event, depth - 1) for _ in range(3))
                    return f"where({a} < {b}, {a}, {c})"
                a, b = (self.within(function.domain, inside, event, depth - 1) for _ in range(2))
                if function.name in ABOVE:
                    a, b = f"2 + tanh({a})", f"tanh({b})"
                return f"tanh({function.name}({a}, {b}))"
        a, b = self.real(inside, event, depth - 1), self.real(inside, event, depth - 1)
        return self.pick(
            f"({a} + {b})",
            f"({a} - {b})",
            f"tanh({a}) * {b}",
            f"{a} * sigmoid({b})",
            f"maximum({a}, {b})",
            f"-({a})",
            f"{a} / {self.positive(inside, event, depth - 1)}",
            f"({a}) ^ 2 / (1 + square({b}))",
        )

    def leaf(self, inside: Plates, event: Event) -> str:
        """A number or a value in scope."""
        options = [(text, read) for read in self.scope.readable(inside) for text in self._as_event(read, event, inside)]
        if not options or self.scope.choices.chance(15):
            return self.pick("0.5", "-1", "K / 4")
        text, read = self.scope.choices.pick(options)
        self.scope.touched = max(self.scope.touched, read.stage)
        return text if read.value.tame or read.value.kind in ("bool", "unit") else f"tanh({text})"

    def _as_event(self, read: Read, event: Event, inside: Plates) -> list[str]:
        """Ways to get an event shape, or a scalar, out of a value."""
        text, shape = read.text, read.event
        if shape in (event, ()):
            return [text]
        if not event:
            rows = [self.scope.choices.pick(self.scope.positions(dim, inside)) for dim in shape]
            if any(stage > self.scope.latest for _, stage in rows):
                return [f"mean({text})"]
            for _, stage in rows:
                self.scope.touched = max(self.scope.touched, stage)
            at = f"{text}[{', '.join(row for row, _ in rows)}]" if text.isidentifier() else f"sum({text})"
            return [at, f"mean({text})"]
        found = []
        if len(shape) == 2 and shape[0] == event[-1]:
            found += [f"sum({text}, axis = 1)", f"({text} @ range({shape[1]}))"]
        if len(shape) == 2 and shape[1] == event[-1] and text.isidentifier():
            found += [f"{text}[1]", f"mean({text}, axis = 0)"]
        if len(shape) == 1 and len(event) == 2 and shape[0] == event[0]:
            found.append(f"{text}[:, new]" if text.isidentifier() else f"({text})[:, new]")
        if len(shape) == 1 and shape[0] == "K + 1" and event[-1] == "K":
            found += [f"{text}[1:]" if text.isidentifier() else f"({text})[1:]", f"diff({text})"]
        return found

    def _unary(self, inside: Plates, event: Event, depth: int) -> str:
        function = self.scope.choices.pick(UNARY)
        text = f"{function.name}({self.within(function.domain, inside, event, depth - 1)})"
        return text if function.range(function.domain).within(TAME) else f"tanh({text})"

    def _of_vectors(self, inside: Plates, event: Event, depth: int) -> str:
        """Linear algebra, or a function along an axis."""
        if event[1:]:
            return self.leaf(inside, event)
        dim = event[0] if event else self.pick(*self.scope.sizes)
        # No two entries are equal, and no vector is zero: there many of these have no gradient.
        distinct = f"(range({dim}) + 0.4 * tanh({self.real(inside, (dim,), depth - 1)}))"
        if event:
            function = self.scope.choices.pick([*ALONG, *VECTORS])
        else:
            function = self.scope.choices.pick([*REDUCTIONS, *SCALARS])
        if function.shape != "signature":
            return f"tanh({function.name}({distinct}) / 4)"
        return f"tanh({self.call(function, dim, inside, depth - 1)})"

    def call(self, function: Function, dim: str, inside: Plates, depth: int) -> str:
        """A function by its signature, with `dim` for the first letter."""
        assert function.signature is not None
        letters = {"A": dim}
        arguments = []
        for wanted in function.signature[0]:
            notation = notation_of(wanted)
            dims = tuple(letters.setdefault(letter, self.pick(*self.scope.sizes)) for letter in notation.dims)
            # A square matrix may be solved, or have its determinant taken.
            square = notation.kind == "real" and len(dims) == 2 and notation.dims[0] == notation.dims[1]
            arguments.append(self.of("cov" if square else notation.kind, dims, inside, depth, exact=True))
        return f"{function.name}({', '.join(arguments)})"

    def within(self, domain: s.Range, inside: Plates, event: Event, depth: int) -> str:
        """An expression whose range lies in a function's domain, away from its ends."""
        if s.REAL.within(domain):
            return self.real(inside, event, depth)
        if s.POSITIVE.within(domain):
            return f"(0.2 + {self.positive(inside, event, depth)})"
        if s.UNIT.within(domain):
            return self.unit(inside, event, depth)
        if s.negate(s.POSITIVE).within(domain):
            return f"(-0.2 - {self.positive(inside, event, depth)})"
        return f"(0.8 * tanh({self.real(inside, event, depth)}))"

    def positive(self, inside: Plates, event: Event, depth: int = 1) -> str:
        """A positive expression that is neither tiny nor huge."""
        found = self._tame(("positive", "nonnegative", "unit"), inside, event)
        if found and self.scope.choices.chance(30):
            read = self.scope.read(found)
            return f"(0.2 + {read.text})"
        if depth == 0 or self.scope.choices.chance(40):
            return self.pick("1", "0.5", "2")
        inner = self.real(inside, event, depth - 1)
        return self.pick(
            f"(0.5 + sigmoid({inner}))", f"exp(tanh({inner}))", f"(1 + square(tanh({inner})))", f"softplus({inner})"
        )

    def unit(self, inside: Plates, event: Event, depth: int = 1) -> str:
        """An expression between 0 and 1, not too near to either."""
        if depth == 0 or self.scope.choices.chance(40):
            return self.pick("0.5", "0.3")
        inner = self.real(inside, event, depth - 1)
        return self.pick(
            f"sigmoid({inner})", f"(1 - sigmoid({inner}))", f"Phi(tanh({inner}))", f"(0.2 + 0.5 / cosh({inner}))"
        )

    def _tame(self, kinds: tuple[str, ...], inside: Plates, event: Event) -> list[Read]:
        """Values of these types that are known to be of a usual size."""
        return [
            read
            for read in self.scope.readable(inside)
            if read.value.kind in kinds and (read.value.tame or read.value.kind == "unit") and read.event in (event, ())
        ]

    # Vectors and matrices of a type

    def structured(self, kind: str, event: Event, inside: Plates, depth: int = 1) -> str:
        """A value of a structured or discrete type: one in scope, a function's result, or one that is declared now."""
        wanted = s.support(kind)
        found = [
            read
            for read in self.scope.readable(inside)
            if read.event == event and s.support(read.value.kind).within(wanted) and read.value.kind != "index"
        ]
        if found and self.scope.choices.chance(60):
            return self.scope.read(found).text
        made = self._made(kind, event, inside, depth)
        if made and self.scope.choices.chance(70):
            return made
        if found:
            return self.scope.read(found).text
        value = self.demand(kind, event, inside)
        self.scope.touched = max(self.scope.touched, value.stage)
        return value.name

    def _made(self, kind: str, event: Event, inside: Plates, depth: int) -> str:
        """A structured value that is computed, or nothing."""
        own, before = event[len(event) - KINDS[kind].rank :], event[: len(event) - KINDS[kind].rank]
        if before or not own:
            return ""
        dim = own[-1]
        options = []
        if kind in EYES:
            options.append(f"eye({dim})")
        if kind == "zero_sum":
            options.append(f"zeros({dim})")
        if kind == "simplex":
            options += [f"full({dim}, 1 / {dim})" if dim.isidentifier() else f"full({dim}, 1 / ({dim}))"]
        for function in ALONG:
            if depth > 0 and function.support == kind:
                options.append(f"{function.name}(range({dim}) + {self.real(inside, own, depth - 1)})")
        makers = MAKERS[kind]
        if depth > 0 and makers:
            call = self.call(self.scope.choices.pick(makers), dim, inside, depth - 1)
            # Kernels are singular where points coincide, products where a factor is.
            options += [f"add_diag({call}, 1)" if kind == "cov" else call] * 2
        return self.pick(*options) if options else ""

    def free(self, inside: Plates, names: list[str]) -> str:
        """Something of a latent's unconstrained coordinates."""
        name = self.pick(*names)
        return self.pick(f"tanh(mean(free({name})))", f"tanh(sum(free({name})) / size({name}))")


def typed(kind: str, event: Event, bounds: tuple[str, ...] = ()) -> str:
    """A type as it is written."""
    bound = f"({', '.join(bounds)})" if bounds else ""
    return f"{kind}{bound}{brackets(event, KINDS[kind].square)}"


__all__ = ["DATA", "Expressions", "typed"]
