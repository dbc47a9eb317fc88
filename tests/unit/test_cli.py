"""The commands, run in-process as functions of arguments and streams."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from guidedsl import cli
from guidedsl.cli import files as cli_files
from guidedsl.cli import session as cli_session

GOOD = """model M {
  dim N, K = 2
  latent mu  : real[K]  ~ Normal(0, 1)
  latent tau : positive ~ HalfNormal(1)
  plate rows[N] {
    data     x : real[K]
    latent   z : real ~ Normal(0, tau)
    observed y : real ~ Normal(z, 1)
  }
}

guide G for M {
  param mu_loc  : real[K]              = zeros(K), lr = 0.1
  param mu_tril : lower_cholesky[K]
  param t       : positive = 0.5 via softplus, frozen
  mu  ~ MultivariateNormal(mu_loc, scale_tril = mu_tril)
  tau ~ LogNormal(0, t)
  plate rows {
    param z_loc : real = 0
    z ~ Normal(z_loc, 1)
  }
}

guide A for M { auto mean_field for rest }
"""
BAD = "model M { latent mu : real ~ Normal(0, -1) }\nguide G for M { mu ~ Normal(0, 1) }\n"
WARNED = "model M { latent mu : real ~ Normal(0, 1) }\nguide G for M { param a : real mu ~ Normal(0, 1) }\n"


@dataclass
class Done:
    """What a run left."""

    code: int
    out: str
    err: str


def run(*args: str | Path, stdin: str | bytes = "") -> Done:
    raw = stdin.encode() if isinstance(stdin, str) else stdin
    out, err = io.StringIO(), io.StringIO()
    code = cli.run([str(arg) for arg in args], io.TextIOWrapper(io.BytesIO(raw)), out, err)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("good.guide")
    path.write_text(GOOD, encoding="utf-8")
    return path


@pytest.fixture
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("bad.guide")
    path.write_text(BAD, encoding="utf-8")
    return path


# The frame


@pytest.mark.parametrize(
    "command",
    ["build", "check", "fmt", "expand", "info", "graph", "explain", "diff", "fit", "predict", "compare", "summary"],
)
def test_every_command_has_help(command: str) -> None:
    done = run(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"guidedsl {command} " in done.out
    assert command in run("--help").out


def test_version() -> None:
    assert run("--version") == Done(0, "guidedsl 0.1.0\n", "")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "Usage: guidedsl"),
        (("chek", "x"), "did you mean `check`?"),
        (("zzz",), "the commands are build, check"),
        (("check",), "missing argument"),
        (("check", "--frmat", "json", "x"), "--format"),
        (("--format", "xml", "check", "x"), "xml"),
        (("build", "x", "--out"), "--out"),
        (("debug", "tree", "x"), "tree"),
        (("fit", "x", "--steps", "0"), "0 is not a number from 1"),
        (("fit", "x", "--lr", "nan"), "nan is not above 0"),
        (("fit", "x", "--seed", "one"), "'one' is not a whole number"),
    ],
)
def test_wrong_usage_is_two_and_says_what_is_meant(args: tuple[str, ...], said: str) -> None:
    done = run(*args)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_bug_of_ours_is_seventy(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise LookupError("it broke")

    monkeypatch.setattr("guidedsl.pipeline.check", broken)
    monkeypatch.delenv("GUIDEDSL_TRACEBACK", raising=False)
    done = run("check", good)
    assert done.code == 70
    assert "this is a bug in guidedsl" in done.err
    assert "LookupError: it broke" in done.err
    assert "Traceback" not in done.err
    monkeypatch.setenv("GUIDEDSL_TRACEBACK", "1")
    assert "Traceback" in run("check", good).err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (BrokenPipeError, 141), (MemoryError, 1)])
def test_ends_from_outside(good: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], code: int) -> None:
    def ended(*_: object) -> None:
        raise error

    monkeypatch.setattr("guidedsl.pipeline.check", ended)
    done = run("check", good)
    assert done.code == code
    assert "Traceback" not in done.err


def test_a_closed_pipe_is_quiet(root: Path) -> None:
    command = f"{sys.executable} -c 'from guidedsl.cli import main; raise SystemExit(main())'"
    source = root / "examples/eight_schools/eight_schools.guide"
    done = subprocess.run(
        ["bash", "-c", f"{command} build --stdout {source} | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        cwd=root,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.returncode in (0, 141)


def test_check_imports_nothing_heavy(root: Path) -> None:
    code = (
        "import sys; from guidedsl.cli import main\n"
        f"assert main(['check', {str(root / 'examples/eight_schools/eight_schools.guide')!r}]) == 0\n"
        "print(sorted({'torch', 'black', 'jinja2', 'numpy', 'rich', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=120)
    assert done.stdout.split("\n")[1] == "[]", done


# check


def test_check(good: Path, bad: Path) -> None:
    assert run("check", good) == Done(0, "good.guide: ok (1 model, 2 guides)\n", "")
    done = run("check", bad, good)
    assert done.code == 1
    assert done.out == "good.guide: ok (1 model, 2 guides)\n"
    assert done.err.startswith("error[E402]: scale of Normal must be positive")
    assert "\n --> bad.guide:1:40\n" in done.err
    assert done.err.endswith("\n1 error in bad.guide\n")


def test_check_on_stdin() -> None:
    assert run("check", "-", stdin=GOOD) == Done(0, "<stdin>: ok (1 model, 2 guides)\n", "")
    done = run("check", "-", stdin=BAD)
    assert done.code == 1
    assert " --> <stdin>:1:40\n" in done.err
    assert run("check", "-", stdin=b"\xff").code == 2


def test_warnings_are_shown_and_are_no_failure() -> None:
    done = run("check", "-", stdin=WARNED)
    assert (done.code, done.out) == (0, "<stdin>: ok (1 model, 1 guide, 1 warning)\n")
    assert "warning[W601]" in done.err
    assert done.err.endswith("1 warning in <stdin>\n")


@pytest.mark.parametrize("place", ["before", "after"])
def test_json_is_one_array_for_all_files(good: Path, bad: Path, place: str) -> None:
    args = ["check", str(bad), str(good), "missing.guide"]
    done = run("--format", "json", *args) if place == "before" else run(*args, "--format", "json")
    assert (done.code, done.out) == (2, "")
    found = json.loads(done.err)
    assert [(row["code"], row["file"], row["line"], row["column"]) for row in found] == [
        ("E402", "bad.guide", 1, 40),
        (None, None, None, None),
    ]
    assert found[1]["message"] == "missing.guide: there is no such file"
    assert json.loads(run("--format", "json", "check", good).err) == []


def test_github(bad: Path) -> None:
    done = run("--format", "github", "check", bad)
    assert done.err.startswith("::error file=bad.guide,line=1,endLine=1,col=40,endColumn=42,title=E402::scale of")


def test_findings_without_end_are_cut() -> None:
    text = "model M { " + " ".join(f"factor x{number}" for number in range(300)) + " }"
    done = run("check", "-", stdin=text)
    assert done.err.count("error[E104]") == cli_session.MAX_SHOWN
    assert "more\n" in done.err
    assert len(json.loads(run("check", "-", "--format", "json", stdin=text).err)) > cli_session.MAX_SHOWN


# Bad input, for every command that reads a program

READERS = [
    ("check",),
    ("build",),
    ("expand",),
    ("info",),
    ("diff",),
    ("fit",),
    ("debug", "ir"),
    ("debug", "context"),
    ("fmt",),
    ("debug", "ast"),
]


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        ("folder", "is a directory"),
        (b"model \xe9", "is not UTF-8"),
        (b"model M {}\0", "NUL byte"),
        (b"#" * 5_000_000, "4 MB"),
    ],
)
def test_unreadable_files(tmp_path: Path, command: tuple[str, ...], content: bytes | str | None, said: str) -> None:
    path = tmp_path / "a.guide"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
    done = run(*command, path)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize("command", READERS[:8])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found an empty file"),
        (" \n\t\n", "found an empty file"),
        ("# one\n# two", "found nothing but comments"),
        ("dim N\n", "found nothing but dims"),
        ('"""About."""\n', "found nothing but a docstring"),
        ("guide G for M { }\n", "model `M` is not declared"),
        ("model M {\n", "found the end of the file"),
    ],
)
def test_files_with_nothing_in_them(tmp_path: Path, command: tuple[str, ...], text: str, said: str) -> None:
    path = tmp_path / "a.guide"
    path.write_text(text, encoding="utf-8")
    done = run(*command, path)
    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert f" --> {path}:" in done.err
    assert not (tmp_path / "a_guide.py").exists()


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_names_that_the_system_refuses(name: str) -> None:
    done = run("check", name)
    assert done.code == 2
    assert "cannot be read" in done.err


# build and diff


def test_build_and_diff(good: Path) -> None:
    missing = run("diff", good)
    assert (missing.code, missing.err) == (1, "error: good_guide.py is missing\nhint: guidedsl build good.guide\n")
    assert run("build", good) == Done(0, "wrote good_guide.py\n", "")
    built = Path("good_guide.py")
    text, stamp = built.read_text(encoding="utf-8"), built.stat().st_mtime_ns
    assert run("build", good) == Done(0, "good_guide.py is up to date\n", "")
    assert built.stat().st_mtime_ns == stamp
    assert run("diff", good) == Done(0, "", "")
    assert run("build", good, "--stdout") == Done(0, text, "")
    built.write_text(text.replace("mu_loc", "mo_loc"), encoding="utf-8")
    drifted = run("diff", good)
    assert drifted.code == 1
    assert "--- good_guide.py\n+++ good_guide.py (built now)\n@@" in drifted.out
    assert "is not current" in drifted.err
    assert run("build", good).out == "wrote good_guide.py\n"
    assert built.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("radon.guide", "radon_guide"),
        ("eight-schools.v2.guide", "eight_schools_v2_guide"),
        ("8schools.guide", "_8schools_guide"),
        ("a b.guide", "a_b_guide"),
        (".guide", "unnamed_guide"),
        ("früh", "früh_guide"),
        ("ﬁt.guide", "fit_guide"),
    ],
)
def test_module_names_can_be_imported(source: str, module: str) -> None:
    assert cli_files.module_name(Path("folder", source)) == module
    assert module.isidentifier()


def test_build_elsewhere(good: Path) -> None:
    assert run("build", good, "--out", "gen/deep").code == 0
    assert Path("gen/deep/good_guide.py").is_file()
    assert run("diff", good, "--out", "gen/deep").code == 0
    assert run("build", good, "--out", "gen/model.py").out == f"wrote {Path('gen/model.py')}\n"
    assert run("build", "-", "--out", "piped.py", stdin=GOOD).code == 0
    assert not Path("good_guide.py").exists()


def test_build_that_cannot_be(good: Path) -> None:
    Path("other").mkdir()
    Path("other/good.guide").write_text(GOOD, encoding="utf-8")
    for args, said in [
        (("build", good, "other/good.guide", "--out", "one.py"), "2 are to be built"),
        (("build", good, "other/good.guide", "--out", "gen"), "would both be written to"),
        (("build", good, "--out", "x", "--stdout"), "exclude each other"),
        (("build", "-"), "no file name"),
        (("build", good, "--out", "good.guide/x"), "Not a directory"),
    ]:
        done = run(*args)
        assert (done.code, done.out) == (2, ""), done
        assert said in done.err


def test_build_overwrites_nothing_that_it_did_not_write(good: Path) -> None:
    mine = Path("good_guide.py")
    mine.write_text("print('mine')\n", encoding="utf-8")
    done = run("build", good)
    assert done.code == 2
    assert "was not generated by guidedsl" in done.err
    assert mine.read_text(encoding="utf-8") == "print('mine')\n"


def test_a_file_with_errors_leaves_the_others_built(good: Path, bad: Path) -> None:
    done = run("build", bad, good)
    assert done.code == 1
    assert done.out == "wrote good_guide.py\n"
    assert not Path("bad_guide.py").exists()


@pytest.mark.parametrize("at", ["os.fsync", "os.replace"])
@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (OSError(28, "No space left on device"), 2)])
def test_an_interrupted_build_leaves_the_old_file(
    good: Path, monkeypatch: pytest.MonkeyPatch, at: str, error: BaseException, code: int
) -> None:
    run("build", good)
    old = Path("good_guide.py").read_bytes()
    good.write_text(GOOD.replace("HalfNormal(1)", "HalfNormal(2)"), encoding="utf-8")

    def interrupted(*_: object) -> None:
        raise error

    monkeypatch.setattr(at, interrupted)
    assert run("build", good).code == code
    assert Path("good_guide.py").read_bytes() == old
    assert sorted(path.name for path in Path().iterdir()) == ["good.guide", "good_guide.py"]


def test_writing_follows_links_and_keeps_the_mode(good: Path) -> None:
    run("build", good, "--out", "real")
    real = Path("real/good_guide.py")
    real.chmod(0o640)
    Path("good_guide.py").symlink_to(real)
    good.write_text(GOOD.replace("HalfNormal(1)", "HalfNormal(2)"), encoding="utf-8")
    assert run("build", good).code == 0
    assert Path("good_guide.py").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert "2.0" in real.read_text(encoding="utf-8")


# fmt, expand, info, debug


def test_fmt(good: Path, bad: Path) -> None:
    run("fmt", good)
    laid_out = good.read_bytes()
    assert run("fmt", good) == Done(0, "", "")
    assert run("fmt", "--check", good).code == 0
    good.write_bytes(laid_out.replace(b"  latent", b"      latent", 1))
    done = run("fmt", "--check", good)
    assert (done.code, done.out) == (1, "would reformat good.guide (1 line changed)\n")
    assert good.read_bytes() != laid_out
    assert run("fmt", good).out == "reformatted good.guide (1 line changed)\n"
    assert good.read_bytes() == laid_out
    assert run("fmt", "-", stdin=laid_out.replace(b"  latent", b" latent", 1)).out.encode() == laid_out
    good.write_bytes(b"\xef\xbb\xbf" + laid_out.replace(b"\n", b"\r\n"))
    assert "line ends" in run("fmt", good).out
    assert good.read_bytes() == laid_out


def test_fmt_leaves_a_file_with_syntax_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.guide"
    path.write_text("model M { latent mu : ~ }", encoding="utf-8")
    assert run("fmt", path).code == 1
    assert path.read_text(encoding="utf-8") == "model M { latent mu : ~ }"


def test_expand(good: Path) -> None:
    done = run("expand", good)
    assert (done.code, done.err) == (0, "")
    assert "auto" not in done.out
    assert run("check", "-", stdin=done.out).code == 0
    one = run("expand", good, "--guide", "A").out
    assert one.startswith("guide A for M {\n")
    assert "model" not in one
    assert run("expand", good, "--guide", "G").out in done.out
    unknown = run("expand", good, "--guide", "g")
    assert unknown.code == 2
    assert "good.guide has no guide `g`" in unknown.err
    assert "did you mean `G`?" in unknown.err


def test_info_json_has_every_parameter(good: Path) -> None:
    found = json.loads(run("info", good, "--json").out)
    (model,) = found["models"]
    assert model["dims"] == [{"name": "N", "default": None}, {"name": "K", "default": 2}]
    assert [(row["name"], row["shape"], row["plates"], row["role"]) for row in model["data"]] == [
        ("x", ["N", "K"], ["rows"], "data"),
        ("y", ["N"], ["rows"], "observed"),
    ]
    assert [(row["name"], row["shape"], row["distribution"]) for row in model["sites"]] == [
        ("mu", ["K"], "Normal"),
        ("tau", [], "HalfNormal"),
        ("z", ["N"], "Normal"),
    ]
    by_hand, auto = found["guides"]
    rows = {row["name"]: row for row in by_hand["params"]}
    assert rows["G.mu_tril"] == {
        "name": "G.mu_tril",
        "shape": ["K", "K"],
        "plates": [],
        "event_dim": 2,
        "constraint": "lower_cholesky",
        "unconstrained_size": "(K * K + K) // 2",
        "init": "identity",
        "default_init": True,
        "lr": None,
        "frozen": False,
    }
    assert rows["G.t"]["constraint"] == "positive via softplus"
    assert (rows["G.t"]["init"], rows["G.t"]["frozen"]) == ("0.5", True)
    assert (rows["G.mu_loc"]["init"], rows["G.mu_loc"]["lr"]) == ("zeros(K)", 0.1)
    assert (rows["G.z_loc"]["shape"], rows["G.z_loc"]["plates"], rows["G.z_loc"]["event_dim"]) == (["N"], ["rows"], 0)
    assert [row["name"] for row in auto["params"]] == [
        f"A.{site}_{part}" for site in ("mu", "tau", "z") for part in ("loc", "scale")
    ]
    assert auto["unconstrained_size"] == "2 * K + 2 * N + 2"


def test_info_agrees_with_the_store_after_a_fit(good: Path) -> None:
    """What info says of shapes is what the runtime makes of them."""
    write_data()
    assert run("fit", good, "--guide", "G", "--data", "data.json", "--steps", "1", "--out", "kept").code == 0
    from guidedsl.runtime.params import ParamStore

    store = ParamStore()
    store.load("kept/params.safetensors")
    rows = {row["name"]: row for row in json.loads(run("info", good, "--json").out)["guides"][0]["params"]}
    assert set(rows) == set(store)
    sizes = {"N": 3, "K": 2}
    for name, row in rows.items():
        assert list(store[name].shape) == [sizes[dim] for dim in row["shape"]]
        free = eval(row["unconstrained_size"], sizes.copy())
        assert dict(store.named_parameters())[name].numel() == free


def test_info_as_tables(good: Path) -> None:
    done = run("info", good)
    assert (done.code, done.err) == (0, "")
    assert "plates  rows[N]" in done.out
    assert "dims    N, K = 2" in done.out
    (line,) = (line for line in done.out.split("\n") if line.startswith("  G.mu_tril"))
    assert "[K, K]" in line
    assert "identity (default)" in line


@pytest.mark.parametrize("stage", ["ast", "ir", "context"])
def test_debug_is_deterministic(good: Path, stage: str) -> None:
    done = run("debug", stage, good)
    assert (done.code, done.err) == (0, "")
    assert "0x" not in done.out
    assert "mu_loc" in done.out
    assert run("debug", stage, good) == done


# explain


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    mended = BAD.replace("-1", "1")
    for name, text, fixed in [
        ("E402_literal", f"# A scale is above zero,\n# always.\n\n{BAD}", mended),
        ("E402_twice", BAD.replace("-1", "-2"), mended),
        ("W601_unused", WARNED, WARNED.replace("param a : real ", "")),
    ]:
        folder = tmp_path / "cases" / name
        folder.mkdir(parents=True)
        (folder / "bad.guide").write_text(text, encoding="utf-8")
        (folder / "good.guide").write_text(fixed, encoding="utf-8")
    monkeypatch.setattr("guidedsl.cli.explain.error_cases", lambda: tmp_path / "cases")
    return tmp_path / "cases"


def check_message(scale: str) -> str:
    """What the checker says of this scale."""
    (found,) = json.loads(run("check", "-", "--format", "json", stdin=BAD.replace("-1", scale)).err)
    return str(found["message"])


@pytest.mark.usefixtures("cases")
def test_explain() -> None:
    done = run("explain", "e402")
    assert (done.code, done.err) == (0, "")
    message = check_message("-1")
    assert done.out.startswith(f"E402: {message}\n\nA scale is above zero, always.\n")
    assert f"    error[E402]: {message}\n     --> bad.guide:1:40\n" in done.out
    assert "Mended:\n\n    model M { latent mu : real ~ Normal(0, 1) }" in done.out
    assert "1 more example: guidedsl explain E402 --all" in done.out
    assert "-2" in run("explain", "E402", "--all").out
    assert "This is warned of:" in run("explain", "W601").out
    listed = run("explain").out.split("\n")
    assert listed[0] == f"E402  {message}"
    assert listed[1].startswith("W601  ")


def test_every_case_of_the_corpus_has_its_page(root: Path) -> None:
    folder = root / "tests/cases/errors"
    codes = sorted({path.name.partition("_")[0] for path in folder.iterdir() if (path / "bad.guide").is_file()})
    listed = [line.split("  ") for line in run("explain").out.splitlines()]
    assert [code for code, _ in listed] == codes
    for code in codes:
        done = run("explain", code, "--all")
        assert (done.code, done.err) == (0, "")
        assert f"[{code}]" in done.out


@pytest.mark.usefixtures("cases")
def test_explain_of_an_unknown_code() -> None:
    done = run("explain", "E42")
    assert (done.code, done.out) == (2, "")
    assert "there is no code `E42`" in done.err
    assert "did you mean E402? the codes are E402, W601" in done.err


# fit and summary


def write_data(**changes: object) -> None:
    fields: dict[str, object] = {"x": [[1, 2], [3, 4], [5, 6]], "y": [0.5, -0.5, 1.0]}
    Path("data.json").write_text(json.dumps(fields | changes), encoding="utf-8")


def test_fit_and_summary(good: Path) -> None:
    write_data()
    args = ("fit", good, "--guide", "A", "--data", "data.json", "--steps", "20", "--seed", "3", "--dtype", "float64")
    done = run(*args, "--out", "kept")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("A for M: ELBO ")
    assert "z[2]" in done.out
    record = json.loads(Path("kept/fit.json").read_text(encoding="utf-8"))
    assert (record["file"], record["guide"], record["data"]["file"]) == ("../good.guide", "A", "../data.json")
    assert record["options"]["seed"] == 3
    assert [row["name"] for row in record["summary"]] == ["mu[0]", "mu[1]", "tau", "z[0]", "z[1]", "z[2]"]
    assert sorted(path.name for path in Path("kept").iterdir()) == ["fit.json", "params.safetensors"]

    table = done.out.split("\n\nwrote ")[0] + "\n"
    for path in ("kept", "kept/params.safetensors", "kept/fit.json"):
        assert run("summary", path) == Done(0, table, "")
    assert run("summary", "kept", "--data", "data.json").out == table
    assert json.loads(run("summary", "kept", "--json").out)["tau"].keys() == {"mean", "sd", "q5", "q50", "q95"}
    assert run(*args, "--quiet") == Done(0, "", "")
    picked = run("summary", "kept", "--sites", "tau,z").out
    assert [line.split()[0] for line in picked.splitlines()[-5:]] == ["mean", "tau", "z[0]", "z[1]", "z[2]"]
    assert run(*args, "--sites", "zz").err.startswith("error: the summary of M has no site `zz`")


def test_quiet_leaves_out_warnings() -> None:
    Path("warned.guide").write_text(WARNED, encoding="utf-8")
    args = ("fit", "warned.guide", "--steps", "2")
    assert "warning[W601]" in run(*args).err
    assert run(*args, "--quiet") == Done(0, "", "")


def test_a_dim_that_is_not_known_is_asked_for_as_the_command_line_takes_it() -> None:
    text = "model M { dim D latent w : real[D] ~ Normal(0, 1) } guide G for M { auto mean_field for w }\n"
    Path("open.guide").write_text(text, encoding="utf-8")
    done = run("fit", "open.guide", "--quiet", "--steps", "2")
    assert done.code == 1
    assert 'put "D" in the data, or --dim D=… (from Python: D=…)' in done.err
    assert run("fit", "open.guide", "--quiet", "--steps", "2", "--dim", "D=3") == Done(0, "", "")


def test_the_same_seed_gives_the_same_table(good: Path) -> None:
    write_data()
    args = ("fit", good, "--guide", "A", "--data", "data.json", "--steps", "5", "--seed")
    tables = [run(*args, seed).out.split("\n\n")[1] for seed in ("1", "1", "2")]
    assert tables[0] == tables[1] != tables[2]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--data", "data.json"), 2, "good.guide has 2 guides: say which"),
        (("--data", "data.json", "--guide", "B"), 2, "its guides are G, A"),
        (("--guide", "A"), 2, "M needs data for x, y"),
        (("--guide", "A", "--data", "none.json"), 2, "there is no such file"),
        (("--guide", "A", "--data", "."), 2, "is a folder"),
        (("--guide", "A", "--data", "good.guide"), 1, "unknown kind of data file"),
        (("--guide", "A", "--data", "broken.json"), 1, "not JSON"),
        (("--guide", "A", "--data", "short.json"), 1, "short.json: y is missing"),
        (("--guide", "A", "--data", "data.json", "--dim", "K"), 2, "--dim K is not NAME=SIZE"),
        (("--guide", "A", "--data", "data.json", "--dim", "Q=2"), 2, "M has no dim `Q`"),
        (("--guide", "A", "--data", "data.json", "--dim", "K=3"), 1, "K is 3 from the caller"),
        (("--guide", "A", "--data", "data.json", "--device", "abacus"), 2, "--device abacus"),
        (("--guide", "A", "--data", "data.json", "--out", "good.guide"), 2, "cannot be made a folder"),
    ],
)
def test_fits_that_cannot_be(good: Path, args: tuple[str, ...], code: int, said: str) -> None:
    write_data()
    Path("broken.json").write_text("{", encoding="utf-8")
    Path("short.json").write_text('{"x": [[1, 2]]}', encoding="utf-8")
    done = run("fit", good, *args)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "Traceback" not in done.err


def test_every_problem_of_the_data_is_one_error(good: Path) -> None:
    write_data(x=[[1, 2], [3, 4]], y="what")
    done = run("fit", good, "--guide", "A", "--data", "data.json", "--format", "json")
    assert done.code == 1
    found = json.loads(done.err)
    assert len(found) >= 1
    assert all(row["message"].startswith("data.json: ") for row in found)


def test_a_file_without_guides_cannot_be_fitted(good: Path) -> None:
    Path("model.guide").write_text(GOOD.split("guide G")[0], encoding="utf-8")
    done = run("fit", "model.guide", "--data", "data.json")
    assert done.code == 2
    assert "model.guide has no guide" in done.err


def test_the_only_guide_needs_no_name(good: Path) -> None:
    write_data()
    good.write_text(GOOD.split("guide A")[0], encoding="utf-8")
    assert run("fit", good, "--data", "data.json", "--steps", "1").out.startswith("G for M")


def test_an_interrupted_fit_leaves_the_old_one(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data()
    args = ("fit", good, "--guide", "A", "--data", "data.json", "--steps", "3", "--out", "kept")
    run(*args)
    before = {path: path.read_bytes() for path in Path("kept").iterdir()}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", interrupted)
        assert run(*args, "--seed", "5").code == 130
    assert {path: path.read_bytes() for path in Path("kept").iterdir()} == before


def test_summaries_that_cannot_be(good: Path) -> None:
    write_data()
    run("fit", good, "--guide", "A", "--data", "data.json", "--steps", "3", "--out", "kept")
    assert run("summary", "none").code == 2
    Path("empty").mkdir()
    assert "empty holds no fit.json" in run("summary", "empty").err
    record = Path("kept/fit.json").read_text(encoding="utf-8")
    for broken in ("{", "[]", "{}", record.replace('"summary"', '"other"'), record.replace('"mean"', '"men"')):
        Path("kept/fit.json").write_text(broken, encoding="utf-8")
        done = run("summary", "kept")
        assert (done.code, done.out) == (1, "")
        assert "Traceback" not in done.err
    Path("kept/fit.json").write_text(record, encoding="utf-8")
    good.write_text(GOOD.replace("HalfNormal(1)", "HalfNormal(2)"), encoding="utf-8")
    done = run("summary", "kept", "--data", "data.json")
    assert done.code == 1
    assert "another version of good.guide" in done.err
    Path("kept/params.safetensors").write_bytes(b"other")
    assert "are not of one fit" in run("summary", "kept").err


def test_a_failure_while_fitting_names_the_line(good: Path) -> None:
    good.write_text(
        "model M {\n  data x : real\n  latent m : real[2, 2] ~ Normal(0, 1)\n  let s : cov[2] = m @ m * x\n"
        "  observed y : real[2] ~ MultivariateNormal(zeros(2), covariance = s)\n}\n"
        "guide A for M { auto mean_field for rest }\n",
        encoding="utf-8",
    )
    Path("data.json").write_text('{"x": -1, "y": [1, 2]}', encoding="utf-8")
    done = run("fit", good, "--data", "data.json", "--steps", "3")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert "good.guide:4" in done.err


def test_an_interrupt_while_fitting_keeps_the_best_so_far(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from guidedsl.runtime.stochastic import StochasticFit

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    write_data()
    monkeypatch.setattr(StochasticFit, "run", interrupted)
    done = run("fit", good, "--guide", "A", "--data", "data.json", "--steps", "3", "--out", "kept")
    assert done.code == 130
    assert "NOT converged: interrupted" in done.out
    assert run("summary", "kept").code == 0


TERMINATED = """
import os, signal, sys
from guidedsl.cli import main
from guidedsl.runtime.stochastic import StochasticFit

