"""Expressions as text, all of one meaning spelled alike."""

from __future__ import annotations

from guidedsl.syntax import ast

_COMPARE, _SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(6)


def spell(node: ast.Expr) -> str:
    """The expression with single spaces and no brackets but those that it needs."""
    return _spell(node)[0]


def _spell(node: ast.Expr) -> tuple[str, int]:
    """The text and how tightly it binds."""
    match node:
        case ast.Number():
            return node.text, _ATOM
        case ast.Text():
            return f'"{node.value}"', _ATOM
        case ast.Ref():
            return node.name, _ATOM
        case ast.Call():
            return f"{node.function.text}({', '.join(_argument(a) for a in node.arguments)})", _ATOM
        case ast.Vector():
            return f"[{', '.join(spell(item) for item in node.items)}]", _ATOM
        case ast.Index():
            subscripts = ", ".join(_slice(s) if isinstance(s, ast.Slice) else spell(s) for s in node.subscripts)
            return f"{_at(node.base, _ATOM)}[{subscripts}]", _ATOM
        case ast.Power():
            return f"{_at(node.base, _ATOM)} ^ {_at(node.exponent, _UNARY)}", _POWER
        case ast.Negative():
            return f"-{_at(node.operand, _UNARY)}", _UNARY
        case ast.Compare():
            return f"{_at(node.left, _COMPARE)} {node.operator} {_at(node.right, _SUM)}", _COMPARE
        case ast.Chain():
            return _chain(node)


def _chain(node: ast.Chain) -> tuple[str, int]:
    level = _SUM if node.terms[-1].operator in "+-" else _PRODUCT
    text = _at(node.terms[0].value, level)
    for term in node.terms[1:]:
        text += f" {term.operator} {_at(term.value, level + 1)}"
    return text, level


def _at(node: ast.Expr, level: int) -> str:
    text, own = _spell(node)
    return text if own >= level else f"({text})"


def _argument(argument: ast.Argument) -> str:
    return f"{argument.keyword.text} = {spell(argument.value)}" if argument.keyword else spell(argument.value)


def _slice(node: ast.Slice) -> str:
    return f"{spell(node.low) if node.low else ''}:{spell(node.high) if node.high else ''}"
