"""What a fitted guide says: draws, moments, and the table of them."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.classes import ClassTable
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.metadata import Site, attribute_of
from guidedsl.runtime.model import Guide
from guidedsl.runtime.sizes import evaluate

if TYPE_CHECKING:
    from guidedsl.runtime.params import ParamStore

CHUNK = 4e6
"""Numbers in one array of one pass."""
ROWS_SHOWN = 60
LET_ROWS_SHOWN = 8
"""Rows of one let: what is computed is often large, a matrix of all rows by all rows."""
QUANTILES = (0.05, 0.5, 0.95)


def site_shape(site: Site, data: Any) -> tuple[int, ...]:
    """The axes of a site as written in the `.guide`: plates, then event dims, with `data`'s sizes."""
    plates = [getattr(data, attribute_of(name)).length for name in site.plates]
    dims = {dim.name: getattr(data, attribute_of(dim.name)) for dim in data.schema.dims}
    return (*plates, *(evaluate(size, dims) for size in site.event))


def _entries(data: Any, shapes: Sequence[tuple[int, ...]]) -> int:
    fields = [value.numel() for value in vars(data).values() if isinstance(value, Tensor)]
    return max([1, sum(math.prod(shape) for shape in shapes), *fields])


@torch.no_grad()
def sample(
    guide: Guide,
    data: Any,
    store: ParamStore,
    n: int,
    generator: torch.Generator,
    left_out: Collection[str] = (),
) -> dict[str, Tensor]:
    """`n` draws of the latents and of the model's quantities: [n, plates..., event...] each, by name.

    Without those that are summed out, and without quantities that read them; what is in the plates `left_out` is left
    out. `data` with all rows. Drawn some at a time, so that memory is bounded by the result.
    """
    if n < 1:
        raise InferenceError(f"sample({n}): at least one draw is needed")
    model = guide.model
    sites = [site for site in (*model.sites, *model.quantity_sites) if not set(site.plates).intersection(left_out)]
    shapes = {site.name: site_shape(site, data) for site in sites}
    chunk = max(1, int(CHUNK / _entries(data, list(shapes.values()))))
    noise = data.noise(generator)
    parts: dict[str, list[Tensor]] = {site.name: [] for site in sites}
    for start in range(0, n, chunk):
        count = min(chunk, n - start)
        latents = guide(data, particles=(count,), store=store, noise=noise).latents
        values = dict(zip((site.name for site in model.sites), latents, strict=True))
        values |= model.evaluate_quantities(data, latents, store=store)
        for site in sites:
            if values.get(site.name) is None:
                continue
            rank = 1 + len(site.plates) + len(site.event)
            value = values[site.name]
            # A quantity of data alone has no particle axis.
            value = site.to_written(value if value.ndim == rank else value.expand(count, *value.shape))
            parts[site.name].append(value.expand(count, *shapes[site.name]))
    return {name: torch.cat(values) for name, values in parts.items() if values}


def quantiles(draws: Tensor, q: Sequence[float]) -> Tensor:
    """[n, ...] → [len(q), ...] in float64, between neighbouring draws linearly, as torch.quantile, of any size."""
    wrong = [p for p in q if not 0.0 <= p <= 1.0]
    if wrong:
        raise InferenceError(f"quantiles({wrong[0]:g}): must lie between 0 and 1")
    ordered = draws.to(torch.float64).sort(0).values
    places = torch.tensor(list(q), dtype=torch.float64, device=draws.device) * (len(draws) - 1)
    below = places.floor().long()
    above = (below + 1).clamp(max=len(draws) - 1)
    weight = (places - below).reshape(-1, *(1,) * (draws.ndim - 1))
    return torch.lerp(ordered[below], ordered[above], weight)


@dataclass(frozen=True)
class Row:
    """One scalar of the posterior."""

    name: str
    mean: float
    sd: float
    q5: float
    q50: float
    q95: float

    @property
    def site(self) -> str:
        """The latent or let that it is an entry of."""
        return self.name.split("[")[0]


