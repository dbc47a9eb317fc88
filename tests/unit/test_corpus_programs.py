"""The corpus of good programs: tests/cases/programs/NAME/{model.guide, data.json, expected.py}.

Each compiles to exactly `expected.py` (`pytest --update` rewrites it), and what it compiles to runs: every guide on
the data, with and without particle axes.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guidedsl.backend.render import format_python
from guidedsl.modules import load_source
from guidedsl.pipeline import compile_source
from guidedsl.runtime import Draw, Guide, Model, ParamStore
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.metadata import Site, attribute_of
from guidedsl.runtime.noise import RecordedNoise, ReplayedNoise
from guidedsl.runtime.optim import Adam
from guidedsl.runtime.sizes import evaluate
from guidedsl.runtime.svi import SVI
from guidedsl.source import Source, read_source

PROGRAMS = Path(__file__).resolve().parent.parent / "cases" / "programs"
NAMES = sorted(path.parent.name for path in PROGRAMS.glob("*/model.guide"))
UNUSED = {"unpack"}
"""In which an output of a net is unused, and so are some of its weights."""
PARTICLES = 3


@cache
def compiled(name: str) -> str:
    return compile_source(read_source(PROGRAMS / name / "model.guide", "model.guide")).python


@cache
def module(name: str) -> ModuleType:
    path = PROGRAMS / name / "expected.py"
    spec = importlib.util.spec_from_file_location(f"corpus_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def guides(name: str) -> Iterator[Guide]:
    return (value for value in vars(module(name)).values() if isinstance(value, Guide))


def fields(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((PROGRAMS / name / "data.json").read_text())
    return found


PASSED: dict[str, Callable[[], nn.Module]] = {
    "One.decoder": lambda: nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)),
    "Two.decoder": lambda: nn.Sequential(nn.Unflatten(0, (-1, 1)), nn.Linear(1, 1), nn.Softplus(), nn.Flatten(0)),
    "ForOne.encoder": lambda: Encoder(),
}
"""The nets that a program wants passed in."""


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(1, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loc, scale = self.both(x[:, None]).split(2, -1)
        return loc, nn.functional.softplus(scale)


def new_store(guide: Guide) -> ParamStore:
    store = ParamStore()
    for net in guide.nets:
        store.module(net, PASSED[net]().double())
    return store


def test_there_are_enough() -> None:
    assert len(NAMES) >= 40


@pytest.mark.parametrize("name", NAMES)
def test_compiles_to_what_is_expected(name: str, update: bool) -> None:
    python = compiled(name)
    expected = PROGRAMS / name / "expected.py"
    if update:
        expected.write_text(python)
    assert python == expected.read_text(), "the generated text changed: look at it, then run pytest --update"
    if name in NAMES[::8]:
        assert format_python(python) == python


def test_two_runs_give_the_same_text() -> None:
    """In another process, with another hash seed: nothing depends on the order of a set or on what ran before."""
    program = (
        "import sys; from pathlib import Path; from guidedsl.pipeline import compile_source\n"
        "from guidedsl.source import read_source\n"
        "for path in sys.argv[:0:-1]:\n"
        "    python = compile_source(read_source(Path(path), 'model.guide')).python\n"
        "    if python != Path(path).with_name('expected.py').read_text(): print(path)\n"
    )
    sources = [str(PROGRAMS / name / "model.guide") for name in NAMES[::16]]
    environment = os.environ | {"PYTHONHASHSEED": "20"}
    result = subprocess.run(
        [sys.executable, "-c", program, *sources], env=environment, capture_output=True, text=True, timeout=100
    )
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


@pytest.mark.parametrize("name", NAMES)
def test_runs(name: str) -> None:
    found = list(guides(name))
    assert found
    for guide in found:
        data = guide.model.data(fields(name), dtype=torch.float64)
        store = new_store(guide)
        noise = data.noise(torch.Generator().manual_seed(5))
        batch = data.subsample(noise)
        for particles in ((), (PARTICLES,)):
            draw = guide(batch, particles=particles, store=store, noise=noise)
            _check_latents(guide.model, batch, draw, particles)
            log_p = _density(guide.model, batch, draw.latents, store)
            _check_gradients(draw, log_p, particles, store, some_unused=log_p is _NO_DENSITY or name in UNUSED)
            _check_quantities(guide.model, batch, draw.latents, particles, store)


_NO_DENSITY = torch.zeros((), dtype=torch.float64)
"""Stands for the density of an interface, which is elsewhere."""


def _density(model: Model, data: Any, latents: Any, store: ParamStore) -> Tensor:
    try:
        return model(data, latents, store=store)
    except InferenceError:
        raise
    except Exception as error:
        if "interface" in str(error) or "imported" in str(error):
            return _NO_DENSITY
        raise


def _lengths(data: Any, plates: tuple[str, ...], event: tuple[str, ...]) -> tuple[int, ...]:
    dims = {dim.name: getattr(data, attribute_of(dim.name)) for dim in data.schema.dims}
    rows = [getattr(data, attribute_of(plate)).length for plate in plates]
    return (*rows, *(evaluate(size, dims) for size in event))


def _internal(site: Site) -> tuple[str, ...]:
    return site.plates if site.order is None else tuple(site.plates[axis] for axis in site.order)


def _check_latents(model: Model, data: Any, draw: Draw[Any], particles: tuple[int, ...]) -> None:
    assert len(draw.latents) == len(model.sites)
    for site, value in zip(model.sites, draw.latents, strict=True):
        if value is None:
            assert site.classes is not None, f"{site.name} is neither drawn nor summed out"
            continue
        assert value.shape == (*particles, *_lengths(data, _internal(site), site.event)), site.name
        assert bool(site.constraint.check(value).all()), f"{site.name} leaves {site.constraint}"


def _check_gradients(
    draw: Draw[Any], log_p: Tensor, particles: tuple[int, ...], store: ParamStore, *, some_unused: bool
) -> None:
    assert draw.log_q.shape == particles
    loss = draw.log_q - log_p
    assert loss.shape == particles
    assert bool(loss.isfinite().all())
    objective = loss if draw.score is None else loss + loss.detach() * draw.score
    if draw.score is not None:
        assert draw.score.shape == particles
    leaves = store.trainable()
    if not leaves:
        return
    gradients = torch.autograd.grad(objective.sum(), list(leaves.values()), allow_unused=True)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        assert some_unused or gradient is not None, f"{leaf} has no gradient"
        assert gradient is None or bool(gradient.isfinite().all()), f"the gradient of {leaf} is not finite"


def _check_quantities(model: Model, data: Any, latents: Any, particles: tuple[int, ...], store: ParamStore) -> None:
    quantities = model.evaluate_quantities(data, latents, store=store)
    names = [site.name for site in model.quantity_sites]
    if all(value is not None for value in latents):
        assert sorted(quantities) == sorted(names)
    assert set(quantities) <= set(names)
    for site in model.quantity_sites:
        if site.name not in quantities:
            continue
        value = quantities[site.name]
        own = _lengths(data, _internal(site), site.event)
        assert value.shape in {(*particles, *own), own}, site.name
        assert bool(site.constraint.check(value).all()), f"{site.name} leaves {site.constraint}"


@pytest.mark.parametrize("name", NAMES)
def test_closed_forms_have_the_same_mean(name: str) -> None:
    """With `kl` log q is another number of the same mean: five standard errors of 2,000 draws, away from the start."""
    for guide in guides(name):
        if not guide.kl:
            continue
        data = guide.model.data(fields(name), dtype=torch.float64)
        store = new_store(guide)
        noise = data.noise(torch.Generator().manual_seed(8))
        batch = data.subsample(noise)
        with torch.no_grad():
            guide(batch, store=store, noise=noise)
            for _, leaf in store.named_parameters():
                leaf += 0.1 * torch.randn(leaf.shape, generator=noise.generator, dtype=leaf.dtype)
            plain, closed = (guide(batch, particles=(2000,), store=store, noise=noise, kl=kl) for kl in (False, True))
        errors = [float(draw.log_q.std()) / math.sqrt(2000) for draw in (plain, closed)]
        away = float(plain.log_q.mean() - closed.log_q.mean())
        assert abs(away) < 5 * math.hypot(*errors) + 1e-6, guide.name


@pytest.mark.parametrize("name", NAMES)
def test_particles_do_not_mix(name: str) -> None:
    """Particles drawn together are what each is alone, in guide and model."""
    for guide in guides(name):
        data = guide.model.data(fields(name), dtype=torch.float64)
        store = new_store(guide)
        generator = torch.Generator().manual_seed(6)
        batch = data.subsample(data.noise(generator))
        noise = RecordedNoise(generator, data.dtype, data.device)
        with torch.no_grad():
            together = guide(batch, particles=(PARTICLES,), store=store, noise=noise)
            log_p = _density(guide.model, batch, together.latents, store)
            for row in range(PARTICLES):
                records = [type(r)(r.kind, r.value[row]) for r in noise.records]
                replayed = ReplayedNoise(records, data.dtype, data.device)
                alone = guide(batch, store=store, noise=replayed)
                assert replayed.exhausted
                for site, one, many in zip(guide.model.sites, alone.latents, together.latents, strict=True):
                    if one is None:
                        continue
                    assert torch.allclose(one.double(), many[row].double(), rtol=1e-9, atol=1e-12), site.name
                assert torch.allclose(alone.log_q, together.log_q[row], rtol=1e-9)
                if together.score is not None and alone.score is not None:
                    assert torch.allclose(alone.score, together.score[row], rtol=1e-9)
                value = _density(guide.model, batch, alone.latents, store)
                expected = log_p if log_p.ndim == 0 else log_p[row]
                assert math.isclose(float(value), float(expected), rel_tol=1e-9), guide.name


@pytest.mark.parametrize("name", NAMES)
def test_runs_forward(name: str) -> None:
    """Sites are drawn with their shapes inside their supports; the densities of observations add up to their terms."""
    for guide in guides(name):
        model = guide.model
        if model.simulate is None:
            continue
        data = model.data(fields(name), dtype=torch.float64).full
        store = new_store(guide)
        noise = data.noise(torch.Generator().manual_seed(7))
        observed = [f for f in model.fields if f.role == "observed"]
        for particles in ((), (PARTICLES,)):
            latents = guide(data, particles=particles, store=store, noise=noise).latents
            known = dict(zip((site.name for site in model.sites), latents, strict=True))
            given = {site: value for site, value in known.items() if value is not None}
            drawn = {site: value for site, value in given.items() if site in model.not_drawn}
            if any(f.name in model.not_drawn for f in observed) or set(model.not_drawn) - set(given):
                continue
            for start in (given, drawn):
                try:
                    values = model.draw_sites(data, start, particles=particles, store=store, noise=noise)
                except InferenceError as error:
                    if "which is not" in str(error):  # a let of an asserted type, at a draw of the prior
                        continue
                    raise
                for site in model.sites:
                    shape = (*particles, *_lengths(data, _internal(site), site.event))
                    assert values[site.name].shape == shape, site.name
                    assert bool(site.constraint.check(values[site.name]).all()), site.name
                for f in observed:
                    shape = (*particles, *_lengths(data, f.internal_plates, f.event))
                    assert values[f.name].shape == shape, f.name
            if any(value is None for value in latents):
                continue
            for site, value in model.evaluate_log_likelihood(data, latents, store=store).items():
                plates = next(f for f in observed if f.name == site).internal_plates
                rows = _lengths(data, plates, ())
                assert value.shape[: len(particles) + len(rows)] in {(*particles, *rows), rows}, site
                assert bool(value.isfinite().all()), site


def test_types_of_all_modules(tmp_path: Path, root: Path) -> None:
    """mypy --strict accepts every generated module."""
    for name in NAMES:
        (tmp_path / f"corpus_{name}.py").write_text((PROGRAMS / name / "expected.py").read_text())
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", str(root / "pyproject.toml"), str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-1000:]


def _line_of(name: str, words: str) -> int:
    lines = (PROGRAMS / name / "model.guide").read_text().split("\n")
    return next(n for n, line in enumerate(lines, 1) if words in line)


def test_a_factor_that_does_not_exist_is_nan() -> None:
    model = module("gaussian_process").Gp
    data = model.data(fields("gaussian_process"))
    one = torch.ones((), dtype=data.dtype)
    latents = model.latents_type(rho=one, alpha=one * math.nan, z=torch.zeros(data.N, dtype=data.dtype))
    assert bool(model(data, latents).isnan().all())


def test_a_value_outside_an_asserted_type_names_the_line_of_the_source() -> None:
    model = module("lets").Lets
    data = model.data(fields("lets"))
    latents = model.latents_type(a=torch.tensor(30.0, dtype=data.dtype), v=torch.zeros(3, dtype=data.dtype))
    with pytest.raises(InferenceError) as caught:
        model(data, latents)
    shown = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert f"model.guide:{_line_of('lets', 'let inside')}" in shown
    assert "`inside` is 60" in shown


def test_a_nan_names_the_line_of_the_source() -> None:
    found = module("factors")
    data = found.Factors.data({**fields("factors")})
    store = ParamStore()
    found.G(data, store=store)
    store["G.c_loc"] = torch.tensor([0.0, 1e200], dtype=data.dtype)
    svi = SVI(found.Factors, found.G, Adam(lr=0.01), store=store, seed=1)
    with pytest.raises(InferenceError, match=rf"model\.guide:{_line_of('factors', '(c - a) ^ 2')}\b"):
        svi.step(data)


@pytest.mark.parametrize("name", ["scan_arma", "scan_panel", "scan_guides", "scan_statements"])
def test_statements_of_a_loop_have_their_lines(name: str) -> None:
    """In a loop `x_t` comes from the line of `x`, and a carry from a line of its `next`."""
    text = (PROGRAMS / name / "model.guide").read_text().split("\n")
    python = (PROGRAMS / name / "expected.py").read_text().split("\n")
    model = next(value for value in vars(module(name)).values() if isinstance(value, Model))
    checked = 0
    for number, line in enumerate(python, 1):
        match = re.match(r"        (\w+?)(?:_t\d?(?:_free)?)?(?:, \w+)? = ", line)
        if match is None or match[1] == "noise" or match[1].startswith("log_q_"):
            continue
        source = text[(model.guide_line(number) or 0) - 1]
        assert re.search(rf"\b{match[1]}\b", source), f"{number}: {line} comes from {source}"
        checked += 1
    assert checked >= 2


def test_a_value_outside_an_asserted_type_in_a_loop_names_its_line() -> None:
    text = """model M {
  dim T
  latent a : real ~ Normal(0, 1)
  scan t in T carry (s : positive = 1) {
    observed y : real ~ Normal(0, s)
    let now : positive = a + y + s
    next s = now
  }
}
guide G for M { auto mean_field for rest }
"""
    loaded = load_source(Source("m.guide", text), "corpus_asserted_in_loop")
    data = loaded.M.data(y=[0.5, -3.0, 0.1])
    with pytest.raises(InferenceError) as caught:
        loaded.M(data, loaded.M.latents_type(a=torch.tensor(0.1, dtype=data.dtype)))
    assert "`now` is" in str(caught.value)
    assert "m.guide:6" in "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


@pytest.mark.parametrize("name", ["gathers", "subsample", "two_models", "lets"])
def test_every_statement_has_its_line(name: str) -> None:
    """Each assignment of a generated function comes from the line that declares or samples what it assigns."""
    text = (PROGRAMS / name / "model.guide").read_text().split("\n")
    python = (PROGRAMS / name / "expected.py").read_text().split("\n")
    model = next(value for value in vars(module(name)).values() if isinstance(value, Model))
    checked = 0
    for number, line in enumerate(python, 1):
        match = re.match(r"    (\w+)(?:, log_q_\w+)? = (?:param\(|dist\.\w+\.draw\(|fn\.checked\()", line)
        if match is None:
            continue
        source = text[(model.guide_line(number) or 0) - 1]
        assert match[1].removesuffix("_free") in source or "auto" in source, f"{number}: {line} comes from {source}"
        checked += 1
    assert checked > 5
