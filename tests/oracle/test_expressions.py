"""Every function and operator of the expression language against torch and numpy, one particle and one row at a time.

One program holds all expressions of the table below, as lets in a plate. The compiled values, with plates and particle
axes, must be what plain evaluation gives for each row of each particle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from guidedsl.library.functions import FUNCTIONS, SPECIAL
from guidedsl.modules import load_source
from guidedsl.runtime import ParamStore
from guidedsl.source import Source

K, T, N, G, PARTICLES = 3, 4, 5, 2, 6
Oracle = Callable[[SimpleNamespace], Any]

PROGRAM = """
model Expressions {
  dim K, T, N, G
  data     base : real[K]
  latent   a : real ~ Flat
  latent   p : positive ~ Flat
  latent   u : unit ~ Flat
  latent   v : real[K] ~ Flat
  latent   s : positive[K] ~ Flat
  latent   m : real[K, T] ~ Flat
  latent   S : cov[K] ~ Flat
  latent   L : lower_cholesky[K] ~ Flat
  latent   series : real[N] ~ Flat
  latent   w3 : simplex[K] ~ Flat
  plate group[G] {
    latent h : real ~ Flat
    latent hv : real[K] ~ Flat
  }
  plate obs[N] {
    data     x : real
    data     w : positive
    data     c : bool
    data     xs : real[K]
    data     xm : real[T, K]
    data     g : index(group)
    data     k : index(K)
    latent   r : real ~ Flat
    latent   q : unit ~ Flat
    latent   rv : real[K] ~ Flat
    latent   rm : real[K, T] ~ Flat
  }
  plate group, obs { latent cross : real[K] ~ Flat }
  plate obs {
LETS
  }
}
"""


def expit(x: Tensor) -> Any:
    return 1 / (1 + np.exp(-x.numpy()))


def softmax(x: Tensor) -> Tensor:
    e = torch.exp(x - x.max())
    return e / e.sum()


def kernel(t: Tensor, amplitude: Any, scale: Any) -> Tensor:
    n = len(t)
    rows = [[amplitude**2 * math.exp(-((t[i] - t[j]) ** 2) / (2 * scale**2)) for j in range(n)] for i in range(n)]
    jitter: Tensor = 1e-8 * amplitude**2 * torch.eye(n)
    return torch.tensor(rows) + jitter


def cross(
    f: Callable[[float], float], x: Tensor, y: Tensor, amplitude: Any, *, jitter: bool = False, distance: bool = True
) -> Tensor:
    """A kernel entry by entry: f of the distance, or of the product, of two points."""
    x, y = (v[:, None] if v.ndim == 1 else v for v in (x, y))
    of = [[float((a - b).norm() if distance else a @ b) for b in y] for a in x]
    rows = torch.tensor([[amplitude**2 * f(d) if distance else amplitude**2 + d for d in row] for row in of])
    if not jitter:
        return rows
    extra = amplitude**2 + (0 if distance else 1)
    return rows + 1e-8 * extra * torch.eye(len(x))


def matern(order: int, scale: Any) -> Callable[[float], float]:
    r = math.sqrt(order) / scale
    powers: dict[int, Callable[[float], float]] = {1: lambda d: 1, 3: lambda d: 1 + d, 5: lambda d: 1 + d + d * d / 3}
    return lambda d: powers[order](r * d) * math.exp(-r * d)


def kernel_cases(name: str, options: str, f: Callable[[SimpleNamespace], Callable[[float], float]]) -> Any:
    """Of numbers and of rows, with themselves and with others."""
    inside = name != "dot_product"
    args = f"p, {options}" if options else "p"

    def case(x: Callable[[SimpleNamespace], Tensor], y: Callable[[SimpleNamespace], Tensor], jitter: bool) -> Oracle:
        return lambda e: cross(f(e), x(e), y(e), float(e.p), jitter=jitter, distance=inside)

    return [
        (f"{name}(rv, {args})", case(lambda e: e.rv, lambda e: e.rv, True)),
        (f"{name}(rv, series, {args})", case(lambda e: e.rv, lambda e: e.series, False)),
        (f"{name}(rm, {args})", case(lambda e: e.rm, lambda e: e.rm, True)),
        (f"{name}(rm, m[:2], {args})", case(lambda e: e.rm, lambda e: e.m[:2], False)),
    ]


FUNCTION_CASES: dict[str, list[tuple[str, Oracle]]] = {
    "exp": [("exp(a * x)", lambda e: math.exp(e.a * e.x)), ("exp(1)", lambda e: math.e)],
    "log": [("log(p * w)", lambda e: math.log(e.p * e.w)), ("log(N)", lambda e: math.log(N))],
    "log1p": [("log1p(q)", lambda e: math.log1p(e.q))],
    "expm1": [("expm1(r)", lambda e: math.expm1(e.r))],
    "sqrt": [("sqrt(w)", lambda e: math.sqrt(e.w)), ("sqrt(K)", lambda e: math.sqrt(K))],
    "square": [("square(rv)", lambda e: e.rv * e.rv), ("square(K)", lambda e: K * K)],
    "abs": [("abs(x - r)", lambda e: abs(e.x - e.r)), ("abs(-2)", lambda e: 2)],
    "sin": [("sin(r)", lambda e: math.sin(e.r))],
    "cos": [("cos(x)", lambda e: math.cos(e.x))],
    "tanh": [("tanh(a)", lambda e: math.tanh(e.a))],
    "sigmoid": [("sigmoid(r)", lambda e: expit(e.r))],
    "inv_logit": [("inv_logit(rv + x)", lambda e: expit(e.rv + e.x))],
    "logit": [("logit(q)", lambda e: math.log(e.q / (1 - e.q)))],
    "softplus": [
        ("softplus(r * 30)", lambda e: np.logaddexp(0.0, e.r.numpy() * 30)),
        ("softplus(K)", lambda e: math.log1p(math.exp(K))),
    ],
    "lgamma": [("lgamma(w)", lambda e: math.lgamma(e.w))],
    "digamma": [("digamma(p)", lambda e: (math.lgamma(e.p + 1e-5) - math.lgamma(e.p - 1e-5)) / 2e-5)],
    "erf": [("erf(r)", lambda e: math.erf(e.r))],
    "normal_cdf": [("normal_cdf(x)", lambda e: 0.5 * math.erfc(-e.x / math.sqrt(2)))],
    "floor": [("floor(r * 3)", lambda e: math.floor(e.r * 3))],
    "round": [("round(x * 3)", lambda e: round(float(e.x * 3)))],
    "pow": [("pow(w, r)", lambda e: float(e.w) ** float(e.r)), ("pow(x, 2)", lambda e: float(e.x) ** 2)],
    "atan2": [("atan2(r, x)", lambda e: math.atan2(e.r, e.x)), ("atan2(r, 1)", lambda e: math.atan2(e.r, 1))],
    "where": [
        ("where(x > a, r, 0)", lambda e: e.r if e.x > e.a else 0.0),
        ("where(c, rv, v)", lambda e: e.rv if e.c else e.v),
        (
            "log_mix(where(r < 0, w3, softmax(rv)), v)",
            lambda e: torch.log(((e.w3 if e.r < 0 else softmax(e.rv)) * e.v.exp()).sum()),
        ),
        ("where(r < 0, 1, 2)", lambda e: 1 if e.r < 0 else 2),
        ("where(r < 0, 0.1, 0.3)", lambda e: 0.1 if e.r < 0 else 0.3),
        ("r + where(K > 2, 0.1, 0.3)", lambda e: e.r + 0.1),
    ],
    "maximum": [("maximum(r, x)", lambda e: max(e.r, e.x)), ("maximum(0, rv)", lambda e: e.rv.clamp(min=0))],
    "minimum": [("minimum(r, a)", lambda e: min(e.r, e.a)), ("minimum(rv, 0.5)", lambda e: e.rv.clamp(max=0.5))],
    "sum": [("sum(rm)", lambda e: e.rm.sum()), ("sum(m, axis = 0)", lambda e: e.m.sum(0))],
    "mean": [("mean(rm, axis = 1)", lambda e: e.rm.mean(1)), ("mean(rv * xs)", lambda e: (e.rv * e.xs).mean())],
    "sd": [("sd(rv)", lambda e: np.std(e.rv.numpy(), ddof=1)), ("sd(rm)", lambda e: np.std(e.rm.numpy(), ddof=1))],
    "var": [("var(rm, axis = 1)", lambda e: np.var(e.rm.numpy(), axis=1, ddof=1))],
    "min": [("min(rm)", lambda e: e.rm.min()), ("min(m, axis = 1)", lambda e: e.m.min(1).values)],
    "max": [("max(xs)", lambda e: e.xs.max())],
    "prod": [("prod(rm)", lambda e: np.prod(e.rm.numpy())), ("prod(rm, axis = 0)", lambda e: e.rm.prod(0))],
    "logsumexp": [("logsumexp(rm, axis = 0)", lambda e: np.log(np.exp(e.rm.numpy()).sum(0)))],
    "cumsum": [("cumsum(rm)", lambda e: np.cumsum(e.rm.numpy(), axis=-1))],
    "softmax": [("softmax(rv + v)", lambda e: softmax(e.rv + e.v))],
    "log_softmax": [("log_softmax(xs)", lambda e: softmax(e.xs).log())],
    "reverse": [("reverse(rm)", lambda e: e.rm.flip(-1))],
    "dot": [("dot(rv, v)", lambda e: sum(e.rv * e.v)), ("dot(xs, v)", lambda e: sum(e.xs * e.v))],
    "outer": [("outer(rv, lag(xs, 1))", lambda e: np.outer(e.rv, e.xs[:-1]))],
    "diag": [("diag(rv)", lambda e: np.diag(e.rv))],
    "diagonal": [("diagonal(S)", lambda e: np.diag(e.S).copy())],
    "transpose": [("transpose(rm)", lambda e: e.rm.T), ("transpose(xm) + m", lambda e: e.xm.T + e.m)],
    "cholesky": [("cholesky(S)", lambda e: np.linalg.cholesky(e.S))],
    "inverse": [("inverse(S)", lambda e: np.linalg.inv(e.S)), ("inverse(S - 3)", lambda e: np.linalg.inv(e.S - 3))],
    "solve": [
        ("solve(S, rv)", lambda e: np.linalg.solve(e.S, e.rv)),
        ("solve(S, rm)", lambda e: np.linalg.solve(e.S, e.rm)),
    ],
    "solve_lower": [
        ("solve_lower(L, xs)", lambda e: np.linalg.solve(e.L, e.xs)),
        ("solve_lower(L, rm)", lambda e: np.linalg.solve(e.L, e.rm)),
    ],
    "quad_form": [
        ("quad_form(S, rv)", lambda e: e.rv.numpy() @ e.S.numpy() @ e.rv.numpy()),
        ("quad_form(S, rm)", lambda e: e.rm.T @ e.S @ e.rm),
    ],
    "logdet": [("logdet(S)", lambda e: np.linalg.slogdet(e.S)[1])],
    "ceil": [("ceil(r * 3)", lambda e: math.ceil(e.r * 3))],
    "sign": [("sign(rv)", lambda e: np.sign(e.rv.numpy()))],
    "step": [("step(rv)", lambda e: (e.rv >= 0) * 1.0)],
    "tan": [("tan(r)", lambda e: math.tan(e.r))],
    "asin": [("asin(q)", lambda e: math.asin(e.q))],
    "acos": [("acos(q)", lambda e: math.acos(e.q)), ("acos(0.5)", lambda e: math.pi / 3)],
    "atan": [("atan(r)", lambda e: math.atan(e.r))],
    "sinh": [("sinh(r)", lambda e: math.sinh(e.r))],
    "cosh": [("cosh(r)", lambda e: math.cosh(e.r))],
    "asinh": [("asinh(r)", lambda e: math.asinh(e.r))],
    "atanh": [("atanh(q)", lambda e: math.atanh(e.q))],
    "erfc": [("erfc(r)", lambda e: math.erfc(e.r))],
    "Phi": [("Phi(r)", lambda e: 0.5 * math.erfc(-e.r / math.sqrt(2)))],
    "inv_Phi": [("Phi(inv_Phi(q))", lambda e: e.q)],
    "log_Phi": [("log_Phi(-3 * q)", lambda e: math.log(0.5 * math.erfc(3 * e.q / math.sqrt(2))))],
    "inv": [("inv(w)", lambda e: 1 / e.w), ("inv(4)", lambda e: 0.25)],
    "inv_sqrt": [("inv_sqrt(w)", lambda e: 1 / math.sqrt(e.w))],
    "log2": [("log2(w)", lambda e: math.log2(e.w))],
    "log10": [("log10(w)", lambda e: math.log10(e.w))],
    "log1m": [("log1m(q)", lambda e: math.log(1 - e.q)), ("log1m(0.5)", lambda e: math.log(0.5))],
    "log1m_exp": [
        ("log1m_exp(-w)", lambda e: math.log(-math.expm1(-e.w))),
        ("log1m_exp(-w * 1e-9)", lambda e: math.log(-math.expm1(-e.w * 1e-9))),
    ],
    "log_inv_logit": [("log_inv_logit(r * 50)", lambda e: -np.logaddexp(0, -e.r.numpy() * 50))],
    "cloglog": [("cloglog(q)", lambda e: math.log(-math.log(1 - e.q)))],
    "inv_cloglog": [("inv_cloglog(r)", lambda e: 1 - math.exp(-math.exp(e.r)))],
    "hypot": [("hypot(r, x)", lambda e: math.hypot(e.r, e.x)), ("hypot(rv, 2)", lambda e: (e.rv**2 + 4) ** 0.5)],
    "log_sum_exp": [
        ("log_sum_exp(r, x)", lambda e: math.log(math.exp(e.r) + math.exp(e.x))),
        ("log_sum_exp(0, r * 800)", lambda e: np.logaddexp(0, e.r.numpy() * 800)),
        ("r + log_sum_exp(0.2, K)", lambda e: e.r + np.logaddexp(0.2, K)),
    ],
    "log_diff_exp": [
        ("log_diff_exp(w + x, x)", lambda e: math.log(math.exp(e.w + e.x) - math.exp(e.x))),
        ("r * log_diff_exp(2, 1)", lambda e: e.r * math.log(math.exp(2) - math.exp(1))),
    ],
    "lbeta": [
        ("lbeta(w, 2)", lambda e: math.lgamma(e.w) + math.lgamma(2) - math.lgamma(e.w + 2)),
        ("tanh(lbeta(0.7, K)) * r", lambda e: e.r * math.tanh(math.lgamma(0.7) + math.lgamma(3) - math.lgamma(3.7))),
    ],
    "lchoose": [
        ("lchoose(7, k)", lambda e: math.log(math.comb(7, int(e.k)))),
        ("tanh(lchoose(7, 2)) * r", lambda e: e.r * math.tanh(math.log(21))),
    ],
    "xlogy": [("xlogy(c, w)", lambda e: math.log(e.w) if e.c else 0.0)],
    "norm": [
        ("norm(rm)", lambda e: math.sqrt((e.rm**2).sum())),
        ("norm(rm, axis = 0)", lambda e: np.linalg.norm(e.rm, axis=0)),
    ],
    "median": [
        ("median(rm)", lambda e: np.median(e.rm.numpy())),
        ("median(rm, axis = 0)", lambda e: np.median(e.rm.numpy(), axis=0)),
    ],
    "cumprod": [("cumprod(rm)", lambda e: np.cumprod(e.rm.numpy(), axis=-1))],
    "sort": [("sort(rm)", lambda e: np.sort(e.rm.numpy(), axis=-1))],
    "normalize": [("normalize(rv)", lambda e: e.rv / np.linalg.norm(e.rv))],
    "distance": [("distance(rv, v)", lambda e: np.linalg.norm(e.rv - e.v)), ("distance(xs, xs)", lambda e: 0.0)],
    "squared_distance": [("squared_distance(rv + v, v)", lambda e: (e.rv**2).sum())],
    "diff": [
        ("diff(series)", lambda e: np.diff(e.series.numpy())),
        ("diff(rv) + v[1:]", lambda e: np.diff(e.rv) + e.v.numpy()[1:]),
    ],
    "trace": [("trace(S)", lambda e: np.trace(e.S))],
    "quad_form_diag": [
        ("quad_form_diag(S, s * w)", lambda e: np.diag(e.s * e.w) @ e.S.numpy() @ np.diag(e.s * e.w)),
        ("quad_form_diag(S - 1, rv)", lambda e: np.diag(e.rv) @ (e.S.numpy() - 1) @ np.diag(e.rv)),
    ],
    "diag_pre_multiply": [
        ("diag_pre_multiply(s * w, L)", lambda e: np.diag(e.s * e.w) @ e.L.numpy()),
        ("diag_pre_multiply(rv, m)", lambda e: np.diag(e.rv) @ e.m.numpy()),
        (
            "log_prob(MultivariateNormal(rv, scale_tril = diag_pre_multiply(s, L)), xs)",
            lambda e: torch.distributions.MultivariateNormal(e.rv, scale_tril=torch.diag(e.s) @ e.L).log_prob(e.xs),
        ),
    ],
    "diag_post_multiply": [
        ("diag_post_multiply(L, s)", lambda e: e.L.numpy() @ np.diag(e.s)),
        ("diag_post_multiply(rm, rm[0])", lambda e: e.rm.numpy() @ np.diag(e.rm[0])),
    ],
    "tcrossprod": [("tcrossprod(rm)", lambda e: e.rm @ e.rm.T), ("cholesky(tcrossprod(L))", lambda e: e.L)],
    "crossprod": [("crossprod(rm + m)", lambda e: (e.rm + e.m).T @ (e.rm + e.m))],
    "det": [("det(S)", lambda e: np.linalg.det(e.S)), ("det(S - 3)", lambda e: np.linalg.det(e.S - 3))],
    "matern12": kernel_cases("matern12", "w", lambda e: matern(1, float(e.w))),
    "matern32": kernel_cases("matern32", "w", lambda e: matern(3, float(e.w))),
    "matern52": kernel_cases("matern52", "0.7", lambda e: matern(5, 0.7)),
    "periodic": kernel_cases(
        "periodic", "w, 3", lambda e: lambda d: math.exp(-2 * math.sin(math.pi * d / 3) ** 2 / float(e.w) ** 2)
    ),
    "rational_quadratic": kernel_cases(
        "rational_quadratic", "2, w", lambda e: lambda d: (1 + d * d / (8 * float(e.w))) ** -float(e.w)
    ),
    "dot_product": kernel_cases("dot_product", "", lambda e: lambda d: d),
    "exp_quad": [
        *kernel_cases("exp_quad", "w", lambda e: lambda d: math.exp(-d * d / (2 * float(e.w) ** 2))),
        ("exp_quad(rv, p, w)", lambda e: kernel(e.rv, float(e.p), float(e.w))),
        ("exp_quad(xs, 2, 0.5)", lambda e: kernel(e.xs, 2.0, 0.5)),
    ],
    "add_diag": [
        ("add_diag(S, w)", lambda e: e.S + e.w * torch.eye(K)),
        ("add_diag(S, 2)", lambda e: e.S + 2 * torch.eye(K)),
    ],
    "log_mix": [
        ("log_mix(q, r, a)", lambda e: math.log(e.q * math.exp(e.r) + (1 - e.q) * math.exp(e.a))),
        ("log_mix(w3, rv)", lambda e: torch.log((e.w3 * e.rv.exp()).sum())),
        ("log_mix(0.25, x, 1)", lambda e: math.log(0.25 * math.exp(e.x) + 0.75 * math.e)),
    ],
    "zeros": [("zeros(K) + r", lambda e: torch.zeros(K) + e.r)],
    "ones": [("ones(K, T)", lambda e: torch.ones(K, T))],
    "full": [("full(K, r)", lambda e: torch.ones(K) * e.r), ("full(2, rv)", lambda e: torch.stack([e.rv, e.rv]))],
    "eye": [("eye(K) * r", lambda e: torch.eye(K) * e.r)],
    "range": [("range(K) * w", lambda e: torch.arange(K) * e.w)],
    "log_prob": [
        ("log_prob(Normal(rv, w), xs)", lambda e: torch.distributions.Normal(e.rv, e.w).log_prob(e.xs)),
        (
            "log_prob(MultivariateNormal(rv, scale_tril = L), xs)",
            lambda e: torch.distributions.MultivariateNormal(e.rv, scale_tril=e.L).log_prob(e.xs),
        ),
        ("log_prob(Normal(r, w), 2)", lambda e: torch.distributions.Normal(e.r, e.w).log_prob(torch.tensor(2.0))),
    ],
    "size": [("r * size(S)", lambda e: e.r * K * (K + 1) / 2)],
    "free": [("free(q)", lambda e: torch.log(e.q / (1 - e.q))[None]), ("free(s)", lambda e: e.s.log())],
    "concat": [
        ("concat(rv, [r, 1], v)", lambda e: torch.cat([e.rv, torch.tensor([e.r, 1.0]), e.v])),
        ("concat(xs, xs)", lambda e: torch.cat([e.xs, e.xs])),
    ],
    "lag": [("lag(rv, 1)", lambda e: e.rv[:-1])],
    "lags": [
        ("lags(rv, 1)", lambda e: e.rv[:-1, None]),
        ("lags(series, 2)", lambda e: torch.stack([e.series[1:-1], e.series[:-2]], -1)),
    ],
}

OPERATOR_CASES: list[tuple[str, Oracle]] = [
    ("a - (x - r) - (a + x) * 2 / w / p", lambda e: e.a - (e.x - e.r) - (e.a + e.x) * 2 / e.w / e.p),
    ("-a ^ 2 * 3 - -x ^ -2", lambda e: -(e.a**2) * 3 + e.x**-2.0),
    ("(-a) ^ 2 / (a * x) - (x / w) / (a / p)", lambda e: e.a**2 / (e.a * e.x) - (e.x / e.w) / (e.a / e.p)),
    ("2 ^ r ^ 2", lambda e: 2 ** (e.r**2)),
    ("1 - (2 - (3 - r)) * (w - (x - 1))", lambda e: 1 - (2 - (3 - e.r)) * (e.w - (e.x - 1))),
    ("x / (w * p) * (r + a) / 2", lambda e: e.x / (e.w * e.p) * (e.r + e.a) / 2),
    ("(x < r) + (x <= a) * 2 + (x > r) * 4 + (x >= 0) * 8 + (c == 1) * 16 + (c != 1) * 32",
     lambda e: (e.x < e.r) * 1.0 + (e.x <= e.a) * 2 + (e.x > e.r) * 4 + (e.x >= 0) * 8 + (16 if e.c else 32)),
    ("rv + r * v - xs / w", lambda e: e.rv + e.r * e.v - e.xs / e.w),
    ("rm + rv[:, new] * m", lambda e: e.rm + e.rv[:, None] * e.m),
    ("v[:, new] - rv", lambda e: e.v[:, None] - e.rv),
    ("rm @ xm", lambda e: e.rm @ e.xm),
    ("m @ xm @ m", lambda e: e.m @ e.xm @ e.m),
    ("xm @ rv", lambda e: e.xm @ e.rv),
    ("xm @ v", lambda e: e.xm @ e.v),
    ("m @ (xm @ rv)", lambda e: e.m @ (e.xm @ e.rv)),
    ("S @ xs", lambda e: e.S @ e.xs),
    ("xs @ m", lambda e: e.xs @ e.m),
    ("rv @ rm", lambda e: e.rv @ e.rm),
    ("v @ rm", lambda e: e.v @ e.rm),
    ("xs @ v + v @ xs + xs @ rv", lambda e: 2 * (e.xs @ e.v) + e.xs @ e.rv),
    ("rm[0] + rm[K - 1] * rm[1, 2]", lambda e: e.rm[0] + e.rm[K - 1] * e.rm[1, 2]),
    ("rm[1:, :2] + m[:K - 1, 1:3]", lambda e: e.rm[1:, :2] + e.m[:2, 1:3]),
    ("rv[1:] - rv[:K - 1]", lambda e: e.rv[1:] - e.rv[: K - 1]),
    ("rm[:, -1] + rm[:, T - 1]", lambda e: e.rm[:, -1] * 2),
    ("rv[k] + v[k] * base[k] + xs[k]", lambda e: e.rv[e.k] + e.v[e.k] * e.base[e.k] + e.xs[e.k]),
    ("rm[k] + m[k]", lambda e: e.rm[e.k] + e.m[e.k]),
    ("rm[k, 1] + m[k, 2] + S[0, k] + S[k, k]", lambda e: e.rm[e.k, 1] + e.m[e.k, 2] + e.S[0, e.k] + e.S[e.k, e.k]),
    ("S[:, k] + xm[1:3, k][0] + transpose(rm)[:2, k][1]", lambda e: e.S[:, e.k] + e.xm[1, e.k] + e.rm[e.k, 1]),
    ("rm[k, 1:] + m[1, :-1] * m[k][1:]", lambda e: e.rm[e.k, 1:] + e.m[1, :3] * e.m[e.k, 1:]),
    ("[r, x, 1]", lambda e: torch.tensor([e.r, e.x, 1.0])),
    ("[rv, v, xs]", lambda e: torch.stack([e.rv, e.v, e.xs])),
    ("[[1, 2], [3, 4]] * r", lambda e: torch.tensor([[1.0, 2], [3, 4]]) * e.r),
    ("h[g] * w", lambda e: e.h[e.g] * e.w),
    ("hv[g] + hv[0] * r", lambda e: e.hv[e.g] + e.hv[0] * e.r),
    ("hv[g, k] + hv[1][2] + hv[g][0]", lambda e: e.hv[e.g, e.k] + e.hv[1, 2] + e.hv[e.g, 0]),
    ("cross[g] + cross[1]", lambda e: e.cross[e.g] + e.cross[1]),
    ("cross[g, k] + cross[0, 1]", lambda e: e.cross[e.g, e.k] + e.cross[0, 1]),
    ("sum(h[:]) + max(hv[:])", lambda e: e.h.sum() + e.hv.max()),
    ("h[:] @ hv[:]", lambda e: e.h @ e.hv),
    ("cross[:] * h[:][:, new]", lambda e: e.cross * e.h[:, None]),
    ("series[obs] * x", lambda e: e.series[e.n] * e.x),
    ("sum(series[1:]) + N * r", lambda e: e.series[1:].sum() + N * e.r),
]  # fmt: skip

ALL: list[tuple[str, str, Oracle]] = [
    *(
        (f"{name}_{n}", text, oracle)
        for name, cases in FUNCTION_CASES.items()
        for n, (text, oracle) in enumerate(cases)
    ),
    *((f"op_{n}", *case) for n, case in enumerate(OPERATOR_CASES)),
]
SHARED = ("a", "p", "u", "v", "s", "m", "S", "L", "series", "w3", "h", "hv")


@cache
def program() -> ModuleType:
    lets = "\n".join(f"    let out_{name} = {text}" for name, text, _ in ALL)
    return load_source(Source("expressions.guide", PROGRAM.replace("LETS", lets)))


@cache
def values(particles: int) -> tuple[Any, Any, dict[str, Tensor]]:
    """Data, latents (with a particle axis unless `particles` is 0) and the compiled values."""
    generator = torch.Generator().manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    model = program().Expressions
    data = model.data(
        T=T,
        base=normal(K),
        x=normal(N),
        w=normal(N).exp(),
        c=[1, 0, 0, 1, 1],
        xs=normal(N, K),
        xm=normal(N, T, K),
        g=[0, 1, 1, 0, 1],
        k=[2, 0, 1, 1, 2],
        G=G,
    )
    lead = (particles,) if particles else ()
    root = normal(*lead, K, K)
    latents = model.latents_type(
        a=normal(*lead),
        p=normal(*lead).exp(),
        u=normal(*lead).sigmoid(),
        v=normal(*lead, K),
        s=normal(*lead, K).exp(),
        m=normal(*lead, K, T),
        S=root @ root.mT + torch.eye(K, dtype=torch.float64),
        L=normal(*lead, K, K).tril(-1) + torch.diag_embed(normal(*lead, K).exp()),
        series=normal(*lead, N),
        w3=normal(*lead, K).softmax(-1),
        h=normal(*lead, G),
        hv=normal(*lead, G, K),
        r=normal(*lead, N),
        q=normal(*lead, N).sigmoid(),
        rv=normal(*lead, N, K),
        rm=normal(*lead, N, K, T),
        cross=normal(*lead, G, N, K),
    )
    return data, latents, model.evaluate_quantities(data, latents) | _derived(data)


def _derived(data: Any) -> dict[str, Tensor]:
    """Lets of data alone are computed at binding."""
    return {name: getattr(data, name) for name in vars(data) if name.startswith("out_")}


def test_every_function_has_an_oracle() -> None:
    assert set(FUNCTION_CASES) | {"normal"} == set(FUNCTIONS) | set(SPECIAL)


@pytest.mark.parametrize("particles", [0, PARTICLES], ids=["alone", "particles"])
@pytest.mark.parametrize(("name", "text", "oracle"), ALL, ids=[text for _, text, _ in ALL])
def test_is_what_plain_evaluation_gives(name: str, text: str, oracle: Oracle, particles: int) -> None:
    data, latents, found = values(particles)
    ours = found[f"out_{name}"]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for particle in range(max(1, particles)):
            own = {z: getattr(latents, z)[particle] if particles else getattr(latents, z) for z in latents._fields}
            for row in range(N):
                env = SimpleNamespace(**{z: own[z] for z in SHARED}, base=data.base, n=row)
                vars(env).update({z: own[z][row] for z in ("r", "q", "rv", "rm")}, cross=own["cross"][:, row])
                vars(env).update({field: getattr(data, field)[row] for field in ("x", "w", "c", "xs", "xm", "g", "k")})
                expected = torch.as_tensor(oracle(env), dtype=torch.float64)
                value = ours[particle, row] if particles and f"out_{name}" not in vars(data) else ours[row]
                close = 1e-6 if name.startswith("digamma") else 1e-9  # the oracle is a difference quotient
                torch.testing.assert_close(value, expected, rtol=close, atol=close)
    finally:
        torch.set_default_dtype(before)


def test_random_initial_values() -> None:
    """`normal(…)` starts a parameter at draws of its own shape, in the plate too."""
    text = """
    model M { dim N, K = 2
      plate row[N] { data x : real
        latent z : real[K] ~ Normal(0, 1) } }
    guide G for M { plate row { param w : real[K] = normal(5, 0.1)
      z ~ Normal(w, full(K, 1)) } }
    """
    module = load_source(Source("m", text), "random_initial_values")
    store = ParamStore()
    data = module.M.data(x=[0.0] * 500).with_generator(torch.Generator().manual_seed(1))
    module.G(data, store=store)
    start = store["G.w"].detach()
    assert start.shape == (500, 2)
    assert abs(float(start.mean()) - 5) < 0.02
    assert abs(float(start.std()) - 0.1) < 0.01
