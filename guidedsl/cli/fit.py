"""`guidedsl fit`: a guide and a data file in, a posterior out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from guidedsl.cli.command import Command, Number, file_argument, sites_option
from guidedsl.cli.files import compiled
from guidedsl.cli.plot import check_plot, write_plot
from guidedsl.cli.session import FOUND, INTERRUPTED, OK, TERMINATED, USAGE, Session, Stop
from guidedsl.cli.trust import no_extern_option, refuse_imports

if TYPE_CHECKING:
    from guidedsl import ir
    from guidedsl.runtime.fit import Fit
    from guidedsl.runtime.model import Guide

DTYPES = ("float32", "float64")
CHECKPOINT = "checkpoint.safetensors"


@click.command("fit", cls=Command, short_help="Fit a guide to data.")
@file_argument()
@click.option("--guide", metavar="NAME", help="The guide to fit; needed where the file has several.")
@click.option("--data", metavar="PATH", help="The data: .json or .npz, with an array for each field of the model.")
@click.option("--dim", "dims", metavar="NAME=SIZE", multiple=True, help="The size of a dim, over its default.")
@click.option("--seed", metavar="N", type=Number(0), default=0, help="The same seed gives the same result.")
@click.option("--steps", metavar="N", type=Number(1), help="Stop after this many; by default when converged.")
@click.option(
    "--lr", metavar="X", type=Number(0, above=True, whole=False), help="The learning rate; by default it is found."
)
@click.option(
    "--tolerance",
    metavar="X",
    type=Number(0, above=True, whole=False),
    default=0.05,
    show_default=True,
    help="How near to the optimum, in posterior sds.",
)
@click.option("--particles", metavar="N", type=Number(1), help="Draws a step.")
@click.option("--device", metavar="DEVICE", help="Where to compute: cpu, cuda, …")
@click.option("--dtype", type=click.Choice(DTYPES), help="Precision; by default float64 on the CPU without nets.")
@sites_option()
@click.option("--out", metavar="DIR", help="Keep the fit there, as params.safetensors and fit.json.")
@click.option("--resume", metavar="DIR", help="Go on with the fit that `--out DIR` had begun when it was cut off.")
@click.option(
    "--kl-annealing", metavar="N", type=Number(0), default=0, help="Let the weight of the KL rise over N steps."
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "eager", "compiled"]),
    default="auto",
    show_default=True,
    help="What takes Adam's steps: torch, or C loops made of the whole step.",
)
@click.option("--plot", metavar="FILE", help="Draw the ELBO's way and the densities: .png, .pdf, .svg.")
@no_extern_option()
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.pass_obj
def command(
    session: Session,
    /,
    file: str,
    guide: str | None,
    dims: tuple[str, ...],
    sites: tuple[str, ...],
    out: str | None,
    resume: str | None,
    plot: str | None,
    quiet: bool,
    no_extern: bool,
    **options: Any,
) -> int:
    """Fit a guide to data and print a summary of the posterior."""
    from guidedsl.cli.inputs import bind, pick_guide, pick_sites, read_dims, require_data, runtime_guide

    session.quiet = quiet
    result = compiled(file, session)
    if no_extern:
        refuse_imports(result.program, session)
    chosen = pick_guide(result, guide)
    _refuse_passed_nets(chosen)
    check_plot(plot)
    sizes, sites = read_dims(dims, chosen.model), pick_sites(sites, chosen.model)
    require_data(chosen.model, options["data"])
    folder = _folder(out, resume)
    fitted = runtime_guide(result, chosen.name)
    data = bind(fitted.model, options["data"], sizes, options["device"], options["dtype"])
    show = session.stderr.isatty() and session.format == "text" and not quiet
    with _terminable() as terminated:
        checkpoint = None if folder is None else folder / CHECKPOINT
        fit = _fit(fitted, data, show, options | {"checkpoint": checkpoint, "resume": resume is not None})
    summary = fit.summary()
    if folder is not None:
        from guidedsl.cli.fit_folder import save

        save(folder, fit, summary, file, options | {"dims": sizes})
    if plot is not None:
        write_plot(fit, plot)
    if not quiet:
        session.say(str(summary.only(sites) if sites else summary))
        if folder is not None:
            session.note(f"\nwrote {folder / 'params.safetensors'} and {folder / 'fit.json'}")
    if not fit.reason.endswith("interrupted"):
        return OK
    return TERMINATED if terminated else INTERRUPTED


@contextmanager
def _terminable() -> Iterator[list[int]]:
    """Within it SIGTERM ends a fit as Ctrl-C does; the list then holds it."""
    received: list[int] = []

    def interrupt(number: int, _: object) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # handlers belong to the main thread
        yield received
        return
    try:
        yield received
    except KeyboardInterrupt:
        if received:
            raise Stop(TERMINATED) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse_passed_nets(guide: ir.Guide) -> None:
    """Stops with 2 where a net is to be passed in, which takes Python."""
    passed = [net for net in (*guide.model.nets, *guide.nets) if net.kind == "passed"]
    if passed:
        names = ", ".join(f"`{net.name}`" for net in passed)
        given = ", ".join(f'"{net.name}": module' for net in passed)
        raise Stop(
            USAGE,
            f"{names} of {guide.name} must be passed in, and the command line cannot: fit from Python, "
            f"`{guide.name}.fit(data, nets={{{given}}})`",
            hint='or let it be made, `= mlp(64)`, or imported, `from "module:Class"`',
        )


def _folder(out: str | None, resume: str | None) -> Path | None:
    """The folder to write to, made before the work and not after it; with `resume`, that of the fit to go on with."""
    if resume is not None:
        if out is not None and Path(out) != Path(resume):
            raise Stop(
                USAGE, f"--resume {resume} goes on writing there, and --out {out} is another folder: leave it out"
            )
        if not (Path(resume) / CHECKPOINT).is_file():
            raise Stop(
                USAGE,
                f"--resume {resume}: there is no {CHECKPOINT}, so no fit to go on with",
                hint="a fit keeps one from its first minute until it ends; begin anew with --out",
            )
        return Path(resume)
    if out is None:
        return None
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise Stop(USAGE, f"--out {out} cannot be made a folder: {problem.strerror or problem}") from None
    return folder


def _fit(guide: Guide, data: Any, progress: bool, options: dict[str, Any]) -> Fit:
    import torch

    try:
        return guide.fit(
            data,
            seed=options["seed"],
            steps=options["steps"],
            lr=options["lr"],
            tolerance=options["tolerance"],
            num_particles=options["particles"],
            kl_annealing=options["kl_annealing"],
            engine=options["engine"],
            progress=progress,
            checkpoint=options["checkpoint"],
            resume=options["resume"],
        )
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise Stop(FOUND, f"out of memory: {guide.name} and its data do not fit on {data.device}") from None
        raise
