"""`guidedsl info`: what a file declares."""

from __future__ import annotations

import json
from typing import Any

import click

from guidedsl.cli.command import Command, file_argument
from guidedsl.cli.excerpts import paint
from guidedsl.cli.files import checked
from guidedsl.cli.session import OK, Session
from guidedsl.cli.tables import table


@click.command("info", cls=Command, short_help="Show models, guides and every parameter.")
@file_argument()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def command(session: Session, file: str, as_json: bool) -> int:
    """Show a file's models and every parameter of its guides, with its stored shape and constraint."""
    from guidedsl.cli.describe import describe

    found = describe(checked(file, session))
    if as_json:
        session.say(json.dumps(found, indent=2, ensure_ascii=False))
        return OK
    blocks = [_imports(found["imports"])] if found["imports"] else []
    blocks += [*(_model(model, session.color) for model in found["models"])]
    blocks += [_guide(guide, session.color) for guide in found["guides"]]
    session.say("\n\n".join(blocks))
    return OK


def _model(model: dict[str, Any], color: bool) -> str:
    kind = " (interface)" if model["interface"] else ""
    origin = f" from {model['from']}" if model["from"] else ""
    parts = [paint(f"model {model['name']}", "bold", color) + origin + kind]
    if model["dims"]:
        parts.append("  dims    " + ", ".join(map(_dim, model["dims"])))
    if model["plates"]:
        parts.append("  plates  " + ", ".join(map(_plate, model["plates"])))
    if model["data"]:
        header = ("data", "shape", "plates", "type", "")
        parts.append(table(header, [(*_place(row), row["type"], _note(row)) for row in model["data"]]))
    if model["sites"]:
        header = ("latent", "shape", "plates", "type", "prior")
        rows = [(*_place(row), row["type"], row["distribution"] or "") for row in model["sites"]]
        parts.append(table(header, rows))
    if model["params"]:
        parts.append(_params(model["params"]))
    parts += _nets(model["nets"])
    return "\n".join(parts)


def _guide(guide: dict[str, Any], color: bool) -> str:
    head = paint(f"guide {guide['name']}", "bold", color) + f" for {guide['model']}"
    flows = [
        f"  {flow['name']}.…: {flow['kind']} flow over {flow['size']} coordinates, transforms = {flow['transforms']}, "
        f"hidden = {flow['hidden']}"
        for flow in guide["flows"]
    ]
    if not guide["params"] and not guide["nets"]:
        return "\n".join((head, *(flows or ["  no parameters"])))
    params = [_params(guide["params"])] if guide["params"] else []
    unknown = ["those of flows"] if flows else []
    unknown += ["those of nets from outside"] if any(not net["layers"] for net in guide["nets"]) else []
    total = f"  {guide['unconstrained_size']} unconstrained numbers in all"
    if unknown:
        total += f", without {' and '.join(unknown)}"
    return "\n".join((head, *params, *_nets(guide["nets"]), *flows, total))


def _imports(found: list[dict[str, Any]]) -> str:
    """The code from outside that runs with the program."""
    return "imports\n" + table(("", "from", "line"), [(one["what"], one["from"], str(one["line"])) for one in found])


def _nets(nets: list[dict[str, Any]]) -> list[str]:
    """Each net's signature, and its layers where they are known."""
    rows: list[tuple[str, ...]] = []
    for net in nets:
        origin = {"generated": "", "passed": "passed in", "imported": f"from {net['from']}"}[net["made"]]
        rows += [(layer["name"], f"[{', '.join(layer['weight'])}]", "") for layer in net["layers"]]
        rows += [] if net["layers"] else [(net["name"], "", origin)]
    signatures = [f"  net {net['signature']}" for net in nets]
    return [*signatures, table(("layer", "weight", ""), rows)] if nets else []


def _params(params: list[dict[str, Any]]) -> str:
    header = ("param", "shape", "plates", "event_dim", "constraint", "unconstrained", "init", "options")
    return table(header, [_param(param) for param in params])


def _param(param: dict[str, Any]) -> tuple[str, ...]:
    init = f"{param['init']} (default)" if param["default_init"] else str(param["init"])
    options = [f"lr = {param['lr']:g}"] if param["lr"] is not None else []
    options += ["frozen"] if param["frozen"] else []
    rest = (str(param["event_dim"]), param["constraint"], param["unconstrained_size"], init, ", ".join(options))
    return (*_place(param), *rest)


def _place(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["name"], f"[{', '.join(row['shape'])}]", ", ".join(row["plates"])


def _dim(dim: dict[str, Any]) -> str:
    return str(dim["name"]) if dim["default"] is None else f"{dim['name']} = {dim['default']}"


def _plate(plate: dict[str, Any]) -> str:
    batching = f" {plate['batching']}({plate['batch']})" if plate["batching"] else ""
    return f"{plate['name']}[{plate['size']}]{batching}"


def _note(row: dict[str, Any]) -> str:
    notes = ["observed"] if row["role"] == "observed" else []
    notes += ["optional"] if row["optional"] else []
    return ", ".join(notes)
