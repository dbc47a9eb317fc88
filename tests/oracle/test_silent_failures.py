"""What goes wrong without a word in handler-based variational inference, and cannot happen here.

Each test is one numbered item of such a list: the wrong program is refused with the right code, or the
right answer comes out.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import guidedsl
from guidedsl.modules import load_source
from guidedsl.pipeline import check
from guidedsl.runtime.errors import DataError, ParamError
from guidedsl.runtime.param_files import read_file, write_file
from guidedsl.source import Source


def codes(text: str) -> list[str]:
    return [diagnostic.code for diagnostic in check(Source("program.guide", text)).diagnostics]


def build(text: str) -> Any:
    return load_source(Source("program.guide", text), "silent_failures_guide")


def one_param(declaration: str) -> str:
    return f"model M {{ latent z : real ~ Normal(0, 1) }} guide G for M {{ {declaration} z ~ Normal(sum([w, 0]), 1) }}"


@pytest.mark.parametrize(
    ("declaration", "code"),
    [
        ("param w : positive = -1", "E403"),
        ("param w : positive = 0", "E403"),
        ("param w : unit = 1.5", "E403"),
        ("param w : interval(0, 2) = 5", "E403"),
    ],
)
def test_1_a_bad_initial_value_of_a_scalar_does_not_compile(declaration: str, code: str) -> None:
    assert codes(one_param(declaration)) == [code]


@pytest.mark.parametrize(
    "declaration",
    [
        "param w : ordered[3] = [3, 1, 2]",
        "param w : simplex[3] = [1, 2, 3]",
        "param w : lower_cholesky[2] = [[1, 5], [0, 1]]",
    ],
)
def test_1_a_bad_initial_value_of_a_structure_does_not_compile(declaration: str) -> None:
    text = f"model M {{ latent z : real ~ Normal(0, 1) }} guide G for M {{ {declaration} z ~ Normal(sum(w), 1) }}"
    assert codes(text) == ["E406"]


SUBSAMPLED = """
model M {
  dim N
  plate rows[N] subsample(5) {
    data x : real
    latent u : real ~ Normal(0, 1)
    observed y : real ~ Normal(u + x, 1)
  }
}
guide G for M { plate rows { param m : real = 0  u ~ Normal(m, 1) } }
"""


def test_2_a_local_param_of_a_subsampled_plate_has_all_rows() -> None:
    module = build(SUBSAMPLED)
    data = module.M.data(x=[0.0] * 20, y=[1.0] * 20)
    store = guidedsl.ParamStore()
    generator = torch.Generator().manual_seed(0)
    batch = data.subsample(data.noise(generator))
    draw = module.G(batch, store=store)
    assert draw.latents.u.shape == (5,)
    assert dict(store.named_parameters())["G.m"].shape == (20,)


def test_2_a_minibatch_shaped_value_is_refused() -> None:
    plate = guidedsl.Plate("rows", 20, rows=torch.arange(5))
    with pytest.raises(ParamError, match="rows"):
        guidedsl.ParamStore().param("m", torch.zeros(5), plates=(plate,))


def test_3_a_plate_has_one_size() -> None:
    text = """
    model M { dim J plate p[J] { latent z : real ~ Normal(0, 1) } }
    guide G for M { plate p[3] { z ~ Normal(0, 1) } }
    """
    assert "E103" in codes(text)


def test_4_plates_of_equal_size_are_told_apart() -> None:
    text = """
    model M {
      plate a[3] { latent u : real ~ Normal(0, 1) }
      plate b[3] { latent v : real ~ Normal(0, 1) }
    }
    guide G for M { plate b { u ~ Normal(0, 1) } plate a { v ~ Normal(0, 1) } }
    """
    assert codes(text) == ["E203", "E203"]


def test_4_a_row_number_of_one_plate_does_not_index_another() -> None:
    text = """
    model M {
      plate a[3] { latent u : real ~ Normal(0, 1) }
      plate b[3] { latent v : real ~ Normal(0, 1) }
      plate row[9] { data i : index(a)  observed y : real ~ Normal(v[i], 1) }
    }
    guide G for M { auto mean_field for rest }
    """
    assert codes(text) == ["E207"]


def test_5_two_params_of_one_name_do_not_compile() -> None:
    text = one_param("param w : real = 0 param w : positive = 1")
    assert codes(text) == ["E103"]


def test_6_a_guide_that_leaves_the_support_does_not_compile() -> None:
    text = "model M { latent z : positive ~ Gamma(3, 1) } guide G for M { z ~ Normal(0, 1) }"
    assert codes(text) == ["E401"]


def test_6_a_narrower_guide_is_reported() -> None:
    text = "model M { latent z : positive ~ Gamma(3, 1) } guide G for M { z ~ Beta(2, 2) }"
    assert codes(text) == ["W603"]


def test_7_a_transformed_site_has_its_jacobian() -> None:
    """Gamma(3, 1) under a log-normal guide: loc ln 3 − 1/6 and scale 3^−½ in closed form."""
    module = build(
        "model M { latent z : positive ~ Gamma(3, 1) } "
        "guide ByType for M { auto mean_field for rest } "
        "guide ByName for M { param a : real = 0 param b : positive = 1 z ~ LogNormal(a, b) }"
    )
    data = module.M.data()
    for guide, loc, scale in ((module.ByType, "z_loc", "z_scale"), (module.ByName, "a", "b")):
        store = guide.fit(data, seed=1).store
        # The noise is whitened, so only terms beyond the second moment are left of its error: below 0.01 at 2048 draws.
        assert store[f"{guide.name}.{loc}"].item() == pytest.approx(math.log(3) - 1 / 6, abs=0.01)
        assert store[f"{guide.name}.{scale}"].item() == pytest.approx(3**-0.5, abs=0.01)


def test_8_and_11_model_and_guide_share_one_scaled_batch() -> None:
    """The mean over batches of the batch's log densities is the full data's: rows agree and both sides are scaled."""
    module = build(SUBSAMPLED)
    y = [float(i) for i in range(20)]
    data = module.M.data(x=[0.0] * 20, y=y)
    store = guidedsl.ParamStore()
    generator = torch.Generator().manual_seed(1)
    noise = data.noise(generator)
    full = module.M(data.full, module.MLatents(torch.zeros(20, dtype=torch.float64)), store=store)
    values = []
    for _ in range(2000):
        batch = data.subsample(noise)
        draw = module.G(batch, store=store, noise=noise)
        assert draw.latents.u.shape == batch.y.shape
        values.append(module.M(batch, module.MLatents(torch.zeros(5, dtype=torch.float64)), store=store))
    sampled = torch.stack(values)
    error = sampled.std() / math.sqrt(len(values))
    assert abs(sampled.mean() - full) < 4 * error


def test_9_one_row_of_data_is_not_stretched_over_a_plate() -> None:
    module = build(
        "model M { dim N plate rows[N] { data s : positive observed y : real ~ Normal(0, s) } } guide G for M { }"
    )
    with pytest.raises(DataError, match="N is 1 from s, 3 from y"):
        module.M.data(y=[1.0, 2.0, 3.0], s=[1.0])


def test_9_a_param_of_one_row_is_not_stretched_over_a_plate() -> None:
    store = guidedsl.ParamStore()
    store.param("w", torch.zeros(3))
    with pytest.raises(ParamError, match="w"):
        store.param("w", torch.zeros(1))


def test_8_the_loss_itself_is_scaled() -> None:
    """What a step minimises, over batches of 5 of 20 rows, averages to the loss of all rows: prior, guide and data."""
    module = build(SUBSAMPLED)
    data = module.M.data(x=[0.0] * 20, y=[float(i) for i in range(20)])
    store = guidedsl.ParamStore()
    generator = torch.Generator().manual_seed(2)
    noise = data.noise(generator)
    loss = guidedsl.ELBO()
    with torch.no_grad():
        sampled = torch.stack(
            [loss(module.M, module.G, data.subsample(noise), store, noise).value for _ in range(1500)]
        )
        whole = torch.stack([loss(module.M, module.G, data, store, noise).value for _ in range(1500)])
    error = math.hypot(float(sampled.std()), float(whole.std())) / math.sqrt(1500)
    assert abs(float(sampled.mean() - whole.mean())) < 4 * error


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_10_parameters_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path: Path, bad: float) -> None:
    store = guidedsl.ParamStore()
    store.param("w", torch.zeros(3))
    store.save(tmp_path / "good.safetensors")
    tensors, header = read_file(tmp_path / "good.safetensors")
    write_file(tmp_path / "broken.safetensors", {"w": torch.tensor([0.0, bad, 0.0])}, header)
    for into in (store, guidedsl.ParamStore()):
        with pytest.raises(ParamError, match="w"):
            into.load(tmp_path / "broken.safetensors")
    assert torch.equal(store["w"], tensors["w"])
    with torch.no_grad():
        dict(store.named_parameters())["w"][1] = bad
    with pytest.raises(ParamError, match="w"):
        store.save(tmp_path / "bad.safetensors")
    assert not (tmp_path / "bad.safetensors").exists()


def test_12_every_latent_is_sampled() -> None:
    text = """
    model M { latent a : real ~ Normal(0, 1) latent b : real ~ Normal(0, 1) }
    guide G for M { a ~ Normal(0, 1) }
    """
    assert codes(text) == ["E301"]


def test_12_an_observed_site_is_not_sampled() -> None:
    text = """
    model M { latent a : real ~ Normal(0, 1) observed y : real ~ Normal(a, 1) }
    guide G for M { a ~ Normal(0, 1) y ~ Normal(0, 1) }
    """
    assert codes(text) == ["E303"]


SITE = """
model M {{ dim N latent p : unit ~ Beta(1, 1)
  plate row[N] {{ data n : count  data seen : bool = 1  {site} }} }}
