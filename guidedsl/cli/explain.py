"""`guidedsl explain`: a page about a code, from the programs that test it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import click

from guidedsl.assets import error_cases
from guidedsl.cli.command import Command
from guidedsl.cli.excerpts import paint, render_text
from guidedsl.cli.session import OK, USAGE, Session, Stop
from guidedsl.diagnostics import Diagnostic
from guidedsl.errors import closest
from guidedsl.source import Source, read_source


@dataclass(frozen=True)
class Case:
    """A program that is refused and the same program mended, with what its comment says of the mistake.

    Where that takes a Pyro model and data, they stand in the folder too, and `said` is what was said of them.
    """

    code: str
    name: str
    prose: str
    bad: Source
    good: Source
    python: Source | None = None
    said: str = ""


@click.command("explain", cls=Command, short_help="Explain a code, such as E402.")
@click.argument("code", required=False)
@click.option("--all", "every", is_flag=True, help="Show every example, not the first alone.")
@click.pass_obj
def command(session: Session, code: str | None, every: bool) -> int:
    """Explain a code, such as E402, with a failing and a mended program; without a code, list them all."""
    folders = _folders()
    if code is None:
        for known, paths in folders.items():
            session.say(f"{known}  {_title(_case(known, paths[0]))}")
        return OK
    wanted = code.strip().upper()
    if wanted not in folders:
        close = closest(wanted, folders)
        listed = f"the codes are {', '.join(folders)}"
        raise Stop(USAGE, f"there is no code `{code}`", hint=f"did you mean {close}? {listed}" if close else listed)
    cases = [_case(wanted, path) for path in folders[wanted]]
    shown = cases if every else cases[:1]
    session.say(paint(wanted, "bold", session.color) + f": {_title(cases[0])}")
    for case in shown:
        slug = case.name.partition("_")[2].replace("_", " ")
        heading = f"{paint(slug, 'bold', session.color)}\n\n" if every and slug else ""
        session.say(f"\n{heading}{_page(case, session.color)}")
    if len(cases) > len(shown):
        others = len(cases) - len(shown)
        session.say(f"\n{others} more example{'s' if others > 1 else ''}: guidedsl explain {wanted} --all")
    return OK


def _folders() -> dict[str, list[Path]]:
    """The folders of examples by code, in order."""
    found: dict[str, list[Path]] = {}
    for path in sorted(error_cases().iterdir()):
        if (path / "bad.guide").is_file() and (path / "good.guide").is_file():
            found.setdefault(path.name.partition("_")[0], []).append(path)
    return found


def _case(code: str, folder: Path) -> Case:
    bad, good = (split(read_source(folder / name, name)) for name in ("bad.guide", "good.guide"))
    model = next(iter(sorted(folder.glob("*.py.txt"))), None)
    if model is None:
        return Case(code, folder.name, bad[0], bad[1], good[1])
    said = (folder / "bad.expected").read_text(encoding="utf-8")
    python = read_source(model, model.name.removesuffix(".txt"))
    return Case(code, folder.name, bad[0], bad[1], good[1], python, said)


def split(source: Source) -> tuple[str, Source]:
    """The comment that a file begins with, as prose, and the rest of the file."""
    lines = source.text.split("\n")
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    prose = " ".join(line.lstrip("#").strip() for line in lines[:count])
    return prose.strip(), Source(source.name, "\n".join(lines[count:]).strip("\n") + "\n")


def _diagnostics(case: Case) -> tuple[Diagnostic, ...]:
    from guidedsl.pipeline import check, target_of

    return check(case.bad, target_of(case.code)).diagnostics


def _title(case: Case) -> str:
    if case.said:
        return case.said.split("\n", 1)[0].partition(": ")[2]
    messages = [d.message for d in _diagnostics(case) if d.code == case.code]
    return messages[0] if messages else case.name


def _page(case: Case, color: bool) -> str:
    said = case.said
    if not said:
        said = "\n".join(render_text(case.bad, diagnostic, color=color) for diagnostic in _diagnostics(case))
    beside = case.python
    with_python = [] if beside is None else [f"where {beside.name} has", _indented(beside.text)]
    parts = [
        *([textwrap.fill(case.prose, 100)] if case.prose else []),
        paint("This is refused:" if case.code.startswith("E") else "This is warned of:", "bold", color),
        _indented(case.bad.text),
        *with_python,
        _indented(said),
        paint("Mended:", "bold", color),
        _indented(case.good.text),
    ]
    return "\n\n".join(parts)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.rstrip("\n").split("\n"))
