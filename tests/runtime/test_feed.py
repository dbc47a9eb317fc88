"""Minibatched models: what `fit` feeds them, and what memory it takes."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import guidedsl
from guidedsl.modules import load_source
from guidedsl.pipeline import compile_source
from guidedsl.runtime.errors import DataError, InferenceError
from guidedsl.runtime.feed import BatchFeed, Bind, RowFeed, elbo_of_a_pass, feed_of
from guidedsl.source import Source

N, P, B = 103, 2, 20
LINE = """
model Line {
  dim N, P
  latent w : real[P]  ~ Normal(0, 1)
  latent s : positive ~ HalfNormal(1)
  plate obs[N] minibatch(20) {
    data     x : real[P]
    let      twice = 2 * x[0]
    latent   u : real ~ Normal(0, 1)
    observed y : real ~ Normal(x @ w + 0.1 * u + 0 * twice, s)
  }
}
guide G for Line {
  auto mean_field for w, s
  param a : real     = 0
  param b : positive = 1
  plate obs { u ~ Normal(a * (y - x @ w), b) }
}
"""


def build(text: str) -> Any:
    return load_source(Source("p.guide", text), "feed_guide")


line = build(LINE)


def arrays() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, P, generator=generator)
    y = x @ torch.tensor([1.0, -0.5]) + 0.3 * torch.randn(N, generator=generator)
    return {"x": x.numpy(), "y": y.numpy()}


def mapped(folder: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """The same arrays as memory maps."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        found[name] = numpy.memmap(folder / name, dtype=value.dtype, mode="w+", shape=value.shape)
        found[name][:] = value
    return found


def batches(fields: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: value[at : at + B] for name, value in fields.items()} for at in range(0, N, B)]


def bind(**dims: int) -> Bind:
    return Bind(line.Line, dims, None, None)


def leaves(fit: Any) -> dict[str, torch.Tensor]:
    return {name: leaf.detach() for name, leaf in fit.store.named_parameters()}


def test_every_row_is_fed_once_an_epoch_in_a_new_order() -> None:
    fields = arrays()
    feed = RowFeed(line.Line.data(fields, N=N), line.Line)
    noise = feed.noise(torch.Generator().manual_seed(1))
    epochs = []
    for _ in range(3):
        fed = [feed.subsample(noise) for _ in range(math.ceil(N / B))]
        assert [batch.obs.length for batch in fed] == [20, 20, 20, 20, 20, 3]
        assert [batch.obs.scale for batch in fed[-2:]] == [N / 20, N / 3]
        rows = torch.cat([batch.obs.rows for batch in fed])
        assert sorted(rows.tolist()) == list(range(N))
        torch.testing.assert_close(torch.cat([batch.x for batch in fed]), torch.tensor(fields["x"])[rows].double())
        torch.testing.assert_close(
            torch.cat([batch.twice for batch in fed]), 2.0 * torch.tensor(fields["x"])[rows, 0].double()
        )
        epochs.append([frozenset(batch.obs.rows.tolist()) for batch in fed])
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_memory_map_is_fitted_as_an_array_is(tmp_path: Path) -> None:
    fields = arrays()
    inside = line.G.fit(line.Line.data(fields, N=N), seed=3, steps=30)
    data = line.Line.data(mapped(tmp_path, fields), N=N)
    outside = line.G.fit(data, seed=3, steps=30)
    assert leaves(inside).keys() == leaves(outside).keys()
    for name, leaf in leaves(inside).items():
        assert torch.equal(leaf, leaves(outside)[name]), name
    assert (inside.elbo, inside.elbo_error) == (outside.elbo, outside.elbo_error)


def test_a_memory_map_is_read_by_batches(tmp_path: Path) -> None:
    data = line.Line.data(mapped(tmp_path, arrays()), N=N, dtype=torch.float32)
    with pytest.raises(DataError, match="x has all rows of the minibatched plate obs"):
        torch.exp(data.x)
    with pytest.raises(DataError, match=r"data\.subsample"):
        data.x[0]
    with pytest.raises(DataError, match="read a batch at a time"):
        data.y.mean()
    batch = data.subsample(data.noise(torch.Generator().manual_seed(0)))
    assert (batch.x.shape, batch.x.dtype, batch.twice.shape) == ((B, P), torch.float32, (B,))
    assert batch.full is batch


def test_a_bad_value_in_a_memory_map_is_found_when_it_is_read(tmp_path: Path) -> None:
    fields = mapped(tmp_path, arrays())
    fields["x"][71, 1] = math.nan
    with pytest.raises(DataError, match=r"x\[\d+, 1\] is missing .* is row 71 of plate obs"):
        line.G.fit(line.Line.data(fields, N=N), steps=20)


