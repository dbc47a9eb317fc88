"""Random guides of a random model: automatic ones, and ones by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

from fuzz.writing.choices import Choices
from fuzz.writing.expressions import Expressions
from fuzz.writing.families import (
    COMPOSITE,
    ROWS,
    Families,
    carries,
    element_wise,
    named_bounds,
    numeric,
    over,
    range_of,
    rows_over,
)
from fuzz.writing.models import LEARNED, param_text
from fuzz.writing.scope import DATA, PARAM, Event, Latent, Plates, Scope, Value, brackets, size_of

from guidedsl.library import supports as s
from guidedsl.library.distributions import DISTRIBUTIONS, Distribution
from guidedsl.library.families import FAMILIES, FLOWS
from guidedsl.library.supports import KINDS

POINT = next(row.name for row in DISTRIBUTIONS.values() if row.guide_only)
REAL_LINE = [row for row in rows_over("real") if row.reparameterised]
VECTORS = rows_over("real", 1)
OPTIONS = {"rank": ("2", "1", "K"), "kind": tuple(FLOWS), "transforms": ("1",), "hidden": ("2",)}


@dataclass
class GuideWriter:
    """Writes a guide for the model in a scope, whose values it leaves as they were."""

    scope: Scope
    name: str
    kept: bool = False
    """Whether autos may stand that have no statements of the language."""
    lines: list[str] = field(default_factory=list)
    joints: int = 0
    autos: int = 0

    def __post_init__(self) -> None:
        self.choices: Choices = self.scope.choices
        self.expressions = Expressions(self.scope, self.demand)
        self.families = Families(self.scope, self.expressions, in_guide=True)

    def write(self, by_hand: bool) -> str:
        known = self.scope.values
        seen = [v for v in known if v.stage < 2 and not (v.name.startswith("l") and v.stage > DATA)]
        self.scope.values = seen
        if by_hand:
            self._by_hand(list(self.scope.latents))
        else:
            self._automatic()
        self.scope.values = known
        return f"guide {self.name} for M {{\n" + "\n".join(self.lines) + "\n}\n"

    def _put(self, plates: Plates, statement: str) -> None:
        self.lines.append(self.scope.block(list(plates), statement))

    def _again(self, plates: Plates) -> Plates:
        """Plates in some order: it is that of the model that counts."""
        return self.choices.some(plates, 0) or (plates if self.choices.chance(60) else plates[::-1])

    def _sampled(self, latents: list[Latent]) -> None:
        self.scope.values = [*self.scope.values, *(latent.value for latent in latents)]

    # Params

    def demand(self, kind: str, event: Event, inside: Plates) -> Value:
        """A param of a type, or data where the type cannot be learned: then the model's, else a number would do."""
        plates = tuple(plate for plate in inside if self.choices.chance(50))
        return self.param(kind, event, plates)

    def param(
        self, kind: str, event: Event, plates: Plates, bounds: tuple[float, ...] = (), prefix: str = "w"
    ) -> Value:
        name = self.scope.name(prefix)
        value = Value(name, plates, event, kind, PARAM, stored=True)
        self._put(self._again(plates), param_text(name, kind, event, bounds, self.choices))
        self.scope.values = [*self.scope.values, value]
        return value

    def _loose(self) -> None:
        """A param of any type, which what follows may read."""
        kind = self.scope.kind(LEARNED)
        numbers = {"interval": (-1.0, 2.0), "greater_than": (-0.5,), "less_than": (1.5,)}.get(kind, ())
        dim = self.choices.pick(self.scope.sizes)
        event = (dim,) * KINDS[kind].rank if KINDS[kind].rank else self.choices.pick([(), (), (dim,)])
        self.param(kind, event, self.scope.inside(1), numbers)

    # By hand

    def _by_hand(self, latents: list[Latent]) -> None:
        for _ in range(self.choices.number(0, 3)):
            self._loose()
        left = latents
        while left:
            latent, rest = left[0], left[1:]
            together = self._together(left)
            if len(together) > 1 and self.choices.chance(30):
                self._joint(together)
                left = left[len(together) :]
                continue
            self._one(latent)
            self._sampled([latent])
            left = rest
            if self.choices.chance(12):
                self._aux()

    def _together(self, latents: list[Latent]) -> list[Latent]:
        """The first latents that one joint statement may sample."""
        found: list[Latent] = []
        for latent in latents[: self.choices.number(2, 3)]:
            if not latent.learnable or latent.moving:
                break
            found.append(latent)
        common = set.intersection(*(set(z.value.plates) for z in found)) if found else set()
        tied = any(plate in self.scope.batches and plate not in common for z in found for plate in z.value.plates)
        return [] if tied else found

    def _one(self, latent: Latent) -> None:
        if latent.steps is not None and self.choices.chance(60):
            self._scan(latent)
            return
        if not latent.learnable:
            self._direct(latent)
            return
        match self.choices.number(0, 9):
            case 0 | 1 | 2 | 3 if self._rows(latent):
                self._direct(latent)
            case 4 if not latent.moving:
                self._point(latent)
            case 5 if self._rows(latent) and latent.value.kind in ("real", "positive") and not latent.bounds:
                value = latent.value
                self._draw(latent, self.families.composite(value.kind, value.event, value.plates))
            case 6:
                self._auto([latent])
            case _:
                self._pushed(latent)

    def _draw(self, latent: Latent, dist: str, via: str = "") -> None:
        self._put(self._again(latent.value.plates), f"{latent.value.name} ~ {dist}{via}")

    def _point(self, latent: Latent) -> None:
        value, name = latent.value, self.scope.name("m")
        via = f" via {self.choices.pick(KINDS[value.kind].transforms)}" if KINDS[value.kind].transforms else ""
        init = " = normal(0, 0.1)" if value.kind == "real" else ""
        statement = f"param {name} : {latent.type}{init}{via} {value.name} ~ {POINT}({name})"
        self._put(self._again(value.plates), statement)

    def _pushed(self, latent: Latent) -> None:
        """A law on the real line, pushed onto the latent's type; its mean may lean on what was sampled above."""
        value = latent.value
        free = self._free(latent)
        via = "" if value.kind == "real" else self._via(latent)
        vector = len(free) > 0 and self.choices.chance(25)
        row = self.scope.family(VECTORS if vector else [*REAL_LINE, *REAL_LINE[:1] * 8])
        text = self._law(row, free, value.plates)
        self._draw(latent, text, via)

    def _via(self, latent: Latent) -> str:
        """Onto the latent's own type, or onto the same one by its name, which takes its dim from the latent."""
        value = latent.value
        named = not latent.bounds and (not value.event or value.event[-1].isidentifier())
        return f" via {value.kind}" if named and self.choices.chance(50) else " via type"

    def _law(self, row: Distribution, shape: Event, plates: Plates) -> str:
        """A law over real coordinates of this shape, with params for what carries it."""
        # What a size counts is said by the plates where it is written.
        where = plates if shape and "size" in shape[0] else tuple(p for p in plates if self.choices.chance(70))
        loc = self.param("real", shape, where, prefix="m").name
        if self.choices.chance(60):
            loc += f" + {self.expressions.real(plates, ())}"
        given = {"loc": loc} if any(a.name == "loc" for a in row.forms[0].arguments) else {}
        if shape and not given:  # each coordinate has to be carried by something
            given = {a.name: f"{self.param('positive', shape[:-1], plates).name}" for a in row.forms[0].arguments[:1]}
        scale = next((a for a in row.forms[0].arguments if a.name == "scale" and a.type == "positive"), None)
        if scale is not None and given.get("loc"):
            given["scale"] = self.param("positive", self.choices.pick([shape, ()]), plates, prefix="s").name
        return self.families.call(row, shape, plates, given)

    def _free(self, latent: Latent) -> Event:
        """The shape of the unconstrained coordinates, as it is written."""
        value, row = latent.value, KINDS[latent.value.kind]
        if not row.rank:
            return value.event
        assert row.free is not None
        return (*value.event[: len(value.event) - row.rank], row.free(size_of(value.event[-1])).written)

    def _rows(self, latent: Latent) -> list[Distribution]:
        """Families with the latent's support, or a smaller one."""
        value, kind = latent.value, KINDS[latent.value.kind]
        if latent.bounds and not kind.discrete:
            return self._bounded(latent)
        if value.kind == "int" or value.target is not None:
            return [DISTRIBUTIONS[latent.family]] if latent.family in DISTRIBUTIONS else []
        own = [row for row in rows_over(value.kind) if not over(row).bounds and row.sums_to is None]
        if value.kind == "real" and value.event:
            own += [row for row in VECTORS if row.reparameterised]
        if kind.rank or kind.discrete:
            return own
        inside = [
            row for row in ROWS if element_wise(row) and not over(row).bounds and not KINDS[over(row).kind].discrete
        ]
        return own + [row for row in inside if range_of(row).within(kind.range, almost=True)]

    def _bounded(self, latent: Latent) -> list[Distribution]:
        """Families that take the latent's bounds as arguments, or have them."""
        rows = rows_over(latent.value.kind)
        if any(over(row).bounds == latent.bounds for row in rows):
            return [row for row in rows if over(row).bounds == latent.bounds]
        low = latent.bounds[0]
        above = low in ("1", "0.5") or low.startswith("d")
        fitting = [row for row in rows if named_bounds(row) and (above or row.forms[0].arguments[0].type != "positive")]
        return [row for row in fitting if carries(row) or not latent.value.event]

    def _direct(self, latent: Latent) -> None:
        """A family on the latent's own support."""
        value = latent.value
        given: dict[str, str] = {}
        if value.kind == "count" and self.choices.chance(15):
            self._draw(latent, self.families.composite("count", value.event, value.plates))
            return
        row = self.scope.family(self._rows(latent))
        if named_bounds(row) and not (value.kind == "int" and len(named_bounds(row)) == 1):
            given = dict(zip(named_bounds(row), latent.bounds, strict=True))
        elif named_bounds(row):
            given = {named_bounds(row)[0]: latent.bounds[-1]}
        if "K" in "".join(over(row).bounds):
            self._draw(latent, self._table(latent, row))
            return
        self._draw(latent, self.families.call(row, value.event, value.plates, given))

    def _table(self, latent: Latent, row: Distribution) -> str:
        """A family whose arguments have a dim that its values count."""
        target = latent.value.target
        dim = self.scope.plates.get(target, target) if target is not None else latent.bounds[1].removesuffix(" - 1")
        form = self.choices.pick(row.forms)
        letters = {"K": dim}
        texts = [f"{a.name} = {self.families.argument(a, letters, (), latent.value.plates)}" for a in form.arguments]
        return f"{row.name}({', '.join(texts)})"

    def _scan(self, latent: Latent) -> None:
        """A site of a scan, step by step."""
        value, carry = latent.value, self.scope.name("q")
        assert latent.steps is not None
        steps = latent.steps
        loc = self.param("real", (steps,), value.plates, prefix="m").name
        scale = self.param("positive", (steps,), self.scope.inside(0), prefix="s").name
        lean = self.choices.text("", " * t", f" * {self.expressions.leaf(value.plates, ())}")
        via = "" if value.kind == "real" else " via type"
        draw = f"{value.name} ~ Normal({loc}[t] + 0.3 * {carry}{lean}, {scale}[t]){via}"
        noise = ""
        if self.choices.chance(25):
            name = self.scope.name("e")
            noise = f"aux {name} : real ~ Normal(0.1 * {carry}, 1) "
            draw = draw.replace("[t] + ", f"[t] + 0.1 * {name} + ", 1)
        handed = value.name if value.kind == "real" else f"tanh({value.name})"
        scan = f"scan t in {steps} carry ({carry} : real = 0) {{ {noise}{draw} next {carry} = {handed} }}"
        self._put(self._again(value.plates), scan)

    def _aux(self) -> None:
        """Randomness of the guide's own."""
        kind = self.choices.pick(["real", "positive", "unit", "simplex", "bool"])
        plates, name = self.scope.inside(2), self.scope.name("e")
        event = (self.choices.text("K", "L"),) if KINDS[kind].rank else self.choices.pick([(), (), ("K",)])
        row = self.scope.family([row for row in rows_over(kind) if not over(row).bounds and not row.model_only])
        dist = self.families.call(row, event, plates)
        self._put(self._again(plates), f"aux {name} : {kind}{brackets(event)} ~ {dist}")
        self.scope.values = [*self.scope.values, Value(name, plates, event, kind, 2)]

    # Several at once

    def _joint(self, latents: list[Latent]) -> None:
        names = ", ".join(latent.value.name for latent in latents)
        plates = self._common(latents)
        size = f"size({names})"
        rows = [row for row in VECTORS if row.reparameterised and row.forms[0].arguments[0].name == "loc"]
        row = self.scope.family([*REAL_LINE, *rows * 3])
        text = self._law(row, (size,), plates) if row in REAL_LINE else self._joint_law(row, size, plates)
        self._put(self._again(plates), f"joint {names} ~ {text}")
        self._sampled(latents)

    def _joint_law(self, row: Distribution, size: str, plates: Plates) -> str:
        """A family on vectors, each argument a param, for nothing else has a length that is a sum of latents' sizes."""
        form = self.choices.pick(row.forms)
        texts = []
        for argument in form.arguments:
            kind, _, dims = argument.type.partition("[")
            event = tuple(size if letter.strip() == "K" else "2" for letter in dims.rstrip("]").split(",") if letter)
            event = event * 2 if KINDS[kind].square else event
            texts.append(f"{argument.name} = {self.param(kind, event, plates, prefix='m').name}")
        return f"{row.name}({', '.join(texts)})"

    def _common(self, latents: list[Latent]) -> Plates:
        """Plates for a joint statement: those of all latents, none or some of them, and all that are subsampled."""
        common = [plate for plate in latents[0].value.plates if all(plate in z.value.plates for z in latents)]
        subsampled = {plate for z in latents for plate in z.value.plates if plate in self.scope.batches}
        return tuple(plate for plate in common if plate in subsampled or self.choices.chance(50))

    # Automatic

    def _automatic(self) -> None:
        by_hand = [latent for latent in self.scope.latents if not latent.learnable]
        left = [latent for latent in self.scope.latents if latent.learnable]
        for latent in by_hand:
            if not latent.moving:
                self._direct(latent)
                self._sampled([latent])
        while left:
            chosen = left[: self.choices.number(1, len(left))]
            left = left[len(chosen) :]
            self._auto(chosen, rest=not left)

    def _auto(self, latents: list[Latent], rest: bool = False) -> None:
        """One of the families of automatic guides; in plates that all of the latents have, or outside."""
        self.autos += 1
        common = [plate for plate in latents[0].value.plates if all(plate in z.value.plates for z in latents)]
        inside = tuple(plate for plate in common if self.choices.chance(40)) if not rest else ()
        tied = any(plate in self.scope.batches and plate not in inside for z in latents for plate in z.value.plates)
        options = []
        for family in FAMILIES.values():
            if (
                family.sums_out
                or (family.joint and tied)
                or (family.whole and (self.autos > 1 or not rest or by_hand(self.scope)))
            ):
                continue
            if family.kept and (not self.kept or inside):
                continue
            if family.in_bounds and any(latent.moving for latent in latents):
                continue
            options.append(family)
        family = self.choices.pick(options)
        given = [f"{option.name} = {self.choices.pick(OPTIONS[option.name])}" for option in family.options]
        call = f"{family.name}({', '.join(given)})" if given else family.name
        names = "rest" if rest else ", ".join(latent.value.name for latent in latents)
        self._put(self._again(inside), f"auto {call} for {names}")
        self._sampled(latents)


def by_hand(scope: Scope) -> bool:
    """Whether some latent cannot be left to an auto."""
    return any(not latent.learnable for latent in scope.latents)


__all__ = ["COMPOSITE", "GuideWriter", "numeric", "s"]
