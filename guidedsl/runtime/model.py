"""`Model` and `Guide`: a generated module's functions with what is known about them."""

from __future__ import annotations

import bisect
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, TracebackType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from guidedsl.runtime.binding import bind
from guidedsl.runtime.data import Data
from guidedsl.runtime.errors import GuidedslError, InferenceError
from guidedsl.runtime.metadata import Dim, Field, PlateSpec, Schema, Site
from guidedsl.runtime.noise import Noise

if TYPE_CHECKING:
    from guidedsl.runtime.fit import Fit
    from guidedsl.runtime.params import ParamStore

Latents = TypeVar("Latents")
LogDensity = Callable[..., Tensor]

_OWNER = "__guidedsl_owner__"


class Draw(NamedTuple, Generic[Latents]):
    """What a guide returns.

    `latents`: the model's tuple, None for a latent that is summed out. `log_q`: the log density, one value a particle.
    `score`: the part of it at sites without a pathwise gradient, without the scale of subsampled plates; None where
    every site has one.
    """

    latents: Latents
    log_q: Tensor
    score: Tensor | None = None


def drawn(latents: Iterable[Tensor | None]) -> list[Tensor]:
    """The latents that have a value: all but those that are summed out."""
    return [latent for latent in latents if latent is not None]


def generated_line(filename: str, traceback: TracebackType | None) -> int | None:
    """The line of the innermost frame of `traceback` in the file `filename`, or None."""
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == filename:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A model of a generated module.

    Calling it evaluates the log joint density, one value a particle. `quantities` gives the model's lets as a dict of
    tensors, shaped like latents. `simulate` draws the sites that it is not given, but those in `not_drawn`, which says
    why; `readers` are the latents outside of a latent's plates whose priors read it. `log_likelihood` gives the log
    density of each observation. `dtype` is the default precision of its data. `origin` is where an interface has its
    density, in `framework` or, without one, in a function; `declared_at` then has the line of `source` of each
    declaration. `lines` maps lines of the generated module to lines of
    `source`, sorted.
    """

    name: str
    data_type: type[Any]
    latents_type: type[Any]
    log_density: LogDensity = field(repr=False)
    dims: tuple[Dim, ...] = ()
    plates: tuple[PlateSpec, ...] = ()
    fields: tuple[Field, ...] = field(default=(), repr=False)
    sites: tuple[Site, ...] = field(default=(), repr=False)
    quantities: Callable[..., dict[str, Tensor]] | None = field(default=None, repr=False)
    quantity_sites: tuple[Site, ...] = field(default=(), repr=False)
    derive: Callable[[Any], Any] | None = field(default=None, repr=False)
    simulate: Callable[..., dict[str, Tensor]] | None = field(default=None, repr=False)
    not_drawn: Mapping[str, str] = field(default_factory=dict, repr=False)
    readers: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    log_likelihood: Callable[..., dict[str, Tensor]] | None = field(default=None, repr=False)
    dtype: torch.dtype | None = None
    origin: str | None = None
    framework: str | None = None
    declared_at: Mapping[str, int] = field(default_factory=dict, repr=False)
    source: str = ""
    source_sha256: str = field(default="", repr=False)
    lines: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        vars(self.log_density)[_OWNER] = self

    @property
    def filename(self) -> str:
        """The file of the generated module, as its code objects name it."""
        code = self.log_density.__code__ if isinstance(self.log_density, FunctionType) else None
        return code.co_filename if code is not None else ""

    def guide_line(self, python_line: int) -> int | None:
        """The line of `source` that a line of the generated module comes from, or None."""
        position = bisect.bisect_right(self.lines, (python_line, 2**62)) - 1
        return self.lines[position][1] if position >= 0 else None

    def place(self, python_line: int | None) -> str | None:
        """`radon.guide:12` for a line of the generated module; None where nothing is known."""
        line = None if python_line is None else self.guide_line(python_line)
        return None if line is None else f"{self.source}:{line}"

    def explained(self, error: Exception) -> Exception:
        """`error` with the `.guide` line that it comes from: what to raise from it.

        An error of guidedsl keeps its type and gets a note; any other becomes an `InferenceError`. An error from
        outside the generated module is returned as it is.
        """
        place = self.place(generated_line(self.filename, error.__traceback__))
        if place is None or (isinstance(error, GuidedslError) and place in str(error)):
            return error
        if isinstance(error, GuidedslError):
            note = f"at {place}"
            if note not in (*getattr(error, "__notes__", ()),):
                error.add_note(note)
            return error
        explained = InferenceError(f"{place}: {error or type(error).__name__}")
        for note in getattr(error, "__notes__", ()):
            explained.add_note(note)
        return explained

    def data(
        self,
        fields: Mapping[str, object] | None = None,
        /,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        **named: object,
    ) -> Any:
        """Binds data: fields by name, from a mapping (such as a file's content), by keyword, or both.

        A dim is stated by its name; stated by keyword it overrides the dim's default. Arrays may be nested lists,
        numpy arrays or tensors, and are copied. Default dtype: float64 on the CPU for a model without nets, else
        float32. Raises `DataError` with one message for each problem.
        """
        schema = Schema(self.name, self.dims, self.plates, self.fields, self.derive)
        given = {} if fields is None else self._as_declared(fields)
        try:
            return bind(schema, self.data_type, given, self._as_declared(named), dtype or self.dtype, device)
        except Exception as error:
            if (explained := self.explained(error)) is error:
                raise
            raise explained from error

    def _as_declared(self, given: Mapping[str, object]) -> Mapping[str, object]:
        """Arrays by their declared names: what a library calls `data`, a reserved word, is `data_` in a program."""
        if self.framework is None:
            return given
        declared = [*(field.name for field in self.fields), *(dim.name for dim in self.dims)]
        others = {name.removesuffix("_"): name for name in declared if name not in given}
        return {others.get(name, name): value for name, value in given.items()}

    def __call__(
        self,
        data: Any,
        latents: Any,
        *,
        store: ParamStore | None = None,
        tilt: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The log density. `tilt` is for models with summed-out latents: log weights added to their classes, each
        [particles..., internal plates..., classes]; the gradient there is the probability of each class."""
        options = {} if tilt is None else {"tilt": tilt}
        try:
            return self.log_density(data, latents, store=store, **options)
        except Exception as error:
            if (explained := self.explained(error)) is error:
                raise
            raise explained from error

    @property
    def up_to_a_constant(self) -> bool:
        """Whether the density is known up to a constant only: of improper or restricted priors, or with factors."""
        return bool(self.not_drawn)

    def prior_predictive(
        self,
        data: Data | Mapping[str, object] | None = None,
        n: int = 1000,
        *,
        seed: int = 0,
        store: ParamStore | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        **sizes: int,
    ) -> dict[str, Tensor]:
        """`n` draws of every site from the priors, latents and what is observed: [n, plates..., event...] by name.

        `data` needs no observed fields; `sizes` are dims that it does not tell. Params of the model are those of
        `store`, or at their initial values. Raises `InferenceError` that names each site that has no proper prior.
        """
        from guidedsl.runtime.predictive import prior_predictive

        return prior_predictive(self, data, n, seed, store, dtype, device, sizes)

    def draw_sites(
        self,
        data: Any,
        given: Mapping[str, Tensor],
        *,
        particles: tuple[int, ...] = (),
        store: ParamStore | None = None,
        noise: Noise | None = None,
    ) -> dict[str, Tensor]:
        """Draws of all sites by name, latents as `given` where they are, without gradients. `data` has all rows."""
        assert self.simulate is not None
        try:
            with torch.no_grad():
                return self.simulate(data, given, particles=particles, store=store, noise=noise)
        except Exception as error:
            if (explained := self.explained(error)) is error:
                raise
            raise explained from error

    def evaluate_log_likelihood(self, data: Any, latents: Any, *, store: ParamStore | None = None) -> dict[str, Tensor]:
        """The log density of each row of the observed sites, by name, [particles..., plates...], and of each step of a
        scan, which is the last axis. Plates in the generated code's order."""
        if self.log_likelihood is None:
            return {}
        try:
            return self.log_likelihood(data, latents, store=store)
        except Exception as error:
            if (explained := self.explained(error)) is error:
                raise
            raise explained from error

    def evaluate_quantities(self, data: Any, latents: Any, *, store: ParamStore | None = None) -> dict[str, Tensor]:
        """The model's lets at `latents`, by name; {} where it has none. A function that takes `store` gets it."""
        if self.quantities is None:
            return {}
        options = {"store": store} if "store" in inspect.signature(self.quantities).parameters else {}
        try:
            return self.quantities(data, latents, **options)
        except Exception as error:
            if (explained := self.explained(error)) is error:
                raise
            raise explained from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Guide:
    """A guide of a generated module. Calling it draws latents with their log density.

    `kl` names the latents whose KL divergence from the prior has a closed form, which the function has in place of
    log q when asked for; `marginals` those whose entries have known marginal laws. `nets` names those of it and its
    model that the user passes in. `laplace` names the parameters of a Laplace
    approximation, location and Cholesky factor of the covariance, which `fit` finds; None for a guide that maximises
    the ELBO.
    """

    name: str
    function: Callable[..., Draw[Any]] = field(repr=False)
    model: Model
    kl: tuple[str, ...] = field(default=(), repr=False)
    marginals: tuple[str, ...] = field(default=(), repr=False)
    nets: tuple[str, ...] = ()
    laplace: tuple[str, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        vars(self.function)[_OWNER] = self

    def __call__(
        self,
        data: Any,
        *,
        particles: tuple[int, ...] = (),
        store: ParamStore | None = None,
        noise: Noise | None = None,
        kl: bool = False,
    ) -> Draw[Any]:
        """A draw. With `kl` its log q has, for the latents in `self.kl`, KL(q | p) + log p: the same in expectation."""
        options = {"kl": True} if kl else {}
        try:
            return self.function(data, particles=particles, store=store, noise=noise, **options)
        except Exception as error:
            if (explained := self.model.explained(error)) is error:
                raise
            raise explained from error

    def fit(self, data: Data | Mapping[str, object] | Iterable[object], **options: Any) -> Fit:
        """Fits the guide; see `guidedsl.fit` for the options."""
        from guidedsl.runtime.fit import fit

        return fit(self, data, **options)

    def load(self, path: str | Path, data: Data, *, nets: Mapping[str, nn.Module] | None = None) -> Fit:
        """A fit of this guide that `Fit.save` wrote, with the data it is used on.

        `nets` are those that are passed in: modules that get the weights of the file.
        """
        from guidedsl.runtime.fit_files import load

        return load(self, path, data, nets)


def find_model(model: Model | LogDensity) -> Model | LogDensity:
    """The `Model` that a plain log-density function belongs to; the function itself where it belongs to none."""
    owner = vars(model).get(_OWNER) if isinstance(model, FunctionType) else model
    return owner if isinstance(owner, Model) else model


def find_guide(guide: Guide | Callable[..., Draw[Any]]) -> Guide | Callable[..., Draw[Any]]:
    """The `Guide` that a plain guide function belongs to; the function itself where it belongs to none."""
    owner = vars(guide).get(_OWNER) if isinstance(guide, FunctionType) else guide
    return owner if isinstance(owner, Guide) else guide
