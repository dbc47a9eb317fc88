"""`guidedsl check`: what is wrong with each file."""

from __future__ import annotations

import click

from guidedsl.cli.command import Command, files_argument
from guidedsl.cli.files import checked
from guidedsl.cli.render import counted
from guidedsl.cli.session import OK, USAGE, Session, Stop
from guidedsl.cli.trust import no_extern_option, refuse_imports


@click.command("check", cls=Command, short_help="Report what is wrong with each file.")
@files_argument()
@click.option(
    "--with-data",
    metavar="DATA",
    help="Run each `model … from pyro` once on this .json or .npz, and compare it with what is declared.",
)
@click.option("--dim", "dims", metavar="NAME=SIZE", multiple=True, help="With --with-data: the size of a dim.")
@no_extern_option()
@click.pass_obj
def command(
    session: Session, files: tuple[str, ...], with_data: str | None, dims: tuple[str, ...], no_extern: bool
) -> int:
    """Report what is wrong with each .guide file; `-` is stdin."""
    if dims and with_data is None:
        raise Stop(USAGE, "--dim is for --with-data, and there is none")
    return session.each(files, lambda name: _check(name, session, with_data, dims, no_extern))


def _check(name: str, session: Session, with_data: str | None, dims: tuple[str, ...], no_extern: bool) -> int:
    result = checked(name, session)
    if no_extern:
        refuse_imports(result.program, session)
    compared: tuple[str, ...] = ()
    if with_data is not None:
        from guidedsl.cli.with_data import compare_models

        compared = compare_models(result, with_data, dims, session)
    if not result.diagnostics:
        program = result.program
        models, guides = counted(len(program.models), "model"), counted(len(program.guides), "guide")
        same = f"; {', '.join(compared)} as declared" if compared else ""
        session.note(f"{program.source.name}: ok ({models}, {guides}{same})")
    return OK
