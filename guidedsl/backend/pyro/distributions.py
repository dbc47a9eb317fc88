"""Distributions as Pyro's, with the event dims that a site has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from guidedsl import ir
from guidedsl.backend.code import ATOM, SUM, Code
from guidedsl.backend.pyro.refusal import Inexpressible
from guidedsl.check.walk import gathers, variables
from guidedsl.ir import Stage
from guidedsl.library.supports import INF
from guidedsl.sizes import Size

if TYPE_CHECKING:
    from guidedsl.backend.pyro.emit import PyroEmitter

_TORCH = "use the torch target, or another family"


def pyro_distribution(
    emitter: PyroEmitter, dist: ir.Dist, plates: Sequence[str], batch: int, full: Sequence[Size] | None = None
) -> Code:
    """A distribution with `batch` event dims left of the family's own, not yet declared as such.

    With `full` it has these event dims at full size. Raises `Inexpressible`.
    """
    match dist.row.rule:
        case "mixture":
            if dist.listed:
                raise Inexpressible(
                    "a mixture of listed components", "give the components' parameters as vectors: `mixture(w, D(v))`"
                )
            weights = emitter.arguments(dist, plates, batch)[0]
            if full is not None and (len(full) > dist.own or emitter.steps_of(plates)):
                shape = emitter.shape(emitter.steps_of(plates), (*_batch(dist, full), dist.arguments[0].type.event[-1]))
                weights = f"fn.expand({weights}, {shape})"
            logits = "logits=" if dist.form.values[0].name == "logits" else ""
            parts = pyro_distribution(emitter, dist.parts[0], plates, batch + 1, dist.parts[0].type.event)
            return Code(f"fn.mixture(dist.Categorical({logits}{weights}), {parts.text})")
        case "zero_inflated":
            gate = emitter.arguments(dist, plates, batch)[0]
            base = pyro_distribution(emitter, dist.parts[0], plates, batch, full)
            gate = emitter.as_tensor(gate, dist.arguments[0])
            return Code(f"dist.ZeroInflatedDistribution({base.text}, gate={gate})")
        case "truncated":
            raise Inexpressible("a truncated distribution that is drawn or nested", _TORCH)
        case None:
            return _family(emitter, dist, plates, batch, full)


def _family(
    emitter: PyroEmitter, dist: ir.Dist, plates: Sequence[str], batch: int, full: Sequence[Size] | None
) -> Code:
    if not dist.row.pyro:
        raise Inexpressible(f"the {dist.row.name} distribution", _TORCH)
    texts = emitter.arguments(dist, plates, batch)
    call = dist.form.pyro or f"{dist.row.pyro}({', '.join('{' + a.name + '}' for a in dist.form.values)})"
    _check_single(dist)
    steps = emitter.steps_of(plates)
    wide = full is not None and not _is_full(dist, full, steps)
    expand = wide and all(_few_axes(argument) for argument in dist.arguments)
    if wide and not expand and full is not None:
        texts = _widened(emitter, dist, texts, full, steps)
    fields: dict[str, str] = {}
    for declared, given, argument in zip(dist.form.values, texts, dist.arguments, strict=True):
        name, text = declared.name, given
        if declared.type == "count" and argument.type.number:
            text = emitter.whole_number(argument)
        fields[f"{name}_int"] = text if argument.type.number else f"int({text})"
        tensor = argument.type.number and f"{{{name}_}}." in call
        fields[name] = text
        fields[f"{name}_"] = emitter.constant(text) if tensor else _bracketed(text)
    if dist.type.event:
        fields["dim"] = emitter.size(dist.type.event[-1])
    code = Code(f"dist.{call.format(**fields)}")
    if expand and full is not None:
        return Code(f"{code.text}.expand({emitter.shape(steps, _batch(dist, full))})")
    return code


def _few_axes(value: ir.Expr) -> bool:
    """Whether its batch axes are none at all: particles may stand left of a latent's, and rows that are read from a
    plate, in a let too, keep axes of size 1 for it and those right of it, which `Distribution.expand` does not drop."""
    reads_rows = any(gathers(value)) or any(read.role == "let" for read in variables(value))
    return value.type.number or not (value.type.plates or value.type.stage is Stage.LATENT or reads_rows)


def _check_single(dist: ir.Dist) -> None:
    """Refuses an argument that varies where Pyro takes one value for all rows and particles."""
    names = [argument.name for argument in dist.form.values]
    if dist.row.pyro_single not in names:
        return
    value = dist.arguments[names.index(dist.row.pyro_single)]
    if value.type.plates or value.type.event or value.type.stage is Stage.LATENT:
        what = f"a {dist.row.name} with a {dist.row.pyro_single} for each row"
        raise Inexpressible(what, f"give it one {dist.row.pyro_single}, of numbers, dims, data or params")


def _bracketed(text: str) -> str:
    called = text.endswith(("]", ")")) and " " not in text and not text.startswith("-")
    plain = text.isidentifier() or text.replace(".", "").isdigit() or called
    return text if plain else f"({text})"


def _batch(dist: ir.Dist, full: Sequence[Size]) -> Sequence[Size]:
    return full[: len(full) - dist.own]


def _is_full(dist: ir.Dist, full: Sequence[Size], steps: Sequence[str]) -> bool:
    """Whether some argument has all axes left of the family's own, so that the others broadcast to it."""
    want = tuple(_batch(dist, full))
    if not want and not steps:
        return True
    return any(
        not argument.type.number
        and argument.type.event[: len(argument.type.event) - rank] == want
        and set(steps) <= set(argument.type.plates)
        for argument, rank in zip(dist.arguments, dist.ranks, strict=True)
    )


