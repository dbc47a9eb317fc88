"""Devices, without an accelerator at hand.

On torch's meta device tensors have shapes and no values: whatever waits for a value (`.item()`, `if tensor`), or makes
a tensor on another device than the data's, raises there. So a pass that goes through on it neither waits for an
accelerator nor moves anything to it.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from runtime.handwritten import eight_schools_guide as schools
from runtime.handwritten import subsampled_guide as effects
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import guidedsl
from guidedsl.modules import load_source
from guidedsl.runtime import Guide, ParamStore
from guidedsl.runtime.elbo import ELBO
from guidedsl.runtime.engine.replay.launch import launcher
from guidedsl.runtime.errors import InferenceError, ParamError
from guidedsl.runtime.noise import Noise
from guidedsl.source import Source

PROGRAMS = Path(__file__).resolve().parent.parent / "cases" / "programs"
NAMES = sorted(path.parent.name for path in PROGRAMS.glob("*/model.guide"))
META = torch.device("meta")


@cache
def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"devices_{name}", PROGRAMS / name / "expected.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


class MetaStore:
    """A store whose parameters are on the meta device: real ones have their values checked when they are made."""

    def __init__(self, store: ParamStore) -> None:
        self.leaves = {name: value.detach().to(META).requires_grad_() for name, value in store.items()}

    def param(self, name: str, *_: Any, event_dim: int = 0, plates: tuple[Any, ...] = (), **__: Any) -> Tensor:
        value = self.leaves[name]
        for place, plate in enumerate(reversed(plates)):
            if plate.rows is not None:
                value = value.index_select(value.ndim - event_dim - 1 - place, plate.rows)
        return value


def guides(name: str) -> list[Guide]:
    return [value for value in vars(module(name)).values() if isinstance(value, Guide)]


def check(name: str) -> None:
    fields = json.loads((PROGRAMS / name / "data.json").read_text())
    for guide in guides(name):
        data = guide.model.data(fields, dtype=torch.float64)
        store = ParamStore()
        guide(data, store=store)
        guide.model(data, guide(data, store=store).latents, store=store)
        far = data.to(META)
        noise = Noise(None, torch.float64, META)
        batch = far.subsample(noise)
        for kl in sorted({False, bool(guide.kl)}):
            held: Any = MetaStore(store)
            draw = guide(batch, particles=(3,), store=held, noise=noise, kl=kl)
            log_p = guide.model(batch, draw.latents, store=held)
            assert (draw.log_q.device, log_p.device) == (META, META)
            loss = draw.log_q - log_p
            objective = loss if draw.score is None else loss + loss.detach() * draw.score
            leaves = list(held.leaves.values())
            if leaves:
                torch.autograd.grad(objective.sum(), leaves, allow_unused=True)


NO_KERNEL = "torch has no meta kernel of a gamma's or a binomial's draw"
ELSEWHERE = {
    "flows": "zuko validates",
    "interface": "the density is a Pyro model",
    "interface_summed": "the density is a Pyro model",
    "bounded_families": NO_KERNEL,
    "discrete_latents": NO_KERNEL,
    "functions_elementwise": NO_KERNEL,
    "more_families": NO_KERNEL,
    "params_in_plates": NO_KERNEL,
    "positive_families": NO_KERNEL,
    "vector_families": NO_KERNEL,
    **{name: "nets are in the store" for name in NAMES if name.startswith("nets_") or name in ("scan_nets", "unpack")},
}
"""Programs that cannot run on the meta device, and why."""
WAITS = {
    "lets": "a let of an asserted type",
    "matrix_families": "a let of an asserted type",
    "ordinal": "a let of an asserted type",
    "one_based": "an index that is one number",
    "types_data": "an index that is one number",
    "scan_statements": "an index that is one number",
    "truncated_and_inflated": "a continued fraction that ends when it has converged",
    "truncation": "a continued fraction that ends when it has converged",
}
"""What waits for the device in a step, and which programs show it."""


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {*ELSEWHERE, *WAITS}])
def test_no_pass_waits_or_leaves_the_device(name: str) -> None:
    check(name)


@pytest.mark.parametrize("name", WAITS)
def test_what_waits_is_known(name: str) -> None:
    with pytest.raises((RuntimeError, InferenceError), match=r"item\(\) cannot be called on meta"):
        check(name)


# What a step reads back


class Reads(TorchDispatchMode):
    """Counts values that are read from tensors: on an accelerator each waits until everything before it is done."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def schools_data() -> Any:
    return schools.EightSchools.data(y=[28.0, 8, -3, 7, -1, 1, 18, 12], sigma=[15.0, 10, 16, 11, 9, 11, 10, 18])


@pytest.mark.parametrize("loss", [ELBO(), ELBO(4, stl=True), guidedsl.IWAE(3), guidedsl.Renyi(0.5, 3)])
@pytest.mark.parametrize("optim", [guidedsl.optim.Adam(), guidedsl.optim.ClippedAdam()])
def test_a_step_reads_its_loss_and_nothing_else(loss: Any, optim: Any) -> None:
    svi = guidedsl.SVI(schools.EightSchools, schools.MeanField, optim, loss, store=ParamStore(), seed=1)
    data = schools_data()
    svi.step(data)
    with Reads() as reads:
        for _ in range(5):
            svi.step(data)
    assert reads.count == 5


