"""A guide as a Pyro function: its params, and a `pyro.sample` for each latent.

A latent that is pushed from unconstrained coordinates, or is a part of a joint draw, is a `Delta` at its value with the
log-determinant as its density, beside the auxiliary site that is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guidedsl import ir
from guidedsl.backend.code import ATOM, Code, summed
from guidedsl.backend.emit import Emitter
from guidedsl.backend.functions import guide_locals
from guidedsl.backend.names import local_name
from guidedsl.backend.pyro.distributions import pyro_distribution
from guidedsl.backend.pyro.emit import PyroEmitter
from guidedsl.backend.pyro.function import FunctionContext, FunctionWriter, names_read
from guidedsl.backend.pyro.layout import Slots
from guidedsl.backend.pyro.refusal import Inexpressible
from guidedsl.backend.pyro.supports import has_bijection, pushed, pyro_constraint
from guidedsl.backend.scans import ScanWriter, closure, definitions, read_behind
from guidedsl.backend.statements import Statement, grouped, let_statements
from guidedsl.check.walk import variables
from guidedsl.diagnostics import Diagnostic
from guidedsl.ir import Bounds
from guidedsl.library import supports as s
from guidedsl.library.supports import Support
from guidedsl.sizes import Size, product
from guidedsl.source import Span

_AUXILIARY = 'infer={"is_auxiliary": True}'
_UNCOUNTED = ".mask(False)"
"""Noise of the guide's own does not enter log q: E[log p - log q(z | e)] stays a lower bound."""


def guide_function(
    guide: ir.Guide, slots: Slots, name: str, classes: Mapping[str, str], found: list[Diagnostic]
) -> FunctionContext:
    """The guide as a function called `name`; what Pyro cannot say goes into `found`."""
    writer = _GuideWriter(guide, slots, classes, found)
    writer.write()
    writer.finish()
    doc = guide.docstring or f"Guide {guide.name} for {guide.model.name}."
    return FunctionContext(name, doc, writer.arguments(), (*writer.dims(), *writer.written()))


