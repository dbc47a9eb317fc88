"""`guidedsl init`: a first program for a Pyro model."""

from __future__ import annotations

from pathlib import Path

import click

from guidedsl.cli.command import Command
from guidedsl.cli.session import OK, USAGE, Session, Stop


@click.command("init", cls=Command, short_help="Write a first program for a Pyro model.")
@click.argument("model", metavar="PKG:MODEL")
@click.option("--data", metavar="PATH", help="The data, .json or .npz: what the model is called with, by name.")
@click.pass_obj
def command(session: Session, model: str, data: str | None) -> int:
    """Run a Pyro model once, and print a program that declares its interface and a guide to fit it with.

    PKG:MODEL is a function, or what is called like one, in a module that is looked for in the current folder first.
    """
    from guidedsl.cli.inputs import look_in
    from guidedsl.runtime.load import load_fields
    from guidedsl.runtime.pyro_models.importing import require_pyro

    if ":" not in model:
        raise Stop(USAGE, f"{model} names no model", hint=f"write module:function, as in {model}:model")
    require_pyro("guidedsl init")
    from guidedsl.cli.starter import starter
    from guidedsl.runtime.pyro_models.outline import outline

    look_in(Path.cwd())
    session.stdout.write(starter(model, outline(model, {} if data is None else load_fields(data))))
    return OK
