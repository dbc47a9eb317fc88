"""A model as Python: its data and latents types, its log density, its lets and what is known about it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from guidedsl import ir
from guidedsl.backend.code import PRODUCT, UNARY, Code, added, summed
from guidedsl.backend.emit import Emitter
from guidedsl.backend.forward import ForwardContext, forward_metadata, likelihood, simulation
from guidedsl.backend.names import Locals, Module, data_attribute, extern_name, field_name, local_name, snake_case
from guidedsl.backend.nets import Names as Variables
from guidedsl.backend.nets import net_statements
from guidedsl.backend.scans import ScanWriter, closure, declared_names, definitions, mask_of_steps, read_behind
from guidedsl.backend.statements import (
    Statement,
    doc_type,
    grouped,
    let_statements,
    let_value,
    param_reads,
    param_statements,
)
from guidedsl.backend.sums import SumWriter, classes_statement
from guidedsl.backend.terms import log_density
from guidedsl.check.shapes import NEW
from guidedsl.check.walk import calls, variables
from guidedsl.ir import Stage
from guidedsl.library.supports import Support
from guidedsl.sizes import Size
from guidedsl.source import Span

Names = tuple[tuple[str, str], ...]
"""Pairs of a name in one place and in another."""


@dataclass(frozen=True)
class Attribute:
    """A line of a generated class."""

    name: str
    type: str
    doc: str


@dataclass(frozen=True)
class SummedContext:
    """The function of a log density with some latents summed out."""

    function: str
    when: str
    doc: str
    unpack: str
    sure: tuple[str, ...]
    dims: Names
    has_params: bool
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class ModelContext:
    name: str
    variable: str
    docstring: str | None
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
    quantity_result: str
    quantity_has_params: bool
    derive: str | None
    derive_dims: Names
    derive_body: tuple[Statement, ...]
    simulation: ForwardContext | None
    likelihood: ForwardContext | None
    summed: tuple[SummedContext, ...]
    only_together: tuple[str, ...]
    metadata: tuple[str, ...]
    span_line: int


def model_context(
    model: ir.Model,
    variable: str,
    names: Module,
    callees: Variables,
    single: bool,
    summed: Sequence[ir.Summed] = (),
) -> ModelContext:
    """Lower a model, which the generated module holds as `variable`.

    `single` where single precision is its default; `summed` is what its guides sum out.
    """
    snake = snake_case(model.name)
    function = names.take(snake, f"{snake}_density")
    data_class = names.take(f"{model.name}Data")
    declared = {z.name for z in model.latents} | declared_names(model.statements)
    wish = f"{model.name}Latents"
    latents_class = names.take(f"{wish}_" if wish in declared else wish)
    body, dims, has_params = density(model, callees)
    optional = {one.name: one for each in summed for one in each.classes}
    without = tuple(_summed(model, each, optional, function, names, callees) for each in summed)
    lets = _quantity_lets(model)
    derived = _derived(model)
    quantity_body, quantity_dims, quantity_params, quantity_result = _quantities(model, lets, optional, callees)
    derive_body, derive_dims = _derive(model)
    quantities = names.take(f"{snake}_quantities") if lets else None
    derive = names.take(f"{snake}_derive") if derived else None
    simulate = simulation(model, names.take(f"{snake}_simulate"), callees)
    log_likelihood = likelihood(model, names.take(f"{snake}_log_likelihood"), callees, optional)
    return ModelContext(
        name=model.name,
        variable=variable,
        docstring=model.docstring,
        interface=model.interface,
        function=function,
        data_class=data_class,
        latents_class=latents_class,
        data_doc=tuple(f"{f.name}: {_field_doc(f)}" for f in model.fields),
        data_attributes=_data_attributes(model),
        latents=tuple(_latent(z, z.name in optional) for z in model.latents),
        unpack=_unpack(local_name(latent.name) for latent in model.latents),
        dims=dims,
        has_params=has_params,
        body=body,
        quantities=quantities,
        quantity_dims=quantity_dims,
        quantity_body=quantity_body,
        quantity_result=quantity_result,
        quantity_has_params=quantity_params,
        derive=derive,
        derive_dims=derive_dims,
        derive_body=derive_body,
        simulation=simulate,
        likelihood=log_likelihood,
        summed=without,
        only_together=_only_together(summed, optional),
        metadata=(
            *_metadata(model, lets, quantities, derive, function, data_class, latents_class, optional, single),
            *forward_metadata(model, simulate, log_likelihood),
        ),
        span_line=model.span.line,
    )


def _summed(
    model: ir.Model,
    summed: ir.Summed,
    optional: Collection[str],
    function: str,
    names: Module,
    callees: Variables,
) -> SummedContext:
    body, dims, has_params = density(model, callees, summed)
    read = {var.name for var in variables(summed.statements)} - set(summed.names)
    kept = [latent.name for latent in model.latents if latent.name in read]
    return SummedContext(
        function=names.take("_".join([function, "without", *summed.names])),
        when=" and ".join(f"{local_name(name)} is None" for name in summed.names),
        doc=" and ".join(summed.names),
        unpack=_unpack(local_name(z.name) if z.name in kept else "_" for z in model.latents) if kept else "",
        sure=tuple(local_name(name) for name in kept if name in optional),
        dims=dims,
        has_params=has_params,
        body=body,
    )


def _only_together(summed: Sequence[ir.Summed], optional: Iterable[str]) -> tuple[str, ...]:
    """The latents that no guide sums out alone."""
    alone = {name for each in summed if len(each.names) == 1 for name in each.names}
    return tuple(local_name(name) for name in optional if name not in alone)


def _latent(latent: ir.Latent, optional: bool) -> Attribute:
    doc = doc_type(latent.type, latent.plates)
    if optional:
        return Attribute(field_name(latent.name), "Tensor | None", f"{doc}, or None where it is summed out")
    return Attribute(field_name(latent.name), "Tensor", doc)


def _field_doc(field: ir.Field) -> str:
    doc = doc_type(field.type, field.written)
    return f"{doc}, observed" if field.role == "observed" else doc


def _data_attributes(model: ir.Model) -> tuple[Attribute, ...]:
    rows = [Attribute(data_attribute(dim.name), "int", "") for dim in model.dims]
    rows += [Attribute(data_attribute(plate.name), "Plate", "") for plate in model.plates]
    rows += [Attribute(data_attribute(field.name), "Tensor", "") for field in model.fields]
    rows += [Attribute(data_attribute(let.name), "Tensor", "") for let in model.derived]
    return tuple(rows)


def _unpack(names: Iterable[str]) -> str:
    names = tuple(names)
    return f"{', '.join(names)}{',' if len(names) == 1 else ''}"


def _quantity_lets(model: ir.Model) -> tuple[ir.Let, ...]:
    """The lets that depend on latents or params, and what scans emit, with the scan's dim in front."""
    found: list[ir.Let] = []
    for statement in model.statements:
        if isinstance(statement, ir.Let) and statement.value.type.stage > Stage.DATA:
            found.append(statement)
        elif isinstance(statement, ir.Scan):
            found.extend(replace(emit, event=(statement.size, *emit.event)) for emit in statement.emits)
    return tuple(found)


