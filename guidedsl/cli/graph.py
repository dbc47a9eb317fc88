"""`guidedsl graph`: models and guides as pictures."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click

from guidedsl.cli.command import Command, file_argument
from guidedsl.cli.files import checked, write
from guidedsl.cli.names import pick
from guidedsl.cli.session import OK, USAGE, Session, Stop

KINDS = {".mmd": "mermaid", ".dot": "dot", ".svg": "svg"}
TIMEOUT = 60


@click.command("graph", cls=Command, short_help="Draw models and guides with their plates.")
@file_argument()
@click.option("--guide", metavar="NAME", help="Only this guide and its model.")
@click.option("--out", metavar="FILE", help="Where to write: .svg, .mmd or .dot says what.")
@click.option("--format", "kind", type=click.Choice(list(KINDS.values())), help="What to write; mermaid by default.")
@click.option("--no-lets", is_flag=True, help="Draw no lets: arrows lead through them.")
@click.pass_obj
def command(session: Session, file: str, guide: str | None, out: str | None, kind: str | None, no_lets: bool) -> int:
    """Draw the plate diagram of each model with its guides beside it."""
    from guidedsl.cli.graph_text import dot, mermaid
    from guidedsl.graph import parts_of

    kind = _kind(out, kind)
    program = checked(file, session).program
    if guide is not None:
        guide = pick(guide, (one.name for one in program.guides), "guide", program.source.name)
    parts = parts_of(program, guide, lets=not no_lets)
    text = mermaid(parts) if kind == "mermaid" else dot(parts)
    if kind == "svg":
        text = _svg(text)
    if out is None:
        session.stdout.write(text)
    else:
        write(Path(out), text.encode())
        session.note(f"wrote {out}")
    return OK


def _kind(out: str | None, kind: str | None) -> str:
    """What to write, by the option or the name of the file. Stops with 2 where neither says."""
    if kind is not None or out is None:
        return kind or "mermaid"
    found = KINDS.get(Path(out).suffix.lower())
    if found is None:
        raise Stop(USAGE, f"--out {out}: its name does not say what to write", hint="name it .svg, .mmd or .dot")
    return found


def _svg(text: str) -> str:
    """The picture, by Graphviz. Stops with 2 where there is none."""
    program = shutil.which("dot")
    if program is None:
        raise Stop(
            USAGE, "SVG needs Graphviz's `dot`, which is not there", hint="install graphviz, or --format mermaid"
        )
    try:
        done = subprocess.run([program, "-Tsvg"], input=text, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise Stop(USAGE, f"`dot` did not draw the graph: {problem}", hint="--format mermaid") from None
    if done.returncode != 0:
        said = done.stderr.strip().split("\n")[0]
        raise Stop(USAGE, f"`dot` did not draw the graph: {said}", hint="--format mermaid")
    return done.stdout
