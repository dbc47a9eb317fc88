"""`guidedsl diff`: whether generated files are current."""

from __future__ import annotations

import difflib
from pathlib import Path

import click

from guidedsl.cli.command import Command, files_argument, target_option
from guidedsl.cli.excerpts import paint, printable
from guidedsl.cli.files import compiled, current, targets
from guidedsl.cli.session import FOUND, OK, Session
from guidedsl.pipeline import Target


@click.command("diff", cls=Command, short_help="Tell whether generated files are current.")
@files_argument()
@click.option("--out", metavar="DIR|FILE", help="Where the generated files are, as for build.")
@target_option()
@click.pass_obj
def command(session: Session, files: tuple[str, ...], out: str | None, target: Target) -> int:
    """Exit 1 and show the difference where a generated file is not what build would write."""
    paths = targets(files, out, target)
    return session.each(paths, lambda name: _diff(name, paths[name], session, target))


def _diff(name: str, path: Path, session: Session, target: Target) -> int:
    new = compiled(name, session, target).python
    build = f"guidedsl build {'' if target == 'torch' else f'--target {target} '}{name}"
    before = current(path)
    if before == new.encode():
        return OK
    if before is None:
        session.fail(f"{path} is missing", build)
        return FOUND
    old = before.decode("utf-8", errors="replace")
    for line in difflib.unified_diff(old.split("\n"), new.split("\n"), str(path), f"{path} (built now)", lineterm=""):
        style = {"+": "added", "-": "removed", "@": "secondary"}.get(line[:1])
        shown = printable(line)
        session.say(paint(shown, style, session.color) if style else shown)
    session.fail(f"{path} is not current", build)
    return FOUND
