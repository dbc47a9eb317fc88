"""What the runtime knows about a model: its dims, plates, fields and sites as Python."""

from __future__ import annotations

import json
from collections.abc import Iterable

from guidedsl import ir
from guidedsl.backend.emit import Emitter
from guidedsl.backend.functions import model_emitter
from guidedsl.backend.names import data_attribute
from guidedsl.backend.scans import data_of_steps
from guidedsl.check.enumeration import classes_of
from guidedsl.check.shapes import NEW
from guidedsl.library.supports import Support
from guidedsl.sizes import Size
from guidedsl.source import Span


def _strings(items: Iterable[str]) -> str:
    texts = [f'"{item}"' for item in items]
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


def metadata(
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
    emitter = model_emitter(model)
    terms = _terms(model)
    fields = [_field(field, terms.get(field.name), emitter) for field in model.fields]
    fields += [_derived_field(let) for let in model.derived]
    finite = {**_finite(model), **optional}
    compared = model.interface and model.framework is not None
    rows = [
        f'name="{model.name}"',
        f"data_type={data_class}",
        f"latents_type={latents_class}",
        f"log_density={function}",
        f"dims=({_items(_dim(dim) for dim in model.dims)})",
        f"plates=({_items(_plate(plate) for plate in model.plates)})",
        f"fields=({_items(fields)})",
        f"sites=({_items(_latent_site(z, finite.get(z.name), emitter, compared) for z in model.latents)})",
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
        rows.append(f"declared_at={{{_declared_at(model)}}}")
    return tuple(rows)


def _finite(model: ir.Model) -> dict[str, ir.Classes]:
    """The latents with finitely many values of an interface to a library, whose own values are compared with them."""
    if not model.interface or model.framework is None:
        return {}
    plates = {plate.name: plate for plate in model.plates}
    found = {z.name: classes_of(z, plates, z.span, whole=True) for z in model.latents}
    return {name: classes for name, classes in found.items() if isinstance(classes, ir.Classes)}


def _declared_at(model: ir.Model) -> str:
    """The line of each declaration, by name, the model's own first."""
    return ", ".join(f'"{name}": {span.line}' for name, span in places(model).items())


def places(model: ir.Model) -> dict[str, Span]:
    """Where a model and what it declares stand, by name."""
    found = {model.name: model.span} | {plate.name: plate.span for plate in model.plates}
    return found | {field.name: field.span for field in model.fields} | {z.name: z.span for z in model.latents}


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


def _field(field: ir.Field, observed: tuple[ir.Term, ir.Scan | None] | None, emitter: Emitter) -> str:
    """A field, with the term of the density that it is observed under and the scan that it is a site of, if any."""
    term, scan = observed or (None, None)
    whole = Emitter(emitter.plates, lambda name: f"data.{data_attribute(name)}")
    bounds, total, when = field.bounds, field.total, term.when if term is not None else None
    plates, rank = field.plates, len(field.type.event)
    if scan is not None:
        (bounds, total, when), whole = data_of_steps((bounds, total, when), scan, whole)
        plates, rank = (*plates, scan.step), rank - 1
    constraint = whole.constraint(field.support, bounds, None, plates, rank)
    if "data." in constraint or "data)" in constraint:
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
    if total is not None:
        parts.append(f"total=lambda data: {whole.aligned(total, plates, rank - 1).text}")
    if when is not None:
        parts.append(f"when=lambda data: {whole.materialised(when, plates, when.type.event).text}")
    order = _order(field.written, field.plates)
    if order:
        parts.append(order)
    return f"Field({', '.join(parts)})"


def _terms(model: ir.Model) -> dict[str, tuple[ir.Term, ir.Scan | None]]:
    """By site, its term, and the scan that it is a site of."""
    found: dict[str, tuple[ir.Term, ir.Scan | None]] = {}
    for statement in model.statements:
        scan = statement if isinstance(statement, ir.Scan) else None
        found |= {term.name: (term, scan) for term in ir.terms_of((statement,)) if term.name is not None}
    return found


def _derived_field(let: ir.Let) -> str:
    return (
        f'Field("{let.name}", role="derived", plates={_strings(let.plates)}, '
        f"event={_strings(str(size) for size in let.event)}, constraint=constraints.real)"
    )


def _latent_site(latent: ir.Latent, classes: ir.Classes | None, emitter: Emitter, compared: bool) -> str:
    """`compared`: with the site of the same name in a library's model."""
    site = _site(latent, latent.type.event, latent.type.support, emitter)
    if compared and not _literal(latent):
        site = f"{site.removesuffix(')')}, moving=True)"
    if classes is None:
        return site
    low = f", low={classes.low}" if classes.low else ""
    return f'{site.removesuffix(")")}, classes="{classes.size}"{low})'


def _site(value: ir.Latent | ir.Let, event: tuple[Size, ...], support: Support | None, emitter: Emitter) -> str:
    constraint = "constraints.real"
    if support is not None and _literal(value):
        constraint = emitter.constraint(support, value.bounds, None)
    written = value.written or value.plates
    order = _order(written, value.plates)
    return (
        f'Site("{value.name}", plates={_strings(written)}, event={_strings(_axis(size) for size in event)}, '
        f"constraint={constraint}{f', {order}' if order else ''})"
    )


def _literal(value: ir.Latent | ir.Let) -> bool:
    """Whether the bounds of a type are numbers."""
    return all(bound is None or bound.type.value is not None for bound in (value.bounds.low, value.bounds.high))


def _axis(size: Size) -> str:
    return "1" if size == NEW else str(size)


def _order(written: tuple[str, ...], internal: tuple[str, ...]) -> str:
    """How the axes of generated code permute those of the text, where they do."""
    if written == internal:
        return ""
    return f"order=({', '.join(str(written.index(plate)) for plate in internal)})"
