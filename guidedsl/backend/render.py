"""Prints a module context: the template, then black, then the table of source lines."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator, Sequence
from functools import cache

from jinja2 import DictLoader, Environment, StrictUndefined

from guidedsl.assets import asset_path
from guidedsl.backend.context import ModuleContext
from guidedsl.backend.pyro.context import PyroContext, spelled
from guidedsl.backend.statements import Statement

LINE_LENGTH = 100
_DROPPED = "# dropped"
_NO_LINES = "\nLINES = ()\n"


@cache
def _environment(target: str) -> Environment:
    folders = asset_path("templates"), asset_path(f"templates/{target}")
    found = {path.name: path.read_text(encoding="utf-8") for folder in folders for path in folder.glob("*.jinja")}
    loader = DictLoader(found)
    environment = Environment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["docstring"] = _docstring
    environment.filters["string"] = _string
    environment.filters["spelled"] = spelled
    return environment


def render_pyro(context: PyroContext) -> str:
    """The text of the generated Pyro module."""
    return format_python(_without_unused_imports(_rendered(context, "pyro")))


def _rendered(context: object, target: str) -> str:
    return _environment(target).get_template("module.py.jinja").render(module=context)


def render_module(context: ModuleContext, laid_out: bool = True) -> str:
    """The text of the generated module; as the template leaves it where nobody reads it."""
    text = _without_unused_imports(_rendered(context, "torch"))
    if laid_out:
        text = format_python(text)
    body = ast.parse(text).body
    pairs = _lines(context, body, 0)
    table = f"LINES = {pairs!r}"
    if len(table) > LINE_LENGTH:  # as black does it, which takes seconds for a long one
        pairs = _lines(context, body, len(pairs) + 1)
        table = "\n".join(["LINES = (", *(f"    {pair}," for pair in pairs), ")"])
    return text.replace(_NO_LINES, f"\n{table}\n", 1)


def format_python(text: str) -> str:
    """black, which promises no stable interface, in one place."""
    from black import format_str
    from black.mode import Mode, TargetVersion

    return format_str(text, mode=Mode(line_length=LINE_LENGTH, target_versions={TargetVersion.PY311}))


def _docstring(text: str, indent: int = 0) -> str:
    """Text that is safe between triple quotes, its lines after the first laid out anew."""
    clean = inspect.cleandoc(text)
    body = clean.rstrip('"')
    safe = body.replace("\\", "\\\\").replace('"""', '\\"\\"\\"') + '\\"' * (len(clean) - len(body))
    return safe.replace("\n", "\n" + " " * indent)


def _string(text: str) -> str:
    """A string literal."""
    return json.dumps(text, ensure_ascii=False)


def _without_unused_imports(text: str) -> str:
    """Drop what the module does not use from its imports, so that nobody reads a name for nothing."""
    tree = ast.parse(text)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    lines = text.split("\n")
    for node in tree.body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        kept = [alias for alias in node.names if (alias.asname or alias.name) in used]
        names = ", ".join(f"{a.name} as {a.asname}" if a.asname else a.name for a in kept)
        source = f"from {node.module} import {names}" if isinstance(node, ast.ImportFrom) else f"import {names}"
        for line in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[line] = _DROPPED
        lines[node.lineno - 1] = source if kept else _DROPPED
    text = "\n".join(line for line in lines if line is not _DROPPED)
    return re.sub(r"(\n\n)\n*(?=from |import )", r"\1", text)


def _lines(context: ModuleContext, body: Sequence[ast.stmt], rows: int) -> tuple[tuple[int, int], ...]:
    """Pairs of (line of the module, line of the source) where it changes, from the statements of each function.

    The table itself will take `rows` lines more than it does in the module whose statements are `body`.
    """
    written: dict[str, tuple[tuple[Statement, ...], int, int]] = {}
    written |= {net.name: ((), net.span_line, 0) for net in context.nets}
    for model in context.models:
        line = model.span_line
        if context.nets:  # what stands behind a net is no longer the net's
            written[model.data_class] = (), line, 0
        written[model.variable] = (), line, 0
        written[model.function] = model.density.statements, line, 1
        for summed in model.summed:
            written[summed.function] = summed.density.statements, line, 1
        if model.quantities is not None:
            written[model.quantities] = model.quantity_body.statements, line, 1
        for forward in (model.simulation, model.likelihood):
            if forward is not None:
                written[forward.function] = forward.body, line, 1
        if model.derive is not None:
            written[model.derive] = model.derive_body.statements, line, 1
    for guide in context.guides:
        written[guide.function] = guide.body, guide.span_line, 2
    pairs: list[tuple[int, int]] = []
    below = False
    for node in body:
        name = _name(node)
        below = below or name == "LINES"
        if name not in written:
            continue
        statements, own_line, tail = written[name]
        pairs.append((node.lineno + (rows if below else 0), own_line))
        if isinstance(node, ast.FunctionDef):
            # The template's own statements stand before these and, `tail` of them, behind.
            pairs.extend(_placed(node.body[len(node.body) - tail - len(statements) :], statements))
            pairs.append((node.body[-tail].lineno, own_line))
    thinned: list[tuple[int, int]] = []
    for pair in sorted(pairs):
        if not thinned or thinned[-1][1] != pair[1]:
            thinned.append(pair)
    return tuple(thinned)


def _placed(body: list[ast.stmt], statements: tuple[Statement, ...]) -> Iterator[tuple[int, int]]:
    """The lines of statements and of what stands in their blocks."""
    for child, statement in zip(body, statements, strict=False):
        yield child.lineno, statement.line
        if statement.body and isinstance(child, ast.For | ast.If):
            yield from _placed(child.body, statement.body)


def _name(node: ast.stmt) -> str | None:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None
