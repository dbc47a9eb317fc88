"""The registry of automatic guides: each expands to ordinary statements of the language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class Latent:
    """What an expansion knows of a latent: its type as text, the shape of its unconstrained coordinates as text, and
    the plates around it that are not open where the `auto` stands."""

    name: str
    type: str
    free: str
    real: bool
    plates: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """One automatic guide. `joint` families tie their latents together in one distribution; a family `in_bounds` gives
    a latent a param of the latent's own type; one that `sums_out` is for finite discrete latents, which it takes out of
    the density instead of sampling them.

    `expand(latents, prefix, options)` gives the statements as text; `prefix` begins the names of joint parameters. A
    family without it stays as it is written.
    """

    name: str
    doc: str
    joint: bool
    expand: Callable[[tuple[Latent, ...], str, Mapping[str, str]], str] | None
    required: tuple[str, ...] = ()
    quadratic: bool = False
    in_bounds: bool = False
    sums_out: bool = False


def _in_plates(latents: tuple[Latent, ...], statements: Callable[[Latent], str]) -> str:
    blocks = []
    for plates, group in groupby(latents, key=lambda latent: latent.plates):
        body = "\n".join(statements(latent) for latent in group)
        blocks.append(f"plate {', '.join(plates)} {{\n{body}\n}}" if plates else body)
    return "\n".join(blocks)


def _map(latents: tuple[Latent, ...], prefix: str, options: Mapping[str, str]) -> str:
    return _in_plates(latents, lambda z: f"param {z.name}_map : {z.type}\n{z.name} ~ Point({z.name}_map)")


def _mean_field(latents: tuple[Latent, ...], prefix: str, options: Mapping[str, str]) -> str:
    def statements(z: Latent) -> str:
        via = "" if z.real else " via type"
        return (
            f"param {z.name}_loc : real{z.free} = 0\n"
            f"param {z.name}_scale : positive{z.free} = 0.1\n"
            f"{z.name} ~ Normal({z.name}_loc, {z.name}_scale){via}"
        )

    return _in_plates(latents, statements)


def _full_rank(latents: tuple[Latent, ...], prefix: str, options: Mapping[str, str]) -> str:
    names = ", ".join(latent.name for latent in latents)
    size = f"size({names})"
    return (
        f"param {prefix}_loc : real[{size}] = 0\n"
        f"param {prefix}_scale : positive[{size}] = 0.1\n"
        f"param {prefix}_tril : unit_lower_cholesky[{size}] = eye({size})\n"
        f"joint {names} ~ MultivariateNormal({prefix}_loc, scale = {prefix}_scale, unit_tril = {prefix}_tril)"
    )


def _low_rank(latents: tuple[Latent, ...], prefix: str, options: Mapping[str, str]) -> str:
    names = ", ".join(latent.name for latent in latents)
    size = f"size({names})"
    return (
        f"param {prefix}_loc : real[{size}] = 0\n"
        f"param {prefix}_factor : real[{size}, {options['rank']}] = normal(0, 0.01)\n"
        f"param {prefix}_diag : positive[{size}] = 0.01\n"
        f"joint {names} ~ LowRankMultivariateNormal({prefix}_loc, {prefix}_factor, {prefix}_diag)"
    )


_ROWS = (
    Family("map", "a point estimate of each latent", False, _map, in_bounds=True),
    Family("mean_field", "an independent normal for every unconstrained coordinate", False, _mean_field),
    Family("full_rank", "one normal with a full covariance over all coordinates", True, _full_rank, quadratic=True),
    Family("low_rank", "one normal with a covariance of low rank plus a diagonal", True, _low_rank, required=("rank",)),
    Family("enumerate", "finite discrete latents summed out exactly", False, None, sums_out=True),
)

FAMILIES: dict[str, Family] = {row.name: row for row in _ROWS}