def test_a_missing_value_that_is_excused_is_excused_in_a_batch(tmp_path: Path) -> None:
    text = LINE.replace("data     x : real[P]", "data x : real[P] data seen : bool")
    module = build(text.replace("0 * twice, s)", "0 * twice, s) when seen"))
    fields = arrays() | {"seen": numpy.ones(N)}
    fields["y"][5], fields["seen"][5] = math.nan, 0
    fit = module.G.fit(module.Line.data(mapped(tmp_path, fields), N=N), steps=12)
    assert math.isfinite(fit.elbo)


def test_batches_of_the_caller_are_gone_through_again_and_again() -> None:
    fit = line.G.fit(batches(arrays()), N=N, steps=30, seed=2)
    again = line.G.fit(batches(arrays()), N=N, steps=30, seed=2)
    assert fit.steps == 30
    assert all(torch.equal(leaf, leaves(again)[name]) for name, leaf in leaves(fit).items())


def test_a_data_loader() -> None:
    fields = arrays()
    rows = [{name: value[i] for name, value in fields.items()} for i in range(N)]
    loader = torch.utils.data.DataLoader(rows, batch_size=B)  # type: ignore[arg-type]
    whole = line.G.fit(batches(fields), N=N, steps=9, seed=2)
    loaded = line.G.fit(loader, N=N, steps=9, seed=2)
    assert all(torch.equal(leaf, leaves(loaded)[name]) for name, leaf in leaves(whole).items())


def test_bound_batches() -> None:
    bound = [line.Line.data(batch, N=N) for batch in batches(arrays())]
    whole = line.G.fit(batches(arrays()), N=N, steps=9, seed=2)
    fit = line.G.fit(bound, steps=9, seed=2)
    assert all(torch.equal(leaf, leaves(fit)[name]) for name, leaf in leaves(whole).items())


def generated(number: int) -> Iterator[dict[str, Any]]:
    yield from batches(arrays())[:number]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (lambda: generated(4), {"N": N, "steps": 9}, "the batches ran dry after 4: .* a list, a DataLoader"),
        (list, {"N": N}, "gives no batch"),
        (lambda: [[1.0, 2.0]], {"N": N}, 'batch 1 is a list; Line takes batches as dicts .* {"x": …, "y": …}'),
        (
            lambda: batches(arrays()),
            {"N": 50, "steps": 40},
            "6 batches of an epoch have 2.06 times the rows .* obs has 50",
        ),
        (lambda: line.Line.data(batches(arrays())[0], N=N), {}, "one batch, 20 of 103 rows of plate obs"),
        (lambda: line.Line.data(arrays(), N=N), {"N": N}, "the data is bound, and knows N"),
        (lambda: line.Line.data(arrays(), N=N), {"step": 5}, "no option `step`.* did you mean `steps`"),
        (lambda: 5, {}, r"fit needs the data of Line, Line\.data\(…\), got 5"),
    ],
)
def test_what_cannot_be_fed_says_why(data: Any, options: dict[str, int], message: str) -> None:
    with pytest.raises(InferenceError, match=message):
        line.G.fit(data(), **options)


def test_batches_need_the_size() -> None:
    with pytest.raises(DataError, match='fed in batches, so no array tells its size; put "N" in the data'):
        line.G.fit(batches(arrays()))


def test_batches_are_for_minibatched_models() -> None:
    module = build(LINE.replace(" minibatch(20)", ""))
    with pytest.raises(InferenceError, match="Line has no minibatched plate, so it takes its data whole"):
        module.G.fit(batches(arrays()))


@pytest.mark.parametrize("kind", ["rows", "batches"])
def test_the_elbo_of_a_pass_is_that_of_all_rows(kind: str) -> None:
    """Against the full data in one piece, at the same parameters: within four standard errors."""
    fields = arrays()
    data = line.Line.data(fields, N=N)
    store = guidedsl.ParamStore()
    feed = feed_of(line.G, data if kind == "rows" else batches(fields), bind(**({} if kind == "rows" else {"N": N})))
    assert isinstance(feed, RowFeed if kind == "rows" else BatchFeed)
    generator = torch.Generator().manual_seed(4)
    passes = [elbo_of_a_pass(line.G, feed, store, generator) for _ in range(40)]
    draw = line.G(data, particles=(20_000,), store=store, noise=data.noise(generator))
    values = (line.Line(data, draw.latents, store=store) - draw.log_q).detach()
    mean = sum(value for value, _ in passes) / len(passes)
    error = math.hypot(
        sum(error for _, error in passes) / len(passes) / len(passes) ** 0.5, float(values.std()) / 20_000**0.5
    )
    assert abs(mean - float(values.mean())) < 4 * error
    spread = torch.tensor([value for value, _ in passes]).std().item()
    assert 0.6 < spread / (sum(error for _, error in passes) / len(passes)) < 1.6


