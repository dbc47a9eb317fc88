"""A guide as Python: one function that registers its params, samples the latents and returns their log density."""

from __future__ import annotations

from dataclasses import dataclass

from guidedsl import ir
from guidedsl.backend.emit import SUM, Code, Emitter, chain, summed
from guidedsl.backend.model import ModelContext, Names, needed_lets, scaled, used_dims
from guidedsl.backend.names import Module, local_name, snake_case
from guidedsl.backend.statements import Statement, let_statement, param_statement
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
    dims: Names
    body: tuple[Statement, ...]
    latents: str
    log_q: str
    score: str | None
    span_line: int


def guide_context(guide: ir.Guide, variable: str, model: ModelContext, names: Module) -> GuideContext:
    """Lower a guide, which the generated module holds as `variable`."""
    snake = snake_case(guide.name)
    writer = _Writer(guide)
    writer.write()
    latents = ", ".join(writer.local(latent.name) for latent in guide.model.latents)
    return GuideContext(
        name=guide.name,
        variable=variable,
        docstring=guide.docstring,
        function=names.take(snake, f"{snake}_guide"),
        model=model,
        params_doc=tuple(_param_doc(param, guide.model) for param in guide.params),
        has_params=writer.has_params,
        dims=used_dims(writer.emitter, guide.model),
        body=tuple(writer.body),
        latents=latents,
        log_q=joined(writer.log_q) or "data.new_full(particles, 0.0)",
        score=joined(writer.score) or None,
        span_line=guide.span.line,
    )


def _param_doc(param: ir.Param, model: ir.Model) -> str:
    """`Guide.w: [N, K] positive, a row for each of user`: the shape in the store, by dim name."""
    type = param.type
    axes = [*(str(model.plate(plate).size) for plate in type.plates), *(str(size) for size in type.event)]
    rows = f", a row for each of {' and '.join(type.plates)}" if type.plates else ""
    return f"{param.store_name}: [{', '.join(axes)}] {type.support}{rows}"


def _reads_let(param: ir.Param) -> bool:
    """Whether the param's init or bounds read a let of the guide, which must then stand before it."""
    return any(var.role == "let" for var in variables(param))


