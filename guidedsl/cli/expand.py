"""`guidedsl expand`: every `auto` written out."""

from __future__ import annotations

import click

from guidedsl.cli.command import Command, file_argument
from guidedsl.cli.files import checked
from guidedsl.cli.names import pick
from guidedsl.cli.session import OK, Session
from guidedsl.source import Source


@click.command("expand", cls=Command, short_help="Print a file with every `auto` written out.")
@file_argument()
@click.option("--guide", metavar="NAME", help="Only this guide.")
@click.pass_obj
def command(session: Session, file: str, guide: str | None) -> int:
    """Print the file with every `auto` written out as the statements that it stands for."""
    from guidedsl.syntax.expand import expand_source
    from guidedsl.syntax.parser import parse

    result = checked(file, session)
    source = result.program.source
    text = expand_source(source, result.expansions)
    if guide is not None:
        expanded = Source(source.name, text)
        guides = {node.name.text: node for node in parse(expanded).file.guides}
        node = guides[pick(guide, guides, "guide", source.name)]
        text = expanded.excerpt(node.span) + "\n"
    session.stdout.write(text)
    return OK
