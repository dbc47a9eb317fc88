"""Nets and externs at run time: oracles over rows, seeds, files, modules from outside and what is said of bad ones."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guidedsl.modules import load_source
from guidedsl.pipeline import compile_source
from guidedsl.runtime import ParamStore
from guidedsl.runtime.default_store import module as register
from guidedsl.runtime.elbo import ELBO
from guidedsl.runtime.errors import GuidedslError, InferenceError, ParamError
from guidedsl.runtime.noise import RecordedNoise
from guidedsl.runtime.optim import Adam
from guidedsl.runtime.svi import SVI
from guidedsl.source import Source, read_source

PROGRAMS = Path(__file__).resolve().parent.parent / "cases" / "programs"
DTYPES = [torch.float32, torch.float64]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
"""Relative: the same sums in another order."""


def build(text: str, name: str = "nets_here") -> ModuleType:
    """The generated module of a program."""
    return load_source(Source("nets.guide", text), name)


def corpus(name: str) -> ModuleType:
    return build(read_source(PROGRAMS / name / "model.guide", "model.guide").text, f"nets_{name}")


def digits(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    return torch.rand(rows, width, generator=torch.Generator().manual_seed(3)).round().to(dtype)


# Plates and particles


@pytest.mark.parametrize("dtype", DTYPES)
def test_plates_and_particles_are_a_loop_over_rows(dtype: torch.dtype) -> None:
    """Nested and crossed plates, arguments that lack axes: every entry is the net of that entry's own arguments."""
    built = corpus("nets_plates")
    generator = torch.Generator().manual_seed(1)
    shapes = {"s": (2, 3, 4), "y": (2, 3, 4), "x": (3,)}
    fields = {name: torch.randn(shape, generator=generator).tolist() for name, shape in shapes.items()}
    data = built.Crossed.data(fields, dtype=dtype)
    batch = data.subsample(data.noise(generator))
    store = ParamStore()
    latents = built.Amortised(batch, particles=(5,), store=store, noise=batch.noise(generator)).latents
    total = built.Crossed(batch, latents, store=store)
    mix = store.modules["Crossed.mix"]
    rows = batch.t.rows
    normal = torch.distributions.Normal
    for particle in range(5):
        a, b, c, u = (value[particle] for value in (latents.a, latents.b, latents.c, latents.u))
        log_p = normal(0.0, 1.0).log_prob(c).sum() + normal(c, 1.0).log_prob(a).sum()
        log_p = log_p + normal(data.x, 1.0).log_prob(b).sum()
        for i in range(2):
            for j in range(3):
                loc = mix(a[i], b[j], c)
                log_p = log_p + normal(loc, 1.0).log_prob(u[i, j]).sum()
                for t in rows.tolist():
                    mean = mix(u[i, j], data.s[i, j, t], c).sum()
                    log_p = log_p + 2.0 * normal(mean, 1.0).log_prob(data.y[i, j, t])
        assert torch.allclose(total[particle], log_p, rtol=10 * TOLERANCE[dtype])


