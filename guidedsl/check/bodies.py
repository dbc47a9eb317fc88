"""What the statements of models and of guides have in common: names, lets, nets and scans."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Generic, TypeVar

from guidedsl import errors, ir
from guidedsl.check.expressions import Expressions
from guidedsl.check.lets import check_let
from guidedsl.check.nets import check_net, check_unpack
from guidedsl.check.scans import OpenScan, behind, check_next, close_scan, declare_head, emitted, open_scan
from guidedsl.check.scope import Report, Symbol
from guidedsl.source import Span
from guidedsl.syntax import ast

S = TypeVar("S", ir.ModelStatement, ir.GuideStatement)


class Body(ABC, Generic[S]):
    """A model or a guide whose statements are checked one by one, in the order of the text.

    `later` holds the names that are declared or sampled further down; `path` the plates around a statement as they are
    written; `local` the names that belong to the steps of a closed scan; `lets` the values of lets as they are written.
    """

    def __init__(self, report: Report, owner: str, dims: Mapping[str, ir.Dim], plates: Mapping[str, ir.Plate]) -> None:
        self.report = report
        self.owner = owner
        self.dims = dict(dims)
        self.plates = dict(plates)
        self.symbols: dict[str, Symbol] = {}
        self.callees: dict[str, ir.Callee] = {}
        self.later: dict[str, Span | None] = {}
        self.local: dict[str, Span] = {}
        self.lets: dict[str, ast.Expr] = {}
        self.open: OpenScan | None = None
        self.path: list[str] = []
        self.statements: list[S] = []

    @abstractmethod
    def check_block(self, body: tuple[ast.Statement, ...], enclosing: tuple[str, ...]) -> None:
        """Check the statements of a block."""

    @abstractmethod
    def skip(self, node: ast.Plate | ast.Scan) -> None:
        """A block that cannot be entered: nothing is said of what it declares."""

    @abstractmethod
    def free(self, name: ast.Name, *, local: bool = False) -> bool:
        """Whether nothing has this name yet. Those that are `local` to the steps of a scan may be used in the next."""

    @abstractmethod
    def seen_let(self, symbol: Symbol) -> Symbol:
        """A let as it is seen here, where one of data alone may be computed when the data is bound."""

    def lost(self, name: ast.Name) -> None:
        """A declaration that failed: what uses it is not to blame."""
        if name.text not in self.symbols:
            self.report.fail(name.text)
        self.later.pop(name.text, None)

    def taken(self, name: ast.Name, first: Span) -> bool:
        """Report that `first` has the name."""
        self.report.add(errors.already_declared(name.text, name.span, first), name.text)
        self.report.fail(name.text)
        return False

    def declare(self, name: ast.Name, symbol: Symbol, *, local: bool = False) -> bool:
        """Declare a name, if it is free."""
        local = local and self.open is not None
        if not self.free(name, local=local):
            return False
        symbol = replace(symbol, span=name.span)
        self.symbols[name.text] = symbol
        if self.open is not None:
            self.open.declared(symbol, local=local)
        return True

    def check_shared(self, node: ast.Statement, expressions: Expressions) -> None:
        """Check a statement that is alike in a model and in a guide."""
        match node:
            case ast.Let() | ast.Emit():
                self.check_let(node, expressions)
            case ast.Unpack():
                self.check_unpack(node, expressions)
            case ast.Net():
                self.check_net(node, expressions)
            case ast.Scan():
                self.check_scan(node, expressions)
            case ast.Next():
                assert self.open is not None
                check_next(node, self.open, expressions)
            case _:
                what = type(node).__name__
                raise AssertionError(f"{what} in {self.owner}: this should never happen, please file a bug")

    def check_let(self, node: ast.Let | ast.Emit, expressions: Expressions) -> None:
        let = check_let(node, expressions)
        if let is None:
            self.lost(node.name)
        elif self.declare(node.name, self.seen_let(let[1]), local=isinstance(node, ast.Let)):
            self.lets[node.name.text] = node.value
            written = replace(let[0], written=tuple(self.path))
            self.statements.append(emitted(written) if isinstance(node, ast.Emit) else written)

    def check_unpack(self, node: ast.Unpack, expressions: Expressions) -> None:
        lets = check_unpack(node, expressions)
        if lets is None:
            for name in node.names:
                self.lost(name)
            return
        for name, let, symbol in lets:
            if self.declare(name, self.seen_let(symbol), local=True):
                self.statements.append(replace(let, written=tuple(self.path)))

    def check_net(self, node: ast.Net, expressions: Expressions) -> None:
        callee = check_net(node, self.owner, expressions)
        if callee is None:
            self.lost(node.name)
        elif self.free(node.name):
            self.callees[node.name.text] = callee

    def check_scan(self, node: ast.Scan, expressions: Expressions) -> None:
        enclosing = expressions.scope.enclosing
        scan = open_scan(node, expressions)
        if scan is None:
            self.skip(node)
            return
        self.open, first = scan, len(self.statements)
        declare_head(scan, self.declare, self.lost, enclosing)
        self.check_block(node.body, enclosing)
        self.open = None
        inside = [s for s in self.statements[first:] if isinstance(s, ir.Let | ir.Term | ir.Draw)]
        whole = close_scan(scan, inside, enclosing, self.report)
        self.statements[first:] = [replace(whole, written=tuple(self.path))]
        self.closed(scan)

    def closed(self, scan: OpenScan) -> None:
        """Give the names of a scan their meaning behind it."""
        behind(scan, self.symbols)
        self.local |= scan.local
