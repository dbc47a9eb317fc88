"""Whole programs on both targets, guide by guide: values, densities, gradients, shapes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TypeVar

import pyro
import torch
from oracle.pyro_replay import (
    INVALID,
    Differs,
    Ours,
    Theirs,
    compare_elbo,
    compare_gradients,
    compare_inits,
    compare_values,
    own_draws,
    replay,
    run_ours,
    step_alone,
    theirs_of,
)

from guidedsl.diagnostics import CompileError
from guidedsl.modules import load_source, run_module
from guidedsl.pipeline import Compiled, compile_source
from guidedsl.runtime import Guide, constraints
from guidedsl.source import Source
from guidedsl.syntax.parser import parse

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Relative to the sum of the absolute values of the terms, and to the gradient's norm: what rounding may do."""
ROUGH = {
    "VonMises": {torch.float64: 1e-7, torch.float32: 1e-4},
    "ProjectedNormal": {torch.float64: 1e-6, torch.float32: 3e-2},
    "ContinuousBernoulli": {torch.float64: 1e-10, torch.float32: 3e-4},
}
"""Families that torch or Pyro computes less exactly: by a polynomial for the Bessel function, by differences of nearly
equal numbers (0.6 % off in single precision at a location of 3), by a series near one half."""
INVERTED = {torch.float64: 1e-9, torch.float32: 2e-3}
"""A draw `via` a type is scored in Pyro at the inverse of its value, which near an end has lost digits."""
FARTHEST = {torch.float64: 8.0, torch.float32: 3.0}
"""The farthest unconstrained coordinates that are compared: further out bijections are clamped, and inverses lose all
digits."""
UNIT = frozenset({"Beta", "BetaMean", "Kumaraswamy", "LogitNormal", "ContinuousBernoulli", "ContinuousBernoulliLogits"})
UNIT |= {"RelaxedBernoulli", "RelaxedBernoulliLogits"}
"""Families of the runtime on numbers between 0 and 1."""
PARTICLES = 2
T = TypeVar("T")


@dataclass(frozen=True)
class Both:
    """A program compiled for both targets. `theirs` is None where Pyro cannot say it, for `refused`."""

    text: str
    ours: ModuleType
    theirs: ModuleType | None
    names: dict[tuple[str, str | None], str]
    """The Pyro functions of models and of guides, by the model's name and the guide's."""
    refused: tuple[str, ...] = ()

    def guide(self, name: str) -> Guide:
        return next(value for value in vars(self.ours).values() if isinstance(value, Guide) and value.name == name)

    def function(self, model: str, guide: str | None = None) -> Callable[..., None] | None:
        """A function of the Pyro module, None where it has none."""
        name = self.names.get((model, guide))
        found: Callable[..., None] | None = None if name is None else getattr(self.theirs, name)
        return found


def compiled(source: Source) -> Both:
    """The program for both targets."""
    ours = load_source(source, "both_ours")
    try:
        program = compile_source(source, "pyro")
    except CompileError as error:
        found = [d for d in error.diagnostics if d.severity == "error"]
        if any(not d.code.startswith("E7") for d in found):
            raise
        refused = tuple(dict.fromkeys(d.message for d in found))
        return Both(source.text, ours, None, {}, refused)
    return Both(source.text, ours, run_module(program.python, "both_theirs"), _names(program))


def _names(program: Compiled) -> dict[tuple[str, str | None], str]:
    """The functions of a Pyro module stand in one order: each model that has a density, then its guides."""
    statements = ast.parse(program.python).body
    functions = (one.name for one in statements if isinstance(one, ast.FunctionDef) and not one.name.startswith("_"))
    found: dict[tuple[str, str | None], str] = {}
    for model in program.program.models:
        if not model.interface:
            found[model.name, None] = next(functions)
        for guide in program.program.guides:
            if guide.model.name == model.name:
                found[model.name, guide.name] = next(functions)
    return found


def guide_by_guide(source: Source) -> Iterator[tuple[str, Both]]:
    """The program with all of its guides or, where Pyro cannot say one of them, with each alone."""
    both = compiled(source)
    guides = parse(source).file.guides
    if both.theirs is not None or len(guides) == 1:
        for guide in guides:
            yield guide.name.text, both
        return
    for guide in guides:
        text = source.text
        for other in reversed(guides):
            if other is not guide:
                text = text[: other.span.start] + text[other.span.end :]
        yield guide.name.text, compiled(Source(source.name, text))