def model_locals(model: ir.Model) -> Locals:
    """The variables of a function of the model that are taken by what it declares."""
    declared = [*(dim.name for dim in model.dims), *(latent.name for latent in model.latents)]
    called = [call.callee for call in calls(model.statements)]
    declared += [name for callee in called for name in (callee.name, extern_name(callee.name))]
    return Locals([*declared, *declared_names(model.statements)])


def _emitter(model: ir.Model, axes: Iterable[ir.Classes] = ()) -> Emitter:
    """An emitter whose axes are the plates and, to their right, the latents that are summed out."""
    plates = {plate.name: plate for plate in model.plates}
    summed = {one.name: ir.Plate(one.name, one.size, None, None, one.latent.span) for one in axes}
    return Emitter(plates | summed, local_name)


def used_dims(emitter: Emitter, model: ir.Model) -> Names:
    """The dims that emitted code reads, in the model's order: variable and attribute."""
    read = [dim.name for dim in model.dims if dim.name in emitter.dims]
    return tuple((local_name(name), data_attribute(name)) for name in read)


def density(
    model: ir.Model, callees: Variables, summed: ir.Summed | None = None
) -> tuple[tuple[Statement, ...], Names, bool]:
    """The statements of a log density that adds the terms up in `log_p`, the dims they read, and whether params."""
    axes = summed.axes if summed is not None else ()
    everything = summed.statements if summed is not None else model.statements
    sums = [s for s in everything if isinstance(s, ir.SumOut | ir.SumChain)]
    statements = [s for s in everything if not isinstance(s, ir.SumOut | ir.SumChain)]
    emitter = _emitter(model, axes)
    names = model_locals(model)
    made_of = definitions(statements)
    waiting = {term.span: term for each in sums for term in each.terms}
    needed = closure((*ir.terms_of(statements), *sums), made_of)
    parts = (*ir.terms_of(statements), *sums, *(made_of[name] for name in needed))
    used = {var.name for var in variables(parts)}
    params = _params(model, parts, emitter, names)
    body = [classes_statement(one, emitter) for one in axes if one.name in used]
    first = True
    names.taken |= {local_name(each.message.name) for each in sums}
    writers: dict[Span, ScanWriter] = {}
    untyped = any(True for _ in calls(everything))

    def add(code: Code, line: int, *, constant: bool = False) -> None:
        nonlocal first
        text = f"log_p = {added('log_p', code)}"
        if first:
            # What a net or an extern returns has no type, and a sum with it none either.
            target = "log_p: Tensor" if untyped else "log_p"
            text = f"{target} = {f'data.new_full((), {code.text})' if constant else code.text}"
        body.append(Statement(text, line))
        first = False

    def add_term(term: ir.Term, emitter: Emitter) -> None:
        add(term_code(term, emitter), term.span.line, constant=term.dist is None and term.value.type.number)

    def resolve(term: ir.Term) -> tuple[ir.Term, Emitter]:
        return writers[term.span].whole(term) if term.span in writers else (term, emitter)

    for group in grouped(statements):
        statement = group[0]
        match statement:
            case ir.Param():
                body += params.get(statement.name, [])
            case ir.Let() if statement.value.type.stage > Stage.DATA:
                wanted = [let for let in group if isinstance(let, ir.Let) and let.name in needed]
                body += let_statements(wanted, emitter) if wanted else []
            case ir.Term():
                add_term(statement, emitter)
            case ir.Scan():
                outside = [term for term in waiting.values() if statement.step not in term.plates]
                behind = read_behind([*statements, *outside], statement, needed)
                writer = ScanWriter(statement, emitter, names, body, behind, terms=True)
                writer.write()
                writers |= {term.span: writer for term in writer.terms if term.span in waiting}
                for term in writer.terms:
                    if term.span not in waiting:
                        add_term(*writer.whole(term))
    sum_writer = SumWriter(emitter, names, body, resolve)
    for each in sums:
        total = sum_writer.write(each)
        if total is not None:
            rows = tuple(plate for plate in each.plates if plate in emitter.plates)
            add(scaled(total, rows, emitter), each.span.line)
    if first:
        body.append(Statement("log_p = data.new_full((), 0.0)", model.span.line))
    body = [*net_statements(emitter.callees.values(), callees, emitter), *body]
    return tuple(body), used_dims(emitter, model), bool(params)


