"""What generated expressions call beyond torch. Axes are `particles..., plates..., event...`, as everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.constraint_base import Constraint
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.factors import cholesky as cholesky
from guidedsl.runtime.faults import fault
from guidedsl.runtime.kernels import dot_product as dot_product
from guidedsl.runtime.kernels import exp_quad as exp_quad
from guidedsl.runtime.kernels import matern12 as matern12
from guidedsl.runtime.kernels import matern32 as matern32
from guidedsl.runtime.kernels import matern52 as matern52
from guidedsl.runtime.kernels import periodic as periodic
from guidedsl.runtime.kernels import rational_quadratic as rational_quadratic

if TYPE_CHECKING:
    from guidedsl.runtime.data import Data
    from guidedsl.runtime.model import Model
    from guidedsl.runtime.params import ParamStore
    from guidedsl.runtime.plates import Plate

Value = Tensor | float


def expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    """`x` [..., 1 or n, ...] with its last axes expanded to `shape`; axes in front stay."""
    shape = tuple(shape)
    kept = x.shape[: max(0, x.ndim - len(shape))]
    return x.expand(*kept, *shape)


def stack(parts: Sequence[Tensor], axis: int) -> Tensor:
    """The parts, broadcast to one shape, along a new axis."""
    return torch.stack(torch.broadcast_tensors(*parts), axis)


def steps(count: int, data: Data) -> Tensor:
    """The numbers 0, 1, …, count − 1 of a scan's steps in the data's dtype: [count]."""
    return torch.arange(count, dtype=data.dtype, device=data.device)


def shifted(first: Value, values: Tensor, rank: int) -> Tensor:
    """What each step of a scan was handed: `first` [..., event...], then `values` [..., T, event...] but the last.

    The axes in front broadcast; `rank` counts the event axes.
    """
    axis = values.ndim - rank - 1
    earlier = values.narrow(axis, 0, values.shape[axis] - 1)
    if not isinstance(first, Tensor):
        return torch.cat((torch.full_like(values.narrow(axis, 0, 1), first), earlier), axis)
    batch = torch.broadcast_shapes(first.shape[: first.ndim - rank], values.shape[:axis])
    head = first.expand((*batch, *values.shape[axis + 1 :])).unsqueeze(len(batch))
    return torch.cat((head, earlier.expand((*batch, *earlier.shape[axis:]))), len(batch))


def concat(parts: Sequence[Tensor]) -> Tensor:
    """The parts one after another along the last axis; the axes in front are broadcast."""
    batch = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*batch, part.shape[-1]) for part in parts], -1)


def indicator(condition: Tensor | bool, data: Data) -> Tensor:
    """A comparison as 0 and 1 in the data's dtype."""
    return torch.as_tensor(condition, device=data.device).to(data.dtype)


def masked(mask: Tensor, log_prob: Tensor) -> Tensor:
    """`log_prob` where `mask`, else 0. Gradients stay finite: masked data was replaced by a value inside its type."""
    return torch.where(mask.bool(), log_prob, torch.zeros_like(log_prob))


def on_support(constraint: Constraint, log_prob: Callable[..., Tensor], x: Tensor, *arguments: Value) -> Tensor:
    """`log_prob(x, *arguments)` where x lies in `constraint`, else -inf with gradient 0."""
    bounds = (bound for bound in constraint.bounds if isinstance(bound, Tensor))
    x = x.expand(torch.broadcast_shapes(x.shape, *(bound.shape for bound in bounds)))
    inside = constraint.check(x)
    own = inside.reshape((*inside.shape, *(1,) * constraint.event_dim))
    safe = torch.where(own, x, constraint.default(tuple(x.shape), x.dtype, x.device).detach())
    return torch.where(inside, log_prob(safe, *arguments), -math.inf)


