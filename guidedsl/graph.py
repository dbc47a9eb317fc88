"""A checked program as a graph: what is declared, in which plates, and what depends on what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from guidedsl import ir
from guidedsl.check.shapes import show
from guidedsl.check.walk import calls, variables

Kind = Literal["data", "observed", "latent", "param", "let", "aux", "joint", "factor", "net", "carry"]


@dataclass(frozen=True)
class Node:
    """`plates` are those around it, outermost first."""

    id: str
    kind: Kind
    label: str
    plates: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A model or a guide. `titles` has that of each plate and scan; `edges` lead from what is read to the reader."""

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
        self.titles = {plate.name: _plate(plate) for plate in model.plates}
        self.steps: dict[str, str] = {}

    def _scans(self, statements: Iterable[ir.ModelStatement | ir.GuideStatement]) -> None:
        """Note the sites of scans: they stand in its box, with the type that they have at one step."""
        for statement in statements:
            if isinstance(statement, ir.Scan):
                self.steps |= {site: self._box(statement) for site in statement.sites}

    def _box(self, scan: ir.Scan) -> str:
        """The box of a scan, which is drawn as a plate of its steps is."""
        name = f"{scan.step} at {scan.span.start}"
        self.titles[name] = f"{scan.step} in {scan.size.written}"
        return name

    def model_part(self) -> Part:
        model = self.model
        self._scans(model.statements)
        for field in model.fields:
            self._field(field)
        for latent in model.latents:
            self._latent(latent)
        for field in model.fields:
            self._reads(field.name, (field.default, field.bounds))
        for statement in model.statements:
            self._statement(statement)
        for latent in model.latents:
            self._reads(latent.name, latent.bounds)
        return self._part(f"model {model.name}")

    def guide_part(self, guide: ir.Guide) -> Part:
        self._scans(guide.statements)
        summed = guide.summed.names if guide.summed is not None else ()
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
            if latent.name not in summed:
                self._latent(latent)
        for statement in guide.statements:
            self._statement(statement)
        return self._part(f"guide {guide.name} for {self.model.name}")

    def _statement(self, statement: ir.ModelStatement | ir.GuideStatement, box: tuple[str, ...] = ()) -> None:
        """Draw a statement; `box` is that of the scan around it."""
        match statement:
            case ir.Param():
                self._param(statement)
            case ir.Let():
                self._let(statement, box)
            case ir.Term() if statement.name is None:
                name = f"factor {sum(node.kind == 'factor' for node in self.nodes.values())}"
                self._node(name, "factor", "factor", (*statement.plates, *box))
                self._reads(name, statement.value)
            case ir.Term():
                assert statement.name is not None
                self._reads(statement.name, (statement.dist, statement.when))
            case ir.Draw():
                if statement.latent is None:
                    plates = (*statement.plates, *box)
                    self._node(statement.name, "aux", _typed(statement.name, statement.type), plates)
                self._reads(statement.name, (statement.dist, statement.via))
            case ir.JointDraw():
                self._joint(statement)
            case ir.Scan():
                self._scan(statement)

    def _scan(self, scan: ir.Scan) -> None:
        box = (self._box(scan),)
        for carry in scan.carries:
            self._node(carry.name, "carry", _typed(carry.name, carry.type), (*scan.plates, *box))
            self._reads(carry.name, carry.init)
        for statement in scan.statements:
            self._statement(statement, box)
        for carry in scan.carries:
            self._reads(carry.name, carry.next)
        self._close(box[0], (s.name for s in scan.statements if isinstance(s, ir.Let) and not isinstance(s, ir.Emit)))

    def _close(self, box: str, local: Iterable[str]) -> None:
        """Set the names apart that belong to the steps of a scan: another scan may have them too."""
        for name in local:
            self.through.pop(name, None)
            if name in self.nodes:
                self.nodes = {f"{name} in {box}" if key == name else key: node for key, node in self.nodes.items()}

    def _part(self, title: str) -> Part:
        return Part(title, self.titles, tuple(self.nodes.values()), tuple(self.edges))

    def _node(self, name: str, kind: Kind, label: str, plates: Iterable[str]) -> None:
        if name not in self.nodes:
            self.nodes[name] = Node(f"{self.prefix}n{len(self.nodes)}", kind, label, tuple(plates))

    def _field(self, field: ir.Field) -> None:
        self._site(field, field.role)

    def _latent(self, latent: ir.Latent) -> None:
        self._site(latent, "latent")

    def _site(self, site: ir.Field | ir.Latent, kind: Kind) -> None:
        box = self.steps.get(site.name)
        type = site.type if box is None else replace(site.type, event=site.type.event[1:])
        self._node(site.name, kind, _typed(site.name, type), site.plates if box is None else (*site.plates, box))

    def _param(self, param: ir.Param) -> None:
        self._node(param.name, "param", _typed(param.name, param.type), param.type.plates)
        self._reads(param.name, (param.init, param.bounds))

    def _let(self, let: ir.Let, box: tuple[str, ...]) -> None:
        if self.lets:
            label = f"{let.name}{show(let.event) if let.event else ''}"
            self._node(let.name, "let", label, (*let.plates, *box))
            self._reads(let.name, (let.value, let.bounds))
        else:
            self.through[let.name] = self._sources((let.value, let.bounds))

    def _joint(self, draw: ir.JointDraw) -> None:
        name = f"joint {', '.join(latent.name for latent in draw.latents)}"
        label = f"{draw.dist.kind} flow" if isinstance(draw.dist, ir.Flow) else draw.dist.row.name
        self._node(name, "joint", label, draw.plates)
        self._reads(name, draw.dist)
        for latent in draw.latents:
            self._edge(name, latent.name)

    def _sources(self, root: object) -> tuple[str, ...]:
        """The nodes that an expression reads, those that stand behind lets for the lets."""
        read = dict.fromkeys(var.name for var in variables(root))
        for call in calls(root):
            name = f"{call.callee.name}()"
            self._node(name, "net", name, ())
            read[name] = None
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
