"""A model as Python: its data and latents types, its log density, its lets and what is known about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from guidedsl import ir
from guidedsl.backend.emit import PRODUCT, SUM, UNARY, Code, Emitter, added, number, summed
from guidedsl.backend.names import Module, data_attribute, field_name, local_name, snake_case
from guidedsl.backend.statements import Statement, doc_type, let_statement, let_value, param_statement
from guidedsl.check.shapes import NEW
from guidedsl.check.walk import variables
from guidedsl.ir import Stage
from guidedsl.library.supports import Support
from guidedsl.sizes import Size

Names = tuple[tuple[str, str], ...]
"""Pairs of a name in one place and in another."""


@dataclass(frozen=True)
class Attribute:
    """A line of a generated class."""

    name: str
    type: str
    doc: str


@dataclass(frozen=True)
class ModelContext:
    name: str
    variable: str
    docstring: str | None
    origin: str | None
    interface: bool
    function: str
    data_class: str
    latents_class: str
    data_doc: tuple[str, ...]
    data_attributes: tuple[Attribute, ...]
    latents: tuple[Attribute, ...]
    unpack: str
    dims: Names
    has_params: bool
    body: tuple[Statement, ...]
    quantities: str | None
    quantity_dims: Names
    quantity_body: tuple[Statement, ...]
    quantity_names: Names
    quantity_has_params: bool
    derive: str | None
    derive_dims: Names
    derive_body: tuple[Statement, ...]
    metadata: tuple[str, ...]
    span_line: int


def model_context(model: ir.Model, variable: str, names: Module) -> ModelContext:
    """Lower a model, which the generated module holds as `variable`."""
    snake = snake_case(model.name)
    function = names.take(snake, f"{snake}_density")
    data_class = names.take(f"{model.name}Data")
    declared = {z.name for z in model.latents} | {s.name for s in model.statements if not isinstance(s, ir.Term)}
    wish = f"{model.name}Latents"
    latents_class = names.take(f"{wish}_" if wish in declared else wish)
    body, dims, has_params = _density(model)
    lets = tuple(s for s in model.statements if isinstance(s, ir.Let) and s.value.type.stage > Stage.DATA)
    derived = _derived(model)
    quantity_body, quantity_dims, quantity_params = _quantities(model, lets)
    derive_body, derive_dims = _derive(model)
    quantities = names.take(f"{snake}_quantities") if lets else None
    derive = names.take(f"{snake}_derive") if derived else None
    return ModelContext(
        name=model.name,
        variable=variable,
        docstring=model.docstring,
        origin=model.origin,
        interface=model.interface,
        function=function,
        data_class=data_class,
        latents_class=latents_class,
        data_doc=tuple(f"{f.name}: {_field_doc(f)}" for f in model.fields),
        data_attributes=_data_attributes(model),
        latents=tuple(Attribute(field_name(z.name), "Tensor", doc_type(z.type, z.plates)) for z in model.latents),
        unpack=_unpack(model),
        dims=dims,
        has_params=has_params,
        body=body,
        quantities=quantities,
        quantity_dims=quantity_dims,
        quantity_body=quantity_body,
        quantity_names=tuple((let.name, local_name(let.name)) for let in lets),
        quantity_has_params=quantity_params,
        derive=derive,
        derive_dims=derive_dims,
        derive_body=derive_body,
        metadata=_metadata(model, lets, quantities, derive, function, data_class, latents_class),
        span_line=model.span.line,
    )


def _field_doc(field: ir.Field) -> str:
    doc = doc_type(field.type, field.written)
    return f"{doc}, observed" if field.role == "observed" else doc


def _data_attributes(model: ir.Model) -> tuple[Attribute, ...]:
    rows = [Attribute(data_attribute(dim.name), "int", "") for dim in model.dims]
    rows += [Attribute(data_attribute(plate.name), "Plate", "") for plate in model.plates]
    rows += [Attribute(data_attribute(field.name), "Tensor", "") for field in model.fields]
    rows += [Attribute(data_attribute(let.name), "Tensor", "") for let in model.derived]
    return tuple(rows)


def _unpack(model: ir.Model) -> str:
    names = [local_name(latent.name) for latent in model.latents]
    return f"{', '.join(names)}{',' if len(names) == 1 else ''}"


def needed_lets(targets: Iterable[object], lets: dict[str, ir.Let]) -> set[str]:
    """The lets that the targets read, through other lets too."""
    wanted: set[str] = set()
    pending = [var.name for target in targets for var in variables(target)]
    while pending:
        name = pending.pop()
        if name in lets and name not in wanted:
            wanted.add(name)
            pending.extend(var.name for var in variables(lets[name].value))
    return wanted


def _emitter(model: ir.Model) -> Emitter:
    return Emitter({plate.name: plate for plate in model.plates}, local_name)


def used_dims(emitter: Emitter, model: ir.Model) -> Names:
    """The dims that emitted code reads, in the model's order: variable and attribute."""
    read = [dim.name for dim in model.dims if dim.name in emitter.dims]
    return tuple((local_name(name), data_attribute(name)) for name in read)


