"""A model as Python: its data and latents types, its log density, its lets and what is known about it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from guidedsl import ir
from guidedsl.backend.density import density
from guidedsl.backend.forward import ForwardContext, forward_metadata, likelihood, simulation
from guidedsl.backend.functions import Body
from guidedsl.backend.metadata import metadata
from guidedsl.backend.names import Module, data_attribute, field_name, local_name, snake_case
from guidedsl.backend.nets import Variables
from guidedsl.backend.quantities import derive_of, derived_names, quantities_of, quantity_lets
from guidedsl.backend.scans import declared_names
from guidedsl.backend.statements import doc_type
from guidedsl.check.walk import variables


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
    density: Body


@dataclass(frozen=True)
class ModelContext:
    name: str
    variable: str
    docstring: str | None
    external: str | None
    function: str
    data_class: str
    latents_class: str
    data_doc: tuple[str, ...]
    data_attributes: tuple[Attribute, ...]
    latents: tuple[Attribute, ...]
    unpack: str
    density: Body
    quantities: str | None
    quantity_body: Body
    quantity_result: str
    derive: str | None
    derive_body: Body
    simulation: ForwardContext | None
    likelihood: ForwardContext | None
    sums_out: bool
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
    optional = {one.name: one for each in summed for one in each.classes}
    written = summed if not model.interface else ()
    without = tuple(_summed(model, each, optional, function, names, callees) for each in written)
    lets = quantity_lets(model)
    derived = derived_names(model)
    quantity_body, quantity_result = quantities_of(model, lets, optional, callees)
    quantities = names.take(f"{snake}_quantities") if lets else None
    derive = names.take(f"{snake}_derive") if derived else None
    simulate = simulation(model, names.take(f"{snake}_simulate"), callees)
    log_likelihood = likelihood(model, names.take(f"{snake}_log_likelihood"), callees, optional)
    return ModelContext(
        name=model.name,
        variable=variable,
        docstring=model.docstring,
        external=_external(model, variable, bool(optional)),
        function=function,
        data_class=data_class,
        latents_class=latents_class,
        data_doc=tuple(f"{f.name}: {_field_doc(f)}" for f in model.fields),
        data_attributes=_data_attributes(model),
        latents=tuple(_latent(z, z.name in optional) for z in model.latents),
        unpack=_unpack(local_name(latent.name) for latent in model.latents),
        density=density(model, callees),
        quantities=quantities,
        quantity_body=quantity_body,
        quantity_result=quantity_result,
        derive=derive,
        derive_body=derive_of(model),
        simulation=simulate,
        likelihood=log_likelihood,
        sums_out=bool(optional),
        summed=without,
        only_together=_only_together(summed, optional),
        metadata=(
            *metadata(model, lets, quantities, derive, function, data_class, latents_class, optional, single),
            *forward_metadata(model, simulate, log_likelihood),
        ),
        span_line=model.span.line,
    )


def _external(model: ir.Model, variable: str, sums_out: bool) -> str | None:
    """The call that has an interface's density; None for a model whose density is written."""
    if not model.interface:
        return None
    if model.framework is None:
        return f"fn.external_density({variable}, data, latents)"
    return f"fn.pyro_density({variable}, data, latents, store{', tilt' if sums_out else ''})"


def _summed(
    model: ir.Model,
    summed: ir.Summed,
    optional: Collection[str],
    function: str,
    names: Module,
    callees: Variables,
) -> SummedContext:
    read = {var.name for var in variables(summed.statements)} - set(summed.names)
    kept = [latent.name for latent in model.latents if latent.name in read]
    return SummedContext(
        function=names.take("_".join([function, "without", *summed.names])),
        when=" and ".join(f"{local_name(name)} is None" for name in summed.names),
        doc=" and ".join(summed.names),
        unpack=_unpack(local_name(z.name) if z.name in kept else "_" for z in model.latents) if kept else "",
        sure=tuple(local_name(name) for name in kept if name in optional),
        density=density(model, callees, summed),
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


# Metadata
