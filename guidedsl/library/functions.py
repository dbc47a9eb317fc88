"""The registry of functions of the expression language: shape rule, support rule and what they become."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from guidedsl.library import supports as s
from guidedsl.library.supports import Range

Shape = Literal["elementwise", "reduce", "last", "signature", "construct", "lags"]


@dataclass(frozen=True)
class Function:
    """One function.

    `shape` says how event dims go through: element by element (arguments broadcast), all event axes reduced (or one,
    with `axis = k`), along the last axis, by `signature`, built from sizes, or a matrix of lags. `signature` is written
    like argument types with letters for dims: (("real[A]", "real[B]"), "real[A, B]"). `range` maps the arguments'
    ranges to the result's. `code` is the generated call; `number` computes with Python numbers. `support` is that of
    a structured result. A function of several signatures tries `others` after its own, in order.
    """

    name: str
    parameters: tuple[str, ...]
    shape: Shape
    range: Callable[..., Range]
    code: str
    doc: str
    number: Callable[..., float] | None = None
    number_code: str = ""
    domain: Range = s.REAL
    signature: tuple[tuple[str, ...], str] | None = None
    support: str | None = None
    others: tuple[Function, ...] = ()


def _real(*ranges: Range) -> Range:
    return s.REAL


def _always(range: Range) -> Callable[..., Range]:
    return lambda *ranges: range


def _same(a: Range) -> Range:
    return s.real_valued(a)


_LARGEST = 709.0
"""exp of more than this is no longer a number."""


def _exp(a: Range) -> Range:
    low, high = math.exp(min(a.low, _LARGEST)), math.exp(a.high) if a.high < _LARGEST else s.INF
    result = Range(low, high, a.low_closed and a.low > -s.INF, a.high_closed and high < s.INF)
    return s.POSITIVE if result.high == s.INF and result.low == 0 else result


def _log(a: Range) -> Range:
    return s.monotone(
        Range(max(a.low, 0.0), a.high, a.low_closed, a.high_closed),
        lambda x: -s.INF if x == 0 else math.log(x) if x < s.INF else s.INF,
    )


def _sqrt(a: Range) -> Range:
    return s.monotone(Range(max(a.low, 0.0), a.high, a.low_closed, a.high_closed), math.sqrt)


def _abs(a: Range) -> Range:
    if a.low >= 0:
        return a
    if a.high <= 0:
        return s.negate(a)
    upper = s.union(a, s.negate(a))
    return Range(0, upper.high, True, upper.high_closed, a.integer)


def _square(a: Range) -> Range:
    return s.power(a, 2)


def _sum(a: Range) -> Range:
    if a.low >= 0:
        return Range(0, s.INF, a.low_closed, False, a.integer)
    if a.high <= 0:
        return Range(-s.INF, 0, False, a.high_closed, a.integer)
    return Range(integer=a.integer)


def _either(*ranges: Range) -> Range:
    result = ranges[0]
    for other in ranges[1:]:
        result = s.union(result, other)
    return result


def _where(condition: Range, a: Range, b: Range) -> Range:
    return s.union(a, b)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _maximum(a: Range, b: Range) -> Range:
    low = max((a.low, not a.low_closed), (b.low, not b.low_closed))
    both = s.union(a, b)
    return Range(low[0], both.high, not low[1], both.high_closed, both.integer)


def _minimum(a: Range, b: Range) -> Range:
    return s.negate(_maximum(s.negate(a), s.negate(b)))


def _cumprod(a: Range) -> Range:
    return s.POSITIVE if a.low > 0 or (a.low == 0 and not a.low_closed) else s.REAL


def _inverse(a: Range) -> Range:
    return s.real_valued(s.reciprocal(a))


_ELEMENTWISE = (
    ("exp", _exp, "torch.exp", "e to the power of x", math.exp, "math.exp", s.REAL),
    ("log", _log, "torch.log", "natural logarithm", math.log, "math.log", s.NONNEGATIVE),
    ("log1p", _real, "torch.log1p", "log(1 + x)", math.log1p, "math.log1p", Range(-1)),
    ("expm1", _always(Range(-1)), "torch.expm1", "exp(x) - 1", math.expm1, "math.expm1", s.REAL),
    ("sqrt", _sqrt, "torch.sqrt", "square root", math.sqrt, "math.sqrt", s.NONNEGATIVE),
    ("square", _square, "torch.square", "x times x", lambda x: x * x, "", s.REAL),
    ("abs", _abs, "torch.abs", "absolute value", abs, "abs", s.REAL),
    ("sin", _always(Range(-1, 1, True, True)), "torch.sin", "sine", math.sin, "math.sin", s.REAL),
    ("cos", _always(Range(-1, 1, True, True)), "torch.cos", "cosine", math.cos, "math.cos", s.REAL),
    ("tanh", _always(Range(-1, 1)), "torch.tanh", "hyperbolic tangent", math.tanh, "math.tanh", s.REAL),
    ("sigmoid", _always(s.UNIT), "torch.sigmoid", "1 / (1 + exp(-x))", _sigmoid, "", s.REAL),
    ("inv_logit", _always(s.UNIT), "torch.sigmoid", "1 / (1 + exp(-x))", _sigmoid, "", s.REAL),
    ("logit", _real, "torch.logit", "log(p / (1 - p))", lambda p: math.log(p / (1 - p)), "", s.CLOSED_UNIT),
    ("softplus", _always(s.POSITIVE), "fn.softplus", "log(1 + exp(x))", lambda x: math.log1p(math.exp(x)), "", s.REAL),
    ("lgamma", _real, "torch.lgamma", "log of the gamma function", math.lgamma, "math.lgamma", s.POSITIVE),
    ("digamma", _real, "torch.digamma", "derivative of lgamma", None, "", s.POSITIVE),
    ("erf", _always(Range(-1, 1)), "torch.erf", "error function", math.erf, "math.erf", s.REAL),
    ("normal_cdf", _always(s.UNIT), "torch.special.ndtr", "standard normal distribution function", None, "", s.REAL),
    ("floor", _always(s.INTEGER), "torch.floor", "largest whole number not above x", math.floor, "math.floor", s.REAL),
    ("round", _always(s.INTEGER), "torch.round", "nearest whole number", round, "round", s.REAL),
    ("ceil", _always(s.INTEGER), "torch.ceil", "smallest whole number not below x", math.ceil, "math.ceil", s.REAL),
    ("sign", _always(Range(-1, 1, True, True, True)), "torch.sign", "-1, 0 or 1", None, "", s.REAL),
    ("step", _always(s.BOOL), "fn.step", "1 from 0 on, else 0", None, "", s.REAL),
    ("tan", _real, "torch.tan", "tangent", math.tan, "math.tan", s.REAL),
    ("asin", _always(Range(-2, 2)), "torch.asin", "inverse of sin", math.asin, "math.asin", Range(-1, 1, True, True)),
    (
        "acos",
        _always(Range(0, 4, True)),
        "torch.acos",
        "inverse of cos",
        math.acos,
        "math.acos",
        Range(-1, 1, True, True),
    ),
    ("atan", _always(Range(-2, 2)), "torch.atan", "inverse of tan", math.atan, "math.atan", s.REAL),
    ("sinh", _real, "torch.sinh", "hyperbolic sine", math.sinh, "math.sinh", s.REAL),
    ("cosh", _always(Range(1, s.INF, True)), "torch.cosh", "hyperbolic cosine", math.cosh, "math.cosh", s.REAL),
    ("asinh", _real, "torch.asinh", "inverse of sinh", math.asinh, "math.asinh", s.REAL),
    ("atanh", _real, "torch.atanh", "inverse of tanh", math.atanh, "math.atanh", Range(-1, 1)),
    ("erfc", _always(Range(0, 2, True, True)), "torch.erfc", "1 - erf(x)", math.erfc, "math.erfc", s.REAL),
    ("Phi", _always(s.UNIT), "torch.special.ndtr", "standard normal distribution function", None, "", s.REAL),
    ("inv_Phi", _real, "torch.special.ndtri", "inverse of Phi", None, "", s.CLOSED_UNIT),
    ("log_Phi", _always(Range(high=0)), "torch.special.log_ndtr", "log of Phi, far out too", None, "", s.REAL),
    ("inv", _inverse, "torch.reciprocal", "1 / x", lambda x: 1 / x, "", s.REAL),
    ("inv_sqrt", _always(s.POSITIVE), "torch.rsqrt", "1 / sqrt(x)", lambda x: x**-0.5, "", s.NONNEGATIVE),
    ("log2", _real, "torch.log2", "logarithm to base 2", math.log2, "math.log2", s.NONNEGATIVE),
    ("log10", _real, "torch.log10", "logarithm to base 10", math.log10, "math.log10", s.NONNEGATIVE),
    ("log1m", _real, "fn.log1m", "log(1 - x)", lambda x: math.log1p(-x), "", Range(high=1, high_closed=True)),
    ("log1m_exp", _always(Range(high=0)), "fn.log1m_exp", "log(1 - exp(x))", None, "", Range(high=0, high_closed=True)),
    ("log_inv_logit", _always(Range(high=0)), "torch.nn.functional.logsigmoid", "log of inv_logit", None, "", s.REAL),
    ("cloglog", _real, "fn.cloglog", "log(-log(1 - p))", None, "", s.CLOSED_UNIT),
    ("inv_cloglog", _always(s.UNIT), "fn.inv_cloglog", "1 - exp(-exp(x))", None, "", s.REAL),
)

_REDUCE = (
    ("sum", _sum, "{x}.sum({axes})", "sum"),
    ("mean", _same, "{x}.mean({axes})", "mean"),
    ("sd", _always(s.NONNEGATIVE), "{x}.std({axes})", "sample standard deviation (n - 1)"),
    ("var", _always(s.NONNEGATIVE), "{x}.var({axes})", "sample variance (n - 1)"),
    ("min", _same, "{x}.amin({axes})", "smallest"),
    ("max", _same, "{x}.amax({axes})", "largest"),
    (
        "prod",
        lambda a: s.POSITIVE if a.low > 0 or (a.low == 0 and not a.low_closed) else s.REAL,
        "fn.prod({x}, {axes})",
        "product",
    ),
    ("norm", _always(s.NONNEGATIVE), "fn.norm({x}, {axes})", "root of the sum of squares"),
    ("median", _same, "fn.median({x}, {axes})", "middle value, or the mean of the two in the middle"),
    ("logsumexp", _real, "torch.logsumexp({x}, {axes})", "log of the sum of exponentials"),
)

_LAST = (
    ("cumsum", _sum, "torch.cumsum({x}, -1)", "running sum"),
    ("normalize", _always(Range(-1, 1, True, True)), "fn.normalize({x})", "the direction of a vector: x / norm(x)"),
    ("softmax", _always(s.UNIT), "torch.softmax({x}, -1)", "exp(x) normalised to a simplex"),
    ("log_softmax", _always(Range(high=0)), "torch.log_softmax({x}, -1)", "log of softmax"),
    ("cumprod", _cumprod, "torch.cumprod({x}, -1)", "running product"),
    ("sort", _same, "{x}.sort(-1).values", "in increasing order"),
    ("reverse", _same, "{x}.flip(-1)", "the other way round"),
)

_MEMBER = {"softmax": "simplex", "normalize": "unit_vector"}
"""What the results of these are, beyond their range."""

_Signed = tuple[str, tuple[str, ...], str, str, str]

_SCALE_ROWS = "({0}[..., :, None] * {1})"
_SCALE_COLUMNS = "({0} * {1}[..., None, :])"
_SCALE_BOTH = "({1}[..., :, None] * {0} * {1}[..., None, :])"


def _kernel(name: str, parameters: int, doc: str) -> list[_Signed]:
    """A kernel of points with themselves, or with others; a point is a number or a row."""
    rows: list[_Signed] = []
    last = ("positive",) * parameters
    first = ", ".join(f"{{{n + 1}}}" for n in range(parameters))
    second = ", ".join(f"{{{n + 2}}}" for n in range(parameters))
    for rank, a, b in ((1, "real[A]", "real[B]"), (2, "real[A, D]", "real[B, D]")):
        option = ", rank=2" if rank == 2 else ""
        rows.append((name, (a, *last), "cov[A]", f"fn.{name}({{0}}, {first}{option})", doc))
        rows.append((name, (a, b, *last), "real[A, B]", f"fn.{name}({{0}}, {second}, to={{1}}{option})", doc))
    return rows


_SIGNED: tuple[_Signed, ...] = (
    ("dot", ("real[A]", "real[A]"), "real", "fn.dot({0}, {1})", "sum of the products of two vectors"),
    ("outer", ("real[A]", "real[B]"), "real[A, B]", "fn.outer({0}, {1})", "all products of two vectors' elements"),
    ("distance", ("real[A]", "real[A]"), "nonnegative", "fn.distance({0}, {1})", "length of x - y"),
    (
        "squared_distance",
        ("real[A]", "real[A]"),
        "nonnegative",
        "({0} - {1}).square().sum(-1)",
        "squared length of x - y",
    ),
    ("diff", ("real[A]",), "real[A - 1]", "{0}.diff(dim=-1)", "differences of neighbours"),
    ("diag", ("real[A]",), "real[A, A]", "torch.diag_embed({0})", "a matrix with the vector on its diagonal"),
    ("diagonal", ("real[A, A]",), "real[A]", "{0}.diagonal(dim1=-2, dim2=-1)", "the diagonal of a matrix"),
    ("trace", ("real[A, A]",), "real", "{0}.diagonal(dim1=-2, dim2=-1).sum(-1)", "sum of the diagonal"),
    ("transpose", ("real[A, B]",), "real[B, A]", "{0}.mT", "rows and columns swapped"),
    ("cholesky", ("cov[A]",), "lower_cholesky[A]", "fn.cholesky({0})", "the lower-triangular factor"),
    ("inverse", ("cov[A]",), "cov[A]", "torch.linalg.inv({0})", "the inverse of a positive definite matrix"),
    ("inverse", ("real[A, A]",), "real[A, A]", "torch.linalg.inv({0})", "the inverse of a matrix"),
    ("solve", ("real[A, A]", "real[A]"), "real[A]", "fn.solve({0}, {1})", "x in M x = b"),
    ("solve", ("real[A, A]", "real[A, B]"), "real[A, B]", "torch.linalg.solve({0}, {1})", "X in M X = B"),
    ("solve_lower", ("lower_cholesky[A]", "real[A]"), "real[A]", "fn.solve_lower({0}, {1})", "x in L x = b"),
    (
        "solve_lower",
        ("lower_cholesky[A]", "real[A, B]"),
        "real[A, B]",
        "torch.linalg.solve_triangular({0}, {1}, upper=False)",
        "X in L X = B",
    ),
    ("quad_form", ("real[A, A]", "real[A]"), "real", "fn.quad_form({0}, {1})", "x' M x"),
    ("quad_form", ("real[A, A]", "real[A, B]"), "real[B, B]", "({1}.mT @ {0} @ {1})", "X' M X"),
    ("quad_form_diag", ("cov[A]", "positive[A]"), "cov[A]", _SCALE_BOTH, "diag(v) M diag(v)"),
    ("quad_form_diag", ("real[A, A]", "real[A]"), "real[A, A]", _SCALE_BOTH, "diag(v) M diag(v)"),
    ("diag_pre_multiply", ("positive[A]", "lower_cholesky[A]"), "lower_cholesky[A]", _SCALE_ROWS, "diag(v) M"),
    ("diag_pre_multiply", ("real[A]", "real[A, B]"), "real[A, B]", _SCALE_ROWS, "diag(v) M"),
    ("diag_post_multiply", ("lower_cholesky[A]", "positive[A]"), "lower_cholesky[A]", _SCALE_COLUMNS, "M diag(v)"),
    ("diag_post_multiply", ("real[A, B]", "real[B]"), "real[A, B]", _SCALE_COLUMNS, "M diag(v)"),
    ("tcrossprod", ("corr_cholesky[A]",), "corr[A]", "({0} @ {0}.mT)", "M M'"),
    ("tcrossprod", ("lower_cholesky[A]",), "cov[A]", "({0} @ {0}.mT)", "M M'"),
    ("tcrossprod", ("real[A, B]",), "real[A, A]", "({0} @ {0}.mT)", "M M'"),
    ("crossprod", ("real[A, B]",), "real[B, B]", "({0}.mT @ {0})", "M' M"),
    ("logdet", ("cov[A]",), "real", "torch.logdet({0})", "log determinant of a positive definite matrix"),
    ("det", ("cov[A]",), "positive", "torch.linalg.det({0})", "determinant of a positive definite matrix"),
    ("det", ("real[A, A]",), "real", "torch.linalg.det({0})", "determinant of a matrix"),
    *_kernel("exp_quad", 2, "squared-exponential kernel over inputs, by amplitude and length scale"),
    *_kernel("matern12", 2, "exponential kernel, by amplitude and length scale"),
    *_kernel("matern32", 2, "Matérn kernel of smoothness 3/2, by amplitude and length scale"),
    *_kernel("matern52", 2, "Matérn kernel of smoothness 5/2, by amplitude and length scale"),
    *_kernel("periodic", 3, "periodic kernel, by amplitude, length scale and period"),
    *_kernel("rational_quadratic", 3, "mixture of squared exponentials, by amplitude, length scale and mixture"),
    *_kernel("dot_product", 1, "kernel of a linear function, amplitude^2 + x * x'"),
    ("add_diag", ("cov[A]", "nonnegative"), "cov[A]", "fn.add_diag({0}, {1})", "a scalar added to the diagonal"),
    ("log_mix", ("unit", "real", "real"), "real", "fn.log_mix({0}, {1}, {2})", "log(p exp(a) + (1 - p) exp(b))"),
    (
        "log_mix",
        ("simplex[A]", "real[A]"),
        "real",
        "fn.log_mix_of({0}, {1})",
        "log of the sum of weights * exp(values)",
    ),
)
"""A function may stand here more than once: the first signature that fits is taken."""


def _overloaded(rows: tuple[_Signed, ...]) -> list[Function]:
    functions: dict[str, list[Function]] = {}
    for name, ins, out, code, doc in rows:
        function = Function(name, tuple("abcde"[: len(ins)]), "signature", _real, code, doc, signature=(ins, out))
        functions.setdefault(name, []).append(function)
    return [replace(first, others=tuple(others)) for first, *others in functions.values()]


_ROWS: tuple[Function, ...] = (
    *(
        Function(name, ("x",), "elementwise", range_rule, code, doc, number, number_code, domain)
        for name, range_rule, code, doc, number, number_code, domain in _ELEMENTWISE
    ),
    Function(
        "pow",
        ("x", "y"),
        "elementwise",
        lambda a, b: s.power(a, b.low if b.low == b.high else None),
        "torch.pow",
        "x to the power of y",
        math.pow,
        "math.pow",
    ),
    Function("atan2", ("y", "x"), "elementwise", _real, "torch.atan2", "angle of a point", math.atan2, "math.atan2"),
    Function("where", ("condition", "yes", "no"), "elementwise", _where, "fn.where", "one of two values"),
    Function("maximum", ("a", "b"), "elementwise", _maximum, "fn.maximum", "the larger", max, "max"),
    Function("hypot", ("a", "b"), "elementwise", _always(s.NONNEGATIVE), "torch.hypot", "sqrt(a^2 + b^2)", math.hypot),
    Function("log_sum_exp", ("a", "b"), "elementwise", _real, "fn.log_sum_exp", "log(exp(a) + exp(b))"),
    Function("log_diff_exp", ("a", "b"), "elementwise", _real, "fn.log_diff_exp", "log(exp(a) - exp(b)) for a >= b"),
    Function("lbeta", ("a", "b"), "elementwise", _real, "fn.lbeta", "log of the beta function", domain=s.POSITIVE),
    Function("lchoose", ("n", "k"), "elementwise", _real, "fn.lchoose", "log of n over k", domain=s.NONNEGATIVE),
    Function(
        "xlogy", ("x", "y"), "elementwise", _real, "torch.xlogy", "x log(y), 0 where x is 0", domain=s.NONNEGATIVE
    ),
    Function("minimum", ("a", "b"), "elementwise", _minimum, "fn.minimum", "the smaller", min, "min"),
    *(Function(name, ("x",), "reduce", rule, code, doc) for name, rule, code, doc in _REDUCE),
    *(Function(name, ("x",), "last", rule, code, doc, support=_MEMBER.get(name)) for name, rule, code, doc in _LAST),
    *_overloaded(_SIGNED),
    Function("zeros", ("dims",), "construct", _always(s.point(0)), "data.new_full(({sizes}), 0.0)", "all zero"),
    Function("ones", ("dims",), "construct", _always(s.point(1)), "data.new_full(({sizes}), 1.0)", "all one"),
    Function("full", ("dims", "value"), "construct", _same, "fn.full(({sizes}), {x})", "one value, shared on purpose"),
    Function("eye", ("dim",), "construct", _always(Range(0, 1, True, True)), "data.new_eye({sizes})", "the identity"),
    Function(
        "normal",
        ("loc", "scale"),
        "construct",
        _real,
        "data.new_normal(({shape}), {a}, {b})",
        "random numbers to start a parameter from",
    ),
    Function(
        "lags",
        ("y", "K"),
        "lags",
        _same,
        "fn.lags({x}, {sizes})",
        "the K values before each of y[K:], the latest first: real[T] to real[T - K, K]",
    ),
    Function("range", ("dim",), "construct", _always(s.COUNT), "data.new_tensor(range({sizes}))", "0, 1, …, dim - 1"),
)

FUNCTIONS: dict[str, Function] = {row.name: row for row in _ROWS}

SPECIAL: dict[str, str] = {
    "log_prob": "log_prob(D, x): the log density of a distribution, element by element",
    "size": "size(a, b): how many unconstrained coordinates the latents have",
    "free": "free(a): the unconstrained coordinates of a latent, as a vector",
    "concat": "concat(a, b, …): vectors one after another",
    "lag": "lag(y, k): the vector without its last k entries, to stand beside y[k:]",
}
"""Functions whose shape rule is their own; the checker has one method for each."""