def _density(model: ir.Model) -> tuple[tuple[Statement, ...], Names, bool]:
    emitter = _emitter(model)
    lets = {s.name: s for s in model.statements if isinstance(s, ir.Let)}
    terms = [s for s in model.statements if isinstance(s, ir.Term)]
    needed = needed_lets(terms, lets)
    read = {var.name for s in (*terms, *(lets[name] for name in needed)) for var in variables(s) if var.role == "param"}
    body: list[Statement] = []
    has_params = False
    first = True
    for statement in model.statements:
        match statement:
            case ir.Param() if statement.name in read:
                has_params = True
                body.append(param_statement(statement, emitter))
            case ir.Let() if statement.name in needed and statement.value.type.stage > Stage.DATA:
                body.append(let_statement(statement, emitter))
            case ir.Term():
                code = term(statement, emitter, model)
                text = f"log_p = {added('log_p', code)}"
                if first:
                    constant = statement.dist is None and statement.value.type.number
                    text = f"log_p = {f'data.new_full((), {code.text})' if constant else code.text}"
                body.append(Statement(text, statement.span.line))
                first = False
    if first:
        body.append(Statement("log_p = data.new_full((), 0.0)", model.span.line))
    return tuple(body), used_dims(emitter, model), has_params


def term(term: ir.Term, emitter: Emitter, model: ir.Model) -> Code:
    """One term of the log density, summed over its plates and scaled by those that are subsampled."""
    if term.dist is None:
        return _factor(term, emitter, model)
    dist = term.dist
    batch = len(term.value.type.event) - dist.own
    arguments = emitter.arguments(dist, term.plates, batch)
    value = emitter.aligned(term.value, term.plates, len(term.value.type.event)).text
    runtime = f"dist.{dist.form.runtime}"
    code = Code(f"{runtime}.log_prob({', '.join([value, *arguments])})")
    if term.truncated is not None:
        low, high = (number(bound) for bound in term.truncated)
        code = Code(f"{code.text} - {runtime}.log_mass({', '.join([low, high, *arguments])})", SUM)
    if term.when is not None:
        mask = emitter.aligned(term.when, term.plates, batch).text
        code = Code(f"fn.masked({mask}, {code.text})")
    return scaled(summed(code, len(term.plates) + batch), term.plates, model)


def _factor(term: ir.Term, emitter: Emitter, model: ir.Model) -> Code:
    """A factor is one term an element of its plates: that many times the same over those that it does not vary with."""
    value, minus = term.value, False
    while isinstance(value, ir.Negative):
        value, minus = value.operand, not minus
    own = tuple(plate for plate in term.plates if plate in value.type.plates)
    code = summed(emitter.emit(value), len(own))
    repeats = [emitter.size(model.plate(plate).size) for plate in term.plates if plate not in own]
    repeats = [size if size.isidentifier() or size.isdigit() else f"({size})" for size in repeats]
    code = scaled(code, own, model, *repeats)
    return Code(f"-{code.at(PRODUCT)}", UNARY) if minus else code


def scaled(code: Code, plates: tuple[str, ...], model: ir.Model, *factors: str) -> Code:
    """Terms of subsampled plates stand for all rows."""
    scales = [f"data.{data_attribute(p)}.scale" for p in plates if model.plate(p).batching is not None]
    before = [*factors, *scales]
    return Code(" * ".join([*before, code.at(UNARY)]), PRODUCT) if before else code


def _quantities(model: ir.Model, lets: tuple[ir.Let, ...]) -> tuple[tuple[Statement, ...], Names, bool]:
    emitter = _emitter(model)
    read = {var.name for let in lets for var in variables(let.value) if var.role == "param"}
    body = [param_statement(s, emitter) for s in model.statements if isinstance(s, ir.Param) and s.name in read]
    has_params = bool(body)
    body += [let_statement(let, emitter) for let in lets]
    return tuple(body), used_dims(emitter, model), has_params


def _derived(model: ir.Model) -> tuple[str, ...]:
    optional = [field.name for field in model.fields if field.default is not None]
    return (*optional, *(let.name for let in model.derived))


