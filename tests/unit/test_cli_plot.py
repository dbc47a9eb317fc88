"""`--plot` of `fit` and `summary`, and `--kl-annealing`."""

from __future__ import annotations

import io
import json
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from guidedsl import cli

MODEL = """model M {
  dim N
  latent a : real ~ Normal(0, 1)
  plate row[N] { observed y : real ~ Normal(a, 1) }
}
guide G for M { auto mean_field for rest }
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str


def run(*args: str) -> Done:
    out, err = io.StringIO(), io.StringIO()
    code = cli.run(args, io.StringIO(), out, err)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("m.guide").write_text(MODEL, encoding="utf-8")
    Path("data.json").write_text('{"y": [1, 2, 3]}', encoding="utf-8")
    return tmp_path


def fit(*options: str) -> Done:
    return run("fit", "m.guide", "--guide", "G", "--data", "data.json", "--steps", "8", *options)


def test_without_the_extra_nothing_is_begun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidedsl.cli.plot.find_spec", lambda name: None)
    done = fit("--plot", "fit.png", "--out", "kept")
    assert done.code == 2
    assert "pip install guidedsl[plots]" in done.err
    assert not Path("kept").exists()


@pytest.mark.parametrize(
    ("path", "said"), [("fit.doc", "the ending says in which format"), ("no/fit.png", "there is no such folder")]
)
def test_where_no_plot_can_be_written(folder: Path, path: str, said: str) -> None:
    done = fit("--plot", path)
    assert done.code == 2
    assert said in done.err


def test_annealing(folder: Path) -> None:
    done = fit("--kl-annealing", "4", "--out", "kept")
    assert done.code == 0, done.err
    assert json.loads(Path("kept/fit.json").read_text())["options"]["kl_annealing"] == 4
    late = fit("--kl-annealing", "7")
    assert late.code == 1
    assert "before the last quarter" in late.err


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="the extra `plots` is not installed")
def test_files(folder: Path) -> None:
    assert fit("--plot", "fit.png", "--out", "kept").code == 0
    assert run("summary", "kept", "--plot", "again.svg").code == 0
    assert Path("fit.png").stat().st_size > 5000
    assert "<svg" in Path("again.svg").read_text()