step = StochasticFit._step

def fiftieth(fit):
    if fit.steps == 50:
        os.kill(os.getpid(), signal.SIGTERM)
    return step(fit)

StochasticFit._step = fiftieth
sys.exit(main(["fit", "good.guide", "--guide", "A", "--data", "data.json", "--steps", "400", "--out", "kept"]))
"""


@pytest.mark.usefixtures("good")
def test_a_fit_that_is_terminated_keeps_the_best_so_far() -> None:
    write_data()
    done = subprocess.run([sys.executable, "-c", TERMINATED], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (143, "")
    assert "NOT converged: interrupted" in done.stdout
    record = json.loads(Path("kept/fit.json").read_text(encoding="utf-8"))
    assert record["reason"] == "interrupted"
    assert 50 <= record["steps"] <= 51
    assert run("summary", "kept").code == 0


def test_a_fit_that_was_cut_off_is_resumed(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from guidedsl.runtime import stochastic
    from guidedsl.runtime.fit_checkpoint import FitCheckpoint

    class Cut(BaseException):
        """Stands for a kill."""

    write_data()
    args = ("fit", good, "--guide", "A", "--data", "data.json", "--steps", "40", "--seed", "3")
    whole = run(*args, "--out", "whole")
    with monkeypatch.context() as patch:
        begin, step = FitCheckpoint.__init__, stochastic.StochasticFit._step

        def at_each_step(self: Any, path: Any, every: float, program: Any) -> None:
            begin(self, path, 0.0, program)

        def twenty(self: Any) -> float:
            if self.steps == 20:
                raise Cut
            return step(self)

        patch.setattr(FitCheckpoint, "__init__", at_each_step)
        patch.setattr(stochastic.StochasticFit, "_step", twenty)
        with pytest.raises(Cut):
            run(*args, "--out", "kept")
    assert [path.name for path in Path("kept").iterdir()] == ["checkpoint.safetensors"]
    other = run(*args[:-1], "4", "--resume", "kept")
    assert (other.code, other.out) == (1, "")
    assert "its seed is 3, not 4" in other.err
    assert run(*args, "--resume", "kept", "--out", "whole").code == 2
    done = run(*args, "--resume", "kept")
    assert done.code == 0
    assert sorted(path.name for path in Path("kept").iterdir()) == ["fit.json", "params.safetensors"]
    kept, expected = (json.loads(Path(f"{name}/fit.json").read_text(encoding="utf-8")) for name in ("kept", "whole"))
    assert whole.code == 0
    assert kept["summary"] == expected["summary"]
    again = run(*args, "--resume", "kept")
    assert again.code == 2
    assert "no fit to go on with" in again.err


def test_fit_feeds_a_minibatched_model_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (
        "model M { dim N latent w : real ~ Normal(0, 1) plate p[N] minibatch(2) { observed y : real ~ Normal(w, 1) } }"
    )
    Path("m.guide").write_text(f"{text}\nguide G for M {{ auto mean_field for rest }}\n", encoding="utf-8")
    Path("y.json").write_text('{"y": [1, 2, 3, 4, 5]}', encoding="utf-8")
    done = run("fit", "m.guide", "--data", "y.json", "--steps", "8", "--out", "kept")
    assert (done.code, done.err) == (0, "")
    assert "G for M: ELBO" in done.out
    again = run("summary", "kept", "--data", "y.json", "--guide-file", "m.guide")
    assert (again.code, again.err) == (0, "")
    wrong = run("fit", "m.guide", "--data", "y.json", "--dim", "N=3")
    assert wrong.code == 1
    assert "y.json: y has 5 rows of plate p, which has 3" in wrong.err


def test_fit_finds_a_density_beside_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = Path("sub")
    folder.mkdir()
    text = 'model M from "density_beside:log_joint" { dim N latent w : real plate p[N] { observed y : real } }\n'
    (folder / "m.guide").write_text(f"{text}guide G for M {{ auto mean_field for rest }}\n", encoding="utf-8")
    (folder / "density_beside.py").write_text(
        "def log_joint(latents, data):\n    return -(latents.w ** 2) / 2 - ((data.y - latents.w) ** 2).sum() / 2\n",
        encoding="utf-8",
    )
    Path("y.json").write_text('{"y": [1, 2]}', encoding="utf-8")
    done = run("fit", "sub/m.guide", "--data", "y.json", "--seed", "1")
    assert (done.code, done.err) == (0, "")
    assert "\nconverged" in done.out
    (folder / "density_beside.py").unlink()
    sys.modules.pop("density_beside", None)
    missing = run("fit", "sub/m.guide", "--data", "y.json")
    assert missing.code == 1
    assert "takes its density from density_beside:log_joint, which cannot be imported" in missing.err
