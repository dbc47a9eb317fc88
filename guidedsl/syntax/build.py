"""Builds the syntax tree while lark parses: one method a grammar rule, children already built."""

from __future__ import annotations

import re
from typing import Any

from lark import Token, v_args
from lark.tree import Meta
from lark.visitors import Transformer_NonRecursive

from guidedsl.source import Span
from guidedsl.syntax import ast

_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "\n": ""}


def token_span(token: Token) -> Span:
    return Span(token.start_pos or 0, token.end_pos or 0, token.line or 1, token.column or 1)


def unquote(text: str) -> str:
    """The value of a string literal; an unknown escape stands for itself."""
    width = 3 if text.startswith('"""') else 1
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), text[width:-width], flags=re.S)


def _span(meta: Meta) -> Span:
    if meta.empty:
        return Span(0, 0, 1, 1)
    return Span(meta.start_pos, meta.end_pos, meta.line, meta.column)


@v_args(inline=True, meta=True)
class Build(Transformer_NonRecursive[Token, ast.File]):
    def start(self, meta: Meta, docstring: str | None, *items: ast.Item) -> ast.File:
        return ast.File(docstring, _flat(items))

    def docstring(self, meta: Meta, token: Token) -> str:
        return unquote(token)

    def string(self, meta: Meta, token: Token) -> ast.Text:
        return ast.Text(unquote(token), token_span(token))

    def name(self, meta: Meta, token: Token) -> ast.Name:
        return ast.Name(str(token), token_span(token))

    def names(self, meta: Meta, *names: ast.Name) -> tuple[ast.Name, ...]:
        return names

    def model(
        self, meta: Meta, name: ast.Name, origin: ast.Origin | None, doc: str | None, *body: ast.Statement
    ) -> ast.Model:
        return ast.Model(name, origin, doc, _flat(body), _span(meta))

    def origin(self, meta: Meta, framework: ast.Name | None, path: ast.Text) -> ast.Origin:
        return ast.Origin(framework, path, _span(meta))

    def guide(self, meta: Meta, name: ast.Name, model: ast.Name, doc: str | None, *body: ast.Statement) -> ast.Guide:
        return ast.Guide(name, model, doc, _flat(body), _span(meta))

    def dim_decl(self, meta: Meta, *items: ast.DimDecl) -> tuple[ast.DimDecl, ...]:
        return items

    def dim_item(self, meta: Meta, name: ast.Name, default: ast.Expr | None) -> ast.DimDecl:
        return ast.DimDecl(name, default, _span(meta))

    def data(self, meta: Meta, name: ast.Name, type: ast.TypeExpr, default: ast.Expr | None) -> ast.Data:
        return ast.Data(name, type, default, _span(meta))

    def latent(self, meta: Meta, name: ast.Name, type: ast.TypeExpr, dist: ast.DistExpr | None) -> ast.Latent:
        return ast.Latent(name, type, dist, _span(meta))

    def observed(
        self, meta: Meta, name: ast.Name, type: ast.TypeExpr, dist: ast.DistExpr | None, when: ast.Expr | None
    ) -> ast.Observed:
        return ast.Observed(name, type, dist, when, _span(meta))

    def factor(self, meta: Meta, value: ast.Expr) -> ast.Factor:
        return ast.Factor(value, _span(meta))

    def let(self, meta: Meta, name: ast.Name, type: ast.TypeExpr | None, value: ast.Expr) -> ast.Let:
        return ast.Let(name, type, value, _span(meta))

    def unpack(self, meta: Meta, *parts: Any) -> ast.Unpack:
        return ast.Unpack(parts[:-1], parts[-1], _span(meta))

    def extern(self, meta: Meta, name: ast.Name, signature: ast.Signature, origin: ast.Text) -> ast.Extern:
        return ast.Extern(name, signature, origin, _span(meta))

    def net(self, meta: Meta, name: ast.Name, signature: ast.Signature, made: Any) -> ast.Net:
        if isinstance(made, ast.Call):
            return ast.Net(name, signature, made, None, (), _span(meta))
        origin, arguments = made or (None, ())
        return ast.Net(name, signature, None, origin, arguments, _span(meta))

    def signature(self, meta: Meta, inputs: tuple[ast.Value, ...], outputs: tuple[ast.Value, ...]) -> ast.Signature:
        return ast.Signature(inputs, outputs, _span(meta))

    def inputs(self, meta: Meta, *values: ast.Value | None) -> tuple[ast.Value, ...]:
        return tuple(value for value in values if value is not None)

    def output(self, meta: Meta, type: ast.TypeExpr) -> tuple[ast.Value, ...]:
        return (ast.Value(None, type, _span(meta)),)

    def outputs(self, meta: Meta, *values: ast.Value) -> tuple[ast.Value, ...]:
        return values

    def value(self, meta: Meta, name: ast.Name, type: ast.TypeExpr) -> ast.Value:
        return ast.Value(name, type, _span(meta))

    def maker(self, meta: Meta, function: ast.Name, arguments: tuple[ast.Argument, ...]) -> ast.Call:
        return ast.Call(function, arguments, _span(meta))

    def imported(
        self, meta: Meta, origin: ast.Text, arguments: tuple[ast.Argument, ...] | None
    ) -> tuple[ast.Text, tuple[ast.Argument, ...]]:
        return origin, arguments or ()

    def scan(self, meta: Meta, head: tuple[Any, ...], *body: ast.Statement) -> ast.Scan:
        step, size, carries = head
        return ast.Scan(step, size, carries, _flat(body), _span(meta))

    model_scan = scan
    guide_scan = scan

    def scan_head(self, meta: Meta, step: ast.Name, size: ast.Expr, *carries: ast.Carry | None) -> tuple[Any, ...]:
        return step, size, tuple(carry for carry in carries if carry is not None)

    def carry(self, meta: Meta, name: ast.Name, type: ast.TypeExpr, init: ast.Expr) -> ast.Carry:
        return ast.Carry(name, type, init, _span(meta))

    def next(self, meta: Meta, name: ast.Name, value: ast.Expr) -> ast.Next:
        return ast.Next(name, value, _span(meta))

    def emit(self, meta: Meta, name: ast.Name, type: ast.TypeExpr | None, value: ast.Expr) -> ast.Emit:
        return ast.Emit(name, type, value, _span(meta))

    def param(
        self,
        meta: Meta,
        name: ast.Name,
        type: ast.TypeExpr,
        init: ast.Expr | None,
        via: ast.Name | None,
        *options: ast.Option,
    ) -> ast.Param:
        return ast.Param(name, type, init, via, options, _span(meta))

    def option(self, meta: Meta, name: ast.Name, value: ast.Expr | None) -> ast.Option:
        return ast.Option(name, value)

    def sample(self, meta: Meta, name: ast.Name, dist: ast.DistExpr, via: ast.TypeExpr | None) -> ast.Sample:
        return ast.Sample(name, dist, via, _span(meta))

    def joint(self, meta: Meta, names: tuple[ast.Name, ...], dist: ast.DistExpr) -> ast.Joint:
        return ast.Joint(names, dist, _span(meta))

    def aux(self, meta: Meta, name: ast.Name, type: ast.TypeExpr, dist: ast.DistExpr) -> ast.Aux:
        return ast.Aux(name, type, dist, _span(meta))

    def auto(
        self,
        meta: Meta,
        family: ast.Name,
        arguments: tuple[ast.Argument, ...] | None,
        names: tuple[ast.Name, ...],
    ) -> ast.Auto:
        return ast.Auto(family, arguments or (), names, _span(meta))

    def plate(self, meta: Meta, items: tuple[ast.PlateItem, ...], *body: ast.Statement) -> ast.Plate:
        return ast.Plate(items, _flat(body), _span(meta))

    model_plate = plate
    guide_plate = plate

    def plate_items(self, meta: Meta, *items: ast.PlateItem) -> tuple[ast.PlateItem, ...]:
        return items

    def plate_item(
        self,
        meta: Meta,
        name: ast.Name,
        size: ast.Expr | None,
        batching: tuple[ast.Name, ast.Expr] | None,
    ) -> ast.PlateItem:
        mode, batch = batching or (None, None)
        return ast.PlateItem(name, size, mode, batch, _span(meta))

    def batching(self, meta: Meta, name: ast.Name, batch: ast.Expr) -> tuple[ast.Name, ast.Expr]:
        return name, batch

    def type(
        self,
        meta: Meta,
        name: ast.Name,
        arguments: tuple[ast.Argument, ...] | None,
        dims: tuple[ast.Expr, ...] | None,
    ) -> ast.TypeExpr:
        return ast.TypeExpr(name, arguments or (), dims or (), _span(meta))

    def dims(self, meta: Meta, *dims: ast.Expr) -> tuple[ast.Expr, ...]:
        return dims

    def dist(self, meta: Meta, name: ast.Name, arguments: tuple[ast.Argument, ...] | None) -> ast.DistExpr:
        return ast.DistExpr(name, arguments or (), _span(meta))

    def comparison(self, meta: Meta, left: ast.Expr, *rest: Any) -> ast.Expr:
        result = left
        for operator, right in zip(rest[::2], rest[1::2], strict=True):
            result = ast.Compare(str(operator), result, right, _span(meta))
        return result

    def _chain(self, meta: Meta, first_operator: str, first: ast.Expr, rest: tuple[Any, ...]) -> ast.Chain:
        pairs = zip(rest[::2], rest[1::2], strict=True)
        terms = (ast.Term(first_operator, first), *(ast.Term(str(op), value) for op, value in pairs))
        return ast.Chain(terms, _span(meta))

    def sum(self, meta: Meta, first: ast.Expr, *rest: Any) -> ast.Chain:
        return self._chain(meta, "+", first, rest)

    def product(self, meta: Meta, first: ast.Expr, *rest: Any) -> ast.Chain:
        return self._chain(meta, "*", first, rest)

    def negative(self, meta: Meta, sign: Token, operand: ast.Expr) -> ast.Negative:
        return ast.Negative(operand, _span(meta))

    def raised(self, meta: Meta, base: ast.Expr, exponent: ast.Expr) -> ast.Power:
        return ast.Power(base, exponent, _span(meta))

    def index(self, meta: Meta, base: ast.Expr, *subscripts: ast.Expr | ast.Slice) -> ast.Index:
        return ast.Index(base, subscripts, _span(meta))

    def subscript(self, meta: Meta, value: ast.Expr) -> ast.Expr:
        return value

    def slice(self, meta: Meta, low: ast.Expr | None, colon: Token, high: ast.Expr | None) -> ast.Slice:
        return ast.Slice(low, high, _span(meta))

    def number(self, meta: Meta, token: Token) -> ast.Number:
        return ast.Number(str(token), token_span(token))

    def text(self, meta: Meta, token: Token) -> ast.Text:
        return ast.Text(unquote(token), token_span(token))

    def ref(self, meta: Meta, name: ast.Name) -> ast.Ref:
        return ast.Ref(name.text, name.span)

    def call(self, meta: Meta, function: ast.Name, arguments: tuple[ast.Argument, ...]) -> ast.Call:
        return ast.Call(function, arguments, _span(meta))

    def group(self, meta: Meta, value: ast.Expr) -> ast.Expr:
        return value

    def vector(self, meta: Meta, *items: ast.Expr) -> ast.Vector:
        return ast.Vector(items, _span(meta))

    def arguments(self, meta: Meta, *arguments: ast.Argument | None) -> tuple[ast.Argument, ...]:
        return tuple(argument for argument in arguments if argument is not None)

    def argument(self, meta: Meta, keyword: ast.Name | None, value: ast.Expr) -> ast.Argument:
        return ast.Argument(keyword, value)


def _flat(body: tuple[Any, ...]) -> tuple[Any, ...]:
    """`dim A, B` is one statement in the text and two declarations in the tree."""
    result: list[Any] = []
    for statement in body:
        if isinstance(statement, tuple):
            result.extend(statement)
        else:
            result.append(statement)
    return tuple(result)
