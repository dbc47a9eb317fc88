"""Interface models: the log density is a Python function that the `.guide` file names.

The function takes the latents of one draw, as the named tuple of the generated module, and the bound data. It returns
one number, or a dict from plate name to that plate's terms, a number a row. The first call looks at what comes back.
"""

from __future__ import annotations

import difflib
import inspect
import math
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.errors import GuidedslError, InferenceError
from guidedsl.runtime.metadata import Site, attribute_of

if TYPE_CHECKING:
    from guidedsl.runtime.model import Model
    from guidedsl.runtime.plates import Plate

Key = str | tuple[str, ...] | None


class InterfaceWarning(UserWarning):
    """Something that an interface's function does is legal and likely not meant."""


def log_density(model: Model, data: Any, latents: Any) -> Tensor:
    """The log density of an interface model, [particles...].

    Raises:
        GuidedslError: no function is named, it cannot be imported, or what it returns cannot be a log density.
    """
    return _external(model)(data, latents)


@cache
def _external(model: Model) -> External:
    return External(model)


def _imported(model: Model) -> Callable[..., object]:
    name, path = model.name, model.origin
    if path is None:
        raise GuidedslError(
            f'{name} is an interface without a density: declare `model {name} from "module:function" {{ … }}`, '
            "or give SVI a density of your own"
        )
    module, colon, function = path.partition(":")
    if not colon or not module or not function:
        raise GuidedslError(f'{name} takes its density from "{path}"; write "module:function"')
    try:
        found: object = import_module(module)
        for part in function.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise GuidedslError(f"{name} takes its density from {path}, which cannot be imported: {error}") from error
    if not callable(found):
        raise GuidedslError(f"{name} takes its density from {path}, which is {found!r}; it must be a function")
    return found


def flattened(tensors: Sequence[Tensor], ranks: Sequence[int]) -> tuple[tuple[int, ...], list[Tensor]]:
    """The particle axes of tensors, of which one draw has so many axes, and the tensors with one axis for them all."""
    particles = tuple(tensors[0].shape[: tensors[0].ndim - ranks[0]]) if tensors else ()
    count = math.prod(particles)
    return particles, [z.reshape(count, *z.shape[z.ndim - axes :]) for z, axes in zip(tensors, ranks, strict=True)]


def rank(site: Site) -> int:
    """How many axes one draw of a site has."""
    return len(site.plates) + len(site.event)


class OverDraws:
    """A function of one draw as one of many: at once where torch can map it over draws, else one at a time.

    `vectorised` is what the first call found; None before it.
    """

    def __init__(self) -> None:
        self.vectorised: bool | None = None

    def __call__(self, one: Callable[..., Tensor], draws: Sequence[Tensor]) -> Tensor:
        """[draws]: `one` of each entry of the first axes of `draws`."""
        if self.vectorised is not False:
            try:
                values: Tensor = torch.func.vmap(one)(*draws)
            except Exception:  # whatever vmap cannot do; a mistake of the function shows again in the loop
                pass
            else:
                if self.vectorised is None:
                    first = one(*(z[0] for z in draws))
                    self.vectorised = bool(torch.isclose(values[0], first, rtol=1e-3, equal_nan=True))
                if self.vectorised:
                    return values
        values = torch.stack([one(*(z[i] for z in draws)) for i in range(len(draws[0]))])
        if self.vectorised is None:
            self.vectorised = False
        return values


