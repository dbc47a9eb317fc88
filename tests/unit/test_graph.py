"""Graphs of programs: every one of the corpus can be drawn, some are known to the letter."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import pytest

from guidedsl.cli import run
from guidedsl.cli.graph_text import boxes, dot, mermaid
from guidedsl.graph import Node, Part, parts_of
from guidedsl.pipeline import check
from guidedsl.source import Source, read_source

CASES = Path(__file__).resolve().parent.parent / "cases"
PROGRAMS = sorted(path.parent.name for path in (CASES / "programs").glob("*/model.guide"))
GOLDEN = sorted(path.name for path in (CASES / "graphs").iterdir())
WRITERS = {"mmd": mermaid, "dot": dot}


def parts(name: str, *, lets: bool = True) -> tuple[Part, ...]:
    result = check(read_source(CASES / "programs" / name / "model.guide", "model.guide"))
    assert not [diagnostic for diagnostic in result.diagnostics if diagnostic.severity == "error"]
    return parts_of(result.program, lets=lets)


@pytest.mark.parametrize("golden", GOLDEN)
def test_the_text_is_what_is_expected(golden: str, update: bool) -> None:
    name, _, kind = golden.partition(".")
    text = WRITERS[kind](parts(name))
    path = CASES / "graphs" / golden
    if update:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "look at it, then run pytest --update"


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_can_be_drawn(name: str) -> None:
    found = parts(name)
    models = [part for part in found if part.title.startswith("model ")]
    assert models
    assert len(models) < len(found)
    for part in found:
        ids = [node.id for node in part.nodes]
        assert len(set(ids)) == len(ids)
        assert {end for edge in part.edges for end in edge} <= set(ids)
        assert len(set(part.edges)) == len(part.edges)
    everything = [node for part in found for node in part.nodes]
    for text in (mermaid(found), dot(found)):
        for node in everything:
            assert len(re.findall(rf"^ *{node.id}[\[({{ ]+(?!->|-->)", text, re.MULTILINE)) >= 1, node
    opened = re.findall(r"^ *subgraph ", mermaid(found), re.MULTILINE)
    assert len(opened) == len(re.findall(r"^ *end$", mermaid(found), re.MULTILINE))
    assert dot(found).count("{") - dot(found).count("}") == sum(
        node.label.count("{") - node.label.count("}") for node in everything
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_without_lets_what_they_read_is_read(name: str) -> None:
    for whole, less in zip(parts(name), parts(name, lets=False), strict=True):
        assert not [node for node in less.nodes if node.kind == "let"]
        labels = {node.id: node.label for node in less.nodes}
        reached = _reached(whole)
        shown = {(labels[a], labels[b]) for a, b in less.edges}
        assert shown == {pair for pair in reached if set(pair) <= set(labels.values())}


def _reached(part: Part) -> set[tuple[str, str]]:
    """Pairs of labels joined by an arrow, or by a path of arrows through lets."""
    nodes = {node.id: node for node in part.nodes}
    reads: dict[str, set[str]] = {name: {a for a, b in part.edges if b == name} for name in nodes}

    def sources(name: str) -> set[str]:
        direct = reads[name]
        lets = [a for a in direct if nodes[a].kind == "let"]
        return {a for a in direct if a not in lets}.union(*(sources(a) for a in lets))

    ends = [name for name, node in nodes.items() if node.kind != "let"]
    return {(nodes[a].label, nodes[b].label) for b in ends for a in sources(b) if a != b}


CROSSED = """
model M {
  dim I, J
  plate row[I] { latent a : real ~ Normal(0, 1) }
  plate column[J] {
    latent b : real ~ Normal(0, 1)
    plate row { observed y : real ~ Normal(a + b, 1) }
  }
}
guide G for M { auto mean_field for rest }
guide H for M { auto map for rest }
"""


def test_a_crossing_plate_is_drawn_again_in_the_earlier_one() -> None:
    part = parts_of(check(Source("p.guide", CROSSED)).program)[0]
    root = boxes(part)
    assert list(root.inner) == ["row", "column"]
    assert [node.label for node in root.inner["row"].inner["column"].nodes] == ["y : real"]
    assert [node.label for node in root.inner["column"].nodes] == ["b : real"]


HOSTILE = 'a"]; end <script>alert(1)</script> & #quot; \\N `x`\n}'


def test_labels_are_text() -> None:
    """Whatever a label holds, it stays within its quotes."""
    part = Part(HOSTILE, {"p": HOSTILE}, (Node("n0", "data", HOSTILE, ("p",)),), ())
    for line in mermaid((part,)).split("\n"):
        assert re.sub(r'"[^"]*"', "", line).count('"') == 0
        assert "<" not in line
        assert "alert(1)" not in line or "#60;script#62;" in line
    for line in dot((part,)).split("\n"):
        assert '"' not in re.sub(r'"(\\.|[^"\\])*"', "", line)
        assert "\\\\N" in line or "script" not in line


def command(*args: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return run(["graph", *args], io.StringIO(), out, err), out.getvalue(), err.getvalue()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("m.guide").write_text(CROSSED, encoding="utf-8")
    return "m.guide"


def test_the_command_prints_mermaid(file: str) -> None:
    code, out, err = command(file)
    assert (code, err) == (0, "")
    assert out.startswith("flowchart TB\n")
    assert "guide G for M" in out
    assert "guide H for M" in out
    assert command(file, "--format", "mermaid") == (code, out, err)
    assert command(file, "--format", "dot")[1].startswith("digraph guide {\n")
    assert "guide H" not in command(file, "--guide", "G")[1]


def test_the_name_of_the_file_says_what_is_written(file: str) -> None:
    assert command(file, "--out", "m.mmd") == (0, "wrote m.mmd\n", "")
    assert Path("m.mmd").read_text(encoding="utf-8") == command(file)[1]
    assert command(file, "--out", "m.dot")[0] == 0
    assert Path("m.dot").read_text(encoding="utf-8") == command(file, "--format", "dot")[1]
    code, _, err = command(file, "--out", "m.png")
    assert code == 2
    assert "name it .svg, .mmd or .dot" in err


def test_a_guide_that_is_not_there(file: str) -> None:
    code, _, err = command(file, "--guide", "K")
    assert code == 2
    assert "its guides are G, H" in err


def test_svg_needs_graphviz(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    code, out, err = command(file, "--out", "m.svg")
    assert (code, out) == (2, "")
    assert "`dot`, which is not there" in err
    assert not Path("m.svg").exists()


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
def test_svg(file: str) -> None:
    assert command(file, "--out", "m.svg")[0] == 0
    text = Path("m.svg").read_text(encoding="utf-8")
    assert "<svg" in text
    for label in ("y : real", "row[I]", "guide G for M"):
        assert label in text