class _Writer:
    """Writes the statements of one guide."""

    def __init__(self, guide: ir.Guide) -> None:
        self.guide = guide
        self.model = guide.model
        self.taken: set[str] = {local_name(name) for name in self._declared()}
        self.emitter = Emitter({plate.name: plate for plate in self.model.plates}, self.local)
        self.body: list[Statement] = []
        self.log_q: list[str] = []
        self.score: list[str] = []
        self.has_params = False

    def local(self, name: str) -> str:
        return local_name(name)

    def fresh(self, wish: str) -> str:
        """A variable of our own that no declared name is."""
        name, number = wish, 1
        while name in self.taken:
            number += 1
            name = f"{wish}{number}"
        self.taken.add(name)
        return name

    def _declared(self) -> list[str]:
        names = [latent.name for latent in self.model.latents] + [dim.name for dim in self.model.dims]
        return names + [s.name for s in self.guide.statements if not isinstance(s, ir.JointDraw)]

    def write(self) -> None:
        self._model_params()
        lets = {s.name: s for s in self.guide.statements if isinstance(s, ir.Let)}
        draws = [s for s in self.guide.statements if isinstance(s, ir.Draw | ir.JointDraw)]
        needed = needed_lets(draws, lets)
        read = {
            var.name for node in (*draws, *(lets[n] for n in needed)) for var in variables(node) if var.role == "param"
        }
        params = {param.name: param for param in self.guide.params if param.name in read}
        after = {name for name, param in params.items() if _reads_let(param)}
        for name, param in params.items():
            if name not in after:
                self._param(param)
        for statement in self.guide.statements:
            match statement:
                case ir.Param() if statement.name in after:
                    self._param(statement)
                case ir.Let() if statement.name in needed:
                    self.body.append(let_statement(statement, self.emitter))
                case ir.Draw():
                    self._draw(statement)
                case ir.JointDraw():
                    self._joint(statement)

    def _param(self, param: ir.Param) -> None:
        self.has_params = True
        self.body.append(param_statement(param, self.emitter))

    def _model_params(self) -> None:
        own = {param.name for param in self.guide.params}
        read = {var.name for var in variables(self.guide.statements) if var.role == "param"} - own
        for statement in self.model.statements:
            if isinstance(statement, ir.Param) and statement.name in read:
                self._param(statement)

    def _add(self, code: str, line: int) -> None:
        self.body.append(Statement(code, line))

    def _draw(self, draw: ir.Draw) -> None:
        name, line = self.local(draw.name), draw.span.line
        pushed = draw.via is not None and s.support("real") != draw.via[0]
        value = self.fresh(f"{name}_free") if pushed else name
        log_q = "_" if draw.latent is None else self.fresh(f"log_q_{value}")
        event = draw.dist.type.event
        self._add(f"{value}, {log_q} = {self._call(draw.dist, draw.plates, event)}", line)
        if draw.latent is None:
            return
        batch = len(event) - draw.dist.own
        terms = [summed(Code(log_q), len(draw.plates) + batch)]
        if pushed:
            assert draw.via is not None
            terms.append(self._push(name, value, draw.via, draw.latent, line))
        self._record(terms, draw.plates, draw.dist)

    def _call(self, dist: ir.Dist, plates: tuple[str, ...], event: tuple[Size, ...]) -> str:
        shape = self.emitter.shape(plates, event, particles=True)
        arguments = self.emitter.arguments(dist, plates, len(event) - dist.own)
        return f"dist.{dist.form.runtime}.draw({', '.join(['noise', shape, *arguments])})"

    def _push(self, name: str, free: str, via: tuple[s.Support, ir.Bounds], latent: ir.Latent, line: int) -> Code:
        """Push unconstrained coordinates onto a support; gives the summed log-determinant."""
        log_det = self.fresh(f"log_det_{name}")
        rank = len(latent.type.event)
        constraint = self.emitter.constraint(via[0], via[1], None, latent.plates, rank)
        self._add(f"{name}, {log_det} = {constraint}.push({free})", line)
        return summed(Code(log_det), len(latent.plates) + rank - via[0].row.rank)

    def _record(self, terms: list[Code], plates: tuple[str, ...], dist: ir.Dist) -> None:
        """Add a site to log q: its density less the log-determinants of the bijections."""
        site = Code(" - ".join(code.text for code in terms), SUM) if len(terms) > 1 else terms[0]
        self.log_q.append(scaled(site, plates, self.model).text)
        if not dist.row.reparameterised:
            self.score.append(site.text)

    def _joint(self, draw: ir.JointDraw) -> None:
        line = draw.span.line
        alone = len(draw.latents) == 1
        log_q = self.fresh(f"log_q_{self.local(draw.latents[0].name)}" if alone else "log_q_joint")
        call = self._call(draw.dist, draw.plates, draw.dist.type.event)
        if alone:
            parts = [self._part(draw.latents[0], draw)]
            self._add(f"{parts[0]}, {log_q} = {call}", line)
        else:
            block = self.fresh("joint_free")
            self._add(f"{block}, {log_q} = {call}", line)
            parts = self._split(block, draw)
        terms = [summed(Code(log_q), len(draw.plates) + 1 - draw.dist.own)]
        scalars = not alone and self._all_scalars(draw)
        for latent, part in zip(draw.latents, parts, strict=True):
            name = self.local(latent.name)
            shaped = part if scalars else self._reshaped(part, latent, draw)
            if latent.type.support == s.support("real"):
                if shaped != name:
                    self._add(f"{name} = {shaped}", line)
            else:
                terms.append(self._push(name, shaped, (latent.type.support, latent.bounds), latent, line))
        self._record(terms, draw.plates, draw.dist)

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
        name = self.local(latent.name)
        plain = len((*self._rows(latent, draw), *latent.type.event)) == (0 if scalar else 1)
        return name if plain and latent.type.support == s.support("real") else self.fresh(f"{name}_free")

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


def joined(terms: list[str]) -> str:
    """A sum of terms, a long one in bracketed groups."""
    return chain(terms, ["+"] * len(terms)) if terms else ""
