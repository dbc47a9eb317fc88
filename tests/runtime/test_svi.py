"""Steps, optimisers, and errors that name the `.guide` line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from runtime.handwritten import eight_schools_guide as schools
from runtime.handwritten import subsampled_guide as effects
from torch import Tensor

from guidedsl.runtime import ParamStore, optim
from guidedsl.runtime.elbo import ELBO
from guidedsl.runtime.errors import DataError, InferenceError, ParamError
from guidedsl.runtime.svi import SVI

Y = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
SIGMA = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]


def schools_data() -> Any:
    return schools.EightSchools.data(y=Y, sigma=SIGMA)


def svi(store: ParamStore, optimiser: optim.Optimiser, **options: Any) -> SVI:
    return SVI(schools.eight_schools, schools.mean_field, optimiser, store=store, **options)


def leaves(store: ParamStore) -> dict[str, Tensor]:
    return {name: leaf.detach().clone() for name, leaf in store.named_parameters()}


def test_steps_lower_the_loss() -> None:
    run = svi(ParamStore(), optim.Adam(lr=0.05), loss=ELBO(num_particles=4), seed=1)
    losses = [run.step(schools_data()) for _ in range(400)]
    assert sum(losses[-50:]) < sum(losses[:50])
    assert all(isinstance(loss, float) for loss in losses)


def test_plain_functions_and_their_objects_are_the_same() -> None:
    run = svi(ParamStore(), optim.Adam())
    assert run.model is schools.EightSchools
    assert run.guide is schools.MeanField


def test_the_same_seed_gives_the_same_steps_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    stores = ParamStore(), ParamStore()
    for store in stores:
        run = svi(store, optim.Adam(lr=0.05), seed=3)
        for _ in range(20):
            run.step(schools_data())
    first, second = map(leaves, stores)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)


def test_adam_is_torchs_adam() -> None:
    stores = ParamStore(), ParamStore()
    optimisers: tuple[optim.Optimiser, ...] = (optim.Adam(lr=0.03), optim.Torch(torch.optim.Adam, lr=0.03))
    for store, optimiser in zip(stores, optimisers, strict=True):
        run = svi(store, optimiser, seed=7)
        for step in range(30):
            if step == 15:
                optimiser.set_lr(0.01)
            run.step(schools_data())
    ours, theirs = map(leaves, stores)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name])


def test_the_fused_operator_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = ParamStore(), ParamStore()
    for store, threshold in zip(stores, (0, 10**9), strict=True):
        monkeypatch.setattr(optim, "FUSED_FROM", threshold)
        run = svi(store, optim.Adam(lr=0.03), seed=7)
        for _ in range(20):
            run.step(schools_data())
    fused, plain = map(leaves, stores)
    for name in fused:
        torch.testing.assert_close(fused[name], plain[name])


def test_own_rates_and_frozen_parameters() -> None:
    data, store = schools_data(), ParamStore()
    store.param("MeanField.mu_loc", data.new_zeros(()), event_dim=0, lr=0.5)
    store.param("other", 1.0)
    store.param("still", 1.0, frozen=True)
    before = leaves(store)

    def guide(data: Any, *, particles: Any = (), store: Any = None, noise: Any = None) -> Any:
        store.param("MeanField.mu_loc", lambda: data.new_zeros(()), event_dim=0, lr=0.5)
        return schools_draw(data, particles, store, noise)

    def schools_draw(data: Any, particles: Any, store: Any, noise: Any) -> Any:
        from guidedsl.runtime import Draw
        from guidedsl.runtime import distributions as dist

        loc = store.param("MeanField.mu_loc", lambda: data.new_zeros(()), event_dim=0, lr=0.5)
        z_loc = store.param("z_loc", lambda: data.new_zeros((8,)), event_dim=0)
        mu, log_q = dist.Normal.draw(noise, particles, loc, 1.0)
        z, log_q_z = dist.Normal.draw(noise, (*particles, 8), z_loc, 1.0)
        tau = mu.new_ones(mu.shape)
        return Draw(schools.EightSchoolsLatents(mu, tau, z), log_q + log_q_z.sum(-1))

    run = SVI(schools.EightSchools, guide, optim.Adam(lr=0.01), store=store, seed=0)
    run.step(data)
    after = leaves(store)
    assert float((after["MeanField.mu_loc"] - before["MeanField.mu_loc"]).abs()) == pytest.approx(0.5, rel=1e-3)
    assert torch.allclose(after["z_loc"].abs(), torch.full((8,), 0.01, dtype=torch.float64), rtol=1e-3)
    assert torch.equal(after["other"], before["other"])
    assert torch.equal(after["still"], before["still"])


def test_a_resumed_run_equals_an_uninterrupted_one() -> None:
    data = schools_data()
    whole, resumed = ParamStore(), ParamStore()
    for store in (whole, resumed):
        optimiser = optim.Adam(lr=0.05)
        generator = torch.Generator().manual_seed(4)
        run = svi(store, optimiser, generator=generator)
        for _ in range(10):
            run.step(data)
        if store is resumed:
            state, params = optimiser.get_state(), store.get_state()
            optimiser, store_again = optim.Adam(lr=0.9), ParamStore()
            optimiser.set_state(state)
            store_again.set_state(params)
            run = svi(store_again, optimiser, generator=generator)
            resumed = store_again
        for _ in range(10):
            run.step(data)
    first, second = leaves(whole), leaves(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_evaluate_loss_changes_nothing() -> None:
    store = ParamStore()
    run = svi(store, optim.Adam(), seed=0)
    run.step(schools_data())
    before = leaves(store)
    assert isinstance(run.evaluate_loss(schools_data()), float)
    assert all(torch.equal(before[name], leaf) for name, leaf in leaves(store).items())


def test_subsampled_steps_only_move_the_batch() -> None:
    data, store = effects.Effects.data(y=torch.arange(20.0), s=torch.ones(20)), ParamStore()
    effects.mean_field(data, store=store)
    SVI(effects.effects, effects.mean_field, optim.Adam(lr=0.1), store=store, seed=0).step(data)
    assert int((store["MeanField.u_loc"] != 0).sum()) == 5


def test_an_error_in_generated_code_names_the_guide_line() -> None:
    data = schools_data()
    latents = schools.EightSchoolsLatents(torch.zeros(()), torch.ones(()), torch.zeros(5))
    with pytest.raises(InferenceError, match=r"^eight_schools\.guide:10: The size of tensor") as caught:
        schools.EightSchools(data, latents)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_runtime_error_keeps_its_type_and_gets_a_note() -> None:
    store = ParamStore()
    store.param("MeanField.z_loc", torch.zeros(3), event_dim=0)
    with pytest.raises(ParamError) as caught:
        schools.MeanField(schools_data(), store=store)
    assert not isinstance(caught.value, DataError)


def test_an_error_elsewhere_is_left_alone() -> None:
    with pytest.raises(AttributeError):
        SVI(lambda *_: None, schools.mean_field, optim.Adam(), store=ParamStore()).step(None)
