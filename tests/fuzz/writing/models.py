"""Random models: each statement in plates of its own, reading what stands above."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import torch
from fuzz.writing.choices import Choices
from fuzz.writing.expressions import Expressions, typed
from fuzz.writing.families import (
    Families,
    carries,
    element_wise,
    named_bounds,
    numeric,
    over,
    range_of,
    rows_around,
    rows_over,
)
from fuzz.writing.samples import sample
from fuzz.writing.scope import (
    DATA,
    DIMS,
    LATENT,
    PARAM,
    PLATES,
    SIZES,
    Event,
    Latent,
    Plates,
    Scope,
    Value,
    brackets,
    missing,
)

from guidedsl.library import supports as s
from guidedsl.library.distributions import Distribution
from guidedsl.library.supports import KINDS

BOUNDED = [kind.name for kind in KINDS.values() if kind.bounds and not kind.discrete]
LATENTS = list(KINDS)
PARAMS = [kind.name for kind in KINDS.values() if kind.free is not None]
LEARNED = [*PARAMS, *["zero_sum"] * 2]
"""Types of params: Pyro has no constraint for `zero_sum`, which comes up in a quarter of the programs alone."""
RARE = ("unit_lower_cholesky", "nonnegative", "int")
"""Types that nothing but a data statement of their own asks for."""
INFINITE = 30.0
"""Stands for no bound where data is made."""


@dataclass
class ModelWriter:
    """Writes a model into a scope."""

    scope: Scope
    used: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.choices: Choices = self.scope.choices
        self.expressions = Expressions(self.scope, self.demand)
        self.families = Families(self.scope, self.expressions)

    def write(self) -> str:
        self._plates()
        self.latent()
        statements = [
            *((self.datum, 4), (self.latent, 6), (self.observed, 2), (self.gathered, 2)),
            *((self.let, 1), (self.factor, 1), (self.param, 1), (self.scan, 1)),
        ]
        options = [statement for statement, weight in statements for _ in range(weight)]
        for _ in range(self.choices.number(2, 9)):
            self.choices.pick(options)()
        for plate in [plate for plate in self.scope.plates if plate not in self.scope.declared]:
            self.datum((plate,))
        dims = ", ".join([*(f"{dim} = {size}" for dim, size in DIMS.items()), *self.scope.plates.values()])
        for dim in self.scope.plates.values():
            self.scope.data[dim] = SIZES[dim]
        return "model M {\n  dim " + dims + "\n" + "\n".join(self.scope.lines) + "\n}\n"

    def _plates(self) -> None:
        """Up to three plates, of which some stand in others; some subsampled, at times with all rows."""
        for plate, (dim, size) in list(PLATES.items())[: self.choices.number(0, 3)]:
            if self.scope.plates and self.choices.chance(35):
                self.scope.parents[plate] = self.choices.pick(list(self.scope.plates))
            self.scope.plates[plate] = dim
            if self.choices.chance(15):
                self.scope.batches[plate] = self.choices.text("2", "K", str(size))

    def _write(self, value: Value, statement: str) -> Value:
        self.scope.put(value.plates, statement)
        self.scope.values.append(value)
        return value

    # Inputs and params

    def event(self, rank: int) -> Event:
        if self.choices.chance(60):
            return ()
        return tuple(self.choices.pick(self.scope.sizes) for _ in range(self.choices.number(1, rank)))

    def shape(self, kind: str, more: int = 1) -> Event:
        """An event shape for a type: its own dims, at times with others in front."""
        rank = KINDS[kind].rank
        if not rank:
            return self.event(1 + more)
        dim = self.choices.pick(self.scope.sizes)
        front = (self.choices.text(*DIMS),) if more and self.choices.chance(15) else ()
        return (*front, *(dim for _ in range(rank)))

    def demand(self, kind: str, event: Event, inside: Plates) -> Value:
        """Data of a type, global or of some of these plates."""
        plates = tuple(plate for plate in inside if self.choices.chance(50))
        return self.data(kind, event, plates)

    def data(self, kind: str, event: Event, plates: Plates, bounds: tuple[float, ...] = ()) -> Value:
        name = self.scope.name("d")
        self.scope.give(name, self.scope.array(kind, plates, event, bounds))
        texts = tuple(f"{bound:g}" for bound in bounds)
        value = Value(name, plates, event, kind, DATA, stored=True, tame=True)
        return self._write(value, f"data {name} : {typed(kind, event, texts)}")

    def datum(self, plates: Plates | None = None) -> None:
        plates = self.scope.inside() if plates is None else plates
        kind = self.choices.pick([*KINDS, *KINDS, *BOUNDED, *RARE, "index", "index", "index", "real"])
        if kind == "index":
            self.index(plates)
        else:
            self.data(kind, self.shape(kind), plates, self._numbers(kind))

    def _numbers(self, kind: str) -> tuple[float, ...]:
        """Numbers as bounds of a type, where it takes or needs some."""
        needed = {"interval": (-1.0, 2.0), "greater_than": (-0.5,), "less_than": (1.5,)}
        if kind in needed:
            return needed[kind]
        if kind == "int" and self.choices.chance(50):
            return (-1.0, 3.0)
        return ()

    def index(self, plates: Plates, target: str | None = None) -> Value:
        """Row numbers of a plate, or positions along a dim; some count from 1."""
        name = self.scope.name("g")
        targets = [*self.scope.declared, *self.scope.declared, *self.scope.declared, *DIMS]
        target = target or self.choices.pick(targets)
        base = self.choices.chance(15)
        size = SIZES[self.scope.plates.get(target, target)]
        rows = self.scope.array("index", plates, (), (float(size),))
        self.scope.give(name, rows + 1 if base else rows)
        written = f"index({target}, base = 1)" if base else f"index({target})"
        value = Value(name, plates, (), "index", DATA, target, stored=True, tame=True)
        return self._write(value, f"data {name} : {written}")

    def param(self) -> None:
        kind = self.scope.kind(LEARNED)
        plates, event = self.scope.inside(1), self.shape(kind)
        name = self.scope.name("w")
        text = param_text(name, kind, event, self._numbers(kind), self.choices)
        self._write(Value(name, plates, event, kind, PARAM, stored=True), text)

    # Latents

    def latent(self) -> None:
        kind = self.scope.kind(LATENTS, "zero_sum")  # whose prior Pyro can hold as a factor
        plates = self.scope.inside()
        if kind == "index":
            self._class(plates)
        elif kind in BOUNDED:
            self._bounded(kind, plates)
        elif KINDS[kind].discrete:
            self._discrete(kind, plates)
        elif KINDS[kind].rank:
            self._structured(kind, plates)
        else:
            self._number(kind, plates)

    def _declare(
        self,
        kind: str,
        event: Event,
        plates: Plates,
        dist: str,
        bounds: tuple[str, ...] = (),
        family: str = "",
        target: str | None = None,
        moving: bool = False,
    ) -> None:
        name = self.scope.name("z")
        written = f"index({target})" if target is not None else typed(kind, event, bounds)
        value = Value(name, plates, event, kind, LATENT, target)
        self._write(value, f"latent {name} : {written} ~ {dist}")
        self.scope.latents.append(Latent(value, written, bounds, moving, family=family))

    def _number(self, kind: str, plates: Plates) -> None:
        """A number, or a vector of numbers under a family of vectors."""
        exact, around = rows_over(kind), rows_around(kind)
        vectors = rows_over(kind, 1)
        match self.choices.number(0, 9):
            case 0:
                dist, row = "Flat", None
            case 1 | 2 if around:
                row = self.scope.family(around, restricted=True)
            case 3 if exact:
                event = self.event(1)
                self._declare(kind, event, plates, self.families.composite(kind, event, plates), family="mixture")
                return
            case 4 | 5 if vectors:
                row = self.scope.family(vectors)
            case _:
                row = self.scope.family(exact or around)
        event = self.event(2)
        if row is not None and not element_wise(row):
            event = self._vector(row)
        if row is not None:
            dist = self.families.call(row, event, plates)
        elif kind == "real" or kind in ("positive", "nonnegative"):
            # An improper prior without data: something has to hold it.
            self._declare(kind, event, plates, dist)
            name = self.scope.latents[-1].value.name
            self.scope.put(plates, f"factor -square({f'sum({name})' if event else name})")
            return
        self._declare(kind, event, plates, dist, family=row.name if row is not None else "")

    def _vector(self, row: Distribution) -> Event:
        front = (self.choices.text(*DIMS),) if self.choices.chance(20) else ()
        return (*front, *(self.choices.pick(self.scope.sizes) for _ in over(row).dims))

    def _bounded(self, kind: str, plates: Plates) -> None:
        """A type with bounds: its own family with these for arguments, one that it restricts, or none."""
        names = KINDS[kind].bounds
        fixed = [row for row in rows_over(kind) if numeric(row) and over(row).bounds]
        if fixed and self.choices.chance(12):
            row = self.scope.family(fixed)
            event = self.event(1)
            dist = self.families.call(row, event, plates)
            self._declare(kind, event, plates, dist, over(row).bounds, row.name)
            return
        above_zero = self.choices.chance(35)
        bounds, stage = self.bounds(kind, plates, above_zero)
        event = self.event(1)
        own = [row for row in rows_over(kind) if named_bounds(row) and (above_zero or not positive_bound(row))]
        ranges = [row for row in rows_around("real") + rows_over("real") if row.has_mass]
        moving = stage > DATA
        match self.choices.number(0, 5):
            case 0 if kind != "less_than":
                dist, family = "Flat", ""
                if kind == "greater_than":
                    own = own or ranges
            case 1 | 2 | 3 if own:
                row = self.scope.family(own)
                given = dict(zip(named_bounds(row), bounds, strict=True))
                dist, family = self.families.call(row, event, plates, given), row.name
            case _:
                row = self.scope.family(ranges, restricted=True)
                dist, family = self.families.call(row, event, plates), row.name
        assert len(names) == len(bounds)
        self._declare(kind, event, plates, dist, bounds, family, moving=moving)
        if dist == "Flat":
            name = self.scope.latents[-1].value.name
            self.scope.put(plates, f"factor -{f'sum(square({name}))' if event else f'square({name})'}")

    def bounds(self, kind: str, plates: Plates, above_zero: bool) -> tuple[tuple[str, ...], int]:
        """Bounds of numbers, of data or of a latent; how late what they read is."""
        low, width = self.choices.text("1", "0.5") if above_zero else self.choices.text("-1", "0", "-0.5"), "2"
        stage = DATA
        if self.choices.chance(85):
            before, self.scope.touched = self.scope.touched, DATA
            latest = LATENT if not above_zero and self.choices.chance(75) else DATA
            simple = [value for value in self.scope.values if not value.of_scan and value.stage in (DATA, latest)]
            if latest == LATENT:
                simple = [value for value in simple if value.stage == LATENT and not value.target] or simple
            with self.scope.up_to(latest), self.scope.only(simple):
                if above_zero:
                    value = self.expressions.demand("positive", (), plates)
                    low = (
                        value.name
                        if self.choices.chance(50)
                        else f"{value.name} + sigmoid({self.expressions.leaf(plates, ())})"
                    )
                else:
                    low = f"tanh({self.expressions.leaf(plates, ())})"
                width = self.choices.text("2", "1.5")
            stage, self.scope.touched = self.scope.touched, max(before, self.scope.touched)
        if stage == PARAM:
            low = "1" if above_zero else "-1"
            stage = DATA
        texts = {"low": low, "high": str(float(low) + 2) if _is_number(low) else f"{low} + {width}"}
        return tuple(texts[name] for name in KINDS[kind].bounds), stage

    def _structured(self, kind: str, plates: Plates) -> None:
        rows = rows_over(kind)
        if kind == "unit_vector" or (rows and self.choices.chance(60)):
            row = self.scope.family(rows)
            event = self.shape(kind)
            self._declare(kind, event, plates, self.families.call(row, event, plates), family=row.name)
            return
        event = self.shape(kind)
        if self.choices.chance(50):
            fitting = [row for row in rows_over("real") if KINDS[kind].range.within(range_of(row), almost=True)]
            row = self.scope.family(fitting)
            dist = self.families.call(row, (), plates, constant=True)
            self._declare(kind, event, plates, dist, family="")
            return
        self._declare(kind, event, plates, "Flat")
        name = self.scope.latents[-1].value.name
        self.scope.put(plates, f"factor -sum(square({name}))")

    def _discrete(self, kind: str, plates: Plates) -> None:
        """A class, a count or a whole number; no vectors that add up to a total, which have no other law."""
        rows = [row for row in rows_over(kind) if row.sums_to is None]
        row = self.scope.family(rows)
        if kind == "count" and self.choices.chance(20):
            self._declare(kind, (), plates, self.families.composite(kind, (), plates), family="mixture")
            return
        event = self.shape(kind, more=0) if KINDS[kind].rank else self.event(1)
        if not carries(row):
            event = ()
        bounds, given, dim = self.whole_bounds(row)
        if dim is not None:
            event = ()
        dist = self.families.call(row, (*event,), plates, given) if dim is None else self._table(row, dim, plates)
        self._declare(kind, event, plates, dist, bounds, row.name)

    def whole_bounds(self, row: Distribution) -> tuple[tuple[str, ...], dict[str, str], str | None]:
        """The bounds of a family on whole numbers as its type has them, the arguments that they are, and the dim
        that it counts."""
        notation, named = over(row), named_bounds(row)
        if not notation.bounds:
            return (), {}, None
        given = dict(zip(named, ("-1", "3")[-len(named) :] if named else (), strict=True))
        letters = {argument.type.partition("[")[2].rstrip("]") for form in row.forms for argument in form.arguments}
        dim = self.choices.text(*DIMS) if letters - {""} else None
        bounds = tuple(given.get(bound, bound.replace("K", dim or "K")) for bound in notation.bounds)
        return bounds, given, dim

    def _table(self, row: Distribution, dim: str, plates: Plates) -> str:
        """A family whose arguments have a dim that its values count."""
        families = Families(self.scope, self.expressions)
        form = self.choices.pick(row.forms)
        letters = {"K": dim}
        texts = [f"{a.name} = {families.argument(a, letters, (), plates)}" for a in form.arguments]
        self.families.used.append(row.name)
        return f"{row.name}({', '.join(texts)})"

    def _class(self, plates: Plates, target: str | None = None) -> Value:
        """A row of a plate or a position along a dim, to be read by."""
        targets = [plate for plate in self.scope.declared if plate not in self.scope.batches]
        target = target or self.choices.pick([*targets, *targets, *DIMS])
        dim = self.scope.plates.get(target, target)
        tables = [row for row in rows_over("int") if row.tabulated and over(row).bounds[1] == "K - 1"]
        row = self.scope.family(tables)
        self._declare("index", (), plates, self._table(row, dim, plates), family=row.name, target=target)
        return self.scope.latents[-1].value

    # What is observed

    def observed(self) -> None:
        plates = self.scope.inside()
        name = self.scope.name("y")
        rows = [row for row in self._observable() if row.name not in ("Flat",)]
        row = self.scope.family(rows)
        kind = over(row).kind
        if self.choices.chance(15):
            kind = self.choices.text("real", "positive", "count")
            event = self.event(1)
            dist = self.families.composite(kind, event, plates)
            self._observe(name, kind, event, plates, dist)
        elif row.sums_to is not None:
            self._total(name, row, plates)
        elif kind == "int":
            self._whole(name, row, plates)
        elif named_bounds(row):
            bounds = ("0.5", "2.5")[: len(named_bounds(row))]
            event = self.event(1)
            dist = self.families.call(row, event, plates, dict(zip(named_bounds(row), bounds, strict=True)))
            self._observe(name, kind, event, plates, dist, bounds)
        else:
            event = self._vector(row) if over(row).dims and not KINDS[kind].rank else self.shape(kind)
            dist = self.families.call(row, event, plates)
            self._observe(name, kind, event, plates, dist, over(row).bounds)

    def gathered(self) -> None:
        """What is observed of rows that an index picks, or an index of an index."""
        plates = self.scope.inside(2)
        found = [
            value
            for value in self.scope.values
            if value.plates and value.kind != "index" and not set(value.plates) <= set(plates)
            if value.stored or not any(plate in self.scope.batches for plate in value.plates if plate not in plates)
        ]
        if not found:
            self.datum()
            return
        value = self.choices.pick(found)
        outside = [plate for plate in self.scope.declared if plate in value.plates and plate not in plates]
        rows = ", ".join(self._row(plate, plates) for plate in outside)
        text = f"tanh({f'mean({value.name}[{rows}])' if value.event else f'{value.name}[{rows}]'})"
        name = self.scope.name("y")
        loc = self.expressions.pick(text, f"{text} + {self.expressions.real(plates, (), 1)}")
        self._observe(name, "real", (), plates, f"Normal({loc}, 1)")

    def _row(self, plate: str, inside: Plates) -> str:
        """An index into a plate that can be read here, data of its own or by way of another plate."""
        others = [other for other in self.scope.plates if other not in (plate, *inside)]
        if not others or self.choices.chance(60):
            latents = [v for v in self.scope.values if v.target == plate and v.stage and set(v.plates) <= set(inside)]
            if not latents and plate not in self.scope.batches and self.choices.chance(50):
                latents = [self._class(tuple(p for p in inside if self.choices.chance(50)), plate)]
            if latents:
                return self.choices.pick(latents).name
            return self.index(tuple(p for p in inside if self.choices.chance(80)), plate).name
        other = self.choices.pick(others)
        first = self.index((other,), plate)
        second = self.index(tuple(p for p in inside if self.choices.chance(80)), other)
        return f"{first.name}[{second.name}]"

    def _observable(self) -> list[Distribution]:
        """Every type as often as any other, then the families on it."""
        kinds = {over(row).kind for row in rows_over_all()}
        kind = self.choices.pick(sorted(kinds))
        return [row for row in rows_over_all() if over(row).kind == kind]

    def _whole(self, name: str, row: Distribution, plates: Plates) -> None:
        event = self.event(1)
        bounds, given, dim = self.whole_bounds(row)
        if dim is not None:
            low, high = 0.0, SIZES[dim] - (1.0 if bounds[1].endswith("1") else 0.0)
            target = self.choices.text("int", "index") if bounds[1].endswith("1") else "int"
            dist = self._table(row, dim, plates)
            values = self.scope.array("int", plates, (), (low, high))
            self.scope.give(name, values)
            written = f"index({dim})" if target == "index" else f"int({', '.join(bounds)})"
            self._write(
                Value(name, plates, (), target, DATA, dim if target == "index" else None, stored=True, tame=True),
                f"observed {name} : {written} ~ {dist}{self._when(name, values, plates, ())}",
            )
            return
        dist = self.families.call(row, event, plates, given)
        wide = self.choices.chance(30)
        self._observe(name, "int", event, plates, dist, bounds, written="int" if wide else None)

    def _total(self, name: str, row: Distribution, plates: Plates) -> None:
        """Counts that add up."""
        event = (self.choices.text(*DIMS),)
        dist = self.families.call(row, event, plates)
        shape = tuple(SIZES[self.scope.plates[plate]] for plate in plates)
        labels = sample("index", (*shape, 3), self.scope.names, (float(SIZES[event[0]]),))
        values = torch.nn.functional.one_hot(labels, SIZES[event[0]]).sum(-2)
        self.scope.give(name, values)
        value = Value(name, plates, event, "count", DATA, stored=True, tame=True)
        self._write(value, f"observed {name} : count{brackets(event)} ~ {dist}{self._when(name, values, plates, None)}")

    def _observe(
        self,
        name: str,
        kind: str,
        event: Event,
        plates: Plates,
        dist: str,
        bounds: tuple[str, ...] = (),
        written: str | None = None,
    ) -> None:
        numbers = tuple(float(bound) for bound in bounds)
        values = self.scope.array(kind, plates, event, numbers)
        self.scope.give(name, values)
        whole_event = KINDS[kind].rank == 0 and not any(f in dist for f in VECTORS)
        when = self._when(name, values, plates, event if whole_event else None)
        type = f"{written}{brackets(event)}" if written else typed(kind, event, bounds)
        value = Value(name, plates, event, kind, DATA, stored=True, tame=True)
        self._write(value, f"observed {name} : {type} ~ {dist}{when}")

    def _when(self, name: str, values: torch.Tensor, plates: Plates, event: Event | None) -> str:
        """At times a condition, NaN where it does not hold. `event` is None where a whole event is there or not."""
        if not self.choices.chance(35):
            return ""
        flag = self.scope.name("d")
        of_event = event if event and self.choices.chance(50) else ()
        there = self.scope.array("bool", plates, of_event)
        self.scope.give(flag, there)
        value = Value(flag, plates, of_event, "bool", DATA, stored=True, tame=True)
        self._write(value, f"data {flag} : bool{brackets(of_event)}")
        self.scope.give(name, missing(values, there))
        self.scope.gaps.add(name)
        return f" when {flag}" if self.choices.chance(70) else f" when {flag} > 0.5"

    # The rest

    def let(self) -> None:
        plates = self.scope.inside()
        kind = self.choices.pick(["real", "real", "positive", *[k for k in PARAMS if KINDS[k].rank]])
        event = self.shape(kind, more=0)
        before, self.scope.touched = self.scope.touched, DATA
        latest = DATA if self.choices.chance(30) else LATENT
        with self.scope.up_to(latest):
            text = self.expressions.of(kind, event, plates, depth=2, exact=True)
        stage, self.scope.touched = self.scope.touched, before
        if stage == DATA and self.scope.gaps.intersection(re.findall(r"\w+", text)):
            return  # a let of data alone is checked, and what is missing has no value
        name = self.scope.name("l")
        written = f" : {typed(kind, event)}" if KINDS[kind].rank or self.choices.chance(30) else ""
        self._write(Value(name, plates, event, kind, stage, stored=stage == DATA), f"let {name}{written} = {text}")

    def factor(self) -> None:
        plates = self.scope.inside()
        if self.choices.chance(50):
            row = self.scope.family(rows_over("real"))
            dist = self.families.call(row, (), plates)
            self.scope.put(plates, f"factor log_prob({dist}, {self.expressions.real(plates, ())})")
            return
        here = [z for z in self.scope.latents if z.learnable and set(z.value.plates) <= set(plates) and not z.steps]
        text = self.expressions.real(plates, ())
        if here and self.choices.chance(40):
            text = f"{text} + {self.expressions.free(plates, [z.value.name for z in here])}"
        self.scope.put(plates, f"factor -square({text})")

    def scan(self) -> None:
        """A recurrence: two carries, a state, what is seen of it, and something emitted."""
        scope, choices = self.scope, self.choices
        plates, dim = scope.inside(2), choices.text("K", "L")
        z, y, h, g, m, path = (scope.name(prefix) for prefix in ("z", "y", "h", "g", "m", "l"))
        first = self.expressions.real(plates, ())
        outside = scope.values
        rows = [
            Value(f"{v.name}[t]", v.plates, (), v.kind, v.stage, tame=v.tame)
            for v in outside
            if v.event == (dim,) and set(v.plates) <= set(plates) and not KINDS[v.kind].rank and v.kind != "index"
        ]
        step = [Value(h, plates, (), "real", LATENT), Value(f"where(t == 0, 0.3, {g})", plates, (), "real", LATENT)]
        with scope.only([*outside, *rows, *step]):
            mean, scale = self.expressions.real(plates, ()), self.expressions.positive(plates, ())
            scope.values += [Value(m, plates, (), "real", LATENT)]
            kind = choices.pick(["real", "real", "positive", "unit"])
            state = scope.family(rows_over(kind)) if kind != "real" else None
            prior = self.families.call(state, (), plates) if state is not None else f"Normal({m}, {scale})"
            scope.values += [Value(z, plates, (), kind, LATENT)]
            seen, handed = self.expressions.real(plates, ()), self.expressions.real(plates, ())
            handed = choices.text(z, y, f"{m} + 0.1 * {z}", f"tanh({handed})")
            factor = choices.text("", f"factor -square({self.expressions.real(plates, ())})")
            when = choices.text("", "", " when t > 0")
        scope.values = [value for value in scope.values if value.name not in (m, z)]
        scope.give(y, scope.array("real", plates, (dim,)))
        scope.put(
            plates,
            f"scan t in {dim} carry ({h} : real = {first}, {g} : positive = 1) {{ let {m} = {mean} + t / {dim} "
            f"latent {z} : {kind} ~ {prior} observed {y} : real ~ Normal({seen}, 1){when} {factor} "
            f"emit {path} = {m} + {z} next {h} = {handed} next {g} = exp(tanh({z})) }}",
        )
        site = Value(z, plates, (dim,), kind, LATENT, of_scan=True)
        scope.values += [site, Value(y, plates, (dim,), "real", DATA, stored=True, tame=True)]
        scope.values += [
            Value(name, plates, event, "real", LATENT, of_scan=True) for name, event in ((path, (dim,)), (h, ()))
        ]
        scope.latents.append(
            Latent(site, typed(kind, (dim,)), steps=dim, family=state.name if state is not None else "Normal")
        )


VECTORS = tuple(f"{row.name}(" for kind in KINDS for row in rows_over(kind, 1))
"""Families on vectors of numbers, as they stand in text."""


def rows_over_all() -> list[Distribution]:
    """Families that data may be observed under: those whose law is known without parts."""
    return [row for kind in KINDS for more in (0, 1) for row in rows_over(kind, more) if not row.model_only]


def positive_bound(row: Distribution) -> bool:
    """Whether a bound of its support must be above zero."""
    types = {a.name: a.type for form in row.forms for a in form.arguments}
    return any(types[name] != "real" for name in named_bounds(row))


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()


def param_text(name: str, kind: str, event: Event, bounds: tuple[float, ...], choices: Choices) -> str:
    """A param with an initial value of one of the forms that it may have."""
    texts = tuple(f"{bound:g}" for bound in bounds)
    inits = [""]
    row = KINDS[kind]
    if not row.rank:
        inits += {"real": [" = 0.1", " = normal(0, 0.1)"], "unit": [" = 0.4"]}.get(
            kind, [" = 1.2"] if not bounds else []
        )
    if row.square:
        inits += [f" = eye({event[-1]})"] if len(event) == 2 else []
    via = f" via {choices.text(*row.transforms)}" if row.transforms and choices.chance(40) else ""
    lr = ", lr = 0.01" if choices.chance(10) else ""
    return f"param {name} : {typed(kind, event, texts)}{choices.text(*inits)}{via}{lr}"


__all__ = ["LEARNED", "PARAMS", "ModelWriter", "param_text", "s"]
