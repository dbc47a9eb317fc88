"""Build radon.guide, fit two of its guides to 919 houses, and print them beside the reference posterior."""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
SCALARS = ("mu_alpha", "sigma_alpha", "beta_uranium", "beta_floor", "sigma_y")
GUIDES = ("MeanField", "Mixed")


def build() -> Any:
    """The generated module, as any program would import it."""
    guidedsl = Path(sys.executable).with_name("guidedsl")
    subprocess.run([guidedsl, "build", HERE / "radon.guide"], check=True)
    sys.path.insert(0, str(HERE))
    return importlib.import_module("radon_guide")


def compare(reference: dict[str, dict[str, float]], summaries: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="radon: mean ± sd; Δ is the difference of the means in reference sds")
    table.add_column("")
    table.add_column("reference (NUTS)", justify="right")
    for guide in summaries:
        table.add_column(guide, justify="right")
        table.add_column("Δ", justify="right")
        table.add_column("sd ratio", justify="right")
    for name in SCALARS:
        truth = reference[name]
        cells = [name, f"{truth['mean']:.3f} ± {truth['sd']:.3f}"]
        for rows in summaries.values():
            row = rows[name]
            delta = (row.mean - truth["mean"]) / truth["sd"]
            cells += [f"{row.mean:.3f} ± {row.sd:.3f}", f"{delta:+.2f}", f"{row.sd / truth['sd']:.2f}"]
        table.add_row(*cells)
    return table


def main() -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    radon = build()
    fields = json.loads((HERE / "radon.json").read_text(encoding="utf-8"))
    data = radon.Radon.data(**fields)
    summaries = {}
    for name in GUIDES:
        start = time.perf_counter()
        fit = getattr(radon, name).fit(data, seed=1)
        console.print(f"{name}: fitted in {time.perf_counter() - start:.1f} s")
        summaries[name] = {row.name: row for row in fit.summary().rows}
    reference = json.loads((HERE / "reference.json").read_text(encoding="utf-8"))["parameters"]
    console.print(compare(reference, summaries))


if __name__ == "__main__":
    main()
