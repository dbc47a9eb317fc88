"""The registry of automatic guides: each expands to ordinary statements of the language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class Parent:
    """A latent that another one's prior reads. `value` is its unconstrained coordinates as text, less their location
    where this auto has a param for it; `size` counts them, "" for a single number. `name` goes into names of params."""

    name: str
    value: str
    size: str


@dataclass(frozen=True)
class Latent:
    """What an expansion knows of a latent: its type as text, the shape of its unconstrained coordinates as text and how
    many dims that has, the plates around it that are not open where the `auto` stands, and what its prior reads."""

    name: str
    type: str
    free: str
    rank: int
    real: bool
    plates: tuple[str, ...]
    parents: tuple[Parent, ...] = ()


@dataclass(frozen=True)
class Option:
    """An option of a family: a whole number from 1, or one of `words`. Without a `default` it must be given."""

    name: str
    default: str | None = None
    words: Mapping[str, str] | None = None
    """Each word with what it means."""

    @property
    def shown(self) -> str:
        """The option as the reference and messages write it."""
        if self.words:
            return f"{self.name}: {' | '.join(self.words)}"
        return f"{self.name} = {self.default or '…'}"


@dataclass(frozen=True)
class Family:
    """One automatic guide.

    `joint` families tie their latents together in one distribution; a `quadratic` one has as many parameters as a
    matrix; a family `in_bounds` gives a latent a param of the latent's own type; an `ordered` one takes its latents in
    the model's order; one that is `kept` stays in the text of `guidedsl expand`, for no statements of the language say
    the same; a `whole` one stands for all latents, and alone; one that `sums_out` is for finite discrete latents, which
    it takes out of the density instead of sampling them.

    `expand(latents, prefix, options)` gives the statements as text; `prefix` begins the names of joint parameters. None
    for what the language cannot write.
    """

    name: str
    doc: str
    joint: bool
    expand: Callable[[tuple[Latent, ...], str, Mapping[str, str]], str] | None
    options: tuple[Option, ...] = ()
    quadratic: bool = False
    in_bounds: bool = False
    ordered: bool = False
    kept: bool = False
    whole: bool = False
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


def _structured(latents: tuple[Latent, ...], prefix: str, options: Mapping[str, str]) -> str:
    return _in_plates(latents, _conditional)


def _conditional(z: Latent) -> str:
    """One latent given its parents: linear in their coordinates, with a full covariance within the event."""
    vector = z.rank > 0
    size = f"size({z.name})" if z.rank > 1 else z.free.strip("[]")
    shape = f"[{size}]" if vector else ""
    lines = [f"param {z.name}_loc : real{shape} = 0", f"param {z.name}_scale : positive{shape} = 0.1"]
    terms = [f"{z.name}_loc"]
    for parent in z.parents:
        weight = f"{z.name}_on_{parent.name}"
        dims = ", ".join(dim for dim in (size if vector else "", parent.size) if dim)
        lines.append(f"param {weight} : real{f'[{dims}]' if dims else ''} = 0")
        terms.append(f"{weight} {'@' if parent.size else '*'} {parent.value}")
    loc = " + ".join(terms)
    via = "" if z.real or z.rank > 1 else " via type"
    if vector:
        lines.append(f"param {z.name}_tril : unit_lower_cholesky[{size}] = eye({size})")
        dist = f"MultivariateNormal({loc}, scale = {z.name}_scale, unit_tril = {z.name}_tril)"
        lines.append(f"{'joint ' if z.rank > 1 else ''}{z.name} ~ {dist}{via}")
    else:
        lines.append(f"{z.name} ~ Normal({loc}, {z.name}_scale){via}")
    return "\n".join(lines)


def _laplace(latents: tuple[Latent, ...], prefix: str, options: Mapping[str, str]) -> str:
    names = ", ".join(latent.name for latent in latents)
    size = f"size({names})"
    return (
        f"param {prefix}_loc : real[{size}] = 0\n"
        f"param {prefix}_scale_tril : lower_cholesky[{size}] = eye({size}), frozen\n"
        f"joint {names} ~ MultivariateNormal({prefix}_loc, scale_tril = {prefix}_scale_tril)"
    )


FLOWS = {
    "spline": "rational-quadratic splines, autoregressive (neural spline flow)",
    "affine": "shifts and scales, autoregressive (inverse autoregressive flow)",
    "coupling": "shifts and scales of one half by the other (RealNVP)",
}
"""The kinds of flow. Each gives a draw and its density in one pass, for it runs from noise to latents."""

_ROWS = (
    Family("map", "a point estimate of each latent", False, _map, in_bounds=True),
    Family("mean_field", "an independent normal for every unconstrained coordinate", False, _mean_field),
    Family("full_rank", "one normal with a full covariance over all coordinates", True, _full_rank, quadratic=True),
    Family(
        "low_rank",
        "one normal with a covariance of low rank plus a diagonal",
        True,
        _low_rank,
        options=(Option("rank"),),
    ),
    Family(
        "structured",
        "a normal for each latent, linear in the coordinates of the latents that its prior reads",
        False,
        _structured,
        quadratic=True,
        ordered=True,
    ),
    Family(
        "laplace",
        "one normal at the posterior's mode, with the inverse of the curvature there as covariance",
        True,
        _laplace,
        quadratic=True,
        kept=True,
        whole=True,
    ),
    Family(
        "flow",
        "a normalizing flow over all coordinates; needs `pip install guidedsl[flows]`",
        True,
        None,
        options=(Option("kind", words=FLOWS), Option("transforms", "3"), Option("hidden", "64")),
        kept=True,
    ),
    Family("enumerate", "finite discrete latents summed out exactly", False, None, sums_out=True),
)

FAMILIES: dict[str, Family] = {row.name: row for row in _ROWS}
