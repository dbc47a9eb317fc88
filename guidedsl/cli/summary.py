"""`guidedsl summary`: what a kept fit says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guidedsl.cli.command import Command, sites_option
from guidedsl.cli.files import compiled
from guidedsl.cli.fit_folder import PARAMS, RECORD, file_sha256, read, summary_of
from guidedsl.cli.kept import load_fit, program_file
from guidedsl.cli.plot import check_plot, write_plot
from guidedsl.cli.session import FOUND, OK, USAGE, Session, Stop

if TYPE_CHECKING:
    from guidedsl.runtime.fit import Fit


@click.command("summary", cls=Command, short_help="Print the summary of a kept fit again.")
@click.argument("path", metavar="DIR|FILE")
@click.option("--data", metavar="PATH", help="Draw again, with this data of the same sizes.")
@click.option("--guide-file", "file", metavar="FILE", help="The .guide file, where it is no longer where it was.")
@sites_option()
@click.option("--plot", metavar="FILE", help="Draw the densities: .png, .pdf, .svg.")
@click.option("--json", "as_json", is_flag=True, help="Print every row, as JSON.")
@click.pass_obj
def command(
    session: Session,
    path: str,
    data: str | None,
    file: str | None,
    sites: tuple[str, ...],
    plot: str | None,
    as_json: bool,
) -> int:
    """Print the summary of a fit that `fit --out DIR` kept."""
    given = Path(path)
    if not given.exists():
        raise Stop(USAGE, f"{path}: there is no such file or folder", hint="`guidedsl fit … --out DIR` makes one")
    folder = given if given.is_dir() else given.parent
    params = given if given.suffix == ".safetensors" else folder / PARAMS
    record = read(folder)
    if not params.is_file():
        raise Stop(USAGE, f"{folder} holds no {PARAMS}")
    if file_sha256(params) != record["params_sha256"]:
        raise Stop(
            FOUND, f"{folder / RECORD} and {params} are not of one fit: one of them was replaced", hint="fit again"
        )
    check_plot(plot)
    summary = summary_of(record, folder / RECORD)
    if data is not None or plot is not None:
        fit = _loaded(session, folder, params, record, data, file)
        summary = summary if data is None else fit.summary()
        if plot is not None:
            write_plot(fit, plot)
    summary = summary.only(sites) if sites else summary
    session.say(json.dumps(summary.to_dict(), indent=2) if as_json else str(summary))
    return OK


def _loaded(
    session: Session, folder: Path, params: Path, record: dict[str, Any], data: str | None, file: str | None
) -> Fit:
    """The fit with this data, or with that which it was fitted to."""
    from guidedsl.cli.inputs import bind, pick_guide, runtime_guide

    result = compiled(program_file(folder, record, file), session)
    if data is None:
        return load_fit(folder, record, result)
    guide = runtime_guide(result, pick_guide(result, record["guide"]).name)
    dims = {str(name): size for name, size in record["dims"].items() if isinstance(size, int)}
    dtype = {"float32": "float32", "float64": "float64"}.get(str(record["options"].get("dtype")))
    bound = bind(guide.model, data, dims, None, dtype)
    return guide.load(params, bound)
