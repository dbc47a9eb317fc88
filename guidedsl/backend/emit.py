"""Typed expressions as Python text.

A tensor's axes are `particles..., plates..., event...`; every emitted operation indexes from the right. `aligned`
gives an expression the axes of its target by `[..., None]`, which is the only broadcasting that generated code needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from guidedsl import ir
from guidedsl.backend.code import (
    ATOM,
    COMPARE,
    POWER,
    PRODUCT,
    SUM,
    UNARY,
    Code,
    axes,
    chain,
    indexed,
    new_axes,
    number,
)
from guidedsl.backend.distributions import log_prob
from guidedsl.backend.names import data_attribute, extern_name
from guidedsl.backend.rows import picked
from guidedsl.check.indexing import step_offset
from guidedsl.check.shapes import NEW, offset
from guidedsl.check.signatures import read
from guidedsl.check.walk import variables
from guidedsl.ir import Bounds, Stage, Type
from guidedsl.library.supports import Support, free_shape
from guidedsl.sizes import Size


class Emitter:
    """Emits expressions of one model or guide.

    `local` spells the variables of the function; `full` reads data with all rows, for what is made once; `whole` says
    that the data at hand has all rows. `named` are sizes that the function has a variable for; `all_rows` has, by
    param, the variable that holds every row of it. `spelled` are values that stand for something else here, as in a
    scan; there some have particle axes at some steps only (`uneven`), so that what is stacked is broadcast first.
    """

    def __init__(
        self, plates: Mapping[str, ir.Plate], local: Callable[[str], str], *, full: bool = False, whole: bool = False
    ) -> None:
        self.plates = plates
        self.local = local
        self.full = full
        self.whole = whole
        self.dims: set[str] = set()
        self.callees: dict[str, ir.Callee] = {}
        self.named: dict[Size, str] = {}
        self.init_shape = "()"
        self.all_rows: Mapping[str, str] = {}
        self.spelled: Mapping[str, str] = {}
        self.uneven = False

    def inside(self, spelled: Mapping[str, str], axis: ir.Plate | None = None) -> Emitter:
        """An emitter for the steps of a scan, or, with their axis, for all of them at once."""
        plates = dict(self.plates) if axis is None else {**self.plates, axis.name: axis}
        inner = type(self)(plates, self.local, full=self.full, whole=self.whole)
        inner.dims, inner.callees, inner.named, inner.all_rows = self.dims, self.callees, self.named, self.all_rows
        inner.spelled, inner.uneven = {**self.spelled, **spelled}, True
        return inner

    def of_all_rows(self) -> Emitter:
        """An emitter for what is stored: it reads data with all rows."""
        whole = type(self)(self.plates, self.local, full=True)
        whole.named = self.named
        return whole

    # Sizes

    def size(self, size: Size) -> str:
        if size == NEW:
            return "1"
        if size in self.named:
            return self.named[size]
        self.dims |= size.names
        return size.render(self.local)

    def length(self, plate: str) -> str:
        """The rows of a plate in this step."""
        if self.plates[plate].batching is not None and not self.full:
            return f"data.{data_attribute(plate)}.length"
        return self.size(self.plates[plate].size)

    def shape(self, plates: Sequence[str], event: Sequence[Size], *, particles: bool = False) -> str:
        """A tuple display: `(*particles, J, K)`."""
        parts = [*(self.length(plate) for plate in plates), *(self.size(size) for size in event)]
        if particles:
            return f"(*particles, {', '.join(parts)})" if parts else "particles"
        return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"

    def stored_shape(self, plates: Sequence[str], event: Sequence[Size]) -> str:
        """The shape of a parameter in the store: every row of its plates."""
        parts = [*(self.size(self.plates[plate].size) for plate in plates), *(self.size(size) for size in event)]
        return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"

    # Tensors that are made here

    def filled(self, shape: str, value: str) -> str:
        """A tensor of that shape, all of one value."""
        return f"data.new_full({shape}, {value})"

    def repeated(self, shape: str, value: str) -> str:
        """A tensor of that shape with the entries of one that broadcasts to it."""
        return self.filled(shape, value)

    def constant(self, values: str) -> str:
        """Numbers, or nested lists of them, as a tensor."""
        return f"data.new_tensor({values})"

    def indicator(self, condition: str) -> str:
        """A comparison as 0 and 1."""
        return f"fn.indicator({condition}, data)"

    def step_numbers(self, count: Size) -> str:
        """0, 1, … of the steps of a scan."""
        return f"fn.steps({self.size(count)}, data)"

    def field(self, name: str) -> str:
        """The data of a name at the rows of this step."""
        return f"data{'.full' if self.full else ''}.{data_attribute(name)}"

    # Alignment

    def present(self, own: Sequence[str], plates: Sequence[str]) -> list[bool]:
        """Which of the axes that `plates` have a value with the axes `own` has."""
        return [plate in own for plate in plates]

    def aligned(self, expr: ir.Expr, plates: Sequence[str], rank: int) -> Code:
        """`expr` with axes for `plates` and `rank` event dims, those that it lacks of size 1."""
        code, type = self.emit(expr), expr.type
        if type.number:
            return code
        own = len(type.event)
        slots = [*self.present(type.plates, plates), *[False] * (rank - own), *[True] * own]
        return indexed(code, new_axes(slots, type.stage))

    def lifted(self, code: Code, stage: Stage, own: Sequence[str], plates: Sequence[str]) -> Code:
        """`code`, a value with the axes `own`, with those of `plates` that it lacks of size 1."""
        return indexed(code, new_axes(self.present(own, plates), stage))

    def materialised(self, expr: ir.Expr, plates: Sequence[str], event: Sequence[Size]) -> Code:
        """`expr` with every axis at full size, so that it can be indexed and summed."""
        code = self.aligned(expr, plates, len(event))
        if expr.type.number and (plates or event):
            return Code(self.filled(self.shape(plates, event), code.text))
        if tuple(expr.type.plates) == tuple(plates) and expr.type.event == tuple(event):
            return code
        return Code(f"fn.expand({code.text}, {self.shape(plates, event)})")

    def tensor(self, expr: ir.Expr, plates: Sequence[str], event: Sequence[Size]) -> str:
        """`expr` with every axis at full size, a tensor even where it is one number."""
        text = self.materialised(expr, plates, event).text
        return self.filled("()", text) if expr.type.number and not plates and not event else text

    # Expressions

    def emit(self, expr: ir.Expr) -> Code:
        match expr:
            case ir.Const():
                return _number(expr.value)
            case ir.DimValue():
                text = self.size(expr.size)
                return Code(text, ATOM if text.isidentifier() or text.isdigit() else SUM)
            case ir.Var():
                return Code(self._variable(expr))
            case ir.Chain():
                return self._chain(expr)
            case ir.Negative():
                return Code(f"-{self.emit(expr.operand).at(UNARY)}", UNARY)
            case ir.Power():
                return self._power(expr)
            case ir.Compare() if expr.type.number and _reads_step(expr):
                return Code(self.indicator(self._condition(expr)))
            case ir.Compare():
                left = self.aligned(expr.left, expr.type.plates, len(expr.type.event)).at(SUM)
                right = self.aligned(expr.right, expr.type.plates, len(expr.type.event)).at(SUM)
                return Code(self.indicator(f"{left} {expr.operator} {right}"))
            case ir.MatMul():
                return self._matmul(expr)
            case ir.Apply():
                return self._apply(expr)
            case ir.Gather() | ir.AllRows() | ir.RowOf() | ir.Subscript():
                return self._picked(expr)
            case ir.Stack():
                return self._stack(expr)
            case ir.Concat():
                return self._concat(expr)
            case ir.LogProb():
                return self._log_prob(expr)
            case ir.LogTable():
                dist = expr.dist
                arguments = self.arguments(dist, expr.type.plates, 0)
                return Code(f"dist.{dist.form.runtime}.log_table({', '.join(arguments)})")
            case ir.Free():
                return self._free(expr)
            case ir.Call():
                return self._call(expr)
            case ir.Output():
                return Code(f"{self.emit(expr.call).text}[{expr.position}]")

    def _variable(self, var: ir.Var) -> str:
        if var.name in self.spelled:
            return self.spelled[var.name]
        if var.role in ("data", "observed", "derived"):
            return self.field(var.name)
        return self.local(var.name)

    def _picked(self, expr: ir.Gather | ir.AllRows | ir.RowOf | ir.Subscript) -> Code:
        return picked(self, expr)

    def _operand(self, expr: ir.Expr, type: Type) -> Code:
        return self._computed(expr, self.aligned(expr, type.plates, len(type.event)))

    def _computed(self, expr: ir.Expr, code: Code) -> Code:
        """Code to compute with. Row numbers are integers, which torch multiplies with numbers in single precision."""
        if expr.type.support.target is None or expr.type.number:
            return code
        return Code(f"{code.at(ATOM)}.to(data.dtype)")

    def _chain(self, expr: ir.Chain) -> Code:
        additive = expr.terms[-1][0] in "+-"
        level = SUM if additive else PRODUCT
        texts: list[str] = []
        for position, (operator, operand) in enumerate(expr.terms):
            strict = position > 0 and operator in "-/"
            code = self._operand(operand, expr.type)
            texts.append(code.at(level + 1 if strict or (position and code.level == level) else level))
        operators = [operator for operator, _ in expr.terms]
        return Code(chain(texts, operators), level)

    def _power(self, expr: ir.Power) -> Code:
        base, exponent = self._operand(expr.base, expr.type), self._operand(expr.exponent, expr.type)
        value = expr.exponent.type.value
        power = exponent.at(UNARY) if value is None or value != int(value) else str(int(value))
        return Code(f"{base.at(ATOM)} ** {power}", POWER)

    def _matmul(self, expr: ir.MatMul) -> Code:
        left, right = expr.left, expr.right
        a, b = len(left.type.event), len(right.type.event)
        if a == 2 and b == 2:
            x = self.aligned(left, expr.type.plates, 2).at(PRODUCT)
            return Code(f"{x} @ {self.aligned(right, expr.type.plates, 2).at(UNARY)}", PRODUCT)
        plates = expr.type.plates
        rows = self.aligned(left, plates, a).text if a == 2 else ""
        if a == 2:
            return Code(f"fn.matvec({rows}, {self.aligned(right, plates, 1).text})")
        if b == 2:
            vector, matrix = self.aligned(left, plates, 1).text, self.aligned(right, plates, 2).text
            return Code(f"fn.vecmat({vector}, {matrix})")
        return self._dot(left, right, plates)

    def _dot(self, left: ir.Expr, right: ir.Expr, plates: Sequence[str]) -> Code:
        """A dot product a row; data rows against one vector are a matrix product."""
        for rows, vector in ((left, right), (right, left)):
            if len(rows.type.plates) == 1 and not vector.type.plates and rows.type.stage < Stage.LATENT:
                return Code(f"fn.matvec({self.emit(rows).text}, {self.emit(vector).text})")
        x, y = self.aligned(left, plates, 1).text, self.aligned(right, plates, 1).text
        return Code(f"fn.dot({x}, {y})")

    def _apply(self, expr: ir.Apply) -> Code:
        function = expr.function
        match function.shape:
            case "elementwise":
                if function.name == "where" and expr.arguments[0].type.number and _reads_step(expr.arguments[0]):
                    return self._either(expr)
                if expr.type.number:
                    name, values = function.number_code, [self.emit(a).text for a in expr.arguments]
                    return Code(f"{name}({', '.join(values)})")
                numbers = all(argument.type.number for argument in expr.arguments)
                plain = len(expr.arguments) > 1 and function.code.startswith("fn.")
                plain = plain and (not numbers or function.name == "where")
                operands = [(self._operand(a, expr.type).text, a) for a in expr.arguments]
                values = [text if plain else self.as_tensor(text, a) for text, a in operands]
                return Code(f"{function.code}({', '.join(values)})")
            case "signature":
                return self._signed(expr)
            case "construct":
                return self._construct(expr)
            case "lags":
                return Code(function.code.format(x=self.emit(expr.arguments[0]).text, sizes=self.size(expr.sizes[0])))
            case _:
                x = self._computed(expr.arguments[0], self.emit(expr.arguments[0]))
                event = len(expr.arguments[0].type.event)
                over = str(expr.axis) if expr.axis is not None else axes(event)
                level = ATOM if function.code.startswith("{x}.") else COMPARE
                return Code(function.code.format(x=x.at(level), axes=over))

    def _condition(self, expr: ir.Compare) -> str:
        """A comparison of a step's number, as Python decides it."""
        sides = [
            self.whole_number(side) if (side.type.value or 0.0).is_integer() else self.emit(side).text
            for side in (expr.left, expr.right)
        ]
        return f"{sides[0]} {expr.operator} {sides[1]}"

    def _either(self, expr: ir.Apply) -> Code:
        """One of two values by the number of the step: only that one is computed."""
        condition, yes, no = expr.arguments
        test = self._condition(condition) if isinstance(condition, ir.Compare) else self.emit(condition).text
        if expr.type.number:
            return Code(f"({self.emit(yes).text} if {test} else {self.emit(no).text})")
        values = [self.tensor(value, expr.type.plates, expr.type.event) for value in (yes, no)]
        return Code(f"({values[0]} if {test} else {values[1]})")

    def as_tensor(self, text: str, expr: ir.Expr) -> str:
        """torch's functions do not take numbers."""
        return self.constant(text) if expr.type.number else text

    def _signed(self, expr: ir.Apply) -> Code:
        function = expr.function
        if function.name == "dot":
            return self._dot(expr.arguments[0], expr.arguments[1], expr.type.plates)
        values = [self.aligned(argument, expr.type.plates, len(argument.type.event)) for argument in expr.arguments]
        if all(argument.type.number for argument in expr.arguments):
            values[0] = Code(self.constant(values[0].text))
        level = ATOM if function.code.startswith(("{0}.", "(")) else COMPARE
        return Code(function.code.format(*(value.at(level) for value in values)))

    def _construct(self, expr: ir.Apply) -> Code:
        function = expr.function
        match function.name:
            case "normal":
                a, b = (self.emit(argument).text for argument in expr.arguments)
                return Code(f"data.new_normal({self.init_shape}, {a}, {b})")
            case "full":
                return self._full(expr)
        sizes = ", ".join(self.size(size) for size in expr.sizes)
        tuple_of_one = len(expr.sizes) == 1 and "({sizes})," in function.code
        return Code(function.code.format(sizes=f"{sizes}," if tuple_of_one else sizes))

    def _full(self, expr: ir.Apply) -> Code:
        value = expr.arguments[0]
        event = (*expr.sizes, *value.type.event)
        if value.type.number:
            return Code(self.filled(self.shape((), event), self.emit(value).text))
        slots = [
            *self.present(value.type.plates, value.type.plates),
            *[False] * len(expr.sizes),
            *[True] * len(value.type.event),
        ]
        inner = indexed(self.emit(value), new_axes(slots, Stage.LATENT))
        return Code(f"fn.expand({inner.text}, {self.shape(value.type.plates, event)})")

    def whole_number(self, expr: ir.Expr) -> str:
        value = expr.type.value
        if value is not None:
            return number(value, whole=True)
        offset = step_offset(expr)
        if offset is None or offset.constant == 0:
            return self.emit(expr).text
        step = next(var for var in variables(expr) if var.role == "step")
        return f"{self._variable(step)} + {self.size(offset)}"

    def _stack(self, expr: ir.Stack) -> Code:
        if expr.type.stage <= Stage.DATA and _literal(expr):
            return Code(self.constant(self._literal_rows(expr)))
        rank = len(expr.type.event) - 1
        parts = [self.as_tensor(self.aligned(item, expr.type.plates, rank).text, item) for item in expr.items]
        kinds = {(_random(item), item.type.plates, item.type.event, item.type.number) for item in expr.items}
        if len(kinds) == 1 and not self.uneven:
            return Code(f"torch.stack(({', '.join(parts)}{',' if len(parts) == 1 else ''}), {-1 - rank})")
        return Code(f"fn.stack(({', '.join(parts)}{',' if len(parts) == 1 else ''}), {-1 - rank})")

    def _concat(self, expr: ir.Concat) -> Code:
        parts = [self.aligned(part, expr.type.plates, 1).text for part in expr.parts]
        comma = "," if len(parts) == 1 else ""
        if len({(_random(part), part.type.plates) for part in expr.parts}) == 1 and not self.uneven:
            return Code(f"torch.cat(({', '.join(parts)}{comma}), -1)")
        return Code(f"fn.concat(({', '.join(parts)}{comma}))")

    def _call(self, expr: ir.Call) -> Code:
        callee, plates = expr.callee, expr.type.plates
        self.callees[callee.name] = callee
        extern = callee.kind == "extern"
        arguments = ["data"] if extern else []
        for argument in expr.arguments:
            arguments.append(self.as_tensor(self.aligned(argument, plates, len(argument.type.event)).text, argument))
        name = extern_name(callee.name) if extern else self.local(callee.name)
        return Code(f"{name}({', '.join(arguments)})")

    def _literal_rows(self, expr: ir.Expr) -> str:
        if isinstance(expr, ir.Stack):
            return f"[{', '.join(self._literal_rows(item) for item in expr.items)}]"
        return self.emit(expr).text

    # Distributions

    def arguments(self, dist: ir.Dist, plates: Sequence[str], batch: int) -> list[str]:
        """A distribution's arguments aligned with `plates` and `batch` event dims in front of the family's own."""
        return [
            (
                self._full_vector(argument, row.type, dist)
                if rank and argument.type.number
                else self._computed(argument, self.aligned(argument, plates, batch + rank)).text
            )
            for row, argument, rank in zip(dist.form.values, dist.arguments, dist.ranks, strict=True)
        ]

    def _full_vector(self, value: ir.Expr, notation: str, dist: ir.Dist) -> str:
        """A number that stands for every entry of a vector argument."""
        letters = dict(
            zip(read(dist.row.support).dims, dist.type.event[len(dist.type.event) - dist.own :], strict=True)
        )
        size = offset(read(notation).dims[-1], letters)
        return self.filled(self.shape((), (size,)), self.emit(value).text)

    def _log_prob(self, expr: ir.LogProb) -> Code:
        dist, plates = expr.dist, expr.type.plates
        batch = len(expr.type.event)
        value = self.as_tensor(self.aligned(expr.value, plates, batch + dist.own).text, expr.value)
        return log_prob(self, dist, Code(value), expr.value.type.support, plates, batch)

    def _free(self, expr: ir.Free) -> Code:
        latent = expr.latent
        rank = len(expr.base.type.event)
        constraint = self.constraint(latent.type.support, latent.bounds, None, latent.plates, rank)
        coordinates = f"{constraint}.free({self.emit(expr.base).text})"
        rank = len(free_shape(latent.type.support, latent.type.event) or ())
        if rank == 1:
            return Code(coordinates)
        return Code(f"{coordinates}[..., None]" if rank == 0 else f"{coordinates}.flatten({-rank})")

    def constraint(
        self, support: Support, bounds: Bounds, transform: str | None, plates: Sequence[str] = (), rank: int = 0
    ) -> str:
        """The runtime constraint of a type."""
        row = support.row
        name = row.constraint or row.name
        via = f'.via("{transform}")' if transform is not None else ""
        if support.target is not None:
            return "constraints.count"
        given = [bound for bound in (bounds.low, bounds.high) if bound is not None]
        if not given:
            return f"constraints.{name}{via}"
        if row.discrete:
            texts = [self.whole_number(b) if b.type.number else self.aligned(b, plates, rank).text for b in given]
            return f"constraints.integer_interval({', '.join(texts)})"
        texts = [self.aligned(bound, plates, rank).text for bound in given]
        return f"constraints.{name}({', '.join(texts)}){via}"


def at(text: str, position: str, rank: int) -> str:
    """One entry of the axis in front of `rank` event axes."""
    return indexed(Code(text), [position, *[":"] * rank]).text


def _number(value: float) -> Code:
    return Code(number(value), UNARY if value < 0 else ATOM)


def _reads_step(expr: ir.Expr) -> bool:
    return any(var.role == "step" for var in variables(expr))


def _random(expr: ir.Expr) -> bool:
    """Whether a value has particle axes."""
    return expr.type.stage is Stage.LATENT


def _literal(expr: ir.Expr) -> bool:
    if isinstance(expr, ir.Stack):
        return all(_literal(item) for item in expr.items)
    return expr.type.number
