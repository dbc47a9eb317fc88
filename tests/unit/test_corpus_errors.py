"""The corpus of refused programs: each has one finding, of its folder's code, and a twin in which it is mended."""

from __future__ import annotations

import ast
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from guidedsl import errors
from guidedsl.cli.excerpts import render_text
from guidedsl.cli.explain import split
from guidedsl.cli.with_data import differences_of
from guidedsl.diagnostics import Diagnostic
from guidedsl.pipeline import check, target_of
from guidedsl.source import Source

CASES = Path(__file__).resolve().parent.parent / "cases" / "errors"
FOLDERS = sorted(path.name for path in CASES.iterdir())
WITH_DATA = [name for name in FOLDERS if (CASES / name / "data.json").is_file()]
ALONE = [name for name in FOLDERS if name not in WITH_DATA]


def _source(case: str, name: str) -> Source:
    return Source(name, (CASES / case / name).read_text(encoding="utf-8"))


def _render(diagnostic: Diagnostic) -> str:
    """A finding as text, all of it: place, code, message, both labels and the hint."""
    primary, secondary = diagnostic.primary, diagnostic.secondary
    lines = [
        f"{primary.span.line}:{primary.span.column} {diagnostic.code} {diagnostic.message}",
        f"  here: {primary.text}",
    ]
    if secondary is not None:
        lines.append(f"  {secondary.span.line}:{secondary.span.column}: {secondary.text}")
    lines.append(f"  hint: {diagnostic.hint}")
    return "\n".join(lines) + "\n"


def _declared_codes() -> set[str]:
    """The codes that `guidedsl.errors` gives to its findings."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(errors.__file__).parent.glob("*.py")]
    nodes = (node for tree in trees for node in ast.walk(tree))
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    codes = [call.args[0] for call in calls if call.func.id == "Diagnostic"]  # type: ignore[attr-defined]
    assert all(isinstance(code, ast.Constant) for code in codes)
    return {code.value for code in codes}  # type: ignore[attr-defined]


def _compared(case: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Diagnostic, ...]:
    """What `check --with-data` finds; explanations begin below the comment, and so do these lines."""
    module = next((CASES / case).glob("*.py.txt"))
    shutil.copy(module, folder / module.name.removesuffix(".txt"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    checked = check(split(_source(case, name))[1])
    assert not checked.diagnostics
    try:
        return differences_of(checked, checked.program.models[0], str(CASES / case / "data.json"))
    finally:
        sys.modules.pop(module.name.partition(".")[0], None)


@pytest.mark.parametrize("case", WITH_DATA)
def test_bad_interface_has_its_one_difference(
    case: str, update: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _compared(case, "bad.guide", tmp_path, monkeypatch)
    shown = "\n".join(render_text(split(_source(case, "bad.guide"))[1], diagnostic) for diagnostic in found)
    assert [diagnostic.code for diagnostic in found] == [case.partition("_")[0]], shown
    promoted = CASES / case / "bad.expected"
    if update:
        promoted.write_text(shown, encoding="utf-8")
    assert shown == promoted.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", WITH_DATA)
def test_good_interface_is_what_the_model_has(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _compared(case, "good.guide", tmp_path, monkeypatch) == ()


@pytest.mark.parametrize("case", ALONE)
def test_bad_program_has_its_one_finding(case: str, update: bool) -> None:
    source = _source(case, "bad.guide")
    found = check(source, target_of(case.partition("_")[0])).diagnostics
    shown = "\n".join(_render(diagnostic) for diagnostic in found)
    assert [diagnostic.code for diagnostic in found] == [case.partition("_")[0]], shown
    assert found[0].hint, "a hint says the edit that mends it"
    promoted = CASES / case / "bad.expected"
    if update:
        promoted.write_text(shown, encoding="utf-8")
    assert promoted.is_file(), "run pytest with --update, and read what it wrote"
    assert shown == promoted.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", FOLDERS)
def test_good_twin_is_clean(case: str) -> None:
    found = check(_source(case, "good.guide"), target_of(case.partition("_")[0])).diagnostics
    assert [_render(diagnostic) for diagnostic in found] == []


@pytest.mark.parametrize("case", FOLDERS)
def test_bad_program_says_why(case: str) -> None:
    bad, good = _source(case, "bad.guide"), _source(case, "good.guide")
    comments = [line for line in bad.lines if line.startswith("#")]
    assert 1 <= len(comments) <= 3
    assert bad.lines[: len(comments)] == tuple(comments)
    assert bad.lines != good.lines
    assert len(bad.lines) <= 26
    assert not good.text.startswith("#")


def test_every_code_has_three_cases() -> None:
    cases = Counter(folder.partition("_")[0] for folder in FOLDERS)
    assert set(cases) == _declared_codes()
    assert {code: number for code, number in cases.items() if number < 3} == {}


def test_no_program_is_there_twice() -> None:
    programs = [tuple(line for line in _source(case, "bad.guide").lines if line[:1] != "#") for case in FOLDERS]
    assert len(set(programs)) == len(programs)