def where(condition: Value, yes: Value, no: Value) -> Tensor:
    """Element by element `yes` where `condition` is not 0, else `no`."""
    mask = torch.as_tensor(condition)
    if not isinstance(yes, Tensor) and not isinstance(no, Tensor) and mask.is_floating_point():
        yes, no = mask.new_tensor(yes), mask.new_tensor(no)  # of two numbers torch makes its default precision
    return torch.where(mask != 0, yes, no)


def maximum(a: Value, b: Value) -> Tensor:
    """The larger of two values, element by element. One of them is a tensor."""
    if isinstance(a, Tensor):
        return torch.maximum(a, torch.as_tensor(b, dtype=a.dtype, device=a.device))
    return maximum(torch.as_tensor(b), a)


def minimum(a: Value, b: Value) -> Tensor:
    """The smaller of two values, element by element. One of them is a tensor."""
    if isinstance(a, Tensor):
        return torch.minimum(a, torch.as_tensor(b, dtype=a.dtype, device=a.device))
    return minimum(torch.as_tensor(b), a)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), without torch's linear cut-off, which would break gradients' continuity."""
    return torch.logaddexp(x, torch.zeros_like(x))


def step(x: Tensor) -> Tensor:
    """1 from 0 on, else 0."""
    return (x >= 0.0).to(x.dtype)


def log1m(x: Tensor) -> Tensor:
    """log(1 - x)."""
    return torch.log1p(-x)


def log1m_exp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, to full relative precision (Mächler 2012)."""
    near = x > -math.log(2.0)
    # each branch sees only its own values: at the other's its gradient may be infinite
    return torch.where(near, (-torch.expm1(x)).log(), torch.log1p(-torch.exp(torch.where(near, -1.0, x))))


def log_diff_exp(a: Value, b: Value) -> Tensor:
    """log(exp(a) - exp(b)) for a >= b. One of them is a tensor."""
    return a + log1m_exp(torch.as_tensor(b - a))


def log_sum_exp(a: Value, b: Value) -> Tensor:
    """log(exp(a) + exp(b)). One of them is a tensor."""
    if not isinstance(a, Tensor):
        a, b = b, a
    assert isinstance(a, Tensor)
    return torch.logaddexp(a, b if isinstance(b, Tensor) else a.new_tensor(b))


def _lgamma(x: Value) -> Value:
    return x.lgamma() if isinstance(x, Tensor) else math.lgamma(x)


def lbeta(a: Value, b: Value) -> Value:
    """Logarithm of the beta function. One of them is a tensor."""
    return _lgamma(a) + _lgamma(b) - _lgamma(a + b)


def lchoose(n: Value, k: Value) -> Value:
    """Logarithm of the binomial coefficient. One of them is a tensor."""
    return _lgamma(n + 1.0) - _lgamma(k + 1.0) - _lgamma(n - k + 1.0)


def inv_cloglog(x: Tensor) -> Tensor:
    """1 - exp(-exp(x))."""
    return -torch.expm1(-x.exp())


def cloglog(p: Tensor) -> Tensor:
    """log(-log(1 - p))."""
    return (-torch.log1p(-p)).log()


def norm(x: Tensor, axes: int | tuple[int, ...]) -> Tensor:
    """Root of the sum of squares over axes counted from the right, with gradient 0 at 0."""
    square = x.square().sum(axes)
    some = square > 0.0
    return torch.where(some, torch.where(some, square, 1.0).sqrt(), 0.0)


