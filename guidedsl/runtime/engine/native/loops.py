"""The C text of a program: statements over the same space share their loops."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod

import torch

from guidedsl.runtime.engine.native.index import Index, Position, Shape, compact, offset, variables
from guidedsl.runtime.engine.native.roll import Output
from guidedsl.runtime.engine.native.values import (
    Called,
    Computed,
    Element,
    Literal,
    Program,
    Scattered,
    Seen,
    Statement,
    Stored,
    Value,
    c_type,
    literal,
)

START = {"sum": 0.0, "product": 1.0, "max": float("-inf"), "min": float("inf"), "any": 0.0, "all": 1.0}
JOINED = {
    "sum": "{0} += {1};",
    "product": "{0} *= {1};",
    "max": "{0} = {1} > {0} || {1} != {1} ? {1} : {0};",
    "min": "{0} = {1} < {0} || {1} != {1} ? {1} : {0};",
    "any": "{0} = {0} || {1};",
    "all": "{0} = {0} && {1};",
}
LONG = 500_000
"""Elements from which a loop is worth waking another thread for; computing one with a function counts as several."""
CALL = re.compile(r"[a-z]\w*\(")
CALL_COST = 8
CLAUSES = {"sum": "+", "product": "*", "max": "max", "min": "min", "any": "||", "all": "&&"}


def _axes(space: Shape) -> Position:
    """Loop variables named by their axis, for loops in an order of their own."""
    return tuple(Index() if size == 1 else Index.of(f"i{axis}", size) for axis, size in enumerate(space))


def _straight(statement: Statement) -> bool:
    """Whether each element is written once, at the position of the loop."""
    if not isinstance(statement, Computed) or statement.order:
        return False
    return not statement.combine or prod(statement.space) == 1


def _copy(value: Value) -> Element:
    return lambda at, read: read(value, at)


def _alone(statement: Statement) -> bool:
    """Whether it shares its loops with no other."""
    return not isinstance(statement, Computed) or bool(statement.order)


@dataclass
class Access:
    """A statement that another one reads; `aligned` where that is at the position of the loop."""

    value: Statement
    aligned: bool


@dataclass
class Nest:
    """Loops in one another and what stands where, from the outside in: around all, in each of the `parts` of the
    outermost loop that run beside one another, around the innermost loop, and within it."""

    parts: int = 1
    shared: list[str] = field(default_factory=list)
    part_before: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    last_before: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    last_after: list[str] = field(default_factory=list)
    part_after: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    clauses: list[str] = field(default_factory=list)
    """Of the pragma of the innermost loop."""
    simd: bool = True
    """Whether its elements do not follow from one another."""

    def lines(self, loops: Sequence[tuple[str, int]]) -> list[str]:
        """As C. `loops` are their variables and sizes."""
        own = [*self.part_before, *self.before]
        if not loops:
            return [*self.shared, *own, *self.inside, *self.part_after, *self.after]
        heads = [f"for (long {name} = 0; {name} < {size}; {name}++) {{" for name, size in loops]
        if self.parts > 1:
            name, size = loops[0]
            begin, end = f"part * {size} / {self.parts}", f"(part + 1) * {size} / {self.parts}"
            heads[0] = f"for (long {name} = {begin}; {name} < {end}; {name}++) {{"
        pragma = [f"#pragma omp simd {' '.join(self.clauses)}".rstrip()] if self.simd else []
        nest = [*heads[:-1], *self.last_before, *pragma, heads[-1], *self.inside, "}", *self.last_after]
        nest += ["}"] * (len(heads) - 1)
        if self.parts == 1:
            return [*self.shared, *own, *nest, *self.after]
        parallel = ["#pragma omp parallel for schedule(static)", f"for (long part = 0; part < {self.parts}; part++) {{"]
        return [*self.shared, *parallel, *own, *nest, *self.part_after, "}", *self.after]


@dataclass
class Group:
    """Statements that share loops over `space`."""

    space: Shape
    statements: list[Statement] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)


class Loops:
    """Orders the statements that `outputs` need, in groups, and writes them."""

    def __init__(self, program: Program, outputs: list[Output]) -> None:
        self.program = program
        self.targets: dict[int, Output] = {}
        ends: list[Statement] = []
        for output in outputs:
            end = self._whole(output)
            if end is None or end.number in self.targets:
                end = program.compute(output.value.shape, output.value.dtype, _copy(output.value))
            self.targets[end.number] = output
            ends.append(end)
        self._accesses: dict[int, list[Access]] = {}
        self.statements = self._needed(program, ends)
        self._uses = [int(number in self.targets) for number in range(len(program.statements))]
        for statement in self.statements:
            for access in self._accesses[statement.number]:
                self._uses[access.value.number] += 1
        self.groups = self._grouped()
        self.buffers: dict[int, Statement] = {}
        self.private: dict[int, tuple[torch.dtype, int]] = {}
        self.threads = 1
        self._group = Group(())

    # What reads what

    def _needed(self, program: Program, ends: list[Statement]) -> list[Statement]:
        waiting: list[Statement] = list(ends)
        while waiting:
            statement = waiting.pop()
            if statement.number in self._accesses:
                continue
            self._accesses[statement.number] = self._read_by(statement)
            waiting += [access.value for access in self._accesses[statement.number]]
        return [statement for statement in program.statements if statement.number in self._accesses]

    def _whole(self, output: Output) -> Statement | None:
        """The statement whose array has a value's elements in their order, and no others."""
        value, at = output.value, variables(output.value.shape)
        found = self.program.looked_at(value, at)
        if value.numel == 1 or output.stride != 1 or found is None:
            return None
        base, there = found
        same = base.numel == value.numel and offset(there, base.shape) == offset(at, value.shape)
        return base if same and isinstance(base, Statement) else None

    def _read_by(self, statement: Statement) -> list[Access]:
        here = offset(variables(statement.space), statement.space)
        beside = isinstance(statement, Computed)
        found: list[Access] = []
        for value, at in self.program.reads_of(statement):
            if isinstance(value, Statement):
                aligned = beside and _straight(value) and compact(value.space) == compact(statement.space)
                there = offset(at, value.shape) if aligned else here
                found.append(Access(value, aligned and (there.terms, there.const) == (here.terms, here.const)))
        return found

    # Order

    def _grouped(self) -> list[Group]:
        """Smaller spaces first, so that a long loop finds ready whatever can share it."""
        done: set[int] = set()
        waiting = list(self.statements)
        groups: list[Group] = []
        while waiting:
            ready = [s for s in waiting if all(a.value.number in done for a in self._accesses[s.number])]
            first = min(ready, key=lambda s: (prod(s.space), s.number))
            group = Group(compact(first.space))
            if _alone(first):
                group.statements.append(first)
                group.numbers.add(first.number)
            else:
                self._fill(group, waiting, done)
            done |= group.numbers
            waiting = [s for s in waiting if s.number not in group.numbers]
            groups.append(group)
        return groups

    def _fill(self, group: Group, waiting: list[Statement], done: set[int]) -> None:
        for statement in waiting:
            if _alone(statement) or compact(statement.space) != group.space:
                continue
            if all(
                a.value.number in done or (a.aligned and a.value.number in group.numbers)
                for a in self._accesses[statement.number]
            ):
                group.statements.append(statement)
                group.numbers.add(statement.number)

    # Text

    def _read(self, value: Value, at: Position) -> str:
        value = self.program.moved.get(value, value)
        if isinstance(value, Literal):
            return literal(value.number, value.dtype)
        if isinstance(value, Seen):
            return value.element(at, self._read)
        place = offset(at, value.shape)
        if isinstance(value, Stored):
            return f"{value.name}[{place.text}]"
        assert isinstance(value, Statement)
        if isinstance(value, Computed) and value.numel == 1 and value.combine != "running sum":
            return f"s{value.number}"
        if value.number in self._group.numbers:
            return f"v{value.number}"
        return f"{self.buffer(value)}[{place.text}]"

    def buffer(self, value: Statement) -> str:
        """The array of a statement's value; one that scatters into what nothing else reads takes that array over."""
        target = self.targets.get(value.number)
        if target is not None:
            return target.array
        if isinstance(value, Scattered):
            base = value.base
            if isinstance(base, Scattered) and self._uses[base.number] == 1:
                return self.buffer(base)
        self.buffers[value.number] = value
        return f"b{value.number}"

    def text(self, threads: int = 1) -> list[str]:
        """The lines of one evaluation, long loops in so many parts beside one another.

        Writing them once tells which values are read outside their loops.
        """
        self.threads = threads
        self._lines()
        return self._lines()

    def _lines(self) -> list[str]:
        lines: list[str] = []
        for group in self.groups:
            self._group = group
            first = group.statements[0]
            if isinstance(first, Called):
                lines += self._call(first)
            elif isinstance(first, Scattered):
                lines += self._scatter(first)
            elif first.combine == "running sum":
                lines += self._running(first)
            elif first.order:
                lines += self._product(first)
            else:
                lines += self._together(group)
        return lines

    def _together(self, group: Group) -> list[str]:
        at, space = variables(group.space), group.space
        read = {one.number: one.element(variables(one.space), self._read) for one in group.statements}  # type: ignore[union-attr]
        parts = self._parts(space, read.values())
        nest = Nest(parts)
        for statement in group.statements:
            assert isinstance(statement, Computed)
            name, text, c = statement.number, read[statement.number], c_type(statement.dtype)
            if not _straight(statement):
                self._reduce(statement, text, space, nest)
            elif statement.numel == 1:
                nest.inside.append(f"const {c} s{name} = {text};")
                if name in self.targets:
                    nest.inside.append(f"*{self.targets[name].array} = s{name};")
            else:
                nest.inside.append(f"const {c} v{name} = {text};")
                if name in self.targets or name in self.buffers:
                    stride = self.targets[name].stride if name in self.targets else 1
                    where = offset(at, space) * stride
                    nest.inside.append(f"{self.buffer(statement)}[{where.text}] = v{name};")
        return nest.lines(_loops(space))

    def _reduce(self, statement: Computed, text: str, space: Shape, nest: Nest) -> None:
        """A reduction among loops over `space`."""
        start, join = literal(START[statement.combine], statement.dtype), JOINED[statement.combine]
        name, c, sign = statement.number, c_type(statement.dtype), CLAUSES[statement.combine]
        if statement.numel == 1:
            wide = "double" if c == "float" else c  # torch adds in pairs, which loses as little
            nest.before.append(f"{wide} t{name} = {start};")
            nest.inside.append(join.format(f"t{name}", text))
            nest.clauses.append(f"reduction({sign}:t{name})")
            if nest.parts > 1:
                nest.shared.append(f"{wide} w{name}[{nest.parts}];")
                nest.part_after.append(f"w{name}[part] = t{name};")
                nest.after.append(f"{wide} t{name} = w{name}[0];")
                joined = join.format(f"t{name}", f"w{name}[part]")
                nest.after.append(f"for (long part = 1; part < {nest.parts}; part++) {joined}")
            nest.after.append(f"const {c} s{name} = t{name};")
            return
        at = variables(statement.space)
        place = offset([at[axis] for axis in statement.kept], statement.shape)
        array, numel = self.buffer(statement), statement.numel
        if nest.parts > 1 and not place.factor("i0"):
            # Each part adds up on its own, for the sum to be the same whoever is first.
            self.private[name] = statement.dtype, nest.parts * numel
            nest.part_before.append(f"{c} *restrict const p{name} = q{name} + part * {numel};")
            joined = join.format(f"{array}[k]", f"q{name}[part * {numel} + k]")
            nest.after.append(f"for (long k = 0; k < {numel}; k++) {array}[k] = q{name}[k];")
            nest.after.append(
                f"for (long part = 1; part < {nest.parts}; part++) for (long k = 0; k < {numel}; k++) {joined}"
            )
            array = f"p{name}"
            nest.part_before.append(f"for (long k = 0; k < {numel}; k++) {array}[k] = {start};")
        else:
            nest.shared.append(f"for (long k = 0; k < {numel}; k++) {array}[k] = {start};")
        if place.factor(f"i{len(space) - 1}") == 0:
            nest.last_before.append(f"{c} a{name} = {start};")
            nest.inside.append(join.format(f"a{name}", text))
            nest.last_after.append(join.format(f"{array}[{place.text}]", f"a{name}"))
            nest.clauses.append(f"reduction({sign}:a{name})")
        else:
            nest.inside.append(join.format(f"{array}[{place.text}]", text))

    def _parts(self, space: Shape, texts: Iterable[str]) -> int:
        """How many parts of the outermost loop run beside one another."""
        calls = sum(len(CALL.findall(text)) for text in texts)
        long = prod(space) * (1 + CALL_COST * calls) >= LONG
        return min(self.threads, space[0]) if space and long else 1

    def _product(self, statement: Computed) -> list[str]:
        text = statement.element(_axes(statement.space), self._read)
        start, join = literal(START[statement.combine], statement.dtype), JOINED[statement.combine]
        c, inner = c_type(statement.dtype), len(statement.space) - 1
        place = offset(_axes(statement.shape), statement.shape)
        order = [axis for axis in statement.order if statement.space[axis] != 1]
        loops = [(f"i{n}", statement.space[n]) for n in order]
        if statement.numel == 1:
            name = f"s{statement.number}"
            nest = Nest(1, shared=[f"{c} {name} = {start};"], inside=[join.format(name, text)])
            nest.clauses.append(f"reduction(+:{name})")
            if statement.number in self.targets:
                nest.after.append(f"*{self.targets[statement.number].array} = {name};")
            return nest.lines(loops)
        buffer, name = self.buffer(statement), f"a{statement.number}"
        own_rows = bool(order) and order[0] != inner
        nest = Nest(self._parts(tuple(statement.space[n] for n in order), [text]) if own_rows else 1)
        nest.shared.append(f"for (long k = 0; k < {statement.numel}; k++) {buffer}[k] = {start};")
        if order and order[-1] == inner:
            nest.last_before.append(f"{c} {name} = {start};")
            nest.inside.append(join.format(name, text))
            nest.last_after.append(join.format(f"{buffer}[{place.text}]", name))
            nest.clauses.append(f"reduction(+:{name})")
        else:
            nest.inside.append(join.format(f"{buffer}[{place.text}]", text))
        return nest.lines(loops)

    def _matrix(self, value: Value) -> str:
        """The matrix that a call is about: that of the batch's row k."""
        if isinstance(value, Stored):
            return value.name
        if value.numel == 1 and isinstance(value, Computed):
            return f"&s{value.number}"
        assert isinstance(value, Statement)
        return f"{self.buffer(value)} + k * {prod(value.shape[-2:])}"

    def _call(self, statement: Called) -> list[str]:
        arrays = [self._matrix(array) for array in statement.arrays]
        text = statement.call.format(*arrays, out=self._matrix(statement), c=c_type(statement.dtype))
        return [f"for (long k = 0; k < {prod(statement.shape[:-2])}; k++) {text}"]

    def _running(self, statement: Computed) -> list[str]:
        text = statement.element(_axes(statement.space), self._read)
        name, buffer = f"a{statement.number}", self.buffer(statement)
        at = _axes(statement.shape)
        order = [axis for axis in statement.order if statement.space[axis] != 1]
        loops = [(f"i{n}", statement.space[n]) for n in order]
        inside = [f"{name} += {text};", f"{buffer}[{offset(at, statement.shape).text}] = {name};"]
        clear = [f"{c_type(statement.dtype)} {name} = 0;"]
        if statement.space[statement.order[-1]] == 1:  # nothing to add up
            return Nest(inside=[*clear, *inside], simd=False).lines(loops)
        return Nest(last_before=clear, inside=inside, simd=False).lines(loops)

    def _scatter(self, statement: Scattered) -> list[str]:
        buffer = self.buffer(statement)
        base = statement.base
        lines: list[str] = []
        if not (isinstance(base, Scattered) and self.buffer(base) == buffer):
            at = variables(statement.shape)
            copied = f"{buffer}[{offset(at, statement.shape).text}] = {self._read(base, at)};"
            lines += Nest(inside=[copied]).lines(_loops(statement.shape))
        at = variables(statement.space)
        text = statement.element(at, self._read)
        place = offset(statement.place(at, self._read), statement.shape).text
        sign = "+=" if statement.adds else "="
        return lines + Nest(inside=[f"{buffer}[{place}] {sign} {text};"], simd=False).lines(_loops(statement.space))


def _loops(space: Shape) -> list[tuple[str, int]]:
    """The variables of `variables`, with their sizes."""
    return [(f"i{n}", size) for n, size in enumerate(compact(space))]
