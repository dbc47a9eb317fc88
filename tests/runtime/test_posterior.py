"""Draws, means, tables and files of a fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runtime.handwritten import eight_schools_guide as schools
from runtime.handwritten import regression_guide as regression

from guidedsl.runtime import ParamStore, posterior
from guidedsl.runtime.errors import InferenceError, ParamError
from guidedsl.runtime.fit import Fit
from guidedsl.runtime.posterior import Row, Summary, rows_of

Y = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
SIGMA = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]


def schools_data(n: int = 8) -> Any:
    return schools.EightSchools.data(y=Y[:n], sigma=SIGMA[:n])


@pytest.fixture(scope="module")
def fitted() -> Fit:
    return schools.MeanField.fit(schools_data(), seed=0, steps=200)


def test_samples_have_the_shapes_as_written(fitted: Fit) -> None:
    draws = fitted.sample(17)
    assert {name: tuple(value.shape) for name, value in draws.items()} == {
        "mu": (17,),
        "tau": (17,),
        "z": (17, 8),
        "theta": (17, 8),
    }
    torch.testing.assert_close(draws["theta"], draws["mu"][:, None] + draws["tau"][:, None] * draws["z"])
    assert bool((draws["tau"] > 0).all())
    assert not draws["mu"].requires_grad


def test_samples_are_the_same_at_each_call_and_differ_by_seed(fitted: Fit) -> None:
    before = torch.get_rng_state()
    assert torch.equal(fitted.sample(5)["mu"], fitted.sample(5)["mu"])
    assert not torch.equal(fitted.sample(5, seed=1)["mu"], fitted.sample(5, seed=2)["mu"])
    assert torch.equal(torch.get_rng_state(), before)


def test_sampling_in_chunks(fitted: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior, "CHUNK", 100)
    assert fitted.sample(50)["theta"].shape == (50, 8)


def test_no_draws(fitted: Fit) -> None:
    with pytest.raises(InferenceError, match="at least one"):
        fitted.sample(0)


def test_means(fitted: Fit) -> None:
    means = fitted.mean(2000)
    assert means["theta"].shape == (8,)
    torch.testing.assert_close(means["mu"], fitted.store["MeanField.mu_loc"].detach(), atol=0.3, rtol=0)


def test_summary_rows(fitted: Fit) -> None:
    table = fitted.summary(4000)
    assert [row.name for row in table.rows[:4]] == ["mu", "tau", "z[0]", "z[1]"]
    assert table["theta[7]"].q5 < table["theta[7]"].q50 < table["theta[7]"].q95
    assert table.to_dict()["mu"]["mean"] == table["mu"].mean
    with pytest.raises(KeyError):
        table["eta"]


def test_summary_text(fitted: Fit) -> None:
    lines = str(fitted.summary()).splitlines()
    assert lines[0].startswith("MeanField for EightSchools: ELBO -")
    assert "200 steps" in lines[0]
    assert lines[1].startswith(("converged: ", "NOT converged: "))
    assert lines[2].startswith("k-hat: ")
    assert lines[4].split() == ["mean", "sd", "5%", "50%", "95%"]
    assert len({len(line) for line in lines[4:]}) == 1


def test_long_tables_are_elided_but_show_every_site() -> None:
    table = Summary("h", rows_of({"x": torch.randn(50, 500), "tau": torch.rand(50)}))
    text = str(table)
    assert len(text.splitlines()) < 70
    assert "\ntau" in text
    assert '… 470 more rows of x: summary(sites=["x"]) shows' in text
    assert len(table.to_dict()) == 501


def test_a_long_let_leaves_room_for_the_latents() -> None:
    draws = {"f": torch.randn(50, 40), "K": torch.randn(50, 20, 20), "s": torch.rand(50)}
    table = Summary("h", rows_of(draws), lets=("K",))
    names = [line.split("  ")[0] for line in str(table).splitlines()[3:]]
    assert [name for name in names if name.startswith("f")] == [f"f[{row}]" for row in range(40)]
    assert sum(name.startswith("K") for name in names) == 8
    assert "… 392 more rows of K: " in str(table)
    assert Summary("h", rows_of(draws), lets=("K",), more="elsewhere")._shown()[1] == {"K": 392}


def test_sites_are_picked_and_shown_whole() -> None:
    table = Summary("h", rows_of({"f": torch.randn(50, 90), "s": torch.rand(50)}), lets=("f",), note="n")
    only = table.only(["f"])
    assert len(str(only).splitlines()) == 3 + 90
    assert {row.site for row in only.rows} == {"f"}
    with pytest.raises(InferenceError, match=r"no site 'ff'; did you mean 'f'\?"):
        table.only(["ff"])
    with pytest.raises(InferenceError, match=r"no site 'theta'; there are f, s"):
        table.only(["theta"])


def test_digits_follow_the_sd() -> None:
    rows = (Row("a", 1234.5, 10.0, 1.0, 2.0, 3.0), Row("b", 0.012345, 0.0012, 0.01, 0.012, 0.014))
    text = str(Summary("h", rows))
    assert " 1234 " in text or " 1235 " in text
    assert "0.0123" in text


def test_matrix_names() -> None:
    assert [row.name for row in rows_of({"x": torch.zeros(3, 1, 2)})] == ["x[0, 0]", "x[0, 1]"]


def test_a_saved_fit_comes_back(fitted: Fit, tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    fitted.save(path)
    loaded = schools.MeanField.load(path, schools_data())
    assert torch.equal(loaded.sample(20)["theta"], fitted.sample(20)["theta"])
    assert (loaded.elbo, loaded.converged, loaded.reason, loaded.steps) == (
        fitted.elbo,
        fitted.converged,
        fitted.reason,
        fitted.steps,
    )


def test_another_programs_file_is_refused(fitted: Fit, tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    fitted.save(path)
    with pytest.raises(InferenceError, match=r"is a fit of guide MeanField of eight_schools\.guide; this is FullRank"):
        schools.FullRank.load(path, schools_data())
    with pytest.raises(InferenceError, match=r"another version of regression\.guide"):
        regression.MeanField.load(path, regression.Regression.data(x=[[1.0]], y=[1.0]))


def test_a_fit_on_other_sizes_is_refused(fitted: Fit, tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    fitted.save(path)
    with pytest.raises(InferenceError, match="does not fit this data"):
        schools.MeanField.load(path, schools_data(5))


def test_files_that_are_not_fits(tmp_path: Path) -> None:
    path = tmp_path / "params.safetensors"
    store = ParamStore()
    store.param("a", 1.0)
    store.save(path)
    with pytest.raises(InferenceError, match="but not a fit"):
        schools.MeanField.load(path, schools_data())
    path.write_bytes(b"junk")
    with pytest.raises(ParamError):
        schools.MeanField.load(path, schools_data())
