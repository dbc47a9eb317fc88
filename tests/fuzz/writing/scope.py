"""What a program has so far: plates, values to read, data, lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from fuzz.writing.choices import Choices
from fuzz.writing.samples import sample
from torch import Tensor

from guidedsl.backend.pyro.supports import CONSTRAINTS
from guidedsl.library.distributions import Distribution
from guidedsl.library.supports import KINDS
from guidedsl.sizes import Size

DIMS = {"K": 2, "L": 3}
PLATES = {"p": ("P", 3), "q": ("Q", 2), "r": ("R", 4)}
SIZES = {**DIMS, "K + 1": 3, **dict(PLATES.values())}
"""Event dims, as they are written, with the numbers that the data gives them. No dim is told by its number alone."""
DATA, PARAM, LATENT = 0, 1, 2

Plates = tuple[str, ...]
Event = tuple[str, ...]


def size_of(dim: str) -> Size:
    """A dim as the compiler's polynomial."""
    name, _, more = dim.partition(" + ")
    return Size.of(name) + Size.of(int(more or 0))


@dataclass(frozen=True)
class Value:
    """Something to read: `kind` is its type, `target` the plate or dim that an index points into.

    `plates` are in the order in which they were written, `stage` is the latest of what it is made of. Rows of a
    subsampled plate can be read from outside where they are `stored`.
    """

    name: str
    plates: Plates
    event: Event
    kind: str
    stage: int
    target: str | None = None
    stored: bool = False
    tame: bool = False
    of_scan: bool = False


@dataclass(frozen=True)
class Latent:
    """A latent with its type as written, and its bounds. It is `moving` where these read another latent."""

    value: Value
    type: str
    bounds: tuple[str, ...] = ()
    moving: bool = False
    steps: str | None = None
    family: str = ""

    @property
    def learnable(self) -> bool:
        """Whether its type has a bijection."""
        return KINDS[self.value.kind].free is not None


@dataclass(frozen=True)
class Read:
    """A value as it is read from some place: `name[g]`."""

    text: str
    event: Event
    value: Value
    stage: int