"""


@pytest.mark.parametrize(
    ("site", "good", "bad", "said"),
    [
        ("observed y : count ~ Binomial(n, p)", [3, 0], [3, 4], r"y\[1\] = 4 is not .* between 0 and 2"),
        ("observed y : real ~ Exponential(p)", [0.5, 2], [0.5, -2], r"y\[1\] = -2 is not positive"),
        ("observed y : count ~ Truncated(Poisson(p), low = 1)", [1, 2], [1, 0], r"y\[1\] = 0 is not"),
        ("observed y : count[2] ~ Multinomial(n, [p, 1 - p])", [[1, 2], [0, 2]], [[1, 2], [1, 2]],
         r"y\[1\] sums to 3, but its total is 2"),
        ("observed y : count ~ Binomial(n, p) when seen", [3, None], [7, None], r"y\[0\] = 7 is not"),
        ("observed y : count[2] ~ Multinomial(n, [p, 1 - p]) when seen", [[1, 2], [None, None]],
         [[1, 1], [None, None]], r"y\[0\] sums to 2"),
    ],
)  # fmt: skip
def test_13_data_that_its_distribution_cannot_have_made(site: str, good: Any, bad: Any, said: str) -> None:
    """A density beyond the support is a number like any other, or an infinite one that blames lgamma."""
    model = build(SITE.format(site=site)).M
    data = model.data(n=[3, 2], y=good, seen=[1, 0 if "when" in site else 1])
    latents = model.latents_type(p=torch.tensor(0.3, dtype=data.dtype, requires_grad=True))
    log_p = model(data, latents)
    assert bool(log_p.isfinite())
    assert bool(torch.autograd.grad(log_p, latents.p)[0].isfinite())
    with pytest.raises(DataError, match=said):
        model.data(n=[3, 2], y=bad, seen=[1, 0 if "when" in site else 1])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"won": [[1, 3, 4], [0, 3, 3]]}, r"won\[1, 1\] = 3 is not a whole number between 0 and 2"),
        ({"again": [[1, 0, 4], [1, 1, 3]]}, r"again\[1, 0\] = 1 is not a whole number between 0 and 0"),
        ({"early": [[2, 2, 0], [0, 1, 3]]}, r"early\[0, 0\] = 2 is not a whole number between 0 and 1"),
        (
            {"kinds": [[[1, 1], [2, 2], [6, 1]], [[1, 0], [0, 2], [1, 2]]]},
            r"kinds\[0, 2\] sums to 7, but its total is 6",
        ),
    ],
)
def test_13_nor_in_a_scan_with_totals_that_move(changed: dict[str, Any], said: str) -> None:
    folder = Path(__file__).resolve().parent.parent / "cases" / "programs" / "scan_counts"
    model = build((folder / "model.guide").read_text(encoding="utf-8")).Counts
    given = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    model.data(given)
    with pytest.raises(DataError, match=said):
        model.data(given | changed)


def test_14_a_density_beyond_its_support_is_minus_infinity() -> None:
    text = "model M { data x : real latent a : positive ~ HalfNormal(1) factor log_prob(Gamma(a, 2), x) }"
    model = build(text).M
    a = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    for x, expected in (
        (-1.0, -math.inf),
        (0.7, float(torch.distributions.Gamma(1.5, 2.0).log_prob(torch.tensor(0.7)))),
    ):
        log_p = model(model.data(x=x), model.latents_type(a=a))
        prior = torch.distributions.HalfNormal(torch.ones((), dtype=a.dtype)).log_prob(a)
        assert float((log_p - prior).detach()) == pytest.approx(expected, rel=1e-6)
        assert bool(torch.autograd.grad(log_p, a)[0].isfinite())
