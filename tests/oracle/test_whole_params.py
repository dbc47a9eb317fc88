"""Params and data of subsampled plates, read from outside them, against the log density written out in torch."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

import guidedsl

CASE = Path(__file__).resolve().parent.parent / "cases" / "programs" / "whole_params"


def set_up() -> tuple[Any, Any, guidedsl.ParamStore]:
    """The module, its data, and a store whose every row has a value of its own."""
    spec = importlib.util.spec_from_file_location("whole_params_oracle", CASE / "expected.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    data = module.Hospitals.data(json.loads((CASE / "data.json").read_text()))
    store = guidedsl.ParamStore()
    module.Hospitals(data, module.Lookup(data, store=store).latents, store=store)
    for leaf in store.leaves().values():
        with torch.no_grad():
            leaf.add_(0.1 * torch.arange(leaf.numel(), dtype=leaf.dtype).reshape(leaf.shape))
    return module, data, store


def total(values: Tensor, scale: float) -> Tensor:
    return scale * values.sum()


def expected(data: Any, batch: Any, level: Tensor, load: Tensor, store: guidedsl.ParamStore) -> Tensor:
    """Everything in the model, over the rows of the batch, from full arrays."""
    shift, bias = store["Hospitals.shift"], store["Hospitals.bias"]
    every = {"ward": torch.arange(4), "stay": torch.arange(6)}
    ward = every["ward"] if batch.ward.rows is None else batch.ward.rows
    stay = every["stay"] if batch.stay.rows is None else batch.stay.rows
    home, when, first = data.home[stay], data.when_[stay], data.first[ward]
    log_p = Normal(0.0, 1.0).log_prob(level) - bias[:, 0].sum() ** 2 + store["Hospitals.drift"]
    log_p = log_p + total(Normal(level + shift[ward], 1.0).log_prob(load), 4 / len(ward))
    log_p = log_p + total(Normal(load, 1.0).log_prob(data.seen[ward]), 4 / len(ward))
    mean = shift[home] + data.beds[home] + data.stock[home, when] + bias[home, when]
    log_p = log_p + total(Normal(mean, 1 + data.beds.sum()).log_prob(data.days[stay]), 6 / len(stay))
    mean = data.season[first] + bias[ward, first] + data.stock[ward, first] + bias[ward].sum(-1)
    return log_p + total(Normal(mean, 1.0).log_prob(data.cost[ward]), 4 / len(ward))


def test_a_batch_reads_the_stored_rows() -> None:
    module, data, store = set_up()
    noise = data.noise(torch.Generator().manual_seed(3))
    for _ in range(5):
        batch = data.subsample(noise)
        draw = module.Lookup(batch, store=store, noise=noise)
        level, load = draw.latents
        log_p = module.Hospitals(batch, draw.latents, store=store)
        torch.testing.assert_close(log_p, expected(data, batch, level, load, store), rtol=1e-12, atol=1e-12)
        loc, scale, both = store["Lookup.loc"], store["Lookup.scale"], store["Lookup.both"]
        mean = store["Lookup.at"] + loc.sum() + scale[0] + store["Hospitals.shift"].sum() + both.sum()
        rows = batch.ward.rows
        log_q = Normal(mean, scale.mean()).log_prob(level)
        log_q = log_q + 2.0 * Normal(loc[rows] + both[rows, 0], scale[rows]).log_prob(load).sum()
        torch.testing.assert_close(draw.log_q, log_q, rtol=1e-12, atol=1e-12)


def test_every_stored_row_is_trained_where_all_are_read() -> None:
    module, data, store = set_up()
    noise = data.noise(torch.Generator().manual_seed(0))
    draw = module.Lookup(data.subsample(noise), store=store, noise=noise)
    (gradient,) = torch.autograd.grad(draw.log_q - draw.latents.level, store.leaves()["Lookup.scale"])
    assert bool((gradient != 0).all())


def test_all_rows_are_the_same_program() -> None:
    module, data, store = set_up()
    noise = data.noise(torch.Generator().manual_seed(0))
    draw = module.Lookup(data, particles=(7,), store=store, noise=noise)
    log_p = module.Hospitals(data, draw.latents, store=store)
    for particle in range(7):
        level, load = draw.latents.level[particle], draw.latents.load[particle]
        torch.testing.assert_close(log_p[particle], expected(data, data, level, load, store), rtol=1e-12, atol=1e-12)
