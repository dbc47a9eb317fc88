"""`guidedsl check --with-data`: the Pyro models of a program, run once and compared with their interfaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from guidedsl import errors, ir
from guidedsl.backend.metadata import places
from guidedsl.cli.inputs import bind, read_dims, require_data, runtime_model
from guidedsl.cli.session import FOUND, USAGE, Session, Stop
from guidedsl.diagnostics import Diagnostic, Label
from guidedsl.pipeline import generated
from guidedsl.source import Source, Span, UnreadableSource, read_source

if TYPE_CHECKING:
    from guidedsl.check import Checked
    from guidedsl.runtime.pyro_models.differences import Difference

_CONSTRUCTORS: Mapping[str, Callable[[str, Span, str, Label | None, str], Diagnostic]] = {
    "argument": errors.interface_argument,
    "site": errors.interface_site,
    "shape": errors.interface_shape,
    "support": errors.interface_support,
}


def compare_models(result: Checked, path: str, dims: tuple[str, ...], session: Session) -> tuple[str, ...]:
    """The Pyro models that a program names, all of which are what it declares.

    Stops with 1, after reporting them, where there are differences, with 2 where there is nothing to compare.
    """
    models = [model for model in result.program.models if model.interface and model.framework is not None]
    if not models:
        raise Stop(USAGE, f"--with-data: {result.program.source.name} has no `model … from pyro` to compare with data")
    found = [one for model in models for one in differences_of(result, model, path, dims)]
    if found:
        session.report(result.program.source, found)
        raise Stop(FOUND)
    return tuple(str(model.origin) for model in models)


def differences_of(result: Checked, model: ir.Model, path: str, dims: Iterable[str] = ()) -> tuple[Diagnostic, ...]:
    """What the Pyro model of an interface has otherwise than declared, with this data."""
    from guidedsl.runtime.params import ParamStore
    from guidedsl.runtime.pyro_models.importing import require_pyro

    require_pyro(model.name)
    from guidedsl.runtime.pyro_models.density import evaluator

    sizes = read_dims(dims, model)
    require_data(model, path)
    runtime = runtime_model(generated(result), model.name)
    data = bind(runtime, path, sizes, None, None)
    declared = places(model)
    return tuple(_diagnostic(one, declared, model) for one in evaluator(runtime).compare(data, ParamStore()))


def _diagnostic(one: Difference, declared: Mapping[str, Span], model: ir.Model) -> Diagnostic:
    span = declared.get(one.name, model.span)
    there = None if one.place is None else _label(str(one.place).rpartition(":")[0], one.place.line, one.there)
    return _CONSTRUCTORS[one.kind](one.message, span, one.here, there, one.hint)


def _label(file: str, line: int, text: str) -> Label | None:
    """A line of a Python file, without the blanks around it; None where it cannot be read any more."""
    try:
        source = read_source(Path(file))
    except UnreadableSource:
        return None
    if line > len(source.lines):
        return None
    start = sum(len(before) + 1 for before in source.lines[: line - 1])
    written = source.lines[line - 1]
    indent = len(written) - len(written.lstrip())
    return Label(source.span(start + indent, start + len(written.rstrip())), text, Source(file, source.text))
