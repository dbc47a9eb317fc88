"""Replayed steps against autograd: programs of the corpus, and what fusing, reuse of memory and new data might break.

In double precision; sums may be taken in another order, and Adam divides by the size of a gradient, so that parameters
agree to 1e-8 where losses agree to 1e-10.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import guidedsl
from guidedsl.modules import load_source
from guidedsl.runtime import Guide, ParamStore
from guidedsl.runtime.elbo import ELBO
from guidedsl.source import read_source

PROGRAMS = Path(__file__).parent.parent / "cases" / "programs"
FEW = (
    "enumerate_mixture",
    "functions_reduce",
    "gathers",
    "irt",
    "many_sites",
    "matmul",
    "nets_kinds",
    "odd_names",
    "scan_garch",
    "structured_subsampled",
    "subsample",
    "types_in_plates",
    "types_structured",
)
"""Programs that all runs try; ALL_GUIDES=1 tries every one."""
NOT_HERE = {"interface", "interface_summed", "laplace", "nets_passed"}
"""Their densities or nets are elsewhere, or they take no steps."""
AUTOGRAD = {
    "draws that depend on parameters": {
        *("aux", "bounded_families", "discrete_latents", "functions_elementwise", "joint Rows", "latent_bounds"),
        *("matrix_families", "mixtures", "more_families", "params_in_plates", "positive_families", "real_line"),
        *("scan_guides", "scan_nets", "scan_statements", "shares_and_excesses", "truncated_and_inflated"),
        *("truncation", "types_data", "vector_families"),
    },
    "code from outside": {"externs", "nets_imported"},
    "a factor or an inverse that is checked": {"functions_linear_algebra", "functions_more"},
    "no parameters": {"flat"},
}
"""Where eager steps go through autograd."""


def steps_of(guide: Guide, data: Any, engine: str) -> tuple[guidedsl.SVI, list[float], dict[str, Tensor]]:
    """Three steps, and the parameters after them."""
    torch.manual_seed(0)
    store, adam, loss = ParamStore(), guidedsl.optim.Adam(lr=0.01), ELBO(num_particles=2)
    svi = guidedsl.SVI(guide.model, guide, adam, loss, store=store, seed=1, engine=engine)  # type: ignore[arg-type]
    losses = [svi.step(data) for _ in range(3)]
    return svi, losses, {name: leaf.detach().clone() for name, leaf in store.named_parameters()}


def is_replayed(svi: guidedsl.SVI) -> bool:
    return any((svi._eager._replays or {}).values())


def programs() -> list[str]:
    found = sorted(path.parent.name for path in PROGRAMS.glob("*/data.json"))
    return [name for name in found if name not in NOT_HERE and ("ALL_GUIDES" in os.environ or name in FEW)]


@pytest.mark.parametrize("program", programs())
def test_programs(program: str) -> None:
    module = load_source(read_source(PROGRAMS / program / "model.guide"))
    fields = json.loads((PROGRAMS / program / "data.json").read_text(encoding="utf-8"))
    for guide in [one for one in vars(module).values() if isinstance(one, Guide)]:
        data = guide.model.data(fields.get(guide.model.name, fields), dtype=torch.float64)
        _, expected, leaves = steps_of(guide, data, "autograd")
        svi, found, own = steps_of(guide, data, "eager")
        print(program, guide.name, is_replayed(svi))
        assert found == pytest.approx(expected, rel=1e-10)
        for leaf, value in leaves.items():
            torch.testing.assert_close(own[leaf], value, rtol=1e-8, atol=1e-8)