@dataclass
class Scope:
    """The state of a program that is being written, and of one guide."""

    choices: Choices
    plates: dict[str, str] = field(default_factory=dict)
    """The dim of each plate's size."""
    parents: dict[str, str] = field(default_factory=dict)
    """Plates that stand inside another one wherever they stand."""
    batches: dict[str, str] = field(default_factory=dict)
    """The rows a step of the subsampled plates."""
    declared: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    latents: list[Latent] = field(default_factory=list)
    data: dict[str, object] = field(default_factory=dict)
    gaps: set[str] = field(default_factory=set)
    """The observed values that are NaN in places."""
    lines: list[str] = field(default_factory=list)
    names: int = 0
    latest: int = LATENT
    """What may be read now: nothing of a later stage."""
    touched: int = DATA
    """The latest stage of what was read since this was set."""

    pyro: bool = False
    """Whether to take families that Pyro has, where there are some."""

    def family(self, rows: Sequence[Distribution], restricted: bool = False) -> Distribution:
        """One of these families; of those that a type restricts, with a distribution function."""
        known = [row for row in rows if row.pyro and (row.pyro_cdf or not restricted)]
        return self.choices.pick(known if known and self.pyro else rows)

    def kind(self, names: Sequence[str], *more: str) -> str:
        """One of these types; where Pyro is to know it, one that it has a constraint for, or one of `more`."""
        return self.choices.pick([name for name in names if not self.pyro or name in CONSTRAINTS or name in more])

    def name(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}{self.names}"

    @property
    def sizes(self) -> list[str]:
        """The event dims that the program has."""
        return [*DIMS, *DIMS, "K + 1", *self.plates.values()]

    # Reading

    @contextmanager
    def up_to(self, stage: int) -> Iterator[None]:
        """Reads nothing of a later stage meanwhile."""
        before, self.latest = self.latest, min(stage, self.latest)
        yield
        self.latest = before

    @contextmanager
    def only(self, values: list[Value]) -> Iterator[None]:
        """Reads these values meanwhile, and what is declared, which stays."""
        before, self.values = self.values, list(values)
        yield
        self.values = [*before, *(value for value in self.values if value not in values)]

    def read(self, options: list[Read]) -> Read:
        """One of these, which is noted."""
        found = self.choices.pick(options)
        self.touched = max(self.touched, found.stage)
        return found

    def readable(self, inside: Plates) -> list[Read]:
        """Every value that may be read from inside these plates, each in the ways that there are."""
        found = [read for value in self.values if value.kind != "index" for read in self._reads(value, inside)]
        return [read for read in found if read.stage <= self.latest]

    def _reads(self, value: Value, inside: Plates) -> list[Read]:
        """As this row, by a number, an index or an index of an index, or all rows."""
        outside = [plate for plate in self.declared if plate in value.plates and plate not in inside]
        if not outside:
            return [Read(value.name, value.event, value, value.stage)]
        if not value.stored and any(plate in self.batches for plate in outside):
            return []
        rows = [self._row(plate, inside, 2) for plate in outside]
        stage = max(value.stage, *(row[1] for row in rows))
        found = [Read(f"{value.name}[{', '.join(text for text, _ in rows)}]", value.event, value, stage)]
        if len(outside) == 1 and outside[0] in self.plates:
            event = (self.plates[outside[0]], *value.event)
            found.append(Read(f"{value.name}[:]", event, value, value.stage))
        return found

    def _row(self, plate: str, inside: Plates, depth: int) -> tuple[str, int]:
        """A row of a plate, and the stage of what picks it."""
        options = [("0", DATA)] * (not depth)
        for value in self.values:
            if value.target != plate or value.event or value.stage > self.latest:
                continue
            outside = [other for other in self.declared if other in value.plates and other not in inside]
            if not outside:
                options.append((value.name, value.stage))
            elif depth and (value.stored or not any(other in self.batches for other in outside)):
                rows = [self._row(other, inside, depth - 1) for other in outside]
                text = f"{value.name}[{', '.join(text for text, _ in rows)}]"
                options.append((text, max(value.stage, *(stage for _, stage in rows))))
        return self.choices.pick(options or [("0", DATA)])

    def positions(self, dim: str, inside: Plates) -> list[tuple[str, int]]:
        """Ways to pick an entry of an event axis."""
        rows = [(plate, DATA) for plate in inside if self.plates.get(plate) == dim]
        indices = [
            (value.name, value.stage)
            for value in self.values
            if value.kind == "index" and value.target == dim and not value.event and set(value.plates) <= set(inside)
            if value.stage <= self.latest
        ]
        return [("0", DATA), *rows, *rows, *indices, *indices]

    # Writing

    def inside(self, most: int = 3) -> Plates:
        """Plates for a statement, in the order in which they will be written."""
        chosen = list(self.choices.some(list(self.plates), most))
        for plate in reversed(list(self.plates)):
            parent = self.parents.get(plate)
            if plate in chosen and parent is not None and parent not in chosen:
                chosen.insert(chosen.index(plate), parent)
        return tuple(chosen)

    def put(self, plates: Plates, statement: str) -> None:
        """Write a model statement in plates, declaring those that are new."""
        items = []
        for plate in plates:
            new = plate not in self.declared
            batch = f" subsample({self.batches[plate]})" if plate in self.batches else ""
            items.append(f"{plate}[{self.plates[plate]}]{batch}" if new else plate)
            if new:
                self.declared.append(plate)
        self.lines.append(self.block(items, statement))

    def block(self, items: list[str], statement: str) -> str:
        if not items:
            return f"  {statement}"
        if len(items) > 1 and self.choices.chance(50):
            return f"  plate {items[0]} {{ {self.block(items[1:], statement).strip()} }}"
        return f"  plate {', '.join(items)} {{ {statement} }}"

    def array(
        self, kind: str, plates: Plates, event: Event, bounds: tuple[float, ...] = (), seed: int | None = None
    ) -> Tensor:
        """Data of a type for these plates, as they are written."""
        shape = (*(SIZES[self.plates[plate]] for plate in plates), *(SIZES[dim] for dim in event))
        return sample(kind, shape, self.names if seed is None else seed, bounds)

    def give(self, name: str, value: Tensor) -> None:
        self.data[name] = value.tolist()


def brackets(event: Event, square: bool = False) -> str:
    written = event[:-1] if square else event
    return f"[{', '.join(written)}]" if written else ""


def missing(value: Tensor, there: Tensor) -> Tensor:
    """Data with NaN where nothing is there; `there` has its shape, or that of its first axes."""
    mask = there.bool().reshape([*there.shape, *(1 for _ in range(value.dim() - there.dim()))])
    return value.double().masked_fill(~mask, math.nan)