class Recorder(nn.Module):
    """A net that keeps the shapes that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.seen: list[tuple[tuple[int, ...], ...]] = []

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        self.seen.append((tuple(z.shape), tuple(c.shape)))
        out: Tensor = self.linear(torch.cat((z, c[:, None]), -1))
        return out


PASSED = """
model M {
  dim I, J, Z = 2
  net decoder(z: real[Z], c: real) -> real[Z]
  latent c : real ~ Normal(0, 1)
  plate i[I] { latent z : real[Z] ~ Normal(0, 1) }
  plate i, j[J] { observed x : real[Z] ~ Normal(decoder(z, c), 1) }
}
guide G for M { auto mean_field for rest }
"""


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_passed_net_sees_one_batch_axis(dtype: torch.dtype) -> None:
    built = build(PASSED)
    data = built.M.data(x=torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0)), dtype=dtype)
    store, net = ParamStore(), Recorder().to(dtype)
    register("M.decoder", net, store=store)
    for particles in ((), (5,), (5, 2)):
        latents = built.G(data, particles=particles, store=store).latents
        log_p = built.M(data, latents, store=store)
        rows = 3 * math.prod(particles)
        assert net.seen[-1] == ((rows, 2), (rows,))
        z, c = latents.z, latents.c[..., None, None].expand(*latents.z.shape[:-1], 1)
        mean = net.linear(torch.cat((z, c), -1))[..., None, :]
        normal = torch.distributions.Normal
        expected = normal(mean, 1.0).log_prob(data.x).sum((-3, -2, -1)) + normal(0.0, 1.0).log_prob(z).sum((-2, -1))
        expected = expected + normal(0.0, 1.0).log_prob(latents.c)
        assert torch.allclose(log_p, expected, rtol=TOLERANCE[dtype])


# A variational autoencoder, by hand

VAE = read_source(PROGRAMS / "nets_vae" / "model.guide", "model.guide").text


class ByHand(nn.Module):
    """The autoencoder of the corpus in PyTorch alone, its layers under the names that the store has."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.decoder_hidden, self.decoder_out = nn.Linear(2, 5), nn.Linear(5, width)
        self.encoder_hidden1, self.encoder_hidden2 = nn.Linear(width, 10), nn.Linear(10, 5)
        self.encoder_loc, self.encoder_scale = nn.Linear(5, 2), nn.Linear(5, 2)

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        """−ELBO of a batch."""
        h = torch.relu(self.encoder_hidden2(torch.relu(self.encoder_hidden1(x))))
        loc, scale = self.encoder_loc(h), nn.functional.softplus(self.encoder_scale(h), threshold=1e9)
        z = loc + scale * noise
        logits = self.decoder_out(torch.tanh(self.decoder_hidden(z)))
        reconstruction = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = torch.distributions.Normal(loc, scale).log_prob(z) - torch.distributions.Normal(0.0, 1.0).log_prob(z)
        return reconstruction + kl.sum()


def test_an_autoencoder_trains_as_one_by_hand() -> None:
    """Twenty steps of Adam on the same noise: equal losses, to rounding. Adam by torch, eps and all."""
    built = build(VAE)
    x = digits(8, 6, torch.float64)
    data = built.VAE.data(x=x, N=8, dtype=torch.float64)
    store = ParamStore()
    guide, model = built.Amortised, built.VAE
    noise = RecordedNoise(torch.Generator().manual_seed(0), data.dtype, data.device)
    model(data, guide(data, store=store, noise=noise).latents, store=store)
    hand = ByHand(6).double()
    for name, weight in hand.named_parameters():
        net, layer = name.split("_", 1)
        owner = "VAE" if net == "decoder" else "Amortised"
        with torch.no_grad():
            weight.copy_(store[f"{owner}.{net}.{layer}"])
    optimiser = torch.optim.Adam(hand.parameters(), lr=0.01)
    ours = Adam(lr=0.01)
    for step in range(20):
        noise = RecordedNoise(torch.Generator().manual_seed(step), data.dtype, data.device)
        objective, value = ELBO()(model, guide, data, store, noise)
        leaves = store.trainable()
        gradients = torch.autograd.grad(objective, list(leaves.values()))
        expected = hand.loss(x, noise.normals[0])
        assert math.isclose(value.item(), expected.item(), rel_tol=1e-10), step
        ours.step(store, list(leaves), list(leaves.values()), gradients)
        optimiser.zero_grad()
        expected.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


# Seeds and files


def test_nets_follow_the_seed_and_leave_the_global_state() -> None:
    built = build(VAE)
    data = built.VAE.data(x=digits(6, 3, torch.float32), N=6)
    assert data.dtype == torch.float32
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, second = (built.Amortised.fit(data, seed=4, steps=3, progress=False).store for _ in range(2))
    other = built.Amortised.fit(data, seed=5, steps=3, progress=False).store
    assert torch.equal(torch.get_rng_state(), before)
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["VAE.decoder.hidden.weight"], other["VAE.decoder.hidden.weight"])


def test_initial_weights_do_not_depend_on_precision() -> None:
    built = build(VAE)
    stores = []
    for dtype in DTYPES:
        store = ParamStore()
        data = built.VAE.data(x=digits(4, 3, dtype), N=4, dtype=dtype).with_generator(torch.Generator().manual_seed(1))
        built.Amortised(data, store=store)
        stores.append(store)
    assert stores[1]["Amortised.encoder.loc.bias"].dtype == torch.float64
    assert torch.equal(stores[0]["Amortised.encoder.loc.bias"].double(), stores[1]["Amortised.encoder.loc.bias"])


