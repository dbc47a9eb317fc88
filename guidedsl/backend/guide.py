"""A guide as Python: one function that registers its params, samples the latents and returns their log density."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from guidedsl import ir
from guidedsl.backend.closed_forms import closed_forms
from guidedsl.backend.code import SUM, Code, chain, summed
from guidedsl.backend.distributions import draw as draw_code
from guidedsl.backend.distributions import log_prob, sample
from guidedsl.backend.emit import Emitter
from guidedsl.backend.functions import Pairs, guide_locals, model_emitter, used_dims
from guidedsl.backend.model import ModelContext
from guidedsl.backend.names import Module, local_name, snake_case
from guidedsl.backend.nets import Variables, net_statements
from guidedsl.backend.scans import ScanWriter, closure, definitions, read_behind
from guidedsl.backend.statements import Statement, grouped, let_statements, param_reads, param_statements
from guidedsl.backend.terms import scaled
from guidedsl.check.closed_forms import divergences, known_marginals
from guidedsl.check.walk import variables
from guidedsl.library import supports as s
from guidedsl.sizes import Size, product


@dataclass(frozen=True)
class GuideContext:
    name: str
    variable: str
    docstring: str | None
    function: str
    model: ModelContext
    params_doc: tuple[str, ...]
    has_params: bool
    dims: Pairs
    body: tuple[Statement, ...]
    latents: str
    log_q: str
    score: bool
    kl: str | None
    marginals: str | None
    nets: str | None
    laplace: str | None
    span_line: int


def guide_context(
    guide: ir.Guide, variable: str, model: ModelContext, names: Module, callees: Variables
) -> GuideContext:
    """Lower a guide, which the generated module holds as `variable`."""
    snake = snake_case(guide.name)
    writer = _Writer(guide)
    writer.write()
    nets = net_statements(writer.emitter.callees.values(), callees, writer.emitter)
    score = joined(writer.score) or None
    if score is not None:
        writer.body.append(Statement(f"score = {score}", guide.span.line))
    closed = divergences(guide)
    if closed:
        writer.body.append(closed_forms(closed, writer, callees))
    body = (*nets, *writer.body)
    passed = [f'"{net.store_name}"' for net in (*guide.model.nets, *guide.nets) if net.kind == "passed"]
    summed = guide.summed.names if guide.summed is not None else ()
    latents = ", ".join("None" if latent.name in summed else local_name(latent.name) for latent in guide.model.latents)
    return GuideContext(
        name=guide.name,
        variable=variable,
        docstring=guide.docstring,
        function=names.take(snake, f"{snake}_guide"),
        model=model,
        params_doc=(
            *(_param_doc(param, guide.model) for param in guide.params),
            *(_net_doc(net, net.layers) for net in guide.nets if net.layers is not None),
            *(
                _flow_doc(s.dist)
                for s in guide.statements
                if isinstance(s, ir.JointDraw)
                if isinstance(s.dist, ir.Flow)
            ),
        ),
        has_params=writer.has_params,
        dims=used_dims(writer.emitter, guide.model),
        body=body,
        latents=latents,
        log_q=joined(writer.log_q) or "data.new_full(particles, 0.0)",
        score=score is not None,
        kl=_names({one.draw.name for one in closed}, model, guide),
        marginals=_names(known_marginals(guide), model, guide),
        nets=f"({', '.join(passed)}{',' if len(passed) == 1 else ''})" if passed else None,
        laplace=f'("{guide.laplace.loc}", "{guide.laplace.scale_tril}")' if guide.laplace is not None else None,
        span_line=guide.span.line,
    )


def _names(names: Collection[str], model: ModelContext, guide: ir.Guide) -> str | None:
    """Latents as a tuple of their names, in the model's order; all of them are the fields of the latents' type."""
    ordered = [latent.name for latent in guide.model.latents if latent.name in names]
    if len(ordered) > 1 and ordered == [attribute.name for attribute in model.latents]:
        return f"{model.latents_class}._fields"
    shown = ", ".join(json.dumps(name, ensure_ascii=False) for name in ordered)
    return f"({shown}{',' if len(ordered) == 1 else ''})" if ordered else None


def _net_doc(net: ir.Callee, layers: ir.Layers) -> str:
    """`Guide.encoder: a net, hidden [H, D], loc [Z, H]`: its weights in the store; biases have the first axis."""
    shapes = ", ".join(f"{layer.name} [{layer.outputs}, {layer.inputs}]" for layer in layers.all)
    return f"{net.store_name}: a net, {shapes}"


def _param_doc(param: ir.Param, model: ir.Model) -> str:
    """`Guide.w: [N, K] positive, a row for each of user`: the shape in the store, by dim name."""
    type = param.type
    axes = [*(str(model.plate(plate).size) for plate in type.plates), *(str(size) for size in type.event)]
    rows = f", a row for each of {' and '.join(type.plates)}" if type.plates else ""
    return f"{param.store_name}: [{', '.join(axes)}] {type.support}{rows}"


def _flow_doc(flow: ir.Flow) -> str:
    """`Guide.flow.…: loc and scale, [N + 2] each, and the weights of the nets (spline)`."""
    return f"{flow.store_name}.…: loc and scale, [{flow.size}] each, and the weights of the nets ({flow.kind})"


def _reads_let(param: ir.Param) -> bool:
    """Whether the param's init or bounds read a let of the guide, which must then stand before it."""
    return any(var.role == "let" for var in variables(param))