class External:
    """The function of one model, and what was learned of it on its first call."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.function = _imported(model)
        self.who = f"{model.name}: {model.origin}"
        self.over_draws = OverDraws()
        self._checked = False

    def __call__(self, data: Any, latents: Any) -> Tensor:
        particles, flat = flattened(latents, [rank(site) for site in self.model.sites])
        if not self._checked:
            self._check(data, [z[0].detach() for z in flat])
            self._checked = True
        if not particles:
            return self._one(data, *latents)
        return self.over_draws(lambda *z: self._one(data, *z), flat).reshape(particles)

    def _one(self, data: Any, *latents: Tensor) -> Tensor:
        """The log density of one draw, its terms scaled and summed."""
        return self._total(self._call(data, latents), data)

    def _call(self, data: Any, latents: tuple[Tensor, ...]) -> object:
        try:
            return self.function(self.model.latents_type(*latents), data)
        except Exception as error:
            frames = traceback.extract_tb(sys.exc_info()[2])
            error.add_note(f"in {self.who}, {frames[-1].filename}:{frames[-1].lineno}, called with {self._given(data)}")
            raise

    def _total(self, result: object, data: Any) -> Tensor:
        if not isinstance(result, Mapping):
            return torch.as_tensor(result, dtype=data.dtype, device=data.device)
        total: Tensor = data.new_full((), 0.0)
        for key, terms in result.items():
            scale = math.prod(self._plate(name, data).scale for name in _plates_of(key))
            total = total + scale * torch.as_tensor(terms, dtype=data.dtype, device=data.device).sum()
        return total

    @staticmethod
    def _plate(name: str, data: Any) -> Plate:
        plate: Plate = getattr(data, attribute_of(name))
        return plate

    # The first call

    @torch.enable_grad()
    def _check(self, data: Any, latents: list[Tensor]) -> None:
        """Looks at one draw. Raises `InferenceError` for what cannot be a log density, warns of unused latents."""
        try:
            inspect.signature(self.function).bind(latents, data)
        except TypeError as error:
            raise InferenceError(
                f"{self.who} is called with (latents, data), which it does not take: {error}"
            ) from None
        except ValueError:  # a builtin without a signature
            pass
        tracked = [z.requires_grad_() if z.is_floating_point() else z for z in latents]
        result = self._call(data, tuple(tracked))
        terms = self._terms(result, data)
        for key, value in terms.items():
            if not bool(value.isfinite().all()):
                bad = value[~value.isfinite()].flatten()[0].item()
                what = f"the terms of {_named(key)}" if isinstance(result, Mapping) else "the log density"
                raise InferenceError(f"{self.who}: {what} hold {bad} at the first draw, with {self._given(data)}")
        used: set[str] = set()
        for key, value in terms.items():
            reached = self._reached(value, tracked)
            used |= {site.name for site in reached}
            self._scaled(key, reached, data)
        unused = [site.name for site in self.model.sites if site.name not in used and not site.constraint.discrete]
        if unused:
            names = ", ".join(f"`{name}`" for name in unused)
            warnings.warn(
                f"{self.who}: the log density has no gradient with respect to {names}: it does not use "
                f"{'it' if len(unused) == 1 else 'them'}, or leaves torch on the way",
                InterfaceWarning,
                stacklevel=2,
            )

    def _reached(self, value: Tensor, latents: list[Tensor]) -> list[Site]:
        """The sites that a term depends on."""
        leaves = [z for z in latents if z.requires_grad]
        if not value.requires_grad or not leaves:
            return []
        found = torch.autograd.grad(value.sum(), leaves, allow_unused=True, retain_graph=True)
        sites = [site for site, z in zip(self.model.sites, latents, strict=True) if z.requires_grad]
        return [site for site, gradient in zip(sites, found, strict=True) if gradient is not None]

    def _scaled(self, key: Key, reached: list[Site], data: Any) -> None:
        """Refuses a term that depends on the rows of a batch, but is not scaled as their plate is."""
        for site in reached:
            for name in site.plates:
                if self._batched(name) and name not in _plates_of(key):
                    raise InferenceError(
                        f"{self.who}: {_named(key)} depend on `{site.name}`, which is local to plate {name}, and only "
                        f'some rows of that are here: return its terms, one a row, under "{name}"'
                    )

    def _batched(self, name: str) -> bool:
        return any(p.name == name and (p.subsample or p.minibatch) is not None for p in self.model.plates)

    def _terms(self, result: object, data: Any) -> dict[Key, Tensor]:
        """What came back, by key, of the right shapes; one number is the key None."""
        if not isinstance(result, Mapping):
            value = self._number(result, "a number, or a dict from plate names to terms")
            if value.ndim:
                raise InferenceError(
                    f"{self.who} returned shape {list(value.shape)}; expected one number, or a dict from plate name to "
                    "terms, one a row: it sees one draw at a time, without a particle axis"
                )
            batched = [plate.name for plate in self.model.plates if self._batched(plate.name)]
            if batched:
                raise InferenceError(
                    f"{self.who} returned one number, which cannot be scaled to all rows of plate {batched[0]}, of "
                    f'which a step sees some: return a dict, {{"{batched[0]}": terms, None: the rest}}'
                )
            return {None: value}
        terms: dict[Key, Tensor] = {}
        for key, given in result.items():
            names = self._known(key)
            value = self._number(given, f"a tensor under {key!r}")
            lengths = [self._plate(name, data).length for name in names]
            if list(value.shape) != lengths:
                axes = f"[{', '.join(names)}] = {lengths}, a number a row" if names else "one number, []"
                raise InferenceError(f"{self.who} returned shape {list(value.shape)} under {key!r}; expected {axes}")
            terms[key] = value
        return terms

    def _number(self, value: object, wanted: str) -> Tensor:
        if isinstance(value, (Tensor, int, float)) and not isinstance(value, bool):
            return torch.as_tensor(value)
        raise InferenceError(f"{self.who} returned a {type(value).__name__}; expected {wanted}")

    def _known(self, key: object) -> tuple[str, ...]:
        """The plates of a key. Raises `InferenceError` where it is none of the model's."""
        known = [plate.name for plate in self.model.plates]
        names = _plates_of(key)
        for name in names:
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                listed = f"the plates are {', '.join(known)}" if known else f"{self.model.name} has no plates"
                hint = f"did you mean {close[0]!r}?" if close else f"{listed}; None is for what is in no plate"
                raise InferenceError(f"{self.who} returned terms under {key!r}: there is no plate {name!r}; {hint}")
        if list(names) != sorted(set(names), key=known.index):
            order = tuple(sorted(set(names), key=known.index))
            raise InferenceError(f"{self.who} returned terms under {key!r}: in the model's order that is {order!r}")
        return names

    def _given(self, data: Any) -> str:
        """The shapes of the sites by dim names, and their sizes: `mu: [K], u: [user, K] with user = 256, K = 8`."""
        shown = [f"{site.name}: [{', '.join((*_internal(site), *site.event))}]" for site in self.model.sites]
        sizes = {name: self._plate(name, data).length for site in self.model.sites for name in site.plates}
        used = " ".join(size for site in self.model.sites for size in site.event)
        sizes |= {dim.name: getattr(data, attribute_of(dim.name)) for dim in self.model.dims if dim.name in used}
        values = ", ".join(f"{name} = {size}" for name, size in sizes.items())
        return f"{', '.join(shown) or 'no latents'}{f' with {values}' if values else ''}"


def _internal(site: Site) -> tuple[str, ...]:
    return site.plates if site.order is None else tuple(site.plates[axis] for axis in site.order)


def _plates_of(key: object) -> tuple[str, ...]:
    """The plates that a key names: none for None and "", one for a name, several for a tuple of names."""
    if key is None or key == "":
        return ()
    return tuple(key) if isinstance(key, tuple) else (key,)  # type: ignore[return-value]


def _named(key: Key) -> str:
    plates = _plates_of(key)
    return f"plate {', '.join(plates)}" if plates else "terms in no plate"