def _params(model: ir.Model, readers: Iterable[object], emitter: Emitter, names: Locals) -> dict[str, list[Statement]]:
    """The statements of each param that the readers read."""
    by_row, whole = param_reads(readers, emitter.plates)
    found: dict[str, list[Statement]] = {}
    for param in (s for s in model.statements if isinstance(s, ir.Param)):
        name = param.name
        if name in by_row | whole:
            every = names.fresh(f"{local_name(name)}_all") if name in whole else None
            found[name] = param_statements(param, emitter, by_row=name in by_row, whole=every)
    return found


def term_code(term: ir.Term, emitter: Emitter) -> Code:
    """One term of the log density, summed over its plates and scaled by those that are subsampled."""
    if term.dist is None:
        return _factor(term, emitter)
    code, batch = log_density(term, term.dist, emitter, term.plates)
    return scaled(summed(code, len(term.plates) + batch), term.plates, emitter)


def _factor(term: ir.Term, emitter: Emitter) -> Code:
    """A factor is one term an element of its plates: that many times the same over those that it does not vary with."""
    value, minus = term.value, False
    while isinstance(value, ir.Negative):
        value, minus = value.operand, not minus
    own = tuple(plate for plate in term.plates if plate in value.type.plates)
    code = summed(emitter.emit(value), len(own))
    repeats = [emitter.size(emitter.plates[plate].size) for plate in term.plates if plate not in own]
    repeats = [size if size.isidentifier() or size.isdigit() else f"({size})" for size in repeats]
    code = scaled(code, own, emitter, *repeats)
    return Code(f"-{code.at(PRODUCT)}", UNARY) if minus else code


