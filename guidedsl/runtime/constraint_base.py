"""What every constraint is: a set, checked, and a bijection onto it. The types are in the modules beside this one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from guidedsl.runtime.errors import ParamError

Bound: TypeAlias = float | Tensor
Shape: TypeAlias = tuple[int, ...]

# exp of these is a normal, finite number of the type, with room for one rounding.
EXP_LIMITS = {
    torch.float64: (-708.0, 709.0),
    torch.float32: (-87.0, 88.0),
    torch.bfloat16: (-87.0, 88.0),
    torch.float16: (-9.0, 11.0),
}


_ONE_BY_SOFTPLUS = math.log(math.expm1(1.0))
"""Where softplus is 1, as exp is at 0."""


@dataclass(frozen=True, eq=False, repr=False)
class Constraint:
    """Where a value lives. `transform` names the bijection; `event_dim` counts the type's own event dims."""

    transform: str = field(default="", kw_only=True)

    name: ClassVar[str] = ""
    notation: ClassVar[str] = ""
    meaning: ClassVar[str] = ""
    event_dim: ClassVar[int] = 0
    free_event_dim: ClassVar[int] = 0
    discrete: ClassVar[bool] = False
    transforms: ClassVar[tuple[str, ...]] = ()
    bound_names: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not self.transform and self.transforms:
            object.__setattr__(self, "transform", self.transforms[0])
        if self.transform and self.transform not in self.transforms:
            choices = ", ".join(repr(choice) for choice in self.transforms) or "none: it has no bijection"
            raise ParamError(f"{self.notation} has no transform {self.transform!r}; its transforms are {choices}.")

    @property
    def has_bijection(self) -> bool:
        """False for check-only types: the discrete ones and unit_vector."""
        return bool(self.transforms)

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """The bounds that this type was made with, lower first."""
        return tuple(getattr(self, key) for key in self.bound_names)

    @property
    def batched_bounds(self) -> bool:
        """Whether a bound is a tensor with axes, so that rows of a value go with rows of the bound."""
        return any(isinstance(bound, Tensor) and bound.dim() > 0 for bound in self.bounds)

    def via(self, transform: str) -> Constraint:
        """The same set with another bijection. Raises ParamError, listing the choices, for an unknown one."""
        if not transform:
            raise ParamError(f"the transform of {self.notation} is an empty string; its transforms: {self.transforms}.")
        return replace(self, transform=transform)

    def check(self, value: Tensor) -> Tensor:
        """Bool tensor, the own event dims reduced: inside the closed set, up to rounding, and finite.

        Raises ParamError where the shape cannot be this type's (too few axes, or a matrix that is not square).
        """
        raise NotImplementedError

    def constrain(self, free: Tensor) -> Tensor:
        """The value at unconstrained coordinates. Raises ParamError for check-only types and impossible sizes."""
        return self.push(free)[0]

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        """The value and log |det d value / d free|, the own event dims reduced. Raises as `constrain`."""
        raise self._no_bijection()

    def free(self, value: Tensor) -> Tensor:
        """The unconstrained coordinates of a value; not finite on the boundary, unspecified outside the set."""
        raise self._no_bijection()

    def free_shape(self, shape: Shape) -> Shape:
        """The shape of the unconstrained coordinates of a value of `shape`. Raises ParamError if there is none."""
        if not self.has_bijection:
            raise self._no_bijection()
        self._event_shape(shape)
        return tuple(shape)

    def default(self, shape: Shape, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        """A value inside, the same under every bijection, or the simplest one of a check-only type."""
        dtype = torch.get_default_dtype() if dtype is None else dtype
        start = _ONE_BY_SOFTPLUS if self.transform == "softplus" else 0.0
        return self.constrain(torch.full(self.free_shape(shape), start, dtype=dtype, device=device))

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict that `from_json` reads back to an equal constraint."""
        record: dict[str, Any] = {"type": self.name, "transform": self.transform}
        return record | {key: _bound_to_json(getattr(self, key)) for key in self.bound_names}

    def __str__(self) -> str:
        bounds = ", ".join(show_bound(bound) for bound in self.bounds)
        text = f"{self.notation}({bounds})" if bounds else self.notation
        return text if self.transform == "".join(self.transforms[:1]) else f"{text} via {self.transform}"

    def __repr__(self) -> str:
        return f"<constraint {self}>"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Constraint) or type(self) is not type(other) or self.transform != other.transform:
            return False
        return all(same_bound(mine, theirs) for mine, theirs in zip(self.bounds, other.bounds, strict=True))

    def __hash__(self) -> int:
        # Tensor bounds stay out: hashing their values would wait for the device.
        return hash((self.name, self.transform, *(b for b in self.bounds if not isinstance(b, Tensor))))

    def _event_shape(self, shape: Shape) -> Shape:
        """The own event dims of a value's shape, checked."""
        own = tuple(shape)[len(shape) - self.event_dim :] if len(shape) >= self.event_dim else None
        if own is None:
            raise ParamError(f"{self} needs at least {self.event_dim} axes; the shape is {list(shape)}.")
        if 0 in own:
            raise ParamError(f"{self} needs at least one coordinate; the shape is {list(shape)}.")
        if len(own) == 2 and own[0] != own[1]:
            raise ParamError(f"{self} is a square matrix; the shape {list(shape)} ends in {own[0]} x {own[1]}.")
        return own

    def _no_bijection(self) -> ParamError:
        return ParamError(
            f"{self} has no bijection from unconstrained coordinates, so it can be checked but not learned; "
            "declare a type that has one, or build the value from such parameters."
        )


class Discrete(Constraint):
    """A check-only type of whole numbers."""

    discrete = True

    def default(self, shape: Shape, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        self._event_shape(shape)
        return torch.zeros(shape, dtype=dtype, device=device)


class Structured(Constraint):
    """A vector or matrix type: one trailing axis of free coordinates, `_free_size` of them for K."""

    event_dim = 1
    free_event_dim = 1

    def free_shape(self, shape: Shape) -> Shape:
        own = self._event_shape(shape)
        return (*shape[: len(shape) - self.event_dim], self._free_size(own[-1]))

    def _free_size(self, size: int) -> int:
        raise NotImplementedError


def same_bound(mine: Bound, theirs: Bound) -> bool:
    if mine is theirs:
        return True
    if isinstance(mine, Tensor) and isinstance(theirs, Tensor):
        alike = mine.shape == theirs.shape and mine.dtype == theirs.dtype
        return alike and torch.equal(mine.detach().to(theirs.device), theirs.detach())
    return not isinstance(mine, Tensor) and not isinstance(theirs, Tensor) and mine == theirs


def show_bound(bound: Bound) -> str:
    if not isinstance(bound, Tensor):
        return repr(bound).removesuffix(".0")
    return show_bound(float(bound)) if bound.dim() == 0 else f"<{list(bound.shape)}>"


def _bound_to_json(bound: Bound) -> object:
    if not isinstance(bound, Tensor):
        return bound
    values = bound.detach() if bound.dtype in (torch.float32, torch.float64) else bound.detach().double()
    flat = [float(value) for value in values.reshape(-1).tolist()]
    return {"dtype": str(values.dtype).removeprefix("torch."), "shape": list(values.shape), "values": flat}


def log_sigmoid_slope(free: Tensor) -> Tensor:
    """log of the derivative of the logistic function, finite for every finite argument."""
    return torch.add(-free, functional.logsigmoid(free), alpha=2)


def tolerance(dtype: torch.dtype) -> float:
    """How far a sum may be off by rounding, or by a file's six printed decimals."""
    return max(1e-5, 100 * torch.finfo(dtype).eps) if dtype.is_floating_point else 1e-5


def first_axis(shape: Shape, dtype: torch.dtype | None, device: torch.device | None) -> Tensor:
    vector = torch.zeros(shape, dtype=dtype, device=device)
    vector[..., 0] = 1
    return vector


def shorten(value: object) -> str:
    """A value in a message, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
