"""Random well-formed programs with data: models with nested and crossed plates, guides by auto and by hand."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

DIMS = {"K": 2, "L": 3}
SIZES = {"P": 3, "Q": 2, "R": 4}
FLOW = "flow(affine, transforms = 1, hidden = 2)"


@dataclass(frozen=True)
class Program:
    """The text of a program, its data, and whether an `auto` stands in it."""

    text: str
    data: dict[str, object]


@dataclass(frozen=True)
class Value:
    """Something to read: `kind` is real, positive or unit; `index` the plate that it points into."""

    name: str
    plates: tuple[str, ...]
    event: tuple[str, ...]
    kind: str
    index: str | None = None


@dataclass
class Latent:
    value: Value
    type: str
    kind: str
    steps: str | None = None


@dataclass
class Writer:
    """Draws a program piece by piece."""

    draw: Callable[..., Any]
    plates: dict[str, str] = field(default_factory=dict)
    subsampled: str | None = None
    values: list[Value] = field(default_factory=list)
    latents: list[Latent] = field(default_factory=list)
    data: dict[str, object] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    names: int = 0

    # Choices

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def text(self, *options: str) -> str:
        return str(self.pick(*options))

    def chance(self, percent: int) -> bool:
        return bool(self.draw(st.integers(0, 99)) < percent)

    def name(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}{self.names}"

    def subset(self) -> tuple[str, ...]:
        """Plates for a statement, in the order in which they will be written."""
        order = self.draw(st.permutations(list(self.plates)))
        return tuple(order[: self.draw(st.integers(0, min(2, len(order))))])

    # Expressions

    def real(self, inside: tuple[str, ...], event: tuple[str, ...], depth: int = 2) -> str:
        """A bounded real expression of event shape `event`, or a scalar that stands beside it."""
        leaves = self.leaves(inside, event)
        if depth == 0 or self.chance(30):
            return self.text(*leaves, "0.5", "-1", "K / 4")
        a, b = self.real(inside, event, depth - 1), self.real(inside, event, depth - 1)
        return self.text(
            f"({a} + {b})",
            f"({a} - {b})",
            f"tanh({a}) * {b}",
            f"{a} * sigmoid({b})",
            f"where({a} < {b}, {a}, 0)",
            f"maximum({a}, {b})",
            f"-({a})",
            f"{a} / {self.positive(inside, event, depth - 1)}",
            f"sin({a} * {b})",
            f"({a}) ^ 2 / (1 + square({b}))",
        )

    def positive(self, inside: tuple[str, ...], event: tuple[str, ...], depth: int = 1) -> str:
        """A positive expression that is neither tiny nor huge."""
        if depth == 0 or self.chance(40):
            return self.text("1", "0.5", "2")
        inner = self.real(inside, event, depth - 1)
        return self.text(f"(0.5 + sigmoid({inner}))", f"exp(tanh({inner}))", f"(1 + square(tanh({inner})))")

    def leaves(self, inside: tuple[str, ...], event: tuple[str, ...]) -> list[str]:
        """Values that can be read here, as they are written, tamed where they may be large."""
        found = []
        for value in self.values:
            for text, shape in self.reads(value, inside):
                if shape == event or shape == ():
                    found.append(f"tanh({text})")
                elif not event:
                    found += [f"tanh({text}[{', '.join('0' for _ in shape)}])", f"tanh(mean({text}))"]
                elif len(shape) == 2 and shape[0] == event[-1]:
                    found.append(f"tanh(sum({text}, axis = 1))")
                elif len(shape) == 2 and shape[1] == event[-1]:
                    found.append(f"tanh({text}[1])")
        return found

    def reads(self, value: Value, inside: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
        """Ways to read a value from inside these plates: as this row, by an index, a constant row or all rows."""
        outside = [plate for plate in self.order() if plate in value.plates and plate not in inside]
        if value.index is not None:
            return []
        if not outside:
            return [(value.name, value.event)]
        if self.subsampled in outside:
            return []
        subscripts = []
        for plate in outside:
            rows = [v.name for v in self.values if v.index == plate and set(v.plates) <= set(inside)]
            subscripts.append(self.text("0", *rows))
        texts = [(f"{value.name}[{', '.join(subscripts)}]", value.event)]
        if len(outside) == 1:
            texts.append((f"mean({value.name}[:])", ()))
        return texts

    def order(self) -> list[str]:
        """Plates in the order of the model's declarations."""
        return [plate for plate in self.plates if plate in self.declared] + [
            plate for plate in self.plates if plate not in self.declared
        ]

    # Statements

    def put(self, plates: tuple[str, ...], statement: str) -> None:
        """Write a model statement in plates, declaring those that are new."""
        items = []
        for plate in plates:
            size = "" if plate in self.declared else f"[{self.plates[plate]}]"
            batch = " subsample(2)" if size and plate == self.subsampled else ""
            items.append(f"{plate}{size}{batch}")
            if plate not in self.declared:
                self.declared.add(plate)
                self.plates = {p: s for p, s in self.plates.items() if p != plate} | {plate: self.plates[plate]}
        declared = {p: s for p, s in self.plates.items() if p in self.declared}
        self.plates = declared | self.plates
        self.lines.append(self.block(plates, statement, items))

    def block(self, plates: tuple[str, ...], statement: str, items: list[str] | None = None) -> str:
        items = list(plates) if items is None else items
        if not items:
            return f"  {statement}"
        if len(items) == 2 and self.chance(50):
            return f"  plate {items[0]} {{ plate {items[1]} {{ {statement} }} }}"
        return f"  plate {', '.join(items)} {{ {statement} }}"

    def array(self, plates: tuple[str, ...], event: tuple[str, ...], entry: Callable[[random.Random], float]) -> object:
        source = random.Random(self.names)

        def make(sizes: list[int]) -> object:
            return [make(sizes[1:]) for _ in range(sizes[0])] if sizes else entry(source)

        return make([*(SIZES[self.plates[plate]] for plate in plates), *(DIMS[dim] for dim in event)])

    def datum(self) -> None:
        plates = self.subset()
        event = self.event(1)
        kind = self.text("real", "positive", "unit", "index", "bool")
        name = self.name("d")
        target = None
        if kind == "index":
            choices = [plate for plate in self.plates if plate in self.declared and plate != self.subsampled]
            if not choices:
                kind = "real"
            else:
                target, event = self.text(*choices), ()
                size = SIZES[self.plates[target]]
                self.data[name] = self.array(plates, (), lambda r: r.randrange(size))
                self.put(plates, f"data {name} : index({target})")
        if target is None:
            entry = {
                "real": lambda r: round(r.gauss(0, 1), 2),
                "positive": lambda r: round(r.uniform(0.3, 2), 2),
                "unit": lambda r: round(r.uniform(0.1, 0.9), 2),
                "bool": lambda r: r.randrange(2),
            }[kind]
            self.data[name] = self.array(plates, event, entry)
            self.put(plates, f"data {name} : {kind}{self.brackets(event)}")
        self.values.append(Value(name, plates, event, kind, target))

    def event(self, rank: int) -> tuple[str, ...]:
        return tuple(self.text("", "", "K", "L", "K L" if rank == 2 else "K").split())

    def brackets(self, event: tuple[str, ...]) -> str:
        return f"[{', '.join(event)}]" if event else ""

    def latent(self) -> None:
        plates = self.subset()
        kind = self.text("real", "real", "positive", "unit", "interval", "vector", "structured")
        name = self.name("z")
        event = self.event(2)
        if kind == "vector":
            event = (self.text("K", "L"),)
        e, p = self.real(plates, event), self.positive(plates, event)
        scalar = self.positive(plates, ())
        match kind:
            case "real":
                written = "real"
                dist = self.text(
                    f"Normal({e}, {p})", f"StudentT(4, {e}, {p})", f"Laplace({e}, {p})", f"Logistic({e}, {p})",
                    f"Cauchy({e}, {p})", f"Gumbel({e}, {p})",
                )  # fmt: skip
            case "positive":
                written = "positive"
                dist = self.text(
                    f"LogNormal({e}, {p})", f"Gamma({p}, {scalar})", f"HalfNormal({p})", f"Exponential({p})",
                    f"Normal({e}, {p})", f"Cauchy({e}, {p})", f"Weibull({p}, {scalar})", f"InverseGamma({p}, 2)",
                )  # fmt: skip
            case "unit":
                written = "unit"
                dist = self.text(
                    f"Beta({p}, {scalar})", f"LogitNormal({e}, {p})", "Uniform(0, 1)", f"Kumaraswamy({p}, 2)"
                )
            case "interval":
                written = "interval(-1, 2)"
                dist = self.text("Uniform(-1, 2)", f"Normal({e}, {p})", f"Logistic({e}, {p})", "Flat")
            case "vector":
                written = "real"
                dist = self.text(
                    f"MultivariateNormal({e} + zeros({event[0]}), scale_tril = eye({event[0]}))",
                    f"GaussianRandomWalk({scalar})",
                    f"Normal({e}, {p})",
                )
            case _:
                dim = self.text("K", "L")
                written = self.text("simplex", "ordered", "corr_cholesky", "lower_cholesky", "positive_ordered", "cov")
                event = (dim, dim) if written in ("corr_cholesky", "lower_cholesky", "cov") else (dim,)
                dist = {
                    "simplex": f"Dirichlet(full({dim}, {scalar}))",
                    "ordered": "Normal(0, 2)",
                    "corr_cholesky": f"LKJCholesky({scalar})",
                    "lower_cholesky": "Flat",
                    "positive_ordered": "Flat",
                    "cov": f"Wishart({dim} + {scalar}, scale_tril = eye({dim}))",
                }[written]
        square = written in ("corr_cholesky", "lower_cholesky", "cov")
        type = f"{written}{self.brackets(event[:1] if square else event)}"
        self.put(plates, f"latent {name} : {type} ~ {dist}")
        value = Value(name, plates, event, "real")
        self.values.append(value)
        self.latents.append(Latent(value, type, written))

    def let(self) -> None:
        plates, event = self.subset(), self.event(2)
        name = self.name("l")
        text = self.real(plates, event)
        if event:
            text = f"{text} + zeros({', '.join(event)})"
        self.put(plates, f"let {name} = {text}")
        self.values.append(Value(name, plates, event, "real"))

    def factor(self) -> None:
        plates = self.subset()
        self.put(plates, f"factor -square({self.real(plates, ())})")

    def observed(self) -> None:
        plates = self.subset()
        event = self.event(1)
        name = self.name("y")
        e, p = self.real(plates, event), self.positive(plates, event)
        kind, dist, entry = self.draw(
            st.sampled_from(
                [
                    ("real", f"Normal({e}, {p})", lambda r: round(r.gauss(0, 1), 2)),
                    ("bool", f"Bernoulli(logits = {e})", lambda r: r.randrange(2)),
                    ("count", f"Poisson({p})", lambda r: r.randrange(4)),
                    ("positive", f"Gamma({p}, 1)", lambda r: round(r.uniform(0.3, 2), 2)),
                ]
            )
        )
        self.data[name] = self.array(plates, event, entry)
        flags = [v.name for v in self.values if v.kind == "bool" and v.event == () and set(v.plates) <= set(plates)]
        when = f" when {self.text(*flags)}" if flags and self.chance(40) else ""
        self.put(plates, f"observed {name} : {kind}{self.brackets(event)} ~ {dist}{when}")
        self.values.append(Value(name, plates, event, kind))

    def scan(self) -> None:
        """A recurrence: one carry or two, a state, what is seen of it, and something emitted."""
        plates, dim = self.subset(), self.text("K", "L")
        z, y, h, g, m, path = (self.name(prefix) for prefix in ("z", "y", "h", "g", "m", "l"))
        first = self.real(plates, ())
        outside = self.values
        rows = [Value(f"{v.name}[t]", v.plates, (), v.kind) for v in outside if self.goes_along(v, plates, dim)]
        step = [Value(h, plates, (), "real"), Value(f"where(t == 0, 0.3, {g})", plates, (), "real")]
        self.values = [*outside, *rows, *step]
        mean, scale = self.real(plates, ()), self.positive(plates, ())
        self.values = [*self.values, Value(m, plates, (), "real"), Value(z, plates, (), "real")]
        seen, handed = self.real(plates, ()), self.real(plates, ())
        handed = self.text(z, y, f"{m} + 0.1 * {z}", f"tanh({handed})")
        factor = self.text("", f"factor -square({self.real(plates, ())})")
        when = self.text("", "", " when t > 0")
        self.values = outside
        self.data[y] = self.array(plates, (dim,), lambda r: round(r.gauss(0, 1), 2))
        self.put(
            plates,
            f"scan t in {dim} carry ({h} : real = {first}, {g} : positive = 1) {{ let {m} = {mean} + t / {dim} "
            f"latent {z} : real ~ Normal({m}, {scale}) observed {y} : real ~ Normal({seen}, 1){when} {factor} "
            f"emit {path} = {m} + {z} next {h} = {handed} next {g} = exp(tanh({z})) }}",
        )
        state = Value(z, plates, (dim,), "real")
        self.values += [state, Value(y, plates, (dim,), "real"), Value(path, plates, (dim,), "real")]
        self.values.append(Value(h, plates, (), "real"))
        self.latents.append(Latent(state, "real", "real", dim))

    def goes_along(self, value: Value, plates: tuple[str, ...], dim: str) -> bool:
        return value.event == (dim,) and set(value.plates) <= set(plates) and value.index is None

    def model(self) -> str:
        for plate in list(SIZES)[: self.draw(st.integers(0, 3))]:
            self.plates[plate.lower()] = plate
        if self.plates and self.chance(25):
            self.subsampled = self.text(*self.plates)
        self.latent()
        for _ in range(self.draw(st.integers(2, 8))):
            statement = self.pick(self.datum, self.latent, self.latent, self.let, self.observed, self.factor, self.scan)
            statement()
        for plate in [p for p in self.plates if p not in self.declared]:
            self.put((plate,), f"data {plate}_ : real")
            self.data[f"{plate}_"] = self.array((plate,), (), lambda r: 0.5)
        for size in SIZES:
            if size in self.plates.values():
                self.data.setdefault(size, SIZES[size])
        dims = ", ".join([*(f"{dim} = {size}" for dim, size in DIMS.items()), *self.plates.values()])
        return "model M {\n  dim " + dims + "\n" + "\n".join(self.lines) + "\n}\n"

    # Guides

    def auto_guide(self) -> str:
        lines = []
        left = list(self.latents)
        for _ in range(self.draw(st.integers(0, 2))):
            if len(left) < 2:
                break
            chosen = left[: self.draw(st.integers(1, len(left)))]
            left = [latent for latent in left if latent not in chosen]
            names = ", ".join(latent.value.name for latent in chosen)
            common = set.intersection(*(set(latent.value.plates) for latent in chosen))
            joint_here = all(self.subsampled not in latent.value.plates for latent in chosen)
            joints = ["full_rank", "low_rank(rank = 2)", FLOW] if joint_here else []
            family = self.text("map", "mean_field", "structured", *joints)
            statement = f"auto {family} for {names}"
            if common and self.chance(50):
                joint = all(self.subsampled not in set(z.value.plates) - common for z in chosen)
                family = self.text("mean_field", "structured", *(["full_rank", "low_rank(1)"] if joint else []))
                inside = tuple(plate for plate in self.plates if plate in common)
                statement = self.block(inside, f"auto {family} for {names}").strip()
            lines.append(f"  {statement}")
        if left:
            whole = all(self.subsampled not in latent.value.plates for latent in left)
            alone = ["laplace"] if not lines else []
            joints = ["full_rank", "low_rank(rank = K)", *alone] if whole else []
            family = self.text("map", "mean_field", "structured", *joints)
            lines.append(f"  auto {family} for rest")
        return "guide A for M {\n" + "\n".join(lines) + "\n}\n"

    def hand_guide(self) -> str:
        lines = []
        seen = [value for value in self.values if value.name.startswith("d")]
        known, self.values = self.values, seen
        for latent in self.latents:
            value = latent.value
            name, plates = value.name, value.plates
            free = self.free(latent)
            loc, scale = f"{name}_m", f"{name}_s"
            params = f"param {loc} : real{free} = 0.1 param {scale} : positive{free} = 0.5"
            lean = ""
            if not free:
                lean = f" + {self.real(plates, ())}"
            elif self.chance(50):
                lean = f" * tanh({self.real(plates, ())})"
            via = "" if latent.kind == "real" else " via type"
            if latent.steps is not None and self.chance(60):
                self.names += 1
                carry = f"q{self.names}"
                draw = f"{name} ~ Normal({loc}[t] + 0.3 * {carry}{self.text('', ' * t')}, {scale}[t])"
                scan = f"scan t in {latent.steps} carry ({carry} : real = 0) {{ {draw} next {carry} = {name} }}"
                lines.append(self.block(plates, f"{params} {scan}"))
                self.values = [*self.values, value]
                continue
            lines.append(self.block(plates, f"{params} {name} ~ Normal({loc}{lean}, {scale}){via}"))
            self.values = [*self.values, value]
        self.values = known
        return "guide H for M {\n" + "\n".join(lines) + "\n}\n"

    def free(self, latent: Latent) -> str:
        event = latent.value.event
        dim = event[0] if event else ""
        match latent.kind:
            case "simplex":
                return f"[{dim} - 1]"
            case "corr_cholesky":
                return f"[{dim} * ({dim} - 1) / 2]"
            case "lower_cholesky" | "cov":
                return f"[{dim} * ({dim} + 1) / 2]"
        return self.brackets(event)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A model with an automatic guide `A` and a written one `H`, and data that binds it."""
    writer = Writer(draw)
    model = writer.model()
    return Program(model + writer.auto_guide() + writer.hand_guide(), writer.data)