def test_a_sample_has_what_all_rows_share_and_the_rest_for_a_batch(tmp_path: Path) -> None:
    fit = line.G.fit(line.Line.data(arrays(), N=N), steps=20)
    assert {name: value.shape for name, value in fit.sample(5).items()} == {"w": (5, P), "s": (5,)}
    assert {row.name for row in fit.summary(10).rows} == {"w[0]", "w[1]", "s"}
    few = {name: value[:7] for name, value in arrays().items()}
    assert fit.sample(5, data=few)["u"].shape == (5, 7)
    assert fit.sample(5, data=line.Line.data(few, N=N))["u"].shape == (5, 7)
    fit.save(tmp_path / "fit.safetensors")
    for data in (line.Line.data(arrays(), N=N), line.Line.data(mapped(tmp_path, arrays()), N=N)):
        again = line.G.load(tmp_path / "fit.safetensors", data)
        assert again.sample(5)["w"].shape == (5, P)


def test_a_summary_says_what_is_left_out_and_what_was_fitted() -> None:
    fit = line.G.fit(line.Line.data(arrays(), N=N), steps=20)
    assert str(fit.summary(10)).endswith(
        "\n\nleft out, being in plates that are fed in batches: u; fit.sample(data=batch) draws them"
    )
    alone = """
    model M {
      dim N
      plate obs[N] minibatch(20) {
        latent   u : real ~ Normal(0, 1)
        observed y : real ~ Normal(u, 1)
      }
    }
    guide G for M {
      net f(y: real) -> (loc: real, scale: positive) = linear()
      plate obs {
        let (loc, scale) = f(y)
        u ~ Normal(loc, scale)
      }
    }
    """
    fit = build(alone).G.fit({"y": arrays()["y"]}, steps=20, N=N)
    lines = str(fit.summary(10)).splitlines()
    assert lines[-2:] == [
        "fitted, with how many numbers: G.f (4)",
        "left out, being in plates that are fed in batches: u; fit.sample(data=batch) draws them",
    ]


def test_a_fit_in_batches_finds_the_posterior() -> None:
    """Against the same model without batches: a line's slopes to a fifth of a posterior sd, a tenth on average."""
    fields = arrays()
    whole = build(LINE.replace(" minibatch(20)", "")).G
    exact = whole.fit(whole.model.data(fields), seed=0).summary()
    fed = line.G.fit(line.Line.data(fields, N=N), seed=0, steps=1000, lr=0.05).summary()
    for name in ("w[0]", "w[1]", "s"):
        assert abs(fed[name].mean - exact[name].mean) < 0.35 * exact[name].sd
        assert 0.75 < fed[name].sd / exact[name].sd < 1.3


MEMORY = """
import resource, sys, numpy, torch
sys.path.insert(0, {folder!r})
import big_guide
rows = {rows}
x = numpy.memmap({folder!r} + "/x", dtype="f4", mode="r", shape=(rows, 10))
y = numpy.memmap({folder!r} + "/y", dtype="f4", mode="r", shape=(rows,))
torch.set_num_threads(1)
big_guide.G.fit(big_guide.Big.data(x=x[:3000], y=y[:3000], N=3000), steps=3)  # what is allocated once
def private():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
limit = private() * 1024 + {limit}
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
fit = big_guide.G.fit(big_guide.Big.data(x=x, y=y, N=rows), steps=20)
print(fit.elbo)
"""
BIG = """
model Big {
  dim N, P
  latent w : real[P] ~ Normal(0, 1)
  plate obs[N] minibatch(256) {
    data     x : real[P]
    observed y : real ~ Normal(x @ w, 1)
  }
}
guide G for Big { auto mean_field for rest }
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_memory_map_is_never_in_memory_whole(tmp_path: Path) -> None:
    """4 million rows of 10 are 320 MB as float64; a fit and its pass over all rows may take 200 MB."""
    rows = 4_000_000
    (tmp_path / "big_guide.py").write_text(compile_source(Source("big.guide", BIG)).python)
    for name, size in (("x", rows * 10 * 4), ("y", rows * 4)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    program = MEMORY.format(folder=str(tmp_path), rows=rows, limit=200 * 2**20)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr[-2000:]
    assert math.isfinite(float(result.stdout))
