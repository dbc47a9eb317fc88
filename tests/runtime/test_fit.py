"""`fit`: right posteriors without tuning, the same twice, and honest about what it reached."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from runtime.handwritten import eight_schools_guide as schools
from runtime.handwritten import regression_guide as regression
from runtime.handwritten import subsampled_guide as effects

import guidedsl
from guidedsl.runtime import Guide, ParamStore, stochastic
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.fit import Fit
from guidedsl.runtime.fixed_noise import matched_normals, noise_shape
from guidedsl.runtime.progress import Progress

Y = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
SIGMA = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]

# Posterior mean and sd (posteriordb, eight_schools-eight_schools_noncentered), and how far a Gaussian guide may be off.
EIGHT_SCHOOLS = {"mu": (4.41, 3.32), "tau": (3.61, 3.20)}


def schools_data() -> Any:
    return schools.EightSchools.data(y=Y, sigma=SIGMA)


def leaves(fit: Fit) -> dict[str, Any]:
    return {name: leaf.detach().clone() for name, leaf in fit.store.named_parameters()}


@pytest.mark.parametrize("guide", [schools.MeanField, schools.FullRank])
def test_eight_schools(guide: Guide) -> None:
    fit = guide.fit(schools_data(), seed=1)
    assert fit.converged, fit.reason
    table = fit.summary(20_000)
    for name, (mean, sd) in EIGHT_SCHOOLS.items():
        assert abs(table[name].mean - mean) < 0.34 * sd
        assert 0.6 < table[name].sd / sd < 1.25
    assert -31.75 < fit.elbo < -31.4
    assert 0 < fit.elbo_error < 0.3


def reference(cases: Path, name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    folder = cases / name
    names = ("data.json", "reference.json", "tolerances.json")
    read = [json.loads((folder / file).read_text(encoding="utf-8")) for file in names]
    return read[0], read[1]["parameters"], read[2]


def regression_data(fields: dict[str, Any]) -> Any:
    x = [[1.0, a, b] for a, b in zip(fields["mom_hs"], fields["mom_iq"], strict=True)]
    return regression.Regression.data(x=x, y=fields["kid_score"])


def test_collinear_regression_full_rank(cases_dir: Path) -> None:
    fields, truth, tolerances = reference(cases_dir, "kidiq-kidscore_momhsiq")
    fit = regression.FullRank.fit(regression_data(fields), seed=0)
    assert fit.converged, fit.reason
    limits = tolerances["full_rank"]["default"]
    table = fit.summary(20_000)
    for ours, theirs in {"beta[0]": "beta[1]", "beta[1]": "beta[2]", "beta[2]": "beta[3]", "sigma": "sigma"}.items():
        expected = truth[theirs]
        assert abs(table[ours].mean - expected["mean"]) / expected["sd"] < limits["max_abs_mean_diff_over_ref_sd"]
        assert limits["sd_ratio"][0] <= table[ours].sd / expected["sd"] <= limits["sd_ratio"][1]


def test_collinear_regression_mean_field(cases_dir: Path) -> None:
    fields, truth, tolerances = reference(cases_dir, "kidiq-kidscore_momhsiq")
    fit = regression.MeanField.fit(regression_data(fields), seed=0)
    ratios = tolerances["mean_field"]["expected_sd_ratio"]
    table = fit.summary(20_000)
    for ours, theirs in {"beta[0]": "beta[1]", "beta[1]": "beta[2]", "beta[2]": "beta[3]", "sigma": "sigma"}.items():
        expected = truth[theirs]
        assert abs(table[ours].mean - expected["mean"]) / expected["sd"] < 0.2
        assert abs(table[ours].sd / expected["sd"] / ratios[theirs] - 1) < 0.25


def effects_data(n: int = 12) -> Any:
    generator = torch.Generator().manual_seed(2)
    return effects.Effects.data(y=3 + 1.5 * torch.randn(n, generator=generator), s=torch.linspace(0.3, 1.3, n))


def check_effects(fit: Fit, data: Any, tolerance: float) -> None:
    """Against the closed form: the means of a mean-field optimum are exact, its sds those of the full conditionals."""
    weights = 1 / (1 + data.s**2)
    mean = float((weights * data.y).sum() / (1 / 100 + weights.sum()))
    sd = (1 / 100 + len(data.y)) ** -0.5
    table = fit.summary(20_000)
    assert abs(table["mu"].mean - mean) < tolerance * sd
    assert abs(table["mu"].sd / sd - 1) < tolerance
    for row in range(len(data.y)):
        s2 = float(data.s[row]) ** 2
        conditional = (1 + 1 / s2) ** -0.5
        u = (float(data.y[row]) / s2 + mean) / (1 / s2 + 1)
        assert abs(table[f"u[{row}]"].mean - u) < tolerance * conditional
        assert abs(table[f"u[{row}]"].sd / conditional - 1) < tolerance


def test_a_subsampled_plate_on_all_rows() -> None:
    data = effects_data()
    fit = effects.MeanField.fit(data, seed=0)
    assert fit.converged, fit.reason
    check_effects(fit, data, 0.1)


def test_stochastic_steps_on_batches() -> None:
    data = effects_data()
    fit = effects.MeanField.fit(data, seed=0, lr=0.05, steps=4000, num_particles=8)
    assert fit.history
    check_effects(fit, data, 0.3)


def test_given_steps_are_taken() -> None:
    fit = schools.MeanField.fit(schools_data(), seed=0, steps=300, lr=0.05)
    assert fit.steps == 300
    assert fit.elbo > -34


@pytest.mark.parametrize("options", [{}, {"steps": 50}])
def test_the_same_seed_gives_the_same_fit(options: dict[str, Any]) -> None:
    before = torch.get_rng_state()
    first, second = (schools.MeanField.fit(schools_data(), seed=5, **options) for _ in range(2))
    mine, yours = leaves(first), leaves(second)
    assert all(torch.equal(mine[name], yours[name]) for name in mine)
    assert (first.elbo, first.elbo_error) == (second.elbo, second.elbo_error)
    assert torch.equal(torch.get_rng_state(), before)
    other = leaves(schools.MeanField.fit(schools_data(), seed=6, **options))
    assert not torch.equal(mine["MeanField.mu_loc"], other["MeanField.mu_loc"])


def test_plain_functions_and_stores() -> None:
    store = ParamStore()
    fit = guidedsl.fit(schools.mean_field, schools_data(), steps=10, store=store)
    assert fit.guide is schools.MeanField
    assert fit.store is store
    with pytest.raises(InferenceError, match="needs a Guide"):
        guidedsl.fit(lambda data: None, schools_data())


def test_single_precision() -> None:
    fit = schools.MeanField.fit(schools_data(), dtype=torch.float32)
    assert next(iter(fit.store.values())).dtype == torch.float32
    assert -31.9 < fit.elbo < -31.3


@pytest.mark.parametrize("options", [{"steps": 0}, {"lr": 0.0}, {"tolerance": 0.0}, {"num_particles": 0}])
def test_impossible_options(options: dict[str, Any]) -> None:
    with pytest.raises(InferenceError):
        schools.MeanField.fit(schools_data(), **options)


@pytest.mark.parametrize("options", [{}, {"steps": 1000}])
def test_ctrl_c_ends_with_the_best_so_far(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Progress, step: int, loss: float) -> None:
        if step >= 30:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "__call__", interrupt)
    fit = schools.MeanField.fit(schools_data(), **options)
    assert (fit.converged, fit.reason) == (False, "interrupted")
    assert math.isfinite(fit.elbo)


def test_steps_that_are_not_finite_are_skipped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    original = stochastic._read

    def sometimes(*arguments: Any) -> tuple[float, bool]:
        nonlocal calls
        calls += 1
        return (math.nan, False) if calls % 10 == 0 else original(*arguments)

    monkeypatch.setattr(stochastic, "_read", sometimes)
    fit = schools.MeanField.fit(schools_data(), steps=100)
    assert "10 steps were not finite and skipped" in fit.reason
    assert math.isfinite(fit.elbo)


def test_matched_normals_have_the_moments() -> None:
    generator = torch.Generator().manual_seed(0)
    like = torch.zeros((), dtype=torch.float64)
    joint = matched_normals(64, 10, generator, like)
    torch.testing.assert_close(joint.mean(0), torch.zeros(10, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(joint.T @ joint / 64, torch.eye(10, dtype=torch.float64), atol=1e-10, rtol=0)
    marginal = matched_normals(8, 100, generator, like)
    torch.testing.assert_close(marginal.square().mean(0), torch.ones(100, dtype=torch.float64))
    assert float(marginal.mean(0).abs().max()) < 1e-12


def test_matched_normals_integrate_better_than_random_ones() -> None:
    """E[cos 2x] is exp(−2). 512 random draws, matched in the same way, have a root-mean-square error of 0.035."""
    generator = torch.Generator().manual_seed(0)
    like = torch.zeros((), dtype=torch.float64)
    draws = (matched_normals(512, 4, generator, like)[:, 0] for _ in range(20))
    errors = [float((2 * x).cos().mean()) - math.exp(-2) for x in draws]
    assert math.sqrt(sum(error**2 for error in errors) / 20) < 0.01


def test_more_coordinates_than_a_sobol_sequence_is_used_for() -> None:
    many = matched_normals(64, 1500, torch.Generator().manual_seed(0), torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(many.square().mean(0), torch.ones(1500, dtype=torch.float64))


def test_what_can_run_on_fixed_noise() -> None:
    data, generator = schools_data(), torch.Generator()
    shape = noise_shape(schools.MeanField, data, ParamStore(), generator)
    assert not isinstance(shape, str)
    assert shape.coordinates == 10
    assert [tuple(part.shape) for part in shape.split(torch.zeros(3, 10))] == [(3,), (3,), (3, 8)]


def test_the_stochastic_fit_needs_no_settings() -> None:
    data = effects_data(6)
    fit = effects.MeanField.fit(data, num_particles=16)
    assert fit.converged, fit.reason
    check_effects(fit, data, 0.2)


def test_progress_is_one_line_on_a_terminal_only() -> None:
    out = io.StringIO()
    quiet = Progress("MeanField", 100, to=out)
    quiet(10, 3.0)
    quiet.close()
    assert out.getvalue() == ""
    shown = Progress("MeanField", 100, show=True, to=out)
    shown._written = -1.0
    shown(10, 3.0)
    shown.close()
    assert "MeanField: ELBO -3.00, step 10/100" in out.getvalue()
    assert "\n" not in out.getvalue()
