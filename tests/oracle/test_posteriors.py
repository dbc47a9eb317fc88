"""Fits of real posteriors against their reference draws; the figures are printed whether or not they are met."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from guidedsl.modules import load_source
from guidedsl.source import Source

TOP_LEVEL = {"mu_alpha", "sigma_alpha", "sigma_y", "beta[1]", "beta[2]"}


@pytest.fixture(scope="module")
def compare(root: Path) -> ModuleType:
    path = root / "examples" / "posteriors" / "compare.py"
    spec = importlib.util.spec_from_file_location("posteriors_compare", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "case",
    [
        "eight_schools-eight_schools_noncentered",
        "kidiq-kidscore_momhsiq",
        "wells_data-wells_dist100ars_model",
    ],
)
@pytest.mark.parametrize("family", ["full_rank", "mean_field"])
def test_a_posterior_meets_its_tolerances(
    compare: ModuleType, cases_dir: Path, case: str, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = compare.compare(cases_dir, case, family, seed=1)
    with capsys.disabled():
        print("\n" + compare.line(result))
        for scalar in result.scalars:
            print(
                f"    {scalar.name:<12} reference {scalar.reference_mean:>9.4f} ± {scalar.reference_sd:<9.4f} "
                f"here {scalar.mean:>9.4f} ± {scalar.sd:<9.4f} error {scalar.error:.3f} sd, ratio {scalar.ratio:.2f}"
            )
    missed = [scalar.name for scalar in result.scalars if not scalar.met]
    assert result.met, missed
    assert result.converged


def with_guide(compare: ModuleType, case: str, family: str) -> ModuleType:
    """The case's module, with another family in the place of its full-rank guide."""
    path = compare.HERE / case / "model.guide"
    text = path.read_text()
    model = text[text.index("model ") :].split()[1]
    source = Source("model.guide", f"{text}\nguide Other for {model} {{ auto {family} for rest }}\n")
    module = load_source(source, "posterior_with_another_guide")
    setattr(module, compare.GUIDES["full_rank"], module.Other)
    return module


@pytest.mark.parametrize("family", ["structured", "laplace"])
@pytest.mark.parametrize("case", ["eight_schools-eight_schools_noncentered", "kidiq-kidscore_momhsiq"])
def test_another_family_against_the_tolerances_of_full_rank(
    compare: ModuleType, cases_dir: Path, case: str, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = compare.compare(cases_dir, case, "full_rank", seed=1, module=with_guide(compare, case, family))
    with capsys.disabled():
        print(f"\n{family}: {compare.line(result)}")
        for scalar in result.scalars:
            print(
                f"    {scalar.name:<12} reference {scalar.reference_mean:>9.4f} ± {scalar.reference_sd:<9.4f} "
                f"here {scalar.mean:>9.4f} ± {scalar.sd:<9.4f} error {scalar.error:.3f} sd, ratio {scalar.ratio:.2f}"
            )
    assert result.converged


@pytest.mark.parametrize("seed", [2, 3])
def test_a_heavy_tail_is_not_taken_for_settled(compare: ModuleType, cases_dir: Path, seed: int) -> None:
    """tau is log-normal here with a scale near 0.8: its sd hangs on the largest draws, and few of them may agree by
    chance."""
    result = compare.compare(cases_dir, "eight_schools-eight_schools_noncentered", "mean_field", seed=seed)
    assert result.converged
    assert result.met, [scalar.name for scalar in result.scalars if not scalar.met]


def test_radon_meets_its_tolerances_with_mean_field(
    compare: ModuleType, cases_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "radon_mn-radon_hierarchical_intercept_noncentered"
    result = compare.compare(cases_dir, name, "mean_field", seed=1)
    top = [scalar for scalar in result.scalars if scalar.name in TOP_LEVEL]
    with capsys.disabled():
        print("\n" + compare.line(result))
        for scalar in top:
            print(
                f"    {scalar.name:<12} reference {scalar.reference_mean:>9.4f} ± {scalar.reference_sd:<9.4f} "
                f"here {scalar.mean:>9.4f} ± {scalar.sd:<9.4f} error {scalar.error:.3f} sd, ratio {scalar.ratio:.2f}"
            )
    assert len(top) == len(TOP_LEVEL)
    assert all(scalar.met for scalar in top), [scalar.name for scalar in top if not scalar.met]
    assert result.converged
