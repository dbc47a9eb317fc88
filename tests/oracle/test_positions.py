"""Vectors of positions and positions behind all rows, against plain indexing of one particle at a time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from guidedsl.pipeline import compile_source
from guidedsl.runtime import ParamStore
from guidedsl.source import read_source

CASE = Path(__file__).resolve().parent.parent / "cases" / "programs" / "positions"


def _expected(i: ModuleType, z: ModuleType, weight: Tensor) -> dict[str, Tensor]:
    """The lets of one particle, `i` the data and `z` the latents."""
    return {
        "ends": z.field[i.edge],
        "both": z.pair[:, i.edge],
        "single": z.pair[i.one][i.edge],
        "slab": z.cube[:, i.edge, 1],
        "bumps": z.bump[i.group],
        "rows": z.phi[i.group],
        "corner": z.phi[i.group][:, 0],
        "chained": z.phi[i.group][:, 1:],
        "near": z.load[:, i.edge, 0],
        "column": torch.stack([z.phi[:, w] for w in i.w]),
        "local": torch.stack([z.field[row] for row in i.near_by]),
        "wide": torch.stack([z.cube[:, row, 1:] for row in i.near_by]),
        "flat": torch.stack([z.cube[:, at] for at in i.at]),
        "own": torch.stack([own[row] for own, row in zip(weight, i.near_by, strict=True)]),
        "first": z.load[..., 2].T,
        "self": i.distance.diagonal(),
        "inner": i.dense[1] + i.dense.sum(0),
    }


@pytest.mark.parametrize("particles", [(), (3,)])
def test_positions(particles: tuple[int, ...]) -> None:
    module = ModuleType("positions_oracle")
    sys.modules[module.__name__] = module
    exec(
        compile(compile_source(read_source(CASE / "model.guide", "model.guide")).python, "<case>", "exec"), vars(module)
    )
    data = module.Positions.data(json.loads((CASE / "data.json").read_text()), dtype=torch.float64)
    store, noise = ParamStore(), data.noise(torch.Generator().manual_seed(1))
    latents = module.G(data, particles=particles, store=store, noise=noise).latents
    module.Positions(data, latents, store=store)
    weight = torch.arange(24, dtype=data.dtype).reshape(6, 4)
    store["Positions.weight"] = weight
    values = module.Positions.evaluate_quantities(data, latents, store=store)
    values |= {"self": data.self, "inner": data.inner}
    rows: list[int | tuple[()]] = list(range(3)) if particles else [()]
    for row in rows:
        one = type(latents)(*(value[row] for value in latents))
        for name, expected in _expected(data, one, weight).items():
            got = values[name][row] if particles and name not in ("own", "self", "inner") else values[name]
            assert torch.equal(got, expected), name
