"""Every program that the checker accepts runs: random ones give finite ELBOs and gradients, and expand to equals."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import pytest
import torch
from fuzz.strategy import Program, programs
from hypothesis import HealthCheck, Phase, given, settings
from torch import Tensor

from guidedsl.backend import render
from guidedsl.modules import load_source
from guidedsl.pipeline import check
from guidedsl.runtime import ParamStore
from guidedsl.source import Source
from guidedsl.syntax.expand import expand_source

EXAMPLES = int(os.environ.get("GUIDEDSL_FUZZ_EXAMPLES", "20"))


def load(text: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # black lays a module out in a second; what it prints is of no interest here.
    monkeypatch.setattr(render, "format_python", lambda python: python)
    return load_source(Source("fuzz.guide", text))


def losses(module: ModuleType, name: str, data: dict[str, object], particles: tuple[int, ...]) -> tuple[Tensor, Any]:
    """The loss of a guide on seeded noise, and the gradients of all its parameters by name."""
    guide = getattr(module, name)
    store = ParamStore()
    bound = module.M.data(data).with_generator(torch.Generator().manual_seed(1))
    noise = bound.noise(torch.Generator().manual_seed(2))
    batch = bound.subsample(noise)
    draw = guide(batch, particles=particles, store=store, noise=noise)
    loss: Tensor = draw.log_q - guide.model(batch, draw.latents, store=store)
    assert loss.shape == particles
    leaves = store.trainable()
    gradients: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if leaves and loss.requires_grad:  # a point estimate under a uniform prior has no gradient at all
        gradients = torch.autograd.grad(loss.sum(), list(leaves.values()), allow_unused=True)
    for site, value in zip(guide.model.sites, draw.latents, strict=True):
        assert bool(site.constraint.check(value).all()), site.name
    for value in guide.model.evaluate_quantities(batch, draw.latents, store=store).values():
        assert bool(value.isfinite().all())
    return loss, dict(zip(leaves, gradients, strict=True))


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # `fuzz.shrink` makes smaller programs of a text, and sooner
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.large_base_example],
)
@given(program=programs(kept=True))
def test_random_programs(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("fuzz.guide", program.text)
    checked = check(source)
    assert not [str(d) for d in checked.diagnostics if d.severity == "error"], program.text
    module = load(program.text, monkeypatch)
    for name in ("A", "H"):
        for particles in ((), (5,)):
            loss, gradients = losses(module, name, program.data, particles)
            assert bool(loss.isfinite().all()), program.text
            for parameter, gradient in gradients.items():
                assert gradient is None or bool(gradient.isfinite().all()), f"{parameter}\n{program.text}"

    expanded = expand_source(source, checked.expansions)
    kept = [line for line in expanded.split("\n") if "auto " in line]
    assert all("auto laplace" in line or "auto flow" in line for line in kept), expanded
    again = load(expanded, monkeypatch)
    ours, theirs = (losses(m, "A", program.data, (2,)) for m in (module, again))
    assert torch.equal(ours[0], theirs[0]), expanded
    assert list(ours[1]) == list(theirs[1])
