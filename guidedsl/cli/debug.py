"""`guidedsl debug`: the forms between the text and the Python."""

from __future__ import annotations

import click

from guidedsl.cli.command import Command, file_argument
from guidedsl.cli.files import checked, read
from guidedsl.cli.session import FOUND, OK, Session

STAGES = ("ast", "ir", "context")


@click.command("debug", cls=Command, short_help="Print what is between text and Python.")
@click.argument("stage", type=click.Choice(STAGES), metavar="ast|ir|context")
@file_argument()
@click.pass_obj
def command(session: Session, stage: str, file: str) -> int:
    """Print the syntax tree, the typed program, or what the template reads."""
    from guidedsl.cli.dump import dump

    if stage == "ast":
        from guidedsl.syntax.parser import parse

        source = read(file, session)
        parsed = parse(source)
        session.report(source, parsed.diagnostics)
        session.say(dump(parsed.file))
        return FOUND if parsed.diagnostics else OK
    program = checked(file, session).program
    if stage == "ir":
        session.say(dump(program))
        return OK
    from guidedsl.backend.context import module_context

    session.say(dump(module_context(program)))
    return OK