def scalars_of(draws: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Each scalar of draws [n, ...] with its n values, named `theta[0]`, `x[2, 1]`: positions count from 0."""
    for name, values in draws.items():
        flat = values.reshape(values.shape[0], -1)
        for position, index in enumerate(itertools.product(*map(range, values.shape[1:]))):
            yield (f"{name}[{', '.join(map(str, index))}]" if index else name), flat[:, position]


def rows_of(draws: dict[str, Tensor]) -> tuple[Row, ...]:
    """A row for each scalar of draws [n, ...], named `theta[0]`, `x[2, 1]`: positions count from 0."""
    rows: list[Row] = []
    for name, values in draws.items():
        shape = values.shape[1:]
        flat = values.reshape(values.shape[0], -1).to(torch.float64)
        order = flat.sort(0).values
        # torch.quantile refuses more than 16 million numbers
        marks = [order[round(q * (flat.shape[0] - 1))].tolist() for q in QUANTILES]
        means, sds = flat.mean(0).tolist(), flat.std(0, correction=min(1, flat.shape[0] - 1)).tolist()
        for position, index in enumerate(itertools.product(*map(range, shape))):
            label = f"{name}[{', '.join(map(str, index))}]" if index else name
            rows.append(Row(label, means[position], sds[position], *(mark[position] for mark in marks)))
    return tuple(rows)


@dataclass(frozen=True)
class Summary:
    """The posterior as a table. `str()` shows it; `to_dict()` has all of it. `classes` are probabilities of latents
    that are summed out, `lets` the names of what is computed from latents, `note` what is to be said below,
    `more` where the rows are that are not shown."""

    heading: str
    rows: tuple[Row, ...]
    classes: tuple[ClassTable, ...] = ()
    lets: tuple[str, ...] = ()
    note: str = ""
    more: str = ""
    whole: bool = False

    def to_dict(self) -> dict[str, dict[str, float]]:
        """By scalar: mean, sd, q5, q50, q95; by row of a latent that is summed out: P(0), P(1), …"""
        moments = {row.name: {key: value for key, value in asdict(row).items() if key != "name"} for row in self.rows}
        return moments | {label: row for table in self.classes for label, row in table.to_dict().items()}

    def only(self, sites: Sequence[str]) -> Summary:
        """The rows of these latents and lets, all of which are shown. Raises `InferenceError` for one that is none."""
        known = [*dict.fromkeys(row.site for row in self.rows), *(table.name for table in self.classes)]
        for name in sites:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known) or 'none'}"
                raise InferenceError(f"the summary has no site {name!r}; {hint}")
        rows = tuple(row for row in self.rows if row.site in sites)
        tables = tuple(table for table in self.classes if table.name in sites)
        return replace(self, rows=rows, classes=tables, note="", whole=True)

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def __str__(self) -> str:
        shown, left_out = self._shown()
        header = ("", "mean", "sd", "5%", "50%", "95%")
        cells = [header, *(_cells(row) for row in shown)] if shown else []
        widths = [max(len(line[column]) for line in cells) for column in range(len(header))] if cells else []
        lines = [
            "  ".join(
                [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
            )
            for line in cells
        ]
        if left_out:
            count, first = sum(left_out.values()), next(iter(left_out))
            more = f'summary(sites=["{first}"]) shows those of one, as does `guidedsl summary DIR --sites {first}`'
            lines.append(f"… {count} more rows of {', '.join(left_out)}: {self.more or more}")
        for table in self.classes:
            lines += ["", *table.lines()]
        if self.note:
            lines += ["", *self.note.split("\n")] if lines else self.note.split("\n")
        return "\n".join([*self.heading.split("\n"), "", *(line.rstrip() for line in lines)])

    def _shown(self) -> tuple[list[Row], dict[str, int]]:
        """The rows to print, and how many of which site are left out: all rows, or of a long let and then of each site
        the first few, so that no site is out of sight."""
        groups = {site: list(rows) for site, rows in itertools.groupby(self.rows, key=lambda row: row.site)}
        sizes = {site: len(rows) for site, rows in groups.items()}
        if not self.whole:
            sizes |= {site: min(size, LET_ROWS_SHOWN) for site, size in sizes.items() if site in self.lets}
            share = max(2, ROWS_SHOWN // max(1, len(groups)))
            if sum(sizes.values()) > ROWS_SHOWN:
                sizes = {site: min(size, share) for site, size in sizes.items()}
        shown = [row for site, rows in groups.items() for row in rows[: sizes[site]]]
        return shown, {site: len(rows) - sizes[site] for site, rows in groups.items() if len(rows) > sizes[site]}


def _cells(row: Row) -> tuple[str, ...]:
    """The numbers of a row, to two digits of its sd."""
    spread = row.sd if math.isfinite(row.sd) and row.sd > 0 else abs(row.mean)
    decimals = 2 if not math.isfinite(spread) or spread == 0 else max(0, 1 - math.floor(math.log10(spread)))
    numbers = (row.mean, row.sd, row.q5, row.q50, row.q95)
    if decimals > 7 or max(abs(number) for number in numbers) >= 1e7:
        return (row.name, *(f"{number:.4g}" for number in numbers))
    return (row.name, *(f"{number:.{decimals}f}" for number in numbers))