def tolerance_of(text: str, dtype: torch.dtype) -> float:
    """What two right answers of this program may differ by."""
    rough = [limits[dtype] for family, limits in ROUGH.items() if f"{family}(" in text]
    inverted = [INVERTED[dtype]] if " via " in text or "auto " in text else []
    return max(TOLERANCE[dtype], *rough, *inverted, 0.0)


@contextmanager
def precision(dtype: torch.dtype) -> Iterator[None]:
    """Generated Pyro modules compute in torch's default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    pyro.enable_validation(True)
    pyro.clear_param_store()
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def compare(both: Both, guide: Guide, fields: Mapping[str, object], dtype: torch.dtype, seed: int = 0) -> str:
    """Compares a guide on both targets: `agree`, or `far out` or `not finite` where the numbers say nothing.

    Raises `Differs` where they do not agree or where Pyro fails.
    """
    assert both.theirs is not None
    tolerance = tolerance_of(both.text, dtype)
    with precision(dtype):
        data = guide.model.data(fields, dtype=dtype).with_generator(torch.Generator().manual_seed(seed))
        model, function = both.function(guide.model.name), both.function(guide.model.name, guide.name)
        assert function is not None
        theirs = _named("arguments", lambda: theirs_of(model, function, guide, data, fields))
        ours = run_ours(both.ours, guide, data, seed)
        many = run_ours(both.ours, guide, data, seed, (PARTICLES,))
        if max(ours.farthest, many.farthest) > FARTHEST[dtype]:
            return "far out"
        if any(_digits_lost(guide, one, tolerance) for one in (ours, many)):
            return "far out"
        _named("step", lambda: step_alone(theirs, ours))
        try:
            replayed = _named("replay", lambda: replay(theirs, ours))
        except Differs as error:
            if INVALID in str(error) and not bool(ours.elbo.isfinite()):
                return "not finite"  # Pyro says so of an argument, before there is a number
            raise
        compare_values(ours.latents, replayed.values, tolerance, "the latent")
        compare_elbo(ours, replayed, tolerance)
        compare_inits(guide, data, replayed, tolerance)
        if ours.normals is not None:
            drawn = _named("draws", lambda: own_draws(theirs, ours))
            compare_values(ours.latents, drawn, tolerance, "Pyro's own draw of")
        _particles(guide, theirs, many, tolerance)
        if not bool(ours.elbo.isfinite()):
            return "not finite"
        compare_gradients(ours, replayed, tolerance)
    return "agree"


def _digits_lost(guide: Guide, ours: Ours, tolerance: float) -> bool:
    """Whether values that are rounded to their type are too rough to be scored.

    Our draws are scored before they are rounded; scored at the value, as in Pyro, 1 - x is off by eps / (1 - x) of
    itself. The factor of a matrix is found again from it on both targets, each off by eps times its condition number.
    """
    worst = torch.finfo(ours.log_p.dtype).eps / tolerance
    if any(name in UNIT and bool((1.0 - value < worst).any()) for name, value in ours.draws):
        return True
    for site in guide.model.sites:
        matrix = ours.latents.get(site.name) if site.constraint in (constraints.corr, constraints.cov) else None
        if matrix is None or not matrix.numel() or not bool(matrix.isfinite().all()):
            continue
        # one that is singular to the last digit has no finite condition number
        if not bool((torch.linalg.cond(matrix.detach()) * worst < 1.0).all()):
            return True
    return False


def _particles(guide: Guide, theirs: Theirs, many: Ours, tolerance: float) -> None:
    """Particles side by side, in an axis left of all plates, as Pyro vectorizes them."""
    wide = _named("particles", lambda: replay(theirs, many, PARTICLES, len(guide.model.plates)))
    compare_values(many.latents, wide.values, tolerance, "among particles, the latent")
    compare_elbo(many, wide, tolerance, "among particles, ")


def _named(part: str, run: Callable[[], T]) -> T:
    """What goes wrong in Pyro, with where it does."""
    try:
        return run()
    except Differs:
        raise
    except Exception as error:
        raise Differs(f"{part}: {type(error).__name__}: {error}") from error
