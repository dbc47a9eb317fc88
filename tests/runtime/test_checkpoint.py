"""A run on disk: `SVI.save` and `SVI.load`, bit for bit, and files that are not what they should be."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.handwritten import eight_schools_guide as schools
from runtime.handwritten import regression_guide
from runtime.handwritten import subsampled_guide as effects
from torch import Tensor
from torch.optim import lr_scheduler

from guidedsl.runtime import ParamStore, optim
from guidedsl.runtime.checkpoint import read_checkpoint, write_checkpoint
from guidedsl.runtime.elbo import ELBO
from guidedsl.runtime.errors import GuidedslError, InferenceError, ParamError
from guidedsl.runtime.importance import IWAE
from guidedsl.runtime.svi import SVI

Y = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
SIGMA = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]

OPTIMISERS: dict[str, Callable[[], optim.Optimiser]] = {
    "Adam": lambda: optim.Adam(lr=0.05, clip_norm=5.0, settings={"MeanField.mu_loc": {"lr": 0.2}}),
    "ClippedAdam": lambda: optim.ClippedAdam(lr=0.05, lr_decay=0.99),
    "RMSprop": lambda: optim.Torch(torch.optim.RMSprop, lr=0.02, momentum=0.5),
    "AdamW": lambda: optim.Torch(torch.optim.AdamW, lr=0.02),
    "StepLR": lambda: optim.Scheduled(optim.Adam(lr=0.1), lr_scheduler.StepLR, step_size=2, gamma=0.5),
    "MultiStepLR": lambda: optim.Scheduled(optim.Adam(lr=0.1), lr_scheduler.MultiStepLR, milestones=[2, 8]),
    "Plateau": lambda: optim.Scheduled(optim.Torch(torch.optim.SGD, lr=0.01), lr_scheduler.ReduceLROnPlateau),
}


def schools_data(dtype: torch.dtype = torch.float64) -> Any:
    return schools.EightSchools.data(y=Y, sigma=SIGMA, dtype=dtype)


def make(name: str = "Adam", **options: Any) -> SVI:
    options = {"seed": 3, "store": ParamStore(), **options}
    return SVI(schools.EightSchools, schools.MeanField, OPTIMISERS[name](), **options)


def walk(run: SVI, data: Any, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        losses.append(run.step(data))
        if isinstance(run.optim, optim.Scheduled):
            metric = losses[-1] if "Plateau" in type(run.optim.scheduler).__name__ else None
            run.optim.advance(metric)
    return losses


def leaves(store: ParamStore) -> dict[str, Tensor]:
    return {name: leaf.detach().clone() for name, leaf in store.named_parameters()}


def same(one: ParamStore, other: ParamStore) -> bool:
    mine, theirs = leaves(one), leaves(other)
    return list(mine) == list(theirs) and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", list(OPTIMISERS))
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    data, path = schools_data(dtype), tmp_path / "run.safetensors"
    whole = make(name)
    expected = walk(whole, data, 12)
    first = make(name)
    assert walk(first, data, 6) == expected[:6]
    first.save(path)
    resumed = make(name, seed=99)
    resumed.load(path)
    assert resumed.steps == 6
    assert walk(resumed, data, 6) == expected[6:]
    assert resumed.steps == whole.steps == 12
    assert same(resumed.store, whole.store)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_saving_is_no_step(tmp_path: Path) -> None:
    data = schools_data()
    plain, saving = make(), make()
    expected = walk(plain, data, 8)
    found = []
    for step in range(8):
        found += walk(saving, data, 1)
        saving.save(tmp_path / "run")
        if step == 3:  # a run may also load what it just saved
            saving.load(tmp_path / "run")
    assert found == expected


def test_a_run_that_has_not_begun(tmp_path: Path) -> None:
    make().save(tmp_path / "run")
    resumed = make(seed=99)
    resumed.load(tmp_path / "run")
    assert walk(resumed, schools_data(), 3) == walk(make(), schools_data(), 3)


def test_subsampled_rows_go_on(tmp_path: Path) -> None:
    data = effects.Effects.data(y=torch.arange(20.0), s=torch.ones(20))

    def begin(seed: int) -> SVI:
        return SVI(effects.Effects, effects.MeanField, optim.Adam(lr=0.1), store=ParamStore(), seed=seed)

    whole, first, resumed = begin(1), begin(1), begin(2)
    expected = walk(whole, data, 10)
    walk(first, data, 5)
    first.save(tmp_path / "run")
    resumed.load(tmp_path / "run")
    assert walk(resumed, data, 5) == expected[5:]
    assert same(resumed.store, whole.store)


def test_generators_of_the_caller_and_of_torch(tmp_path: Path) -> None:
    """A generator keeps its identity; the global one is set where nothing else was given."""
    data = schools_data()
    mine = torch.Generator().manual_seed(5)
    run = make(seed=None, generator=mine)
    walk(run, data, 3)
    run.save(tmp_path / "own")
    expected = walk(run, data, 3)
    run.load(tmp_path / "own")
    assert run.generator is mine
    assert walk(run, data, 3) == expected
    with torch.random.fork_rng():
        torch.manual_seed(7)
        run = make(seed=None)
        walk(run, data, 3)
        run.save(tmp_path / "global")
        expected = walk(run, data, 3)
        torch.manual_seed(8)
        other = make(seed=None)
        other.load(tmp_path / "global")
        assert walk(other, data, 3) == expected
    # A run with a generator of its own takes the state, and leaves the global generator alone.
    before = torch.get_rng_state()
    other = make()
    other.load(tmp_path / "global")
    assert walk(other, data, 3) == expected
    assert torch.equal(torch.get_rng_state(), before)


def test_loading_into_parameters_that_are_there_keeps_the_leaves(tmp_path: Path) -> None:
    data = schools_data()
    run, other = make(), make(seed=8)
    walk(run, data, 4)
    run.save(tmp_path / "run")
    walk(other, data, 2)
    kept = dict(other.store.leaves())
    other.load(tmp_path / "run", map_location="cpu")
    assert all(other.store.leaves()[name] is leaf for name, leaf in kept.items())
    assert walk(other, data, 4) == walk(run, data, 4)


def refuses(run: SVI, path: Path, error: type[GuidedslError], message: str) -> None:
    """`run` refuses a file, and goes on as if nothing had been."""
    data, twin = schools_data(), make()
    walk(run, data, 2)
    walk(twin, data, 2)
    with pytest.raises(error, match=message):
        run.load(path)
    assert run.steps == 2
    assert walk(run, data, 3) == walk(twin, data, 3)
    assert same(run.store, twin.store)


def test_another_program(tmp_path: Path) -> None:
    data = regression_guide.Regression.data(x=torch.ones(4, 2), y=torch.zeros(4))
    other = SVI(regression_guide.Regression, regression_guide.MeanField, optim.Adam(), store=ParamStore(), seed=0)
    walk(other, data, 1)
    other.save(tmp_path / "run")
    refuses(make(), tmp_path / "run", InferenceError, "model Regression, this one is of EightSchools")
    full = SVI(schools.EightSchools, schools.FullRank, optim.Adam(), store=ParamStore(), seed=0)
    walk(full, schools_data(), 1)
    full.save(tmp_path / "run")
    refuses(make(), tmp_path / "run", InferenceError, "guide FullRank, this one is of MeanField")


def test_another_version_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make()
    walk(run, schools_data(), 1)
    with monkeypatch.context() as patch:
        patch.setattr(run, "_program", lambda: {"model": "EightSchools", "source_sha256": "f" * 64})
        run.save(tmp_path / "run")
    refuses(make(), tmp_path / "run", InferenceError, "source_sha256 ffff.*build that version")


def test_another_optimiser(tmp_path: Path) -> None:
    run = make("RMSprop")
    walk(run, schools_data(), 1)
    run.save(tmp_path / "run")
    refuses(make(), tmp_path / "run", InferenceError, "state is of RMSprop, this optimiser is Adam")


def test_other_parameters(tmp_path: Path) -> None:
    run = make()
    walk(run, schools_data(), 1)
    run.store.param("extra", 1.0)
    run.save(tmp_path / "run")
    refuses(make(), tmp_path / "run", ParamError, "'extra' is unexpected")


def test_files_of_other_kinds(tmp_path: Path) -> None:
    run = make()
    walk(run, schools_data(), 1)
    run.store.save(tmp_path / "store")
    refuses(
        make(), tmp_path / "store", ParamError, r"parameters alone \(see ParamStore.load\), not a checkpoint of SVI"
    )
    run.save(tmp_path / "run")
    with pytest.raises(ParamError, match="is a checkpoint of SVI"):
        ParamStore().load(tmp_path / "run")
    torch.save(run.store.get_state(), tmp_path / "torch")
    refuses(make(), tmp_path / "torch", ParamError, "is a pickle")
    with pytest.raises(FileNotFoundError):
        run.load(tmp_path / "nothing")


def test_nan_is_not_saved(tmp_path: Path) -> None:
    run = make()
    walk(run, schools_data(), 1)
    run.save(tmp_path / "run")
    content = (tmp_path / "run").read_bytes()
    with torch.no_grad():
        run.store.leaves()["MeanField.mu_loc"].fill_(math.nan)
    with pytest.raises(ParamError, match=r"'MeanField\.mu_loc' has NaN"):
        run.save(tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == content


@settings(max_examples=50)
@given(data=st.data())
def test_a_damaged_checkpoint(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    run, fields = make(), schools_data()
    walk(run, fields, 2)
    path = tmp_path_factory.mktemp("runs") / "run"
    run.save(path)
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[position] ^= data.draw(st.integers(1, 255))
    else:
        del content[position:]
    path.write_bytes(content)
    other = make(seed=9)
    try:
        other.load(path)
    except ParamError:
        assert len(other.store) == other.steps == 0
    else:  # a space of the header's padding
        assert walk(other, fields, 1) == walk(run, fields, 1)


def test_other_losses_can_be_resumed(tmp_path: Path) -> None:
    for loss in (IWAE(4), ELBO(2, stl=True)):
        run, resumed = make(loss=loss), make(loss=loss, seed=4)
        walk(run, schools_data(), 3)
        run.save(tmp_path / "run")
        resumed.load(tmp_path / "run")
        assert walk(resumed, schools_data(), 3) == walk(run, schools_data(), 3)


# Trees

numbers = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))
tensors = st.lists(st.floats(allow_nan=False, width=32), max_size=3).map(torch.tensor)
keys = st.one_of(st.text(max_size=4), st.integers(), st.sampled_from(["$tensor", "a/b", "a", "b"]))
trees = st.recursive(
    st.one_of(numbers, tensors),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


@given(tree=st.dictionaries(st.sampled_from(["a", "b", "a/b", "a/0"]), trees, max_size=3))
def test_any_tree_comes_back(tree: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("trees") / "tree"
    write_checkpoint(path, "test", tree)
    assert equal(read_checkpoint(path, "test"), tree)
    with pytest.raises(ParamError, match="a checkpoint of test, not a checkpoint of other"):
        read_checkpoint(path, "other")


def test_what_is_no_tree(tmp_path: Path) -> None:
    with pytest.raises(ParamError, match=r"'a/1' is a function"):
        write_checkpoint(tmp_path / "tree", "test", {"a": [1, lambda: 1]})
    with pytest.raises(ParamError, match=r"'a/b' has NaN"):
        write_checkpoint(tmp_path / "tree", "test", {"a": {"b": torch.tensor(math.nan)}})
    assert not list(tmp_path.iterdir())
