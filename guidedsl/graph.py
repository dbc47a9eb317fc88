"""A checked program as a graph: what is declared, in which plates, and what depends on what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from guidedsl import ir
from guidedsl.check.shapes import show
from guidedsl.check.walk import variables

Kind = Literal["data", "observed", "latent", "param", "let", "aux", "joint", "factor"]


@dataclass(frozen=True)
class Node:
    """`plates` are those around it, outermost first."""

    id: str
    kind: Kind
    label: str
    plates: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A model or a guide. `titles` has, by plate, its name and size; `edges` lead from what is read to the reader."""

    title: str
    titles: dict[str, str]
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]


def parts_of(program: ir.Program, guide: str | None = None, *, lets: bool = True) -> tuple[Part, ...]:
    """Each model with its guides behind it, or one guide with its model. Without `lets` edges lead through them."""
    parts: list[Part] = []
    for model in program.models:
        guides = [one for one in program.guides if one.model.name == model.name and guide in (None, one.name)]
        if guide is not None and not guides:
            continue
        parts.append(_Builder(f"p{len(parts)}", lets, model).model_part())
        for one in guides:
            parts.append(_Builder(f"p{len(parts)}", lets, model).guide_part(one))
    return tuple(parts)


class _Builder:
    def __init__(self, prefix: str, lets: bool, model: ir.Model) -> None:
        self.prefix, self.lets, self.model = prefix, lets, model
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], None] = {}
        self.through: dict[str, tuple[str, ...]] = {}

    def model_part(self) -> Part:
        model = self.model
        for field in model.fields:
            self._field(field)
        for latent in model.latents:
            self._latent(latent)
        for field in model.fields:
            self._reads(field.name, (field.default, field.bounds))
        for statement in model.statements:
            match statement:
                case ir.Param():
                    self._param(statement)
                case ir.Let():
                    self._let(statement)
                case ir.Term() if statement.name is None:
                    name = f"factor {sum(node.kind == 'factor' for node in self.nodes.values())}"
                    self._node(name, "factor", "factor", statement.plates)
                    self._reads(name, statement.value)
                case ir.Term():
                    assert statement.name is not None
                    self._reads(statement.name, (statement.dist, statement.when))
        for latent in model.latents:
            self._reads(latent.name, latent.bounds)
        return self._part(f"model {model.name}")

    def guide_part(self, guide: ir.Guide) -> Part:
        fields = {field.name: field for field in self.model.fields}
        lets = {let.name: let for let in self.model.derived}
        params = {s.name: s for s in self.model.statements if isinstance(s, ir.Param)}
        for name in dict.fromkeys(var.name for var in variables(guide.statements)):
            if name in fields:
                self._field(fields[name])
            elif name in lets:
                self._node(name, "data", name, lets[name].plates)
            elif name in params:
                self._param(params[name])
        for latent in self.model.latents:
            self._latent(latent)
        for statement in guide.statements:
            match statement:
                case ir.Param():
                    self._param(statement)
                case ir.Let():
                    self._let(statement)
                case ir.Draw():
                    if statement.latent is None:
                        self._node(statement.name, "aux", _typed(statement.name, statement.type), statement.plates)
                    self._reads(statement.name, (statement.dist, statement.via))
                case ir.JointDraw():
                    self._joint(statement)
        return self._part(f"guide {guide.name} for {self.model.name}")

    def _part(self, title: str) -> Part:
        titles = {plate.name: _plate(plate) for plate in self.model.plates}
        return Part(title, titles, tuple(self.nodes.values()), tuple(self.edges))

    def _node(self, name: str, kind: Kind, label: str, plates: Iterable[str]) -> None:
        if name not in self.nodes:
            self.nodes[name] = Node(f"{self.prefix}n{len(self.nodes)}", kind, label, tuple(plates))

    def _field(self, field: ir.Field) -> None:
        self._node(field.name, field.role, _typed(field.name, field.type), field.plates)

    def _latent(self, latent: ir.Latent) -> None:
        self._node(latent.name, "latent", _typed(latent.name, latent.type), latent.plates)

    def _param(self, param: ir.Param) -> None:
        self._node(param.name, "param", _typed(param.name, param.type), param.type.plates)
        self._reads(param.name, (param.init, param.bounds))

    def _let(self, let: ir.Let) -> None:
        if self.lets:
            self._node(let.name, "let", f"{let.name}{show(let.event) if let.event else ''}", let.plates)
            self._reads(let.name, (let.value, let.bounds))
        else:
            self.through[let.name] = self._sources((let.value, let.bounds))

    def _joint(self, draw: ir.JointDraw) -> None:
        name = f"joint {', '.join(latent.name for latent in draw.latents)}"
        self._node(name, "joint", draw.dist.row.name, draw.plates)
        self._reads(name, draw.dist)
        for latent in draw.latents:
            self._edge(name, latent.name)

    def _sources(self, root: object) -> tuple[str, ...]:
        """The nodes that an expression reads, those that stand behind lets for the lets."""
        read = dict.fromkeys(var.name for var in variables(root))
        return tuple(dict.fromkeys(source for name in read for source in self.through.get(name, (name,))))

    def _reads(self, name: str, root: object) -> None:
        for source in self._sources(root):
            self._edge(source, name)

    def _edge(self, source: str, target: str) -> None:
        if source in self.nodes and target in self.nodes and source != target:
            self.edges[self.nodes[source].id, self.nodes[target].id] = None


def _typed(name: str, type: ir.Type) -> str:
    kind = str(type.support)
    event = type.event[:-1] if type.support.row.square else type.event
    return f"{name} : {kind}{show(event) if event else ''}"


def _plate(plate: ir.Plate) -> str:
    batching = f" {plate.batching}({plate.batch})" if plate.batching is not None else ""
    return f"{plate.name}[{plate.size.written}]{batching}"
