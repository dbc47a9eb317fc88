"""`guidedsl predict`: draws of what a model observes, from a kept fit or from the priors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guidedsl.cli.command import Command, Number, file_argument
from guidedsl.cli.files import compiled, write
from guidedsl.cli.session import OK, USAGE, Session, Stop
from guidedsl.cli.trust import no_extern_option, refuse_imports

if TYPE_CHECKING:
    from torch import Tensor

    from guidedsl.pipeline import Compiled

SUFFIXES = (".json", ".npz", ".safetensors")


@click.command("predict", cls=Command, short_help="Draw what a model observes, from a fit or the priors.")
@file_argument()
@click.option("--fit", "kept", metavar="DIR", help="The fit, as `fit --out DIR` kept it.")
@click.option("--prior", is_flag=True, help="Draw every site from the priors; needs no fit.")
@click.option("--model", metavar="NAME", help="With --prior, the model; needed where the file has several.")
@click.option("--data", metavar="PATH", help="Other data than that of the fit; observed fields may be missing.")
@click.option("--dim", "dims", metavar="NAME=SIZE", multiple=True, help="A size that the data does not tell.")
@click.option("--new", metavar="PLATE", multiple=True, help="A plate whose rows are not those of the fit.")
@click.option("--draws", metavar="N", type=Number(1), default=1000, show_default=True, help="How many draws.")
@click.option("--seed", metavar="N", type=Number(0), help="The same seed gives the same draws.")
@click.option("--out", metavar="FILE", help="Write the draws: .npz, .safetensors or .json.")
@no_extern_option()
@click.pass_obj
def command(session: Session, /, file: str, no_extern: bool, out: str | None, **options: Any) -> int:
    """Draw what a model observes, given the posterior or from the priors alone, and print a summary."""
    if (options["kept"] is None) != options["prior"]:
        raise Stop(USAGE, "predict draws from a fit or from the priors: give one of --fit DIR and --prior")
    if out is not None and Path(out).suffix.lower() not in SUFFIXES:
        raise Stop(USAGE, f"--out {out}: the suffix says how to write: {', '.join(SUFFIXES)}")
    result = compiled(file, session)
    if no_extern:
        refuse_imports(result.program, session)
    title, draws = _prior(result, options) if options["prior"] else _posterior(result, options)
    if out is not None:
        _write(Path(out), draws)
        session.note(f"wrote {out}")
    else:
        from guidedsl.runtime.posterior import Summary, rows_of

        session.say(str(Summary(title, rows_of(draws), more="--out FILE writes all draws")))
    return OK


def _fields(path: str | None) -> dict[str, object] | None:
    from guidedsl.runtime.load import load_fields

    return None if path is None else load_fields(path)


def _posterior(result: Compiled, options: dict[str, Any]) -> tuple[str, dict[str, Tensor]]:
    from guidedsl.cli.inputs import pick_guide, read_dims
    from guidedsl.cli.kept import load_fit, record_of

    folder = Path(options["kept"])
    record = record_of(folder)
    sizes: dict[str, Any] = dict(read_dims(options["dims"], pick_guide(result, record["guide"]).model))
    fit = load_fit(folder, record, result)
    draws = fit.predictive(
        options["draws"], data=_fields(options["data"]), new=options["new"], seed=options["seed"], **sizes
    )
    title = f"{options['draws']} posterior predictive draws of {fit.guide.model.name}, {fit.guide.name}"
    return title, draws


def _prior(result: Compiled, options: dict[str, Any]) -> tuple[str, dict[str, Tensor]]:
    from guidedsl.cli.inputs import read_dims, runtime_model
    from guidedsl.cli.names import pick

    if options["new"]:
        raise Stop(USAGE, "--new goes with --fit: drawn from the priors, all rows are new")
    models = {model.name: model for model in result.program.models}
    name = pick(options["model"], models, "model", result.source.name)
    sizes: dict[str, Any] = dict(read_dims(options["dims"], models[name]))
    model = runtime_model(result, name)
    fields = _fields(options["data"])
    draws = model.prior_predictive(fields, options["draws"], seed=options["seed"] or 0, **sizes)
    return f"{options['draws']} prior predictive draws of {name}", draws


def _write(path: Path, draws: dict[str, Tensor]) -> None:
    """The draws as [draws, plates..., event...] by name."""
    tensors = {name: value.cpu().contiguous() for name, value in draws.items()}
    match path.suffix.lower():
        case ".json":
            lists = {name: _listed(value.tolist()) for name, value in tensors.items()}
            content = (json.dumps(lists, allow_nan=False) + "\n").encode()
        case ".npz":
            content = _npz(tensors)
        case _:
            from safetensors.torch import save

            content = save(tensors)
    write(path, content)


def _listed(value: Any) -> Any:
    if isinstance(value, list):
        return [_listed(item) for item in value]
    return value if math.isfinite(value) else None


def _npz(tensors: dict[str, Tensor]) -> bytes:
    import io

    try:
        import numpy
    except ImportError:
        raise Stop(USAGE, "writing .npz needs numpy: pip install numpy, or write .safetensors") from None
    buffer = io.BytesIO()
    numpy.savez(buffer, **{name: value.numpy() for name, value in tensors.items()})  # type: ignore[arg-type]
    return buffer.getvalue()