class _GuideWriter(FunctionWriter):
    """Writes the statements of one guide."""

    def __init__(self, guide: ir.Guide, slots: Slots, classes: Mapping[str, str], found: list[Diagnostic]) -> None:
        super().__init__(guide.model, slots, guide_locals(guide), classes, found)
        self.guide = guide

    def write(self) -> None:
        guide = self.guide
        with self.refusing(guide.span):
            if guide.summed is not None:
                raise Inexpressible("`auto enumerate`", "write the model with `mixture(…)`, or use the torch target")
            if guide.laplace is not None:
                raise Inexpressible("`auto laplace`", "write `auto full_rank`, which Pyro's SVI can optimise")
        made_of = definitions((*guide.model.statements, *guide.statements))
        inside = [one for scan in guide.statements if isinstance(scan, ir.Scan) for one in scan.statements]
        draws = [one for one in (*guide.statements, *inside) if isinstance(one, ir.Draw | ir.JointDraw)]
        needed = closure(draws, definitions(guide.statements))
        parts = (*draws, *(definitions(guide.statements)[name] for name in needed))
        params = [*(p for p in guide.model.statements if isinstance(p, ir.Param)), *guide.params]
        reads = names_read((*parts, *params), made_of) | names_read(
            [bound for z in guide.model.latents for bound in (z.bounds.low, z.bounds.high) if bound is not None],
            made_of,
        )
        whens = [t.when for t in guide.model.terms if t.when is not None and t.name in reads]
        self.prelude(reads | names_read(whens, made_of))
        param = self.params(params, parts)
        after = {p.name for p in guide.params if any(var.role == "let" for var in variables(p))}
        for one in params:
            if one.name not in after:
                param(one)
        for group in grouped(guide.statements):
            statement = group[0]
            with self.refusing(statement.span):
                match statement:
                    case ir.Param() if statement.name in after:
                        param(statement)
                    case ir.Let():
                        wanted = [let for let in group if isinstance(let, ir.Let) and let.name in needed]
                        for written in let_statements(wanted, self.emitter) if wanted else []:
                            self.lines.append(((), written))
                    case ir.Draw():
                        self._draw(statement, self.emitter)
                    case ir.JointDraw():
                        self._joint(statement)
                    case ir.Scan():
                        self._scan(statement, needed)

    # Draws

    def _draw(self, draw: ir.Draw, emitter: PyroEmitter) -> None:
        """A draw, where `draw` is of a scan that of all its steps at once."""
        steps = [emitter.plates[step].size for step in emitter.steps_of(draw.plates)]
        plates = tuple(plate for plate in draw.plates if plate in emitter.slots)
        event = (*steps, *draw.dist.type.event)
        batch = len(event) - draw.dist.own
        own_batch = len(draw.dist.type.event) - draw.dist.own
        code = pyro_distribution(emitter, draw.dist, draw.plates, own_batch, draw.dist.type.event)
        text = f"{code.text}.to_event({batch})" if batch else code.text
        name = local_name(draw.name)
        if draw.latent is None:
            site = self.names.fresh(f"aux_{draw.name}")
            site_text = f'pyro.sample("{site}", {text}{_UNCOUNTED}, {_AUXILIARY})'
            self.sampled(name, site_text, draw.dist, draw.type, draw.span, plates)
        elif draw.via is None or draw.via[0] == s.support("real"):
            self.sampled(name, f'pyro.sample("{draw.name}", {text})', draw.dist, draw.type, draw.span, plates)
        elif has_bijection(draw.via[0]):
            text = self.transformed(draw, text, plates, len(draw.type.event), emitter)
            self.add(f'{name} = pyro.sample("{draw.name}", {text})', draw.span, plates)
        else:
            free = self.names.fresh(f"{name}_free")
            self.add(f'{free} = pyro.sample("{free}", {text}, {_AUXILIARY})', draw.span, plates)
            self._pushed(draw.latent, free, draw.via, (*steps, *draw.type.event), plates, draw.span, emitter)

    def transformed(self, draw: ir.Draw, text: str, plates: Sequence[str], rank: int, emitter: PyroEmitter) -> str:
        """The law of a draw pushed through a bijection of torch's."""
        assert draw.via is not None
        support, bounds = draw.via
        if support.row.name in ("positive", "nonnegative") and text.startswith("dist.Normal("):
            return f"dist.LogNormal({text.removeprefix('dist.Normal(')}"
        constraint = pyro_constraint(emitter, support, bounds, None, plates, rank)
        return f"dist.TransformedDistribution({text}, [biject_to({constraint})])"

    def _pushed(
        self,
        latent: ir.Latent,
        free: str,
        via: tuple[Support, Bounds],
        event: Sequence[Size],
        plates: Sequence[str],
        span: Span,
        emitter: PyroEmitter,
    ) -> None:
        """The latent at the value that its coordinates have under a bijection."""
        name = local_name(latent.name)
        if via[0] == s.support("real"):
            value = free
            delta = f"dist.Delta({value}{_event_dim(event)})"
        else:
            value, log_det = self.names.fresh(f"{name}_value"), self.names.fresh(f"log_det_{name}")
            self.add(f"{value}, {log_det} = {pushed(emitter, via[0], via[1], plates, event, free)}", span)
            density = summed(Code(log_det), len(event) - via[0].row.rank)
            delta = f"dist.Delta({value}, -{density.at(ATOM)}{_event_dim(event)})"
        self.add(f'{name} = pyro.sample("{latent.name}", {delta})', span, plates)

    # Joints

    def _joint(self, draw: ir.JointDraw) -> None:
        if isinstance(draw.dist, ir.Flow):
            raise Inexpressible("a normalizing flow", "write `auto full_rank` or `auto low_rank`")
        batch = 1 - draw.dist.own
        code = pyro_distribution(self.emitter, draw.dist, draw.plates, batch, draw.dist.type.event)
        text = f"{code.text}.to_event({batch})" if batch else code.text
        block = self.names.fresh("joint_free" if len(draw.latents) > 1 else f"{local_name(draw.latents[0].name)}_free")
        self.add(f'{block} = pyro.sample("{block}", {text}, {_AUXILIARY})', draw.span, draw.plates)
        for latent, part in zip(draw.latents, self._split(block, draw), strict=True):
            shaped = self._shaped(part, latent, draw)
            event = latent.type.event
            via = latent.type.support, latent.bounds
            self._pushed(latent, shaped, via, event, latent.plates, draw.span, self.emitter)

    def _split(self, block: str, draw: ir.JointDraw) -> list[str]:
        """The slices of a joint vector, one a latent."""
        if len(draw.latents) == 1:
            return [block]
        parts = [self.names.fresh(f"{local_name(latent.name)}_free") for latent in draw.latents]
        if self._all_scalars(draw):
            self.add(f"{', '.join(parts)} = {block}.unbind(-1)", draw.span)
            return parts
        sizes = [
            self.emitter.size(product((*self._rows(z, draw), s.free_size(z.type.support, z.type.event))))
            for z in draw.latents
        ]
        self.add(f"{', '.join(parts)} = {block}.split([{', '.join(sizes)}], -1)", draw.span)
        return parts

    def _all_scalars(self, draw: ir.JointDraw) -> bool:
        return len(draw.latents) > 1 and all(not self._rows(z, draw) and not z.type.event for z in draw.latents)

    def _rows(self, latent: ir.Latent, draw: ir.JointDraw) -> tuple[Size, ...]:
        return tuple(self.model.plate(plate).size for plate in latent.plates if plate not in draw.plates)

    def _shaped(self, part: str, latent: ir.Latent, draw: ir.JointDraw) -> str:
        """A slice of the joint vector as the latent's coordinates, its plates' axes in place."""
        free = s.free_shape(latent.type.support, latent.type.event)
        assert free is not None
        plates = [plate for plate in latent.plates if plate not in draw.plates]
        shape = (*self._rows(latent, draw), *free)
        if not shape:
            return part if self._all_scalars(draw) else f"{part}[..., 0]"
        text = part
        if len(shape) > 1:
            text = f"{part}.unflatten(-1, ({', '.join(self.emitter.size(size) for size in shape)}))"
        for position, plate in enumerate(plates):
            rank = len(shape) - position
            text = f"fn.into_plate({text}, {-rank}, {self.emitter.slots[plate]}, {rank})"
        return text

    # Scans

    def _scan(self, scan: ir.Scan, needed: set[str]) -> None:
        behind = read_behind(self.guide.statements, scan, needed)
        body: list[Statement] = []
        sampler = _StepSampler(self, body, local_name(scan.step))
        ScanWriter(scan, self.emitter, self.names, body, behind, sampler=sampler).write()
        sampler.flush()