def test_a_step_of_a_fit_reads_once() -> None:
    """The loss and whether all gradients are finite, as one array (which no dispatch shows); and nothing more for each
    parameter: windows are judged hundreds of steps apart."""
    data = schools_data()
    fits = [Reads(), Reads()]
    for reads, steps in zip(fits, (100, 200), strict=True):
        with reads:
            schools.MeanField.fit(data, seed=1, steps=steps)
    assert fits[1].count == fits[0].count


# Saved and loaded, with the CPU by name


def test_a_run_saved_and_loaded_by_name(tmp_path: Path) -> None:
    data = schools.EightSchools.data(
        y=[28.0, 8, -3, 7, -1, 1, 18, 12], sigma=[15.0, 10, 16, 11, 9, 11, 10, 18], device="cpu"
    )

    def run() -> guidedsl.SVI:
        return guidedsl.SVI(schools.EightSchools, schools.MeanField, guidedsl.optim.Adam(), store=ParamStore(), seed=1)

    first = run()
    losses = [first.step(data) for _ in range(6)]
    again = run()
    assert [again.step(data) for _ in range(3)] == losses[:3]
    again.save(tmp_path / "run.safetensors")
    for place in ("cpu", torch.device("cpu"), None):
        resumed = run()
        resumed.load(tmp_path / "run.safetensors", map_location=place)
        assert {leaf.device for leaf in resumed.store.leaves().values()} == {torch.device("cpu")}
        assert [resumed.step(data) for _ in range(3)] == losses[3:]
    for place in ("meta", "nowhere"):
        with pytest.raises(ParamError):
            run().load(tmp_path / "run.safetensors", map_location=place)


def test_a_fit_on_a_named_device() -> None:
    fields = {"y": [28.0, 8, -3, 7, -1, 1, 18, 12], "sigma": [15.0, 10, 16, 11, 9, 11, 10, 18]}
    named = schools.MeanField.fit(fields, seed=1, steps=50, device="cpu")
    plain = schools.MeanField.fit(fields, seed=1, steps=50)
    assert all(torch.equal(named.store[name], value) for name, value in plain.store.items())
    assert named.sample(3)["mu"].device == torch.device("cpu")


def test_data_moves_with_all_that_it_holds() -> None:
    """Arrays, rows of a batch and the whole that it is of; what is drawn for it is drawn there."""
    data = effects.Effects.data(y=torch.arange(12.0), s=torch.ones(12))
    batch = data.subsample(data.noise(torch.Generator().manual_seed(1))).to("meta")
    tensors = [value for value in vars(batch).values() if isinstance(value, Tensor)]
    plates = [value.rows for value in vars(batch).values() if isinstance(value, guidedsl.Plate)]
    assert tensors
    assert {value.device for value in tensors} == {META}
    assert {rows.device for rows in plates if rows is not None} == {META}
    assert batch.full.device == META
    assert batch.noise().normal((2,)).device == META
    assert batch.new_full((2,), 1.0).device == META


# A GPU's graph of kernels, for which a list of calls stands here


class Captured:
    """What `torch.cuda.graph` notes of the calls made inside, and makes again."""

    def __init__(self) -> None:
        self.replayed = 0

    def replay(self) -> None:
        self.replayed += 1


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """torch.cuda as far as a capture needs it; what was asked of it, in order."""
    asked: list[str] = []

    @contextmanager
    def noted(name: str) -> Iterator[None]:
        asked.append(name)
        yield
        asked.append(f"/{name}")

    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: asked.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Captured)
    monkeypatch.setattr(torch.cuda, "device", lambda device: noted("device"))
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: noted("graph"))
    return asked


def test_on_a_gpu_a_step_is_captured_once(card: list[str]) -> None:
    made: list[int] = []
    launch = launcher([lambda: made.append(1), lambda: made.append(2)], torch.device("cuda"))
    assert card == ["synchronize", "device", "graph", "/graph", "/device"]
    assert made == [1, 2]
    launch()
    launch()
    assert made == [1, 2], "the graph makes its kernels, not the calls"
    owner = launch.__self__  # type: ignore[attr-defined]
    assert owner.replayed == 2


def test_what_waits_for_a_gpu_is_not_captured(card: list[str]) -> None:
    made: list[int] = []

    def waits() -> None:
        made.append(1)
        if card[-1] == "graph":
            raise RuntimeError("operation not permitted when stream is capturing")

    launch = launcher([waits], torch.device("cuda"))
    assert card[-1] == "synchronize"
    launch()
    assert made == [1, 1]


def test_a_replayed_step_makes_no_tensors() -> None:
    """Each result goes where it went when the step was prepared: no call makes a tensor, or reads a number."""
    module = load_source(Source("m.guide", (PROGRAMS / "subsample" / "model.guide").read_text()), "replayed_on_meta")
    for guide in [value for value in vars(module).values() if isinstance(value, Guide)]:
        fields = json.loads((PROGRAMS / "subsample" / "data.json").read_text())
        data = guide.model.data(fields.get(guide.model.name, fields), dtype=torch.float64)
        svi = guidedsl.SVI(guide.model, guide, guidedsl.optim.Adam(), store=ParamStore(), seed=0)
        svi.step(data)
        (replay,) = (svi._eager._replays or {}).values()
        assert replay is not None
        with Allocations() as made:
            replay._launch()
        assert made.operators == []


class Allocations(TorchDispatchMode):
    """The operators that make tensors with numbers of their own."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {one.untyped_storage()._cdata for one in tree_leaves([args, kwargs or {}]) if isinstance(one, Tensor)}
        out = func(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, Tensor) and one.untyped_storage()._cdata not in given:
                self.operators.append(str(func))
        return out
