"""A loss that no parameter moves: nothing is learned, and nothing breaks."""

from __future__ import annotations

from typing import Any

import pytest

import guidedsl
from guidedsl.modules import load_source
from guidedsl.source import Source


@pytest.fixture(scope="module")
def program() -> Any:
    text = "model M { latent z : unit ~ Uniform(0, 1) } guide G for M { auto map for rest }"
    return load_source(Source("no_gradient.guide", text))


def test_a_step_leaves_the_parameters(program: Any) -> None:
    store = guidedsl.ParamStore()
    svi = guidedsl.SVI(program.M, program.G, guidedsl.optim.Adam(lr=0.1), store=store, seed=0)
    data = program.M.data()
    assert svi.step(data) == 0.0
    assert store["G.z_map"].item() == 0.5


@pytest.mark.parametrize("options", [{}, {"steps": 20}])
def test_fit_ends(program: Any, options: dict[str, int]) -> None:
    fit = program.G.fit(program.M.data(), seed=0, **options)
    assert fit.store["G.z_map"].item() == 0.5
    assert fit.elbo == 0.0