def _event_dim(event: Sequence[Size]) -> str:
    return f", event_dim={len(event)}" if event else ""


class _StepSampler:
    """Writes the draws of a scan: all steps at once where nothing recurs, else a site a step."""

    def __init__(self, writer: _GuideWriter, body: list[Statement], step: str) -> None:
        self.writer = writer
        self.body = body
        self.step = step
        self.drawn: list[ir.Draw] = []

    def flush(self) -> None:
        """Move what the scan has written so far into the guide; a latent drawn step by step is a site as a whole."""
        self.writer.lines += [((), statement) for statement in self.body]
        self.body.clear()
        for draw in self.drawn:
            name, rank = local_name(draw.name), len(draw.type.event) + 1
            plates = [plate for plate in draw.plates if plate in self.writer.emitter.slots]
            site = f'pyro.sample("{draw.name}", dist.Delta({name}, event_dim={rank}))'
            self.writer.add(f"{name} = {site}", draw.span, plates)
        self.drawn.clear()

    def sample(self, draw: ir.Draw, emitter: Emitter, body: list[Statement]) -> None:
        assert isinstance(emitter, PyroEmitter)
        self.flush()
        self.writer._draw(draw, emitter)

    def sample_step(self, draw: ir.Draw, value: str, emitter: Emitter, body: list[Statement]) -> str | None:
        assert isinstance(emitter, PyroEmitter)
        writer, plates = self.writer, tuple(plate for plate in draw.plates if plate in emitter.slots)
        batch = len(draw.dist.type.event) - draw.dist.own
        code = pyro_distribution(emitter, draw.dist, draw.plates, batch, draw.dist.type.event)
        text = f"{code.text}.to_event({batch})" if batch else code.text
        if draw.via is not None and draw.via[0] != s.support("real"):
            if not has_bijection(draw.via[0]):
                raise Inexpressible(
                    f"a scan that draws a {draw.via[0].row.name} `via`", "draw it whole, behind the scan"
                )
            text = writer.transformed(draw, text, plates, len(draw.type.event), emitter)
        if draw.latent is None:
            text = f"{text}{_UNCOUNTED}"
        site = writer.names.fresh(f"{draw.name}_at")
        code_text = f'{value} = pyro.sample(f"{site}_{{{self.step}}}", {text}, {_AUXILIARY})'
        entered = ", ".join(map(writer.entered, plates))
        line = draw.span.line
        body.append(
            Statement(f"with {entered}:", line, (Statement(code_text, line),)) if plates else Statement(code_text, line)
        )
        if draw.latent is not None:
            self.drawn.append(draw)
        return None

    def count(self, draw: ir.Draw, log_q: str, emitter: Emitter) -> None:
        """Never called: no draw is written step by step."""
