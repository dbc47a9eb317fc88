"""`guidedsl init` and `check --with-data`, as somebody with a Pyro model uses them."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guidedsl.cli import run
from guidedsl.pipeline import check
from guidedsl.source import Source

MODELS = Path(__file__).resolve().parent.parent / "cases" / "pyro"
NAMES = sorted(path.name for path in MODELS.iterdir())


def guidedsl(*args: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = run(args, io.StringIO(), out, err)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, whose modules no other test imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in {*NAMES, "mine", "ratings"} - before:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", NAMES)
def test_a_starter_checks_without_a_warning_and_fits(name: str, folder: Path, update: bool) -> None:
    shutil.copytree(MODELS / name, folder, dirs_exist_ok=True)
    code, text, err = guidedsl("init", f"{name}:model", "--data", "data.json")
    assert (code, err) == (0, "")
    promoted = MODELS / name / "expected.guide"
    if update:
        promoted.write_text(text, encoding="utf-8")
    assert text == promoted.read_text(encoding="utf-8")
    assert check(Source("starter.guide", text)).diagnostics == ()
    (folder / "starter.guide").write_text(text, encoding="utf-8")
    assert guidedsl("fmt", "--check", "starter.guide") == (0, "", "")
    code, out, err = guidedsl("check", "starter.guide", "--with-data", "data.json")
    assert (code, err) == (0, "")
    assert f"{name}:model as declared" in out
    code, out, err = guidedsl("fit", "starter.guide", "--data", "data.json", "--steps", "3", "--particles", "2")
    assert (code, err) == (0, "")
    assert "ELBO" in out


MINE = """
import pyro
import pyro.distributions as dist
import torch


def model(data, users, scale=1.0):
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    calls = pyro.sample("calls", dist.Poisson(rate))
    with pyro.plate("users", 3):
        skill = pyro.sample("user.skill", dist.Uniform(-1.0, 2.0))
    with pyro.plate("data", len(data)):
        pyro.sample("obs", dist.Normal(skill[users] + calls, scale), obs=data)
"""


def test_names_that_clash_or_are_reserved_get_others(folder: Path) -> None:
    """`data` is a reserved word, `users` both an argument and a plate, `user.skill` no name, and `calls` not finite."""
    (folder / "mine.py").write_text(MINE)
    (folder / "d.json").write_text(json.dumps({"data": [0.5, 1.5, 2.0, 1.0], "users": [0, 1, 2, 0], "extra": "x"}))
    code, text, err = guidedsl("init", "mine:model", "--data", "d.json")
    assert (code, err) == (0, "")
    assert text == (
        'model Mine from pyro "mine:model" {\n'
        "  dim n_data\n"
        "  latent rate  : positive\n"
        "  latent calls : count\n"
        "  plate users_rows[3] {\n"
        "    latent user_skill : interval(-1, 2)\n"
        "  }\n"
        "  plate data_rows[n_data] {\n"
        "    observed data_ : real\n"
        "    data     users : index(users_rows)\n"
        "  }\n"
        "}\n"
        "\n"
        "guide MeanField for Mine {\n"
        "  # calls cannot be summed out: it is sampled\n"
        "  param calls_rate : positive = 1\n"
        "  calls ~ Poisson(calls_rate)  # allow W604\n"
        "  auto mean_field for rest\n"
        "}\n"
    )
    (folder / "mine.guide").write_text(text)
    code, _, err = guidedsl("fit", "mine.guide", "--data", "d.json", "--steps", "3")
    assert (code, err) == (0, "")


def test_a_difference_shows_both_files(folder: Path) -> None:
    (folder / "mine.py").write_text(MINE)
    (folder / "d.json").write_text(json.dumps({"data": [0.5, 1.5], "users": [0, 1]}))
    _, text, _ = guidedsl("init", "mine:model", "--data", "d.json")
    (folder / "mine.guide").write_text(text.replace("rate  : positive", "rate  : real"))
    code, out, err = guidedsl("check", "mine.guide", "--with-data", "d.json")
    assert (code, out) == (1, "")
    assert "error[E420]: `rate` is real here, and positive in mine:model" in err
    assert "::: mine.py:8:5" in err
    code, _, err = guidedsl("--format", "json", "check", "mine.guide", "--with-data", "d.json")
    (finding,) = json.loads(err)
    assert (finding["code"], finding["line"]) == ("E420", 3)
    assert (finding["secondary"]["file"], finding["secondary"]["line"]) == ("mine.py", 8)


@pytest.mark.parametrize(
    ("python", "data", "message"),
    [
        (None, {}, "the program comes from mine:model, which cannot be imported: No module named 'mine'"),
        ("def model(:\n", {}, "mine.py:1: "),
        ("import torch\ntorch.ones(2) @ torch.ones(3)\n", {}, "mine.py:2: RuntimeError"),
        ("def other(): pass\n", {}, "mine.py has no `model`"),
        (MINE, {}, "mine:model(data, users, scale=…) needs `data`, `users`, and the data has extra"),
        (MINE, {"data": "x", "users": [0]}, "`data` is 'x': a program declares numbers and arrays of numbers"),
        (MINE, {"data": [1.0, 2.0], "users": [0, 7]}, "mine.py:13: IndexError: index 7 is out of bounds"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_said_with_the_users_line_and_no_traceback(
    folder: Path, python: str | None, data: dict[str, object], message: str
) -> None:
    if python is not None:
        (folder / "mine.py").write_text(python)
    (folder / "d.json").write_text(json.dumps({**data, "extra": 1}))
    code, out, err = guidedsl("init", "mine:model", "--data", "d.json")
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err
    assert "bug in guidedsl" not in err


def test_without_pyro(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyro", None)
    code, _, err = guidedsl("init", "mine:model")
    assert code == 1
    assert "guidedsl init needs Pyro: pip install guidedsl[pyro]" in err


def test_a_name_without_a_colon_is_a_mistake_of_use(folder: Path) -> None:
    code, _, err = guidedsl("init", "mine")
    assert code == 2
    assert "write module:function, as in mine:model" in err


def test_with_data_needs_a_pyro_model(folder: Path) -> None:
    (folder / "m.guide").write_text(
        "model M { latent a : real ~ Normal(0, 1) } guide G for M { auto mean_field for a }"
    )
    code, _, err = guidedsl("check", "m.guide", "--with-data", "d.json")
    assert code == 2
    assert "has no `model … from pyro` to compare with data" in err
    code, _, err = guidedsl("check", "m.guide", "--dim", "N=3")
    assert code == 2
    assert "--dim is for --with-data" in err


@pytest.mark.parametrize("guide", ["Structured", "MeanField"])
def test_the_example_of_a_pyro_model(root: Path, folder: Path, guide: str) -> None:
    shutil.copytree(root / "examples" / "ratings", folder, dirs_exist_ok=True)
    code, out, err = guidedsl("check", "ratings.guide", "--with-data", "data.json")
    assert (code, err) == (0, "")
    assert "ratings:model as declared" in out
    code, out, err = guidedsl("fit", "ratings.guide", "--guide", guide, "--data", "data.json", "--steps", "5")
    assert (code, err) == (0, "")
    assert "ELBO" in out
