"""What a program has, by name, to count what random programs cover."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import combinations
from typing import Any

from guidedsl import ir
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.library.functions import FUNCTIONS
from guidedsl.library.supports import KINDS
from guidedsl.pipeline import check
from guidedsl.source import Source
from guidedsl.syntax import ast
from guidedsl.syntax.parser import parse

ALGEBRA = frozenset(name for name, function in FUNCTIONS.items() if function.shape == "signature")


def nodes(root: Any) -> Iterator[Any]:
    """Every node of a tree of dataclasses."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            stack.extend(node)
        elif is_dataclass(node) and not isinstance(node, type):
            yield node
            stack.extend(getattr(node, field.name) for field in fields(node))


def features(text: str, data: Mapping[str, object]) -> frozenset[str]:
    """The features of a program without errors."""
    source = Source("features.guide", text)
    file, program = parse(source).file, check(source).program
    found = set(_written(file))
    for model in program.models:
        found |= set(_of_model(model))
    for guide in program.guides:
        found |= set(_of_guide(guide))
    if any(math.isnan(number) for number in _numbers(list(data.values()))):
        found.add("NaN in data")
    return frozenset(found)


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, float):
        yield value


def _written(file: ast.File) -> Iterator[str]:
    """What the text shows."""
    for model in file.models:
        yield from _plates(model)
    for guide in file.guides:
        yield from ("re-entered plate" for node in nodes(guide.body) if isinstance(node, ast.Plate))
    for node in nodes(file.items):
        match node:
            case ast.Sample(via=ast.TypeExpr()):
                yield "via"
            case ast.Joint():
                yield "joint"
            case ast.Auto(family=name):
                yield f"auto {name.text}"
            case ast.Aux(type=type):
                yield "aux"
                yield f"aux of type {type.name.text}"
            case ast.Factor():
                yield "factor"
            case ast.Let():
                yield "let"
            case ast.Scan():
                yield "scan"
            case ast.Observed(when=when) if when is not None:
                yield "when"
            case ast.Param(via=via) if via is not None:
                yield f"param via {via.text}"
            case ast.DistExpr(name=name) if name.text == "Flat":
                yield "Flat"
            case ast.Call(function=function) if function.text in ALGEBRA:
                yield "matrix algebra"
            case ast.Chain(terms=terms) if any(term.operator == "@" for term in terms):
                yield "matrix algebra"


def _plates(model: ast.Model) -> Iterator[str]:
    """How the plates of a model lie to each other, by the statements that stand in them."""
    seen: set[str] = set()
    places: set[frozenset[str]] = set()

    def walk(body: tuple[ast.Statement, ...], inside: frozenset[str]) -> Iterator[str]:
        for statement in body:
            if isinstance(statement, ast.Plate):
                if any(item.name.text in seen for item in statement.items):
                    yield "re-entered plate"
                seen.update(item.name.text for item in statement.items)
                yield from walk(statement.body, inside | {item.name.text for item in statement.items})
            elif not isinstance(statement, ast.DimDecl):
                places.add(inside)

    yield from walk(model.body, frozenset())
    for a, b in combinations(sorted(seen), 2):
        together = any({a, b} <= place for place in places)
        alone = [any(own in place and other not in place for place in places) for own, other in ((a, b), (b, a))]
        if together:
            yield "crossed plates" if all(alone) else "nested plates"
    if any(len(place) > 2 for place in places):
        yield "three plates of one value"


def _of_model(model: ir.Model) -> Iterator[str]:
    for plate in model.plates:
        if plate.batching is not None:
            yield "subsampling"
    for field in model.fields:
        yield f"{field.role} of type {field.type.support.kind}"
        yield f"data of type {field.type.support.kind}"
        if field.role == "observed":
            yield "observed"
    for latent in model.latents:
        yield f"latent of type {latent.type.support.kind}"
        yield from _bounds(latent.bounds)
    for param in (s for s in model.statements if isinstance(s, ir.Param)):
        yield from _param(param, "model")
    for term in model.terms:
        if term.dist is not None:
            restricted = term.dist.row.rule == "truncated" or not term.normalised
            yield "restricted prior" if restricted else "unrestricted"
            yield from (f"{name} in the model" for name in _families(term.dist))
            yield from _mixed(term.dist)
    yield from _reads(model.statements)