def median(x: Tensor, axes: int | tuple[int, ...]) -> Tensor:
    """The middle value over axes counted from the right, or the mean of the two in the middle."""
    if not isinstance(axes, int):
        x, axes = x.flatten(-len(axes)), -1
    ordered = x.sort(axes).values
    size = x.shape[axes]
    return 0.5 * (ordered.select(axes, (size - 1) // 2) + ordered.select(axes, size // 2))


def normalize(x: Tensor) -> Tensor:
    """x / |x|: [..., K] → [..., K]."""
    return torch.nn.functional.normalize(x, dim=-1)


def distance(x: Tensor, y: Tensor) -> Tensor:
    """|x - y|: [..., A], [..., A] → [...]."""
    return norm(x - y, -1)


def prod(x: Tensor, axes: int | tuple[int, ...]) -> Tensor:
    """The product over axes counted from the right, -1 among them unless there is one."""
    if isinstance(axes, int):
        return x.prod(axes)
    for _ in axes:
        x = x.prod(-1)
    return x


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Sum of products over the last axis: [..., A], [..., A] → [...]."""
    return (x * y).sum(-1)


def outer(x: Tensor, y: Tensor) -> Tensor:
    """[..., A], [..., B] → [..., A, B]."""
    return x[..., :, None] * y[..., None, :]


def matvec(matrix: Tensor, vector: Tensor) -> Tensor:
    """[..., A, B], [..., B] → [..., A]. One matrix against many vectors is a single matrix product."""
    if matrix.ndim == 2:
        return vector @ matrix.mT
    return (matrix @ vector[..., None])[..., 0]


def vecmat(vector: Tensor, matrix: Tensor) -> Tensor:
    """[..., A], [..., A, B] → [..., B]."""
    if matrix.ndim == 2:
        return vector @ matrix
    return (vector[..., None, :] @ matrix)[..., 0, :]


def lags(y: Tensor, steps: int) -> Tensor:
    """The `steps` values before each entry but the first `steps`, the latest first: [..., T] → [..., T − K, K]."""
    return y.unfold(-1, steps, 1)[..., :-1, :].flip(-1)


def solve(matrix: Tensor, vector: Tensor) -> Tensor:
    """x in `matrix` x = `vector`: [..., A, A], [..., A] → [..., A]."""
    x: Tensor = torch.linalg.solve(matrix, vector[..., None])
    return x[..., 0]


def solve_lower(factor: Tensor, vector: Tensor) -> Tensor:
    """x in `factor` x = `vector`, `factor` lower-triangular: [..., A, A], [..., A] → [..., A]."""
    x: Tensor = torch.linalg.solve_triangular(factor, vector[..., None], upper=False)
    return x[..., 0]


def quad_form(matrix: Tensor, vector: Tensor) -> Tensor:
    """x' M x: [..., A, A], [..., A] → [...]."""
    return (vector * matvec(matrix, vector)).sum(-1)


def log_mix_of(weights: Tensor, values: Tensor) -> Tensor:
    """log Σ weights exp(values): [..., A], [..., A] → [...]."""
    return torch.logsumexp(weights.log() + values, -1)


def add_diag(matrix: Tensor, value: Value) -> Tensor:
    """`value` ([...] or a number) added to the diagonal of [..., A, A]."""
    if isinstance(value, Tensor):
        value = value[..., None, None]
    return matrix + value * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def log_mix(p: Value, a: Value, b: Value) -> Tensor:
    """log(p exp(a) + (1 − p) exp(b)). One of the three is a tensor."""
    like = next(value for value in (p, a, b) if isinstance(value, Tensor))
    p, a, b = (value if isinstance(value, Tensor) else like.new_tensor(value) for value in (p, a, b))
    return torch.logaddexp(torch.log(p) + a, torch.log1p(-p) + b)


def sum_out(x: Tensor, axis: int) -> Tensor:
    """log Σ exp over an axis. Where every entry is −inf so is the sum, with gradient 0 instead of NaN."""
    possible = (x > -torch.inf).any(axis, keepdim=True)
    total = torch.where(possible, x, 0.0).logsumexp(axis)
    return torch.where(possible.squeeze(axis), total, -torch.inf)


def forward(start: Tensor, move: Tensor, seen: Tensor, chains: int = 1) -> Tensor:
    """log Σ exp over all paths of one or more chains of classes: the forward algorithm (Baum et al. 1970).

    `start` [..., K...]: log weights of the first classes; `move` [..., K..., K..., 1 or T]: of each class after each
    other, one for all steps or one a step; `seen` [..., K..., T]: of the classes at each step. There are `chains` of K
    in a row. The first entry of a `move` that has T is not used. Gives [...].
    """
    steps = seen.shape[-1]
    moves = move.unbind(-1) if move.shape[-1] > 1 else (move[..., 0],) * steps
    first, *later = seen.unbind(-1)
    message = start + first
    for weights, here in zip(moves[1:], later, strict=True):
        paths = message[(..., *(None,) * chains)] + weights
        message = sum_out(paths.flatten(-2 * chains, -chains - 1), -chains - 1) + here
    return sum_out(message.flatten(-chains), -1)


def first_move(move: Tensor, states: Sequence[Tensor | int]) -> Tensor:
    """The row of the first step that a chain starts from: `move` [..., K..., K..., 1 or T] at `states`, [..., K...].

    One state a chain, a number or [...].
    """
    row = move[..., 0]
    for position, state in enumerate(states):
        rank = 2 * len(states) - position - 1
        if isinstance(state, Tensor):
            row = gather(row, state, rank)
        else:
            row = row.select(-rank - 1, state if row.shape[-rank - 1] > 1 else 0)
    return row


def rows(length: int, after: int, data: Data) -> Tensor:
    """0, 1, …, length − 1 along an axis that has `after` axes to its right."""
    return torch.arange(length, device=data.device).reshape(-1, *(1,) * after)


def gather(base: Tensor, index: Tensor, rank: int) -> Tensor:
    """`base` [..., n, event...] at `index` [...]: one of the n an entry, which is gone from the result [..., event...].

    The axes in front broadcast; `rank` counts the event axes. Serves indices that are themselves random.
    """
    index = index.long()
    split = base.ndim - rank - 1
    if split == 0:
        return base[index]
    batch = torch.broadcast_shapes(base.shape[:split], index.shape)
    event = base.shape[split + 1 :]
    spread = index[(..., None, *(None,) * rank)].expand(*batch, 1, *event)
    return base.expand(*batch, *base.shape[split:]).gather(len(batch), spread).squeeze(len(batch))


def batch_rows(x: Tensor, plate: Plate, axis: int) -> Tensor:
    """`x`, whose `axis` has an entry for each row of `plate`, at the rows of this step."""
    return x if plate.rows is None else x.index_select(axis, plate.rows)


_deferred: ContextVar[bool] = ContextVar("deferred", default=False)


@contextmanager
def checks_deferred() -> Iterator[None]:
    """In here what `checked` refuses is NaN instead, and so is the loss: a compiled step cannot branch on values."""
    token = _deferred.set(True)
    try:
        yield
    finally:
        _deferred.reset(token)


def checked(value: Tensor, constraint: Constraint, name: str) -> Tensor:
    """`value`, which the `.guide` file declares to lie in `constraint`.

    Raises:
        InferenceError: it does not.
    """
    inside = constraint.check(value)
    if _deferred.get() and value.is_floating_point():
        return torch.where(inside[(..., *(None,) * constraint.event_dim)], value, torch.nan)
    if bool(inside.all()):
        return value
    wrong = value[~inside][0]
    if constraint.event_dim:
        what = "matrix" if constraint.event_dim == 2 else "vector"
        raise InferenceError(f"`{name}` is a {what} which is not {constraint}: {fault(constraint, wrong)}")
    raise InferenceError(f"`{name}` is {wrong.item():g}, which is not {constraint}")


def external_density(model: Model, data: Data, latents: Any) -> Tensor:
    """The log density of an interface model, from the function that the `.guide` file names: see `interfaces`."""
    from guidedsl.runtime.interfaces import log_density

    return log_density(model, data, latents)


def pyro_density(
    model: Model, data: Data, latents: Any, store: ParamStore | None = None, tilt: Mapping[str, Tensor] | None = None
) -> Tensor:
    """The log density of an interface to a Pyro model: see `pyro_models`."""
    from guidedsl.runtime.pyro_models.importing import require_pyro

    require_pyro(model.name)
    from guidedsl.runtime.pyro_models.density import log_density

    return log_density(model, data, latents, store, tilt)