def _derive(model: ir.Model) -> tuple[tuple[Statement, ...], Names]:
    """Statements that fill optional data and data-only lets, in an order in which each finds what it reads."""
    emitter = Emitter({plate.name: plate for plate in model.plates}, local_name, whole=True)
    body: list[Statement] = []
    for field in model.fields:
        if field.default is None:
            continue
        default = emitter.materialised(field.default, field.plates, field.type.event).text
        if field.default.type.number and not field.plates and not field.type.event:
            default = f"data.new_full((), {default})"
        if field.type.support.target is not None:
            default = f"{default}.long()"
        filled = f"data = replace(data, {data_attribute(field.name)}={default})"
        body.append(Statement(f'if "{field.name}" in data.missing:\n    {filled}', field.span.line))
    for let in model.derived:
        value = let_value(let, emitter)
        if let.value.type.number and not let.plates and not let.event:
            value = f"data.new_full((), {value})"
        body.append(Statement(f"data = replace(data, {data_attribute(let.name)}={value})", let.span.line))
    return tuple(body), used_dims(emitter, model)


# Metadata


def _strings(items: Iterable[str]) -> str:
    texts = [f'"{item}"' for item in items]
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


def _metadata(
    model: ir.Model,
    lets: tuple[ir.Let, ...],
    quantities: str | None,
    derive: str | None,
    function: str,
    data_class: str,
    latents_class: str,
) -> tuple[str, ...]:
    emitter = _emitter(model)
    masks = {s.name: s.when for s in model.statements if isinstance(s, ir.Term) and s.when is not None}
    fields = [_field(field, masks.get(field.name), emitter) for field in model.fields]
    fields += [_derived_field(let) for let in model.derived]
    rows = [
        f'name="{model.name}"',
        f"data_type={data_class}",
        f"latents_type={latents_class}",
        f"log_density={function}",
        f"dims=({_items(_dim(dim) for dim in model.dims)})",
        f"plates=({_items(_plate(plate) for plate in model.plates)})",
        f"fields=({_items(fields)})",
        f"sites=({_items(_site(z, z.type.event, z.type.support, emitter) for z in model.latents)})",
    ]
    if quantities is not None:
        rows.append(f"quantities={quantities}")
        sites = (_site(let, let.event, let.asserted, emitter) for let in lets)
        rows.append(f"quantity_sites=({_items(sites)})")
    if derive is not None:
        rows.append(f"derive={derive}")
    return tuple(rows)


def _items(rows: Iterable[str]) -> str:
    return "".join(f"{row}," for row in rows)


def _dim(dim: ir.Dim) -> str:
    return f'Dim("{dim.name}")' if dim.default is None else f'Dim("{dim.name}", default={dim.default})'


def _plate(plate: ir.Plate) -> str:
    batch = "" if plate.batching is None or plate.batch is None else f", {plate.batching}={_batch(plate)}"
    return f'PlateSpec("{plate.name}", size="{plate.size}"{batch})'


def _batch(plate: ir.Plate) -> str:
    assert plate.batch is not None
    constant = plate.batch.constant
    return str(constant) if constant is not None else f'"{plate.batch}"'


def _field(field: ir.Field, when: ir.Expr | None, emitter: Emitter) -> str:
    whole = Emitter(emitter.plates, lambda name: f"data.{data_attribute(name)}")
    constraint = whole.constraint(field.type.support, field.bounds, None, field.plates, len(field.type.event))
    if "data." in constraint:
        constraint = f"lambda data: {constraint}"
    parts = [
        f'"{field.name}"',
        f'role="{field.role}"',
        f"plates={_strings(field.written)}",
        f"event={_strings(str(size) for size in field.type.event)}",
        f"constraint={constraint}",
    ]
    if field.default is not None:
        parts.append("optional=True")
    if field.index_base:
        parts.append(f"index_base={field.index_base}")
    if field.type.support.target is not None:
        parts.append(f'index_of="{field.type.support.target}"')
    if when is not None:
        parts.append(f"when=lambda data: {whole.materialised(when, field.plates, when.type.event).text}")
    order = _order(field.written, field.plates)
    if order:
        parts.append(order)
    return f"Field({', '.join(parts)})"


def _derived_field(let: ir.Let) -> str:
    return (
        f'Field("{let.name}", role="derived", plates={_strings(let.plates)}, '
        f"event={_strings(str(size) for size in let.event)}, constraint=constraints.real)"
    )


def _site(value: ir.Latent | ir.Let, event: tuple[Size, ...], support: Support | None, emitter: Emitter) -> str:
    bounds = value.bounds
    constraint = "constraints.real"
    literal = all(b is None or b.type.value is not None for b in (bounds.low, bounds.high))
    if support is not None and literal:
        constraint = emitter.constraint(support, bounds, None)
    written = value.written or value.plates
    order = _order(written, value.plates)
    return (
        f'Site("{value.name}", plates={_strings(written)}, event={_strings(_axis(size) for size in event)}, '
        f"constraint={constraint}{f', {order}' if order else ''})"
    )


def _axis(size: Size) -> str:
    return "1" if size == NEW else str(size)


def _order(written: tuple[str, ...], internal: tuple[str, ...]) -> str:
    """How the axes of generated code permute those of the text, where they do."""
    if written == internal:
        return ""
    return f"order=({', '.join(str(written.index(plate)) for plate in internal)})"
