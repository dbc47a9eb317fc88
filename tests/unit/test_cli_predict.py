"""`guidedsl predict` and `guidedsl compare`, on kept fits."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from guidedsl import cli

MODEL = """model Schools {
  dim J
  latent mu : real ~ Normal(0, 5)
  plate schools[J] {
    data sigma : positive
    latent theta : real ~ Normal(mu, 3)
    observed y : real ~ Normal(theta, sigma)
  }
}
guide A for Schools { auto mean_field for rest }
guide B for Schools { auto full_rank for rest }
model Improper {
  latent m : real ~ Flat
  observed z : real ~ Normal(m, 1)
}
guide C for Improper { auto mean_field for rest }
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
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a program, its data, and fits of two guides in `a` and `b`."""
    monkeypatch.chdir(tmp_path)
    Path("m.guide").write_text(MODEL, encoding="utf-8")
    Path("data.json").write_text('{"y": [1, 2, 3], "sigma": [1, 2, 1]}', encoding="utf-8")
    for guide in "AB":
        done = run("fit", "m.guide", "--guide", guide, "--data", "data.json", "--steps", "5", "--out", guide.lower())
        assert done.code == 0, done.err
    return tmp_path


def test_predict(kept: Path) -> None:
    done = run("predict", "m.guide", "--fit", "a", "--draws", "50")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("50 posterior predictive draws of Schools, A\n")
    assert "y[2]" in done.out
    Path("new.json").write_text('{"sigma": [1, 1]}', encoding="utf-8")
    for name in ("draws.json", "draws.npz", "draws.safetensors"):
        done = run(
            "predict", "m.guide", "--fit", "a", "--data", "new.json", "--draws", "4", "--seed", "1", "--out", name
        )
        assert (done.code, done.out) == (0, f"wrote {name}\n"), done.err
    listed = torch.tensor(json.loads(Path("draws.json").read_text(encoding="utf-8"))["y"], dtype=torch.float64)
    assert listed.shape == (4, 2)
    torch.testing.assert_close(load_file("draws.safetensors")["y"], listed)
    from guidedsl.runtime.load import load_fields

    torch.testing.assert_close(torch.as_tensor(load_fields("draws.npz")["y"]), listed)
    known = run("predict", "m.guide", "--fit", "a", "--new", "schools").out
    assert known != run("predict", "m.guide", "--fit", "a").out


def test_predict_from_the_priors(kept: Path) -> None:
    done = run("predict", "m.guide", "--prior", "--model", "Schools", "--data", "data.json", "--out", "p.safetensors")
    assert done.code == 0, done.err
    assert {name: tuple(value.shape) for name, value in load_file("p.safetensors").items()} == {
        "mu": (1000,),
        "theta": (1000, 3),
        "y": (1000, 3),
    }


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ((), 2, "one of --fit DIR and --prior"),
        (("--fit", "a", "--prior"), 2, "one of --fit DIR and --prior"),
        (("--fit", "none"), 2, "there is no such folder"),
        (("--fit", "a", "--out", "draws.csv"), 2, "the suffix says how"),
        (("--fit", "a", "--new", "school"), 1, "no plate `school`"),
        (("--fit", "a", "--dim", "K=2"), 2, "no dim `K`"),
        (("--prior",), 2, "say which"),
        (("--prior", "--model", "Improper"), 1, "`m` cannot be drawn: its prior is Flat"),
        (("--prior", "--model", "Schools"), 1, "sigma is missing"),
        (("--prior", "--model", "Schools", "--new", "schools"), 2, "all rows are new"),
        (("--fit", "a", "--draws", "0"), 2, "--draws"),
    ],
)
def test_predict_refuses(kept: Path, args: tuple[str, ...], code: int, words: str) -> None:
    done = run("predict", "m.guide", *args)
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert "Traceback" not in done.err


def test_a_fit_whose_data_is_not_what_it_was(kept: Path) -> None:
    Path("data.json").write_text('{"y": [1, 2, 4], "sigma": [1, 2, 1]}', encoding="utf-8")
    done = run("predict", "m.guide", "--fit", "a")
    assert done.code == 1
    assert "has changed since the fit" in done.err
    Path("data.json").unlink()
    done = run("compare", "a", "b")
    assert done.code == 2
    assert "is not there" in done.err


def test_compare(kept: Path) -> None:
    done = run("compare", "a", "b")
    assert (done.code, done.err) == (0, "")
    assert "A (a)" in done.out
    assert "B (b)" in done.out
    rows = json.loads(run("compare", "a", "b", "--json").out)
    assert rows[0]["difference"] == 0
    assert rows[0].keys() >= {"elbo", "elbo_error", "difference_error", "khat", "converged", "parameters", "seconds"}
    assert run("compare", "a").code == 2
    assert run("compare", "a", "a").code == 2
    Path("z.json").write_text('{"z": 1}', encoding="utf-8")
    assert run("fit", "m.guide", "--guide", "C", "--data", "z.json", "--steps", "5", "--out", "c").code == 0
    done = run("compare", "a", "c")
    assert done.code == 1
    assert "their ELBOs do not compare" in done.err