def _of_guide(guide: ir.Guide) -> Iterator[str]:
    for param in guide.params:
        yield from _param(param, "guide")
    for node in nodes(guide.statements):
        match node:
            case ir.Draw(dist=dist):
                yield from (f"{name} in the guide" for name in _families(dist))
                yield from _mixed(dist)
            case ir.JointDraw(dist=ir.Dist() as dist):
                yield from (f"{name} in the guide" for name in _families(dist))
    yield from _reads(guide.statements)


def _param(param: ir.Param, where: str) -> Iterator[str]:
    yield f"param of type {param.type.support.kind}"
    yield "local param" if param.type.plates else "global param"
    yield f"param of the {where}"


def _bounds(bounds: ir.Bounds) -> Iterator[str]:
    stages = [bound.type.stage for bound in (bounds.low, bounds.high) if bound is not None]
    if any(stage is ir.Stage.DATA for stage in stages):
        yield "data-dependent bounds"
    if any(stage is ir.Stage.LATENT for stage in stages):
        yield "latent-dependent bounds"


def _families(dist: ir.Dist) -> Iterator[str]:
    yield dist.row.name
    for part in dist.parts:
        yield from _families(part)


def _mixed(dist: ir.Dist) -> Iterator[str]:
    for part in nodes(dist):
        if isinstance(part, ir.Dist) and part.row.rule == "mixture":
            yield "mixture"


def _reads(statements: Iterable[object]) -> Iterator[str]:
    for node in nodes(tuple(statements)):
        match node:
            case ir.Gather(indices=indices):
                if any(not index.type.number for _, index in indices):
                    yield "gather"
                if any(isinstance(inner, ir.Gather) for _, index in indices for inner in nodes(index)):
                    yield "nested gather"
                if any(index.type.stage is ir.Stage.LATENT for _, index in indices):
                    yield "gather by a latent"
            case ir.AllRows():
                yield "all rows"
            case ir.RowOf():
                yield "row of an axis"


def wanted() -> list[str]:
    """The features that random programs are asked to have."""
    continuous = [kind.name for kind in KINDS.values() if not kind.discrete]
    learnable = [kind.name for kind in KINDS.values() if kind.free is not None]
    latents = [*continuous, *(kind.name for kind in KINDS.values() if kind.discrete)]
    return [
        *("nested plates", "crossed plates", "re-entered plate", "three plates of one value", "subsampling"),
        *("gather", "nested gather", "gather by a latent", "all rows", "row of an axis"),
        *(f"latent of type {name}" for name in latents),
        *(f"param of type {name}" for name in learnable),
        *(f"data of type {name}" for name in KINDS),
        *("local param", "global param", "param of the model", "via", "joint", "when", "NaN in data", "scan", "aux"),
        *(f"auto {name}" for name in ("mean_field", "full_rank", "low_rank", "structured", "map")),
        *("factor", "let", "matrix algebra", "restricted prior", "data-dependent bounds", "latent-dependent bounds"),
        *("mixture", "Flat"),
    ]


def table(counts: Counter[str]) -> str:
    """How often each feature came up: those that are asked for, then families, in the model and in guides by hand."""
    lines = [f"{counts[name]:6}  {name}" for name in wanted()]
    rest = [f"{name} in the model" for name in DISTRIBUTIONS] + [f"{name} in the guide" for name in DISTRIBUTIONS]
    lines += ["", *(f"{counts[name]:6}  {name}" for name in rest)]
    return "\n".join(lines)
