"""`guidedsl compare`: kept fits of one model to the same data, side by side."""

from __future__ import annotations

import json
from pathlib import Path

import click

from guidedsl.cli.command import Command
from guidedsl.cli.files import compiled
from guidedsl.cli.session import OK, USAGE, Session, Stop


@click.command("compare", cls=Command, short_help="Compare kept fits of one model.")
@click.argument("folders", nargs=-1, required=True, metavar="DIR1 DIR2...")
@click.option("--guide-file", "file", metavar="FILE", help="The .guide file, where it is no longer where it was.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def command(session: Session, folders: tuple[str, ...], file: str | None, as_json: bool) -> int:
    """Compare fits that `fit --out DIR` kept: ELBOs, their differences on the same noise, k-hat, seconds."""
    from guidedsl.cli.kept import load_fit, program_file, record_of

    folders = tuple(dict.fromkeys(folders))
    if len(folders) < 2:
        raise Stop(USAGE, "compare takes two different folders or more")
    records = {folder: record_of(Path(folder)) for folder in folders}
    programs = {
        path: compiled(path, session)
        for path in {program_file(Path(folder), record, file): None for folder, record in records.items()}
    }
    from guidedsl.runtime.compare import compare

    fits = [
        load_fit(Path(folder), record, programs[program_file(Path(folder), record, file)])
        for folder, record in records.items()
    ]
    names = tuple(f"{fit.guide.name} ({folder})" for fit, folder in zip(fits, folders, strict=True))
    comparison = compare(*fits, names=names)
    session.say(json.dumps(comparison.to_dict(), indent=2) if as_json else str(comparison))
    return OK