def test_a_fresh_process_loads_the_same_function(tmp_path: Path, root: Path) -> None:
    (tmp_path / "vae_guide.py").write_text(compile_source(Source("vae.guide", VAE)).python)
    program = """
import sys, torch, vae_guide
data = vae_guide.VAE.data(x=[[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0]], N=4)
if sys.argv[1] == "save":
    fit = vae_guide.Amortised.fit(data, seed=1, steps=20, progress=False)
    fit.save("fit.safetensors")
else:
    fit = vae_guide.Amortised.load("fit.safetensors", data)
latents = vae_guide.Amortised(data, store=fit.store, noise=data.noise(torch.Generator().manual_seed(2))).latents
log_p = vae_guide.VAE(data, latents, store=fit.store)
print(sorted(fit.store), latents.z.tolist(), log_p.item())
"""
    shown = []
    for argument in ("save", "load"):
        result = subprocess.run(
            [sys.executable, "-c", program, argument], cwd=tmp_path, capture_output=True, text=True, timeout=200
        )
        assert result.returncode == 0, result.stderr
        shown.append(result.stdout)
    assert shown[0] == shown[1]
    assert "VAE.decoder.hidden.weight" in shown[0]


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    built = build(VAE)
    data = built.VAE.data(x=digits(4, 3, torch.float32), N=4)
    fit = built.Amortised.fit(data, seed=1, steps=3, progress=False)
    fit.save(tmp_path / "fit.safetensors")
    wider = built.VAE.data(x=digits(4, 5, torch.float32), N=4)
    with pytest.raises(InferenceError, match=r"Amortised\.encoder\.hidden1\.weight.*\[10, 3\].*\[10, 5\]"):
        built.Amortised.load(tmp_path / "fit.safetensors", wider)


def test_clearing_and_scopes_make_nets_anew() -> None:
    built = build(VAE)
    data = built.VAE.data(x=digits(4, 3, torch.float32), N=4)
    store = ParamStore()
    built.Amortised(data, store=store)
    weight = store["Amortised.encoder.loc.weight"]
    with store.scope() as state:
        built.Amortised(data, store=store)
        assert not torch.equal(store["Amortised.encoder.loc.weight"], weight)
    assert "Amortised.encoder.loc.weight" in state["tensors"]
    assert store["Amortised.encoder.loc.weight"] is weight
    del store["Amortised.encoder.loc.weight"]
    built.Amortised(data, store=store)
    assert not torch.equal(store["Amortised.encoder.loc.weight"], weight)
    store.clear()
    built.Amortised(data, store=store)
    assert len(store) == 8


# Nets from outside


def test_fit_takes_nets_by_name_and_trains_them(tmp_path: Path) -> None:
    built = build(PASSED)
    x = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    data = built.M.data(x=x)
    net = Recorder()
    fit = built.G.fit(data, seed=1, steps=20, progress=False, nets={"decoder": net})
    assert fit.store["M.decoder.linear.weight"] is net.linear.weight
    fit.save(tmp_path / "fit.safetensors")
    fresh = Recorder()
    again = built.G.load(tmp_path / "fit.safetensors", data, nets={"M.decoder": fresh})
    assert torch.equal(fresh.linear.weight, net.linear.weight)
    assert torch.equal(again.sample(3)["z"], fit.sample(3)["z"])


def test_a_missing_net_says_both_ways() -> None:
    built = build(PASSED)
    data = built.M.data(x=torch.zeros(3, 4, 2))
    with pytest.raises(InferenceError) as caught:
        built.G.fit(data, seed=1, progress=False)
    said = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "Guide.fit(data, nets={'decoder': module})" in said
    assert "guidedsl.module('M.decoder', module, store=store)" in said
    assert "nets.guide:4" in said


