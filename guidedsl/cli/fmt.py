"""`guidedsl fmt`: the canonical layout."""

from __future__ import annotations

import difflib
from pathlib import Path

import click

from guidedsl.cli.command import Command, files_argument
from guidedsl.cli.files import read, write
from guidedsl.cli.render import counted
from guidedsl.cli.session import FOUND, OK, Session, Stop
from guidedsl.diagnostics import CompileError


@click.command("fmt", cls=Command, short_help="Lay out each file the one way.")
@files_argument()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a file would change.")
@click.pass_obj
def command(session: Session, files: tuple[str, ...], check: bool) -> int:
    """Lay out each .guide file the one way; `-` formats stdin to stdout."""
    return session.each(dict.fromkeys(files), lambda name: _format(name, check, session))


def _format(name: str, check: bool, session: Session) -> int:
    from guidedsl.syntax.format import format_source

    source = read(name, session)
    try:
        text = format_source(source)
    except CompileError as refused:
        session.report(source, refused.diagnostics)
        raise Stop(FOUND) from None
    if name == "-" and not check:
        session.stdout.write(text)
        return OK
    if text == source.text and (name == "-" or Path(name).read_bytes() == text.encode()):
        return OK
    if check:
        session.note(f"would reformat {source.name} ({_changes(source.text, text)})")
        return FOUND
    write(Path(name), text.encode())
    session.note(f"reformatted {source.name} ({_changes(source.text, text)})")
    return OK


def _changes(before: str, after: str) -> str:
    """How much changes, for a person."""
    pairs = difflib.SequenceMatcher(None, before.split("\n"), after.split("\n"), autojunk=False).get_opcodes()
    lines = sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in pairs if tag != "equal")
    return f"{counted(lines, 'line')} changed" if lines else "line ends or byte order mark"