def scaled(code: Code, plates: tuple[str, ...], emitter: Emitter, *factors: str) -> Code:
    """Terms of subsampled plates stand for all rows."""
    scales = [f"data.{data_attribute(p)}.scale" for p in plates if emitter.plates[p].batching is not None]
    before = [*factors, *scales]
    return Code(" * ".join([*before, code.at(UNARY)]), PRODUCT) if before else code


def _quantities(
    model: ir.Model, lets: tuple[ir.Let, ...], optional: Collection[str], callees: Variables
) -> tuple[tuple[Statement, ...], Names, bool, str]:
    """Statements, dims, whether params, and what is returned. Lets that read what may be summed out come last."""
    emitter = _emitter(model)
    names = model_locals(model)
    made_of = definitions(model.statements)
    needed = closure([let.value for let in lets], made_of) | {let.name for let in lets}
    parts = [part for name in needed for part in made_of[name]]
    body = [statement for params in _params(model, parts, emitter, names).values() for statement in params]
    has_params = bool(body)
    unsure = {let.name: _optional_reads(let, made_of, optional) for let in lets}
    guarded: list[Statement] = []
    for group in grouped(model.statements):
        statement = group[0]
        if isinstance(statement, ir.Let):
            lets_here = [s for s in group if isinstance(s, ir.Let) and s in lets]
            sure_lets = [let for let in lets_here if not unsure[let.name]]
            body += let_statements(sure_lets, emitter) if sure_lets else []
            for let in lets_here:
                if unsure[let.name]:
                    written = tuple(let_statements([let], emitter))
                    guarded.append(_guarded(unsure[let.name], [let.name], written, let.span.line))
        elif isinstance(statement, ir.Scan):
            emits = [emit.name for emit in statement.emits]
            sure = {name for name in emits if not unsure[name]}
            behind = sure | read_behind(model.statements, statement, needed, terms=False)
            ScanWriter(statement, emitter, names, body, behind).write()
            late = [name for name in emits if name not in sure]
            if late:
                inner: list[Statement] = []
                ScanWriter(statement, emitter, names, inner, {*late}).write()
                there = tuple(dict.fromkeys(site for name in late for site in unsure[name]))
                guarded.append(_guarded(there, late, tuple(inner), statement.span.line))
    result = ", ".join(f'"{let.name}": {local_name(let.name)}' for let in lets if not unsure[let.name])
    result = f"{{{result}}}"
    if guarded:
        body.append(Statement(f"quantities: dict[str, Tensor] = {result}", model.span.line))
        body += guarded
        result = "quantities"
    body = [*net_statements(emitter.callees.values(), callees, emitter), *body]
    return tuple(body), used_dims(emitter, model), has_params, result