class Narrow(nn.Module):
    """Returns what the signature does not say, by the kind of mistake."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor, c: Tensor) -> Any:
        z = z * self.scale
        match self.kind:
            case "shape":
                return torch.cat((z, z[:, :1]), -1)
            case "batch":
                return z[:1]
            case "nan":
                return z * math.nan
            case "dtype":
                return z.double()
            case "tuple":
                return z, z
            case _:
                return None


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("shape", r"M\.decoder returned \[\d+, 3\], not \[\d+, 2\], declared real\[Z\] with Z = 2"),
        ("batch", r"M\.decoder returned \[1, 2\], not \[\d+, 2\]"),
        ("nan", r"M\.decoder returned values outside real"),
        ("dtype", r"torch\.float64 where the data is torch\.float32"),
        ("tuple", r"M\.decoder returned \(tensor"),
        ("none", r"M\.decoder returned None"),
    ],
)
def test_the_first_call_is_checked(kind: str, words: str) -> None:
    built = build(PASSED)
    data = built.M.data(x=torch.zeros(3, 4, 2))
    with pytest.raises(InferenceError, match=words):
        built.G.fit(data, seed=1, progress=False, nets={"decoder": Narrow(kind)})


@pytest.mark.parametrize(
    ("nets", "words"),
    [
        ({"encoder": nn.Linear(1, 1)}, "no such net to pass in; those of G are M.decoder"),
        ({"decoder": 3}, "is 3, not a torch.nn.Module"),
    ],
)
def test_nets_that_cannot_be_passed_in(nets: dict[str, Any], words: str) -> None:
    built = build(PASSED)
    with pytest.raises(InferenceError, match=words):
        built.G.fit(built.M.data(x=torch.zeros(3, 4, 2)), nets=nets)


def test_another_precision_is_said() -> None:
    built = build(PASSED)
    data = built.M.data(x=torch.zeros(3, 4, 2), dtype=torch.float64)
    store = ParamStore()
    register("M.decoder", Recorder(), store=store)
    latents = built.G(data, store=store).latents
    with pytest.raises(InferenceError, match=r"float32 on cpu \(linear\.weight\), the data is torch\.float64 on cpu"):
        built.M(data, latents, store=store)


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("no_such_package:Net", "cannot be imported: No module named"),
        ("torch.nn:NoSuchLayer", "cannot be imported: module 'torch.nn' has no attribute"),
        ("math:pi", "is 3.14.* and cannot be called"),
        ("builtins:dict", "gives {'width': 2}, not a torch.nn.Module"),
        ("torch.nn:Identity", r"M\.decoder returned"),
        ("torch.nn:Linear", r"torch\.nn:Linear\(width = 2\) fails"),
    ],
)
def test_imported_nets_that_are_none(origin: str, words: str) -> None:
    text = PASSED.replace("decoder(z: real[Z], c: real)", "decoder(z: real[Z])").replace("decoder(z, c)", "decoder(z)")
    text = text.replace("-> real[Z]", f'-> real from "{origin}"(width = Z)').replace("x : real[Z]", "x : real")
    built = build(text)
    data = built.M.data(x=torch.zeros(3, 4))
    with pytest.raises(InferenceError, match=words):
        built.G.fit(data, seed=1, progress=False)


def test_an_extern_that_lies_names_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    helper = ModuleType("nets_helper")
    vars(helper)["rate"] = lambda x: -x.square() - 1
    monkeypatch.setitem(sys.modules, "nets_helper", helper)
    built = build(
        'extern rate(x: real) -> positive from "nets_helper:rate"\n'
        "model M { dim N\n latent a : real ~ Normal(0, 1)\n"
        " plate row[N] { observed y : positive ~ Exponential(rate(a)) } }\n"
        "guide G for M { auto mean_field for rest }"
    )
    with pytest.raises(GuidedslError) as caught:
        built.G.fit(built.M.data(y=[1.0, 2.0]), progress=False)
    said = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "rate returned values outside positive" in said
    assert "nets.guide:4" in said


def test_a_module_of_other_sizes_is_refused() -> None:
    store = ParamStore()
    register("M.decoder", nn.Linear(2, 2), store=store)
    with pytest.raises(ParamError, match=r"M\.decoder\.weight"):
        register("M.decoder", nn.Linear(3, 2), store=store)


# Steps


def test_svi_trains_the_nets_of_model_and_guide() -> None:
    built = build(VAE)
    halves = torch.tensor([[1.0] * 8 + [0.0] * 8, [0.0] * 8 + [1.0] * 8], dtype=torch.float64)
    data = built.VAE.data(x=halves.repeat(4, 1), N=8, dtype=torch.float64)
    store = ParamStore()
    svi = SVI(built.VAE, built.Amortised, Adam(lr=0.02), store=store, seed=1, loss=ELBO(num_particles=2))
    losses = [svi.step(data) for _ in range(200)]
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])
    assert {name.rpartition(".")[0] for name in store.trainable()} == {
        *("VAE.decoder.hidden", "VAE.decoder.out", "Amortised.encoder.hidden1", "Amortised.encoder.hidden2"),
        *("Amortised.encoder.loc", "Amortised.encoder.scale"),
    }
