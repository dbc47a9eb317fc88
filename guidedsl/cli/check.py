"""`guidedsl check`: what is wrong with each file."""

from __future__ import annotations

import click

from guidedsl.cli.command import Command, files_argument, target_option
from guidedsl.cli.files import checked
from guidedsl.cli.render import counted
from guidedsl.cli.session import OK, Session
from guidedsl.cli.trust import no_extern_option, refuse_imports
from guidedsl.pipeline import Target


@click.command("check", cls=Command, short_help="Report what is wrong with each file.")
@files_argument()
@target_option()
@no_extern_option()
@click.pass_obj
def command(session: Session, files: tuple[str, ...], target: Target, no_extern: bool) -> int:
    """Report what is wrong with each .guide file; `-` is stdin."""
    return session.each(files, lambda name: _check(name, session, target, no_extern))


def _check(name: str, session: Session, target: Target, no_extern: bool) -> int:
    result = checked(name, session, target)
    if no_extern:
        refuse_imports(result.program, session)
    if not result.diagnostics:
        program = result.program
        models, guides = counted(len(program.models), "model"), counted(len(program.guides), "guide")
        session.note(f"{program.source.name}: ok ({models}, {guides})")
    return OK
