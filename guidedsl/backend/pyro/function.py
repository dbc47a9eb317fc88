"""What models and guides have in common in Pyro: the arguments, the data at hand, plates and params."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import indent

from guidedsl import errors, ir
from guidedsl.backend.code import number
from guidedsl.backend.names import Locals, local_name
from guidedsl.backend.nets import net_dims
from guidedsl.backend.pyro.emit import PyroEmitter
from guidedsl.backend.pyro.layout import Slots
from guidedsl.backend.pyro.refusal import Inexpressible
from guidedsl.backend.pyro.supports import default_value
from guidedsl.backend.scans import data_of_steps
from guidedsl.backend.statements import Statement, initial_value, let_value, param_reads, stored_constraint
from guidedsl.check.shapes import NEW
from guidedsl.diagnostics import Diagnostic
from guidedsl.sizes import Size
from guidedsl.source import Span


@dataclass(frozen=True)
class Argument:
    """An argument of a generated function; `default` is empty where there is none, `named` ones go by name only."""

    name: str
    default: str
    doc: str
    named: bool


@dataclass(frozen=True)
class FunctionContext:
    """A model or a guide as one function."""

    name: str
    doc: str
    arguments: tuple[Argument, ...]
    body: tuple[str, ...]

    @property
    def signature(self) -> str:
        """`x, y=None, *, K`."""
        placed = [a for a in self.arguments if not a.named]
        named = [a for a in self.arguments if a.named]
        texts = [f"{a.name}={a.default}" if a.default else a.name for a in placed]
        texts += ["*"] if named else []
        texts += [f"{a.name}={a.default}" if a.default else a.name for a in named]
        return ", ".join(texts)


class FunctionWriter:
    """Writes a function: statements with the plates that each stands in, put into `with` blocks at the end.

    `classes` are those of the generated nets, by the names of the nets' weights.
    """

    def __init__(
        self, model: ir.Model, slots: Slots, names: Locals, classes: Mapping[str, str], found: list[Diagnostic]
    ) -> None:
        self.model = model
        self.classes = classes
        self.found = found
        self.names = names
        self.names.taken |= {local_name(field.name) for field in model.fields}
        self.names.taken |= {local_name(let.name) for let in model.derived}
        self.emitter = PyroEmitter({plate.name: plate for plate in model.plates}, local_name)
        self.emitter.slots = slots
        self.lines: list[tuple[tuple[str, ...], Statement]] = []
        self.lines_before_plates = 0
        self.plates = {plate.name: self.names.fresh(f"{plate.name}_plate") for plate in model.plates}
        self.rows = {
            plate.name: self.names.fresh(local_name(plate.name))
            for plate in model.plates
            if plate.batching == "subsample"
        }
        self.emitter.batches = self.rows

    # Statements

    def add(self, code: str, span: Span, plates: Iterable[str] = ()) -> None:
        self.lines.append((self._ordered(plates), Statement(code, span.line)))

    def sampled(self, name: str, code: str, dist: ir.Dist, type: ir.Type, span: Span, plates: Iterable[str]) -> None:
        """Add a site. Numbers that Pyro draws as positions become numbers."""
        self.add(f"{name} = {code}", span, plates)
        if dist.row.tabulated and type.support.target is None:
            self.add(f"{name} = {name}.to(torch.get_default_dtype())", span, plates)

    def _ordered(self, plates: Iterable[str]) -> tuple[str, ...]:
        wanted = set(plates)
        return tuple(plate.name for plate in self.model.plates if plate.name in wanted)

    @contextmanager
    def refusing(self, span: Span) -> Iterator[None]:
        """Reports what Pyro cannot say of the statement at `span`."""
        try:
            yield
        except Inexpressible as refused:
            self.found.append(errors.not_in_pyro(refused.what, span, refused.hint))

    def written(self) -> tuple[str, ...]:
        """The body, each run of statements in one `with` block."""
        blocks: list[tuple[tuple[str, ...], list[str]]] = []
        for plates, statement in self.lines:
            if not blocks or blocks[-1][0] != plates:
                blocks.append((plates, []))
            blocks[-1][1].append(statement.text)
        texts = []
        for plates, statements in blocks:
            text = "\n".join(statements)
            if plates:
                text = f"with {', '.join(map(self.entered, plates))}:\n{indent(text, '    ')}"
            texts.append(text)
        return tuple(texts)

    def entered(self, plate: str) -> str:
        """`user_plate`, with the rows of a step where it is subsampled."""
        return f"{self.plates[plate]} as {self.rows[plate]}" if plate in self.rows else self.plates[plate]

    # Arguments and data

    def arguments(self) -> tuple[Argument, ...]:
        """Data as declared, what is observed behind it, and the sizes that no data has."""
        model = self.model
        fields = [f for f in model.fields if f.role == "data" and f.default is None]
        fields += [f for f in model.fields if f.role == "observed"]
        fields += [f for f in model.fields if f.default is not None]
        found = [
            Argument(local_name(f.name), "None" if f.default is not None else "", _field_doc(f), False) for f in fields
        ]
        for dim in model.dims:
            if self._bound_by(dim.name) is None:
                default = "" if dim.default is None else str(dim.default)
                found.append(Argument(local_name(dim.name), default, "a size", True))
        return tuple(found)

    def _bound_by(self, dim: str) -> str | None:
        """The size of an argument's axis that is the dim: `x.shape[0]`."""
        for field in self.model.fields:
            if field.default is not None:
                continue
            sizes = [*(self._rows_given(plate) for plate in field.written), *field.type.event]
            for axis, size in enumerate(sizes):
                if size is not None and size.name == dim:
                    return f"{local_name(field.name)}.shape[{axis}]"
        return None

    def _rows_given(self, plate: str) -> Size | None:
        """How many rows an argument has along a plate: all of them, unless a caller feeds batches."""
        found = self.model.plate(plate)
        return None if found.batching == "minibatch" else found.size

    def prelude(self, reads: set[str]) -> None:
        """Data in Pyro's layout, and what a step sees of it. `reads` are the data and lets that are needed."""
        for field in self.model.fields:
            if field.name in reads:
                with self.refusing(field.span):
                    self._laid_out(field)
        self._derived(reads)
        self.lines_before_plates = len(self.lines)
        self._this_step(reads)

    def finish(self) -> None:
        """Put in the plates that are used, behind the data that their sizes may need."""
        text = "\n".join(statement.text for _, statement in self.lines)
        used = {plate for plates, _ in self.lines for plate in plates}
        behind = self.lines[self.lines_before_plates :]
        del self.lines[self.lines_before_plates :]
        for plate in self.model.plates:
            if plate.name in used or f"{self.plates[plate.name]} as" in text:
                with self.refusing(plate.span):
                    self._plate_statement(plate)
        for callee in self.emitter.callees.values():
            sizes = ", ".join(self.emitter.size(Size.of(dim)) for dim in net_dims(callee))
            made = f"lambda: {self.classes[callee.store_name]}({sizes})"
            self.add(f'{local_name(callee.name)} = fn.net("{callee.store_name}", {made})', callee.span)
        self.lines += behind

    def _derived(self, reads: set[str]) -> None:
        """The lets that read only data, with all rows."""
        whole = self.emitter.of_all_rows()
        for let in self.model.derived:
            if let.name in reads:
                with self.refusing(let.span):
                    self.add(f"{local_name(let.name)} = {let_value(let, whole)}", let.span)
        self.emitter.dims |= whole.dims

    def dims(self) -> list[str]:
        """The sizes that the body reads and that data has."""
        found = []
        for dim in self.model.dims:
            bound = self._bound_by(dim.name)
            if dim.name in self.emitter.dims and bound is not None:
                found.append(f"{local_name(dim.name)} = {bound}")
        return found

    def _laid_out(self, field: ir.Field) -> None:
        """An argument with its plates' axes where Pyro looks for them."""
        name, span = local_name(field.name), field.span
        whole = self.emitter.of_all_rows()
        events = len(field.type.event)
        if field.default is not None:
            value = whole.materialised(field.default, field.plates, field.type.event).text
            value = whole.filled("()", value) if field.default.type.number and not (field.plates or events) else value
            self.add(f"if {name} is None:\n    {name} = {value}", span)
        text = name
        if field.written != field.plates:
            order = [*(field.written.index(plate) for plate in field.plates)]
            order += [len(order) + n for n in range(events)]
            text = f"{text}.permute({', '.join(map(str, order))})"
        slots = [self.emitter.slots[plate] for plate in field.plates]
        wanted = range(max(slots, default=0), 0, -1)
        items = [":" if slot in slots else "None" for slot in wanted]
        if "None" in items:
            index = ", ".join([*items, *([":"] * events if items[-1] == "None" else [])])
            text = f"{text}[{index}]" if not events or items[-1] != ":" else f"{text}[{', '.join(items)}]"
        if field.index_base:
            text = f"{text} - {field.index_base}"
        if field.type.support.target is not None:
            text = f"({text}).long()" if " " in text else f"{text}.long()"
        elif field.type.support.row.discrete:
            text = f"{text}.to(torch.get_default_dtype())"
        if text != name:
            self.add(f"{name} = {text}", span)
        self._excused(field, whole)
        self.emitter.dims |= whole.dims

    def _excused(self, field: ir.Field, whole: PyroEmitter) -> None:
        """Entries that `when` leaves out may be NaN: a value of the type stands in for them."""
        whens = [t.when for t in self.model.terms if t.name == field.name and t.when is not None]
        if not whens:
            return
        when, name = whens[0], local_name(field.name)
        rest = len(field.type.event) - len(when.type.event)
        scan = next((s for s in self.model.statements if isinstance(s, ir.Scan) and field.name in s.sites), None)
        if scan is None:
            mask = whole.aligned(when, field.plates, 0).text
        else:
            of_steps, inner = data_of_steps(when, scan, whole)
            mask = inner.materialised(of_steps, (*scan.plates, scan.step), when.type.event).text
            rest -= 1
        mask = f"({mask}).bool()" if " " in mask else f"{mask}.bool()"
        shown = f"{mask}[..., {', '.join(['None'] * rest)}]" if rest else mask
        value = default_value(whole, field.support, field.bounds, field.plates, field.type.event).text
        self.add(f"{name} = torch.where({shown}, {name}, {value})", field.span)

    def _plate_statement(self, plate: ir.Plate) -> None:
        size = self.emitter.size(plate.size)
        options = ""
        if plate.batching == "subsample" and plate.batch is not None:
            options = f", subsample_size=min({self.emitter.size(plate.batch)}, {size})"
        elif plate.batching == "minibatch":
            options = f", subsample_size={self._batch_length(plate)}"
        dim = -self.emitter.slots[plate.name]
        self.add(f'{self.plates[plate.name]} = pyro.plate("{plate.name}", {size}{options}, dim={dim})', plate.span)

    def _batch_length(self, plate: ir.Plate) -> str:
        for field in self.model.fields:
            if plate.name in field.plates:
                axis = self.emitter.slots[plate.name] + len(field.type.event)
                return f"{local_name(field.name)}.shape[{-axis}]"
        raise Inexpressible(f"the minibatched plate {plate.name} without data", "declare its data")

    def _this_step(self, reads: set[str]) -> None:
        """The rows of a step of what stands in subsampled plates."""
        declared: list[tuple[str, tuple[str, ...], int, Span]] = [
            (f.name, f.plates, len(f.type.event), f.span) for f in self.model.fields
        ]
        declared += [(z.name, z.plates, len(z.event), z.span) for z in self.model.derived]
        wanted = [
            (name, plates, rank, span)
            for name, plates, rank, span in declared
            if name in reads and any(plate in self.rows for plate in plates)
        ]
        batched: dict[str, str] = {}
        for name, plates, rank, span in wanted:
            variable = self.names.fresh(f"{local_name(name)}_batch")
            inside = [plate for plate in plates if plate in self.rows]
            text = local_name(name)
            for plate in plates:
                if plate in self.rows:
                    axis = -(self.emitter.slots[plate] + rank)
                    text = f"{text}.index_select({axis}, {self.rows[plate]})"
            self.add(f"{variable} = {text}", span, inside)
            batched[name] = variable
        self.emitter.batched = batched

    # Params

    def params(self, params: Sequence[ir.Param], readers: Iterable[object]) -> Callable[[ir.Param], None]:
        """What writes a param at the rows, or with all rows, that the readers read."""
        by_row, whole = param_reads(readers, self.emitter.plates)

        def write(param: ir.Param) -> None:
            if param.name not in by_row | whole:
                return
            name = local_name(param.name)
            every = self.names.fresh(f"{name}_all") if param.name in whole else ""
            self.emitter.all_rows = {**self.emitter.all_rows, param.name: every}
            with self.refusing(param.span):
                code = self._registered(param)
                if param.name in by_row:
                    self.add(f"{name} = {code}", param.span, param.type.plates)
                if param.name in whole:
                    self.add(f"{every} = {code}", param.span)

        return write

    def _registered(self, param: ir.Param) -> str:
        rank = len(param.type.event)
        arguments = [f'"{param.store_name}"', f"lambda: {self._initial(param)}"]
        constraint = stored_constraint(param, self.emitter)
        if constraint != "constraints.real":
            arguments.append(f"constraint={constraint}")
        arguments.append(f"event_dim={rank}")
        return f"pyro.param({', '.join(arguments)}){'.detach()' if param.frozen else ''}"

    def _initial(self, param: ir.Param) -> str:
        if param.init is not None:
            return initial_value(param, self.emitter)
        type = param.type
        whole = self.emitter.of_all_rows()
        value = default_value(whole, type.support, param.bounds, type.plates, type.event).text
        self.emitter.dims |= whole.dims
        shape = self.emitter.stored_shape(type.plates, type.event)
        if value.replace(".", "").isdigit():
            return self.emitter.filled(shape, value)
        numbers = all(b is None or b.type.number for b in (param.bounds.low, param.bounds.high))
        if numbers and not type.support.structured:
            return self.emitter.filled(shape, value)
        return self.emitter.repeated(shape, value)


def learning_rates(params: Iterable[ir.Param]) -> dict[str, str]:
    """The learning rates that the text asks for, by the param's name."""
    return {param.store_name: number(param.lr) for param in params if param.lr is not None}


def _field_doc(field: ir.Field) -> str:
    """`[schools] positive`, and that it is observed."""
    axes = ", ".join([*field.written, *(str(size) for size in field.type.event if size != NEW)])
    return f"[{axes}] {field.type.support}{', observed' if field.role == 'observed' else ''}"


def names_read(readers: Iterable[object], made_of: Mapping[str, tuple[object, ...]]) -> set[str]:
    """Every name that the readers read, through lets too."""
    from guidedsl.backend.scans import closure
    from guidedsl.check.walk import variables

    readers = tuple(readers)
    needed = closure(readers, made_of)
    return {var.name for part in (*readers, *(made_of[name] for name in needed)) for var in variables(part)} | needed