@dataclass(frozen=True)
class Place:
    """Where a statement goes, and the line that it comes from."""

    body: list[Statement]
    line: int


class _Writer:
    """Writes the statements of one guide."""

    def __init__(self, guide: ir.Guide) -> None:
        self.guide = guide
        self.model = guide.model
        self.names = guide_locals(guide)
        self.emitter = model_emitter(self.model)
        self.body: list[Statement] = []
        self.log_q: list[str] = []
        self.score: list[str] = []
        self.has_params = False
        self.by_row: set[str] = set()
        self.whole: set[str] = set()
        self.densities: dict[str, tuple[str, str | None]] = {}
        """By what is sampled alone: the variables of its density and of its bijection's log-determinant."""

    def _name_sizes(self) -> None:
        """A variable for the size of a joint that is long to write and written more than once."""
        joints = [s for s in self.guide.statements if isinstance(s, ir.JointDraw)]
        shapes = [size for param in self.guide.params for size in param.type.event]
        for draw in joints:
            size = draw.dist.size if isinstance(draw.dist, ir.Flow) else draw.dist.type.event[-1]
            long = size.name is None and size.constant is None and size not in self.emitter.named
            if long and size in shapes:
                text = self.emitter.size(size)
                self.emitter.named[size] = self.names.fresh("joint_size")
                self._add(f"{self.emitter.named[size]} = {text}", draw.span.line)

    def write(self) -> None:
        self._name_sizes()
        made_of = definitions(self.guide.statements)
        inside = [s for scan in self.guide.statements if isinstance(scan, ir.Scan) for s in scan.statements]
        draws = [s for s in (*self.guide.statements, *inside) if isinstance(s, ir.Draw | ir.JointDraw)]
        needed = closure(draws, made_of)
        parts = (*draws, *(made_of[name] for name in needed))
        self.by_row, self.whole = param_reads(parts, self.emitter.plates)
        self._model_params()
        read = self.by_row | self.whole
        params = {param.name: param for param in self.guide.params if param.name in read}
        after = {name for name, param in params.items() if _reads_let(param)}
        for name, param in params.items():
            if name not in after:
                self._param(param)
        for group in grouped(self.guide.statements):
            statement = group[0]
            match statement:
                case ir.Param() if statement.name in after:
                    self._param(statement)
                case ir.Let():
                    wanted = [let for let in group if isinstance(let, ir.Let) and let.name in needed]
                    self.body += let_statements(wanted, self.emitter) if wanted else []
                case ir.Draw():
                    self.sample(statement, self.emitter, self.body)
                case ir.Scan():
                    behind = read_behind(self.guide.statements, statement, needed)
                    ScanWriter(statement, self.emitter, self.names, self.body, behind, sampler=self).write()
                case ir.JointDraw():
                    self._joint(statement)

    def _param(self, param: ir.Param) -> None:
        self.has_params = True
        by_row = param.name in self.by_row
        whole = self.names.fresh(f"{local_name(param.name)}_all") if param.name in self.whole else None
        self.body += param_statements(param, self.emitter, by_row=by_row, whole=whole)

    def _model_params(self) -> None:
        read = (self.by_row | self.whole) - {param.name for param in self.guide.params}
        for statement in self.model.statements:
            if isinstance(statement, ir.Param) and statement.name in read:
                self._param(statement)

    def _add(self, code: str, line: int) -> None:
        self.body.append(Statement(code, line))

    def sample(self, draw: ir.Draw, emitter: Emitter, body: list[Statement]) -> None:
        """Write a draw and add it to log q."""
        terms = self._draw(draw, local_name(draw.name), emitter, body, len(draw.plates))
        if draw.latent is not None:
            self._record(terms, draw.plates, draw.dist, emitter)

    def sample_step(self, draw: ir.Draw, value: str, emitter: Emitter, body: list[Statement]) -> str | None:
        """Write a draw of one step of a scan; gives its log density, summed over its event."""
        terms = self._draw(draw, value, emitter, body, 0)
        return _difference(terms).text if draw.latent is not None else None

    def count(self, draw: ir.Draw, log_q: str, emitter: Emitter) -> None:
        """Add a site of a scan to log q, which `log_q` holds for each row and step."""
        self._record([summed(Code(log_q), len(draw.plates))], draw.plates, draw.dist, emitter)

    def _draw(self, draw: ir.Draw, name: str, emitter: Emitter, body: list[Statement], plates: int) -> list[Code]:
        """Write a draw; gives its log density and log-determinant, summed over its event and that many plates."""
        line = draw.span.line
        pushed = draw.via is not None and s.support("real") != draw.via[0]
        value = self.names.fresh(f"{name}_free") if pushed else name
        log_q = "_" if draw.latent is None else self.names.fresh(f"log_q_{value}")
        event = draw.dist.type.event
        _sample(value, log_q, draw.dist, draw.plates, event, emitter, Place(body, line))
        if draw.dist.row.tabulated and draw.type.support.target is None:
            body.append(Statement(f"{value} = {value}.to(data.dtype)", line))  # a number, not a position
        terms = [summed(Code(log_q), plates + len(event) - draw.dist.own)]
        self.densities[draw.name] = log_q, None
        if pushed:
            assert draw.via is not None
            rank = len(draw.type.event)
            log_det = self._push(name, value, draw.via, draw.plates, rank, emitter, Place(body, line))
            terms.append(summed(log_det, plates + rank - draw.via[0].row.rank))
            self.densities[draw.name] = log_q, log_det.text
        return terms

    def _push(
        self,
        name: str,
        free: str,
        via: tuple[s.Support, ir.Bounds],
        plates: tuple[str, ...],
        rank: int,
        emitter: Emitter,
        place: Place,
    ) -> Code:
        """Push unconstrained coordinates onto a support; gives the log-determinant."""
        log_det = self.names.fresh(f"log_det_{name}")
        constraint = emitter.constraint(via[0], via[1], None, plates, rank)
        place.body.append(Statement(f"{name}, {log_det} = {constraint}.push({free})", place.line))
        return Code(log_det)

    def _record(self, terms: list[Code], plates: tuple[str, ...], dist: ir.Dist | ir.Flow, emitter: Emitter) -> None:
        """Add a site to log q: its density less the log-determinants of the bijections."""
        site = _difference(terms)
        self.log_q.append(scaled(site, plates, emitter).text)
        if isinstance(dist, ir.Dist) and not dist.row.reparameterised:
            self.score.append(site.text)

    def _joint(self, draw: ir.JointDraw) -> None:
        line = draw.span.line
        alone = len(draw.latents) == 1
        log_q = self.names.fresh(f"log_q_{local_name(draw.latents[0].name)}" if alone else "log_q_joint")
        batch = 0 if isinstance(draw.dist, ir.Flow) else 1 - draw.dist.own
        if alone:
            parts = [self._part(draw.latents[0], draw)]
            self._draw_joint(parts[0], log_q, draw)
        else:
            block = self.names.fresh("joint_free")
            self._draw_joint(block, log_q, draw)
            parts = self._split(block, draw)
        terms = [summed(Code(log_q), len(draw.plates) + batch)]
        scalars = not alone and self._all_scalars(draw)
        for latent, part in zip(draw.latents, parts, strict=True):
            name = local_name(latent.name)
            shaped = part if scalars else self._reshaped(part, latent, draw)
            if latent.type.support == s.support("real"):
                if shaped != name:
                    self._add(f"{name} = {shaped}", line)
            else:
                via, rank = (latent.type.support, latent.bounds), len(latent.type.event)
                log_det = self._push(name, shaped, via, latent.plates, rank, self.emitter, Place(self.body, line))
                terms.append(summed(log_det, len(latent.plates) + rank - latent.type.support.row.rank))
        self._record(terms, draw.plates, draw.dist, self.emitter)

    def _draw_joint(self, value: str, log_q: str, draw: ir.JointDraw) -> None:
        if isinstance(draw.dist, ir.Flow):
            self._add(f"{value}, {log_q} = {self._flow(draw.dist, draw.span.line)}", draw.span.line)
            return
        place = Place(self.body, draw.span.line)
        _sample(value, log_q, draw.dist, draw.plates, draw.dist.type.event, self.emitter, place)

    def _flow(self, flow: ir.Flow, line: int) -> str:
        """The draw of a flow: its nets first, with their weights from the store."""
        name = self.names.fresh(f"joint_{flow.name}")
        size, transforms, hidden = (self.emitter.size(size) for size in (flow.size, flow.transforms, flow.hidden))
        options = f"transforms={transforms}, hidden={hidden}"
        self._add(f'{name} = flow("{flow.store_name}", "{flow.kind}", {size}, data, store, {options})', line)
        return f"{name}.draw(noise, particles)"

    def _split(self, block: str, draw: ir.JointDraw) -> list[str]:
        """The slices of a joint vector, one a latent."""
        line = draw.span.line
        if self._all_scalars(draw):
            parts = [self._part(latent, draw, scalar=True) for latent in draw.latents]
            self._add(f"{', '.join(parts)} = {block}.unbind(-1)", line)
            return parts
        parts = [self._part(latent, draw) for latent in draw.latents]
        sizes = [
            self.emitter.size(product((*self._rows(z, draw), s.free_size(z.type.support, z.type.event))))
            for z in draw.latents
        ]
        self._add(f"{', '.join(parts)} = {block}.split([{', '.join(sizes)}], -1)", line)
        return parts

    def _all_scalars(self, draw: ir.JointDraw) -> bool:
        return all(not self._rows(latent, draw) and not latent.type.event for latent in draw.latents)

    def _part(self, latent: ir.Latent, draw: ir.JointDraw, *, scalar: bool = False) -> str:
        """The variable of a latent's slice: the latent itself where nothing is left to do."""
        name = local_name(latent.name)
        plain = len((*self._rows(latent, draw), *latent.type.event)) == (0 if scalar else 1)
        return name if plain and latent.type.support == s.support("real") else self.names.fresh(f"{name}_free")

    def _rows(self, latent: ir.Latent, draw: ir.JointDraw) -> tuple[Size, ...]:
        return tuple(self.model.plate(plate).size for plate in latent.plates if plate not in draw.plates)

    def _reshaped(self, part: str, latent: ir.Latent, draw: ir.JointDraw) -> str:
        """A slice of the joint vector in the latent's own free shape, its plates in the model's order."""
        free = s.free_shape(latent.type.support, latent.type.event)
        assert free is not None
        shape = (*self._rows(latent, draw), *free)
        if not shape:
            return f"{part}[..., 0]"
        text = part
        if len(shape) > 1:
            text = f"{part}.unflatten(-1, ({', '.join(self.emitter.size(size) for size in shape)}))"
        got = (*draw.plates, *(plate for plate in latent.plates if plate not in draw.plates))
        if got == latent.plates:
            return text
        tail = len(free)
        source = tuple(got.index(plate) - len(got) - tail for plate in latent.plates)
        target = tuple(n - len(got) - tail for n in range(len(got)))
        return f"{text}.movedim({source}, {target})"


def _sample(
    value: str,
    log_q: str,
    dist: ir.Dist,
    plates: tuple[str, ...],
    event: tuple[Size, ...],
    emitter: Emitter,
    place: Place,
) -> None:
    """Draw `value`, and `log_q`, its log density, which `_` asks not to know."""
    if dist.row.rule is None:
        text = f"{value}, {log_q} = {draw_code(emitter, dist, plates, event).text}"
        place.body.append(Statement(text, place.line))
        return
    place.body.append(Statement(f"{value} = {sample(emitter, dist, plates, event).text}", place.line))
    if log_q != "_":
        density = log_prob(emitter, dist, Code(value), dist.type.support, plates, len(event) - dist.own)
        place.body.append(Statement(f"{log_q} = {density.text}", place.line))


def _difference(terms: list[Code]) -> Code:
    """A density less log-determinants."""
    return Code(" - ".join(code.text for code in terms), SUM) if len(terms) > 1 else terms[0]


def joined(terms: list[str]) -> str:
    """A sum of terms, a long one in bracketed groups."""
    return chain(terms, ["+"] * len(terms)) if terms else ""
