"""`build --target pyro`: the modules run under Pyro's own SVI, without guidedsl."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pyro
import pyro.infer
import pyro.optim
import pytest
import torch

from guidedsl.modules import load_source
from guidedsl.pipeline import compile_source
from guidedsl.runtime.load import load_fields
from guidedsl.source import read_source

ROOT = Path(__file__).resolve().parent.parent.parent
RADON = ROOT / "examples" / "radon" / "radon.guide"
ALONE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "guidedsl":
            raise ImportError(name + " is not to be imported")
sys.meta_path.insert(0, Absent())
import torch, pyro, radon_pyro
home, floor = torch.tensor([0, 1, 1, 2]), torch.tensor([0.0, 1.0, 0.0, 1.0])
svi = pyro.infer.SVI(radon_pyro.radon, radon_pyro.mixed, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
print([svi.step(home, floor, floor, floor, J=3) < 1e6 for step in range(3)])
"""


def pyro_module(path: Path) -> ModuleType:
    module = ModuleType(f"{path.stem}_pyro")
    exec(compile(compile_source(read_source(path, path.name), "pyro").python, module.__name__, "exec"), vars(module))
    return module


@pytest.fixture
def radon() -> dict[str, Any]:
    """The arguments of the radon example's functions."""
    fields = load_fields(RADON.with_name("radon.json"))
    found: dict[str, Any] = {
        name: torch.as_tensor(fields[name]) for name in ("home", "floor", "log_uranium", "log_radon")
    }
    return {**found, "J": int(fields["J"])} if "J" in fields else {**found, "J": int(found["home"].max()) + 1}


def test_a_module_needs_no_guidedsl(tmp_path: Path) -> None:
    python = compile_source(read_source(RADON, RADON.name), "pyro").python
    assert "guidedsl.runtime" not in python
    (tmp_path / "radon_pyro.py").write_text(python, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[True, True, True]\n", done.stderr


def test_radon_has_the_elbo_of_the_torch_target(radon: dict[str, Any]) -> None:
    """Both at the params of a fit by the torch target, 1,000 draws each: within 4 standard errors of the difference."""
    torch_module = load_source(read_source(RADON, RADON.name), "radon_for_both")
    data = torch_module.Radon.data(**radon)
    fit = torch_module.Mixed.fit(data, seed=1)
    draw = torch_module.Mixed.function(data, particles=(1000,), store=fit.store)
    terms = (torch_module.Radon.log_density(data, draw.latents, store=fit.store) - draw.log_q).detach()
    module = pyro_module(RADON)
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(terms.dtype)
    try:
        pyro.clear_param_store()
        pyro.set_rng_seed(2)
        arguments = {
            name: value.to(terms.dtype) if isinstance(value, torch.Tensor) and name != "home" else value
            for name, value in radon.items()
        }
        module.mixed(**arguments)  # registers the params
        for name, value in fit.store.items():
            pyro.get_param_store()[name] = value.detach().clone()
        elbo = pyro.infer.Trace_ELBO(num_particles=1000, vectorize_particles=True, max_plate_nesting=1)
        other = -elbo.loss(module.radon, module.mixed, **arguments)
    finally:
        torch.set_default_dtype(dtype)
        pyro.clear_param_store()
    error = float(terms.std()) / 1000**0.5
    assert abs(other - float(terms.mean())) < 4 * 2**0.5 * error
