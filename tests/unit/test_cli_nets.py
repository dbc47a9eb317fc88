"""What the commands say of nets and externs, and that code from outside does not run where it may not."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from guidedsl import cli

PROGRAM = """extern warp(x: real) -> real from "nets_marker:warp"

model M {
  dim N, H = 8
  net bend(x: real) -> (loc: real, scale: positive) = mlp(H, 4, activation = tanh)
  net table(x: real) -> real from "nets_marker:Table"(width = H, name = "a \\" b")
  latent a : real ~ Normal(0, 1)
  plate row[N] {
    data x : real
    let (loc, scale) = bend(x)
    observed y : real ~ Normal(loc + warp(a) + table(a), scale)
  }
}

guide G for M {
  net own(x: real) -> real = linear()
  let a_loc = own(0)
  a ~ Normal(a_loc, 1)
}
"""
PASSED = """model M {
  dim N
  net bend(x: real) -> real
  latent a : real ~ Normal(0, 1)
  plate row[N] { observed y : real ~ Normal(bend(a), 1) }
}
guide G for M { auto mean_field for rest }
"""
INTERFACE = """model M from "nets_marker:density" {
  latent a : real
}
guide G for M { auto mean_field for rest }
"""


def run(*args: str | Path) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = cli.run([str(arg) for arg in args], io.StringIO(), out, err)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program beside a module that leaves a mark where it is imported."""
    (tmp_path / "nets_marker.py").write_text(
        "from pathlib import Path\n"
        "import torch\n"
        "Path(__file__).with_name('mark').touch()\n"
        "warp = torch.sin\n"
        "def density(latents, data): return -latents.a ** 2\n"
        "class Table(torch.nn.Module):\n"
        "    def __init__(self, width, name):\n"
        "        super().__init__()\n"
        "        assert (width, name) == (8, 'a \" b')\n"
        "        self.layer = torch.nn.Linear(1, 1)\n"
        "    def forward(self, x): return self.layer(x[:, None])[:, 0]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nets_marker", raising=False)
    path = tmp_path / "m.guide"
    path.write_text(PROGRAM)
    (tmp_path / "m.json").write_text(json.dumps({"x": [0.5, 1.5, 2.5], "y": [1.0, 2.0, 3.0]}))
    return path


def test_info_lists_imports_and_layers(program: Path) -> None:
    code, out, _ = run("info", program)
    assert code == 0
    lines = [" ".join(line.split()) for line in out.split("\n")]
    assert "extern warp nets_marker:warp 1" in lines
    assert "net table nets_marker:Table 6" in lines
    assert "net bend(x: real) -> (loc: real, scale: positive)" in lines
    assert [line for line in lines if line.startswith("M.bend.")] == [
        *("M.bend.hidden1 [H, 1]", "M.bend.hidden2 [4, H]", "M.bend.loc [1, 4]", "M.bend.scale [1, 4]")
    ]
    assert "2 unconstrained numbers in all" in lines


def test_info_as_json(program: Path) -> None:
    code, out, _ = run("info", "--json", program)
    found = json.loads(out)
    assert code == 0
    assert [one["what"] for one in found["imports"]] == ["extern warp", "net table"]
    assert [net["made"] for net in found["models"][0]["nets"]] == ["generated", "imported"]
    assert found["models"][0]["nets"][0]["activation"] == "tanh"
    assert found["guides"][0]["nets"][0]["layers"] == [{"name": "G.own.out", "weight": ["1", "1"]}]
    assert found["externs"][0]["signature"] == "warp(x: real) -> real"


@pytest.mark.parametrize("command", ["check", "build", "info", "fmt", "diff", "expand"])
def test_nothing_is_imported_before_a_fit(program: Path, command: str) -> None:
    run("build", program)
    code, _, err = run(command, program)
    assert code == 0, err
    assert not (program.parent / "mark").exists()


@pytest.mark.parametrize("command", ["check", "build", "fit"])
def test_no_extern_refuses_code_from_outside(program: Path, command: str) -> None:
    extra = ["--data", program.with_suffix(".json")] if command == "fit" else []
    code, out, err = run(command, "--no-extern", program, *extra)
    assert code == 1
    assert not out
    for what, place in (("extern warp", "1:8"), ("net table", "6:7")):
        assert f"{program}:{place}: `{what}` runs Python code from 'nets_marker" in err.replace("\n", "")
    assert not (program.parent / "mark").exists()
    assert not (program.parent / "m_guide.py").exists()


def test_no_extern_refuses_a_density_from_outside(program: Path) -> None:
    program.write_text(INTERFACE)
    code, _, err = run("check", "--no-extern", program)
    assert (code, "`model M` runs Python code from 'nets_marker:density'" in err) == (1, True)


def test_no_extern_leaves_other_programs_alone(program: Path) -> None:
    program.write_text(PROGRAM.replace('from "nets_marker:Table"(width = H, name = "a \\" b")', "= linear()"))
    without = program.read_text().replace('extern warp(x: real) -> real from "nets_marker:warp"\n', "")
    program.write_text(without.replace("warp(a)", "a"))
    assert run("check", "--no-extern", program)[0] == 0


def test_fit_imports_and_runs(program: Path) -> None:
    code, out, err = run("fit", program, "--data", program.with_suffix(".json"), "--steps", "5", "--quiet")
    assert (code, out) == (0, ""), err
    assert (program.parent / "mark").exists()


def test_fit_cannot_pass_a_net_in(program: Path) -> None:
    program.write_text(PASSED)
    code, _, err = run("fit", program, "--data", program.with_suffix(".json"))
    assert code == 2
    assert "`bend` of G must be passed in, and the command line cannot" in err
    assert 'G.fit(data, nets={"bend": module})' in err


@pytest.mark.parametrize("kind", ["ast", "ir", "context"])
def test_debug_shows_them(program: Path, kind: str) -> None:
    code, out, err = run("debug", kind, program)
    assert code == 0, err
    assert "bend" in out