def _widened(
    emitter: PyroEmitter, dist: ir.Dist, texts: list[str], full: Sequence[Size], steps: Sequence[str]
) -> list[str]:
    """The arguments, the first tensor that may vary by row with all axes left of the family's own."""
    names = [argument.name for argument in dist.form.values]
    for position, (argument, rank) in enumerate(zip(dist.arguments, dist.ranks, strict=True)):
        if not argument.type.number and names[position] != dist.row.pyro_single:
            own = argument.type.event[len(argument.type.event) - rank :]
            wide = f"fn.expand({texts[position]}, {emitter.shape(steps, (*_batch(dist, full), *own))})"
            return [*texts[:position], wide, *texts[position + 1 :]]
    return texts


def log_density(emitter: PyroEmitter, dist: ir.Dist, x: str, plates: Sequence[str], batch: int) -> Code:
    """The log density at `x`, a value for each of `plates` and of `batch` event dims. Raises `Inexpressible`."""
    if dist.row.rule == "truncated":
        return _log_truncated(emitter, dist, x, plates, batch)
    return Code(f"{pyro_distribution(emitter, dist, plates, batch).at(ATOM)}.log_prob({x})")


def _log_truncated(emitter: PyroEmitter, dist: ir.Dist, x: str, plates: Sequence[str], batch: int) -> Code:
    """The density of what is truncated over its mass between the bounds."""
    base = dist.parts[0]
    if _half(base, dist.arguments):
        inner = pyro_distribution(emitter, base, plates, batch)
        return Code(f"{inner.at(ATOM)}.log_prob({x}) + math.log(2.0)", SUM)
    if base.row.rule is not None or not base.row.pyro_cdf:
        raise Inexpressible(
            f"a restricted {base.row.name}",
            "name a family with that support, such as HalfNormal, or use the torch target",
        )
    inner = pyro_distribution(emitter, base, plates, batch)
    support = base.type.support.range
    mass = []
    for bound, end, sure in zip(dist.arguments, (support.low, support.high), ("0.0", "1.0"), strict=True):
        value = bound.type.value
        outside = value is not None and (value <= end if sure == "0.0" else value >= end)
        bound_text = emitter.as_tensor(emitter.aligned(bound, plates, batch).text, bound)
        mass.append(sure if outside else f"{inner.at(ATOM)}.cdf({bound_text})")
    low, high = mass
    inside = high if low == "0.0" else f"({high} - {low})"
    if inside == "1.0":
        return Code(f"{inner.at(ATOM)}.log_prob({x})")
    return Code(f"{inner.at(ATOM)}.log_prob({x}) - {inside}.log()", SUM)


def _half(base: ir.Dist, bounds: Sequence[ir.Expr]) -> bool:
    """Whether the bounds keep one side of a family that is symmetric about its `loc`."""
    if not base.row.symmetric:
        return False
    loc = base.arguments[[argument.name for argument in base.form.values].index("loc")]
    low, high = (bound.type.value for bound in bounds)
    center = loc.type.value
    return center is not None and ((low == center and high == INF) or (low == -INF and high == center))
