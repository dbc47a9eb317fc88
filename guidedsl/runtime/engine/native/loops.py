"""The C text of a program: statements over the same space share their loops."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

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

    def text(self) -> list[str]:
        """The lines of one evaluation. Writing them once tells which values are read outside their loops."""
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
        before: list[str] = []
        inside: list[str] = []
        last_before: list[str] = []
        last_after: list[str] = []
        clauses: list[str] = []
        after: list[str] = []
        for statement in group.statements:
            assert isinstance(statement, Computed)
            text = statement.element(variables(statement.space), self._read)
            name, c = statement.number, c_type(statement.dtype)
            if _straight(statement):
                if statement.numel == 1:
                    inside.append(f"const {c} s{name} = {text};")
                    if name in self.targets:
                        inside.append(f"*{self.targets[name].array} = s{name};")
                    continue
                inside.append(f"const {c} v{name} = {text};")
                if name in self.targets or name in self.buffers:
                    stride = self.targets[name].stride if name in self.targets else 1
                    where = offset(variables(group.space), group.space) * stride
                    inside.append(f"{self.buffer(statement)}[{where.text}] = v{name};")
                continue
            start, join = literal(START[statement.combine], statement.dtype), JOINED[statement.combine]
            if statement.numel == 1:
                wide = "double" if c == "float" else c  # torch adds in pairs, which loses as little
                before.append(f"{wide} t{name} = {start};")
                inside.append(join.format(f"t{name}", text))
                clauses.append(f"reduction({CLAUSES[statement.combine]}:t{name})")
                after.append(f"const {c} s{name} = t{name};")
                continue
            buffer = self.buffer(statement)
            before.append(f"for (long k = 0; k < {statement.numel}; k++) {buffer}[k] = {start};")
            at = variables(statement.space)
            place = offset([at[axis] for axis in statement.kept], statement.shape)
            if place.factor(f"i{len(group.space) - 1}") == 0:
                last_before.append(f"{c} a{name} = {start};")
                inside.append(join.format(f"a{name}", text))
                last_after.append(join.format(f"{buffer}[{place.text}]", f"a{name}"))
                clauses.append(f"reduction({CLAUSES[statement.combine]}:a{name})")
            else:
                inside.append(join.format(f"{buffer}[{place.text}]", text))
        pragma = f"#pragma omp simd {' '.join(clauses)}".rstrip()
        loops = [f"for (long i{n} = 0; i{n} < {size}; i{n}++)" for n, size in enumerate(group.space)]
        return [*before, *_nest(loops, inside, last_before, last_after, pragma), *after]

    def _product(self, statement: Computed) -> list[str]:
        text = statement.element(_axes(statement.space), self._read)
        start, join = literal(START[statement.combine], statement.dtype), JOINED[statement.combine]
        c, inner = c_type(statement.dtype), len(statement.space) - 1
        place = offset(_axes(statement.shape), statement.shape)
        order = [axis for axis in statement.order if statement.space[axis] != 1]
        loops = [f"for (long i{n} = 0; i{n} < {statement.space[n]}; i{n}++)" for n in order]
        if statement.numel == 1:
            name = f"s{statement.number}"
            lines = [f"{c} {name} = {start};"]
            lines += _nest(loops, [join.format(name, text)], [], [], f"#pragma omp simd reduction(+:{name})")
            if statement.number in self.targets:
                lines.append(f"*{self.targets[statement.number].array} = {name};")
            return lines
        buffer = self.buffer(statement)
        clear = f"for (long k = 0; k < {statement.numel}; k++) {buffer}[k] = {start};"
        name = f"a{statement.number}"
        if order and order[-1] == inner:
            after = [join.format(f"{buffer}[{place.text}]", name)]
            pragma = f"#pragma omp simd reduction(+:{name})"
            return [clear, *_nest(loops, [join.format(name, text)], [f"{c} {name} = {start};"], after, pragma)]
        return [clear, *_nest(loops, [join.format(f"{buffer}[{place.text}]", text)], [], [], "#pragma omp simd")]

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
        loops = [f"for (long i{n} = 0; i{n} < {statement.space[n]}; i{n}++)" for n in order]
        inside = [f"{name} += {text};", f"{buffer}[{offset(at, statement.shape).text}] = {name};"]
        if statement.space[statement.order[-1]] == 1:  # nothing to add up
            return _nest(loops, [f"{c_type(statement.dtype)} {name} = 0;", *inside], [], [], "")
        return _nest(loops, inside, [f"{c_type(statement.dtype)} {name} = 0;"], [], "")

    def _scatter(self, statement: Scattered) -> list[str]:
        buffer = self.buffer(statement)
        base = statement.base
        lines: list[str] = []
        if not (isinstance(base, Scattered) and self.buffer(base) == buffer):
            at = variables(statement.shape)
            loops = [f"for (long i{n} = 0; i{n} < {size}; i{n}++)" for n, size in enumerate(compact(statement.shape))]
            copied = f"{buffer}[{offset(at, statement.shape).text}] = {self._read(base, at)};"
            lines += _nest(loops, [copied], [], [], "")
        at = variables(statement.space)
        text = statement.element(at, self._read)
        place = offset(statement.place(at, self._read), statement.shape).text
        loops = [f"for (long i{n} = 0; i{n} < {size}; i{n}++)" for n, size in enumerate(compact(statement.space))]
        sign = "+=" if statement.adds else "="
        return [*lines, *_nest(loops, [f"{buffer}[{place}] {sign} {text};"], [], [], "")]


def _nest(loops: list[str], inside: list[str], before: list[str], after: list[str], pragma: str) -> list[str]:
    """Loops in one another; `before` and `after` stand around the innermost, which has the pragma."""
    if not loops:
        return [*before, *inside, *after]
    lines = [f"{loop} {{" for loop in loops[:-1]]
    lines += [*before, *([pragma] if pragma else []), f"{loops[-1]} {{", *inside, "}", *after]
    return lines + ["}"] * (len(loops) - 1)
