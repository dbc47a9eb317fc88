"""`guidedsl check`: what is wrong with each file."""

from __future__ import annotations

import click

from guidedsl.cli.command import Command, files_argument, target_option
from guidedsl.cli.files import checked
from guidedsl.cli.render import counted
from guidedsl.cli.session import OK, USAGE, Session, Stop
from guidedsl.cli.trust import no_extern_option, refuse_imports
from guidedsl.pipeline import Target


@click.command("check", cls=Command, short_help="Report what is wrong with each file.")
@files_argument()
@target_option()
@click.option(
    "--with-data",
    metavar="DATA",
    help="Run each `model … from pyro` once on this .json or .npz, and compare it with what is declared.",
)
@click.option("--dim", "dims", metavar="NAME=SIZE", multiple=True, help="With --with-data: the size of a dim.")
@no_extern_option()
@click.pass_obj
def command(
    session: Session,
    files: tuple[str, ...],
    target: Target,
    with_data: str | None,
    dims: tuple[str, ...],
    no_extern: bool,
) -> int:
    """Report what is wrong with each .guide file; `-` is stdin."""
    if dims and with_data is None:
        raise Stop(USAGE, "--dim is for --with-data, and there is none")

    def one(name: str) -> int:
        result = checked(name, session, target)
        if no_extern:
            refuse_imports(result.program, session)
        compared: tuple[str, ...] = ()
        if with_data is not None:
            from guidedsl.cli.with_data import compare_models

            compared = compare_models(result, with_data, dims, session)
        program = result.program
        counts = [counted(len(program.models), "model"), counted(len(program.guides), "guide")]
        if result.diagnostics:
            counts.append(counted(len(result.diagnostics), "warning"))
        same = f"; {', '.join(compared)} as declared" if compared else ""
        session.note(f"{program.source.name}: ok ({', '.join(counts)}{same})")
        return OK

    return session.each(files, one)