def _guarded(there: Sequence[str], made: Sequence[str], written: tuple[Statement, ...], line: int) -> Statement:
    """Quantities that are there where some latents have a value."""
    kept = (Statement(f'quantities["{name}"] = {local_name(name)}', line) for name in made)
    condition = " and ".join(f"{local_name(name)} is not None" for name in there)
    return Statement(f"if {condition}:", line, (*written, *kept))


def _optional_reads(let: ir.Let, made_of: dict[str, tuple[object, ...]], optional: Collection[str]) -> tuple[str, ...]:
    """The latents that may be None which a let reads, through other lets too."""
    parts = [let.value, *(made_of[name] for name in closure((let.value,), made_of))]
    read = {var.name for part in parts for var in variables(part)}
    return tuple(name for name in optional if name in read)


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
    for group in grouped(model.derived):
        let = group[0]
        if isinstance(let.value, ir.Output):
            body += let_statements(group, emitter)
            changes = ", ".join(f"{data_attribute(one.name)}={emitter.local(one.name)}" for one in group)
            body.append(Statement(f"data = replace(data, {changes})", let.span.line))
            continue
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
    optional: dict[str, ir.Classes],
    single: bool,
) -> tuple[str, ...]:
    emitter = _emitter(model)
    masks = _masks(model)
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
        f"sites=({_items(_latent_site(z, optional.get(z.name), emitter) for z in model.latents)})",
    ]
    if quantities is not None:
        rows.append(f"quantities={quantities}")
        sites = (_site(let, let.event, let.asserted, emitter) for let in lets)
        rows.append(f"quantity_sites=({_items(sites)})")
    if derive is not None:
        rows.append(f"derive={derive}")
    if single:
        rows.append("dtype=torch.float32")
    if model.interface and model.origin is not None:
        rows.append(f"origin={json.dumps(model.origin, ensure_ascii=False)}")
    if model.interface and model.framework is not None:
        rows.append(f'framework="{model.framework}"')
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


def _field(field: ir.Field, mask: tuple[ir.Expr, ir.Scan | None] | None, emitter: Emitter) -> str:
    whole = Emitter(emitter.plates, lambda name: f"data.{data_attribute(name)}")
    constraint = whole.constraint(field.support, field.bounds, None, field.plates, len(field.type.event))
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
    if field.total is not None:
        total = whole.aligned(field.total, field.plates, len(field.type.event) - 1).text
        parts.append(f"total=lambda data: {total}")
    if mask is not None:
        when, scan = mask
        if scan is None:
            text = whole.materialised(when, field.plates, when.type.event).text
        else:
            text = mask_of_steps(when, scan, whole)
        parts.append(f"when=lambda data: {text}")
    order = _order(field.written, field.plates)
    if order:
        parts.append(order)
    return f"Field({', '.join(parts)})"


def _masks(model: ir.Model) -> dict[str, tuple[ir.Expr, ir.Scan | None]]:
    """By field, which of its entries count, and the scan that it is a site of."""
    found: dict[str, tuple[ir.Expr, ir.Scan | None]] = {}
    for statement in model.statements:
        scan = statement if isinstance(statement, ir.Scan) else None
        for term in ir.terms_of((statement,)):
            if term.name is not None and term.when is not None:
                found[term.name] = term.when, scan
    return found


def _derived_field(let: ir.Let) -> str:
    return (
        f'Field("{let.name}", role="derived", plates={_strings(let.plates)}, '
        f"event={_strings(str(size) for size in let.event)}, constraint=constraints.real)"
    )


def _latent_site(latent: ir.Latent, classes: ir.Classes | None, emitter: Emitter) -> str:
    site = _site(latent, latent.type.event, latent.type.support, emitter)
    if classes is None:
        return site
    low = f", low={classes.low}" if classes.low else ""
    return f'{site.removesuffix(")")}, classes="{classes.size}"{low})'


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
