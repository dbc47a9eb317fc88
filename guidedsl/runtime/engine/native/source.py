"""The C file of many steps: an evaluation in loops, and Adam."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from guidedsl.runtime.engine.native.loops import Loops
from guidedsl.runtime.engine.native.values import Stored, c_type

PRELUDE = """\
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#ifdef VECTOR_MATH
#define VECTORS(name) extern double name(double) __attribute__((simd("notinbranch"))); \\
  extern float name##f(float) __attribute__((simd("notinbranch")));
VECTORS(exp) VECTORS(log) VECTORS(sin) VECTORS(cos) VECTORS(log1p) VECTORS(expm1) VECTORS(tanh) VECTORS(erf)
#endif

static inline long row(long index, long size) { return index < 0 ? index + size : index; }

/* Recurrence up to 10, then the asymptotic series (Abramowitz and Stegun 1964, 6.3.5, 6.3.18, 6.4.6, 6.4.12). */
static double digamma(double x) {
  double sum = 0.0;
  if (x <= 0.0) {
    if (x == floor(x)) return x == 0.0 ? (signbit(x) ? INFINITY : -INFINITY) : NAN;
    return digamma(1.0 - x) - M_PI / tan(M_PI * x);
  }
  for (; x < 10.0; x += 1.0) sum -= 1.0 / x;
  const double z = 1.0 / (x * x);
  return sum + log(x) - 0.5 / x
    - z * (1.0 / 12 - z * (1.0 / 120 - z * (1.0 / 252 - z * (1.0 / 240 - z * (1.0 / 132 - z * 691.0 / 32760)))));
}
static double trigamma(double x) {
  double sum = 0.0;
  if (x <= 0.0) {
    const double s = sin(M_PI * x);
    return M_PI * M_PI / (s * s) - trigamma(1.0 - x);
  }
  for (; x < 10.0; x += 1.0) sum += 1.0 / (x * x);
  const double z = 1.0 / (x * x);
  return sum + 1.0 / x + z / 2
    + z / x * (1.0 / 6 - z * (1.0 / 30 - z * (1.0 / 42 - z * (1.0 / 30 - z * (5.0 / 66 - z * 691.0 / 2730)))));
}
#define MATRICES(c, root) \
static inline c dot_##c(long n, const c *a, const c *b) { \
  c sum = 0; \
  _Pragma("omp simd reduction(+:sum)") \
  for (long k = 0; k < n; k++) sum += a[k] * b[k]; \
  return sum; \
} \
/* Lower factor, NaN where there is none. */ \
static void cholesky_##c(long n, const c *a, c *l) { \
  for (long j = 0; j < n; j++) { \
    for (long i = 0; i < j; i++) l[i * n + j] = 0; \
    for (long i = j; i < n; i++) { \
      const c sum = a[i * n + j] - dot_##c(j, l + i * n, l + j * n); \
      if (i == j && !(sum > 0)) { for (long k = 0; k < n * n; k++) l[k] = NAN; return; } \
      l[i * n + j] = i == j ? root(sum) : sum / l[j * n + j]; \
    } \
  } \
} \
/* X [n, m] in T X = B. */ \
static void solve_##c(long n, long m, const c *t, const c *b, c *x, int upper, int unit) { \
  for (long step = 0; step < n; step++) { \
    const long i = upper ? n - 1 - step : step; \
    const long from = upper ? i + 1 : 0, to = upper ? n : i; \
    if (m == 1) { x[i] = (b[i] - dot_##c(to - from, t + i * n + from, x + from)) / t[i * n + i]; continue; } \
    for (long j = 0; j < m; j++) x[i * m + j] = b[i * m + j]; \
    for (long k = from; k < to; k++) { \
      const c factor = t[i * n + k]; \
      for (long j = 0; j < m; j++) x[i * m + j] -= factor * x[k * m + j]; \
    } \
    for (long j = 0; j < m; j++) x[i * m + j] /= t[i * n + i]; \
  } \
} \
/* C [m, n] = A [m, k] B [k, n]. In a library's matrices columns stand one after another: it computes C' = B' A'. */ \
void (*library_##c)(const char *, const char *, const int *, const int *, const int *, const c *, const c *, \
                    const int *, const c *, const int *, const c *, c *, const int *); \
static void product_##c(int m, int n, int k, const c *a, int row_a, int turned_a, const c *b, int row_b, \
                        int turned_b, c *out) { \
  const c one = 1, zero = 0; \
  library_##c(turned_b ? "T" : "N", turned_a ? "T" : "N", &n, &m, &k, &one, b, &row_b, a, &row_a, &zero, out, &n); \
}
MATRICES(float, sqrtf)
MATRICES(double, sqrt)

static inline float digammaf(float x) { return digamma(x); }
static inline float trigammaf(float x) { return trigamma(x); }
"""

ADAM = """\
    /* Adam (Kingma and Ba 2015, algorithm 1); a segment is leaves of equal options. */
    if (clip_value > 0)
      for (long i = 0; i < {n}; i++) g[i] = g[i] > clip_value ? clip_value : g[i] < -clip_value ? -clip_value : g[i];
    if (clip_norm > 0) {{
      double norm = 0.0;
      #pragma omp simd reduction(+:norm)
      for (long i = 0; i < {n}; i++) norm += (double)g[i] * g[i];
      norm = sqrt(norm);
      if (norm > clip_norm) for (long i = 0; i < {n}; i++) g[i] *= clip_norm / norm;
    }}
    for (long k = 0, start = 0; k < segments; k++) {{
      const double *own = segment + 6 * k;
      const long end = own[0];
      const double count = own[1] + t + 1, beta1 = own[3], beta2 = own[4];
      const {c} rate = rates[t] * own[2] / (1.0 - pow(beta1, count)), scale = 1.0 / sqrt(1.0 - pow(beta2, count));
      const {c} part1 = 1.0 - beta1, part2 = 1.0 - beta2, keep2 = beta2, eps = own[5];
      {parallel}
      for (long i = start; i < end; i++) {{
        first[i] += (g[i] - first[i]) * part1;
        second[i] = second[i] * keep2 + g[i] * g[i] * part2;
        x[i] -= rate * first[i] / (sqrt{f}(second[i]) * scale + eps);
      }}
      start = end;
    }}
    if (iterates) for (long i = 0; i < {n}; i++) iterates[t * {n} + i] = x[i];
"""


LONG_UPDATE = 50_000
"""Parameters from which several threads update them sooner than one."""


def source(
    loops: Loops,
    dtype: torch.dtype,
    size: int,
    stepped: Sequence[tuple[Stored, int]],
    fixed: Sequence[Stored],
    threads: int = 1,
) -> tuple[str, int]:
    """The text, and the bytes of room that its arrays need.

    `size` numbers are learned. `stepped` are arrays of which each step has its own part, with its length; `fixed`
    those that all steps share. The function stops where a loss or its gradient is not finite, before that step's
    update, and returns how many steps it took. Long loops are done by so many `threads`.
    """
    body = loops.text(threads)
    c = c_type(dtype)
    long = threads > 1 and size >= LONG_UPDATE
    beside = "#pragma omp parallel for simd" if long else "#pragma omp simd"
    by_segment = f"{beside} if(parallel: end - start >= {LONG_UPDATE})" if long else beside
    room, arrays = 0, []
    for number, value in loops.buffers.items():
        kind = c_type(value.dtype)
        arrays.append(f"{kind} *restrict const b{number} = ({kind} *)(room + {room});")
        room += -(-value.numel * value.dtype.itemsize // 64) * 64
    for number, (dtype_of, length) in loops.private.items():
        kind = c_type(dtype_of)
        arrays.append(f"{kind} *restrict const q{number} = ({kind} *)(room + {room});")
        room += -(-length * dtype_of.itemsize // 64) * 64
    n = 0
    outer, inner = [], []
    for array, length in stepped:
        kind = c_type(array.dtype)
        inner.append(f"const {kind} *const {array.name} = (const {kind} *)given[{n}] + t * {length};")
        n += 1
    for array in fixed:
        kind = c_type(array.dtype)
        outer.append(f"const {kind} *const {array.name} = (const {kind} *)given[{n}];")
        n += 1
    lines = [
        PRELUDE,
        f"long steps(long count, {c} *restrict x, {c} *restrict first, {c} *restrict second, {c} *restrict g,",
        "    const double *rates, double clip_value, double clip_norm, long segments, const double *segment,",
        f"    void *const *given, char *room, double *losses, {c} *iterates) {{",
        *(f"  {line}" for line in (*outer, *arrays)),
        "  for (long t = 0; t < count; t++) {",
        *(f"    {line}" for line in (*inner, f"{c} loss;", *body)),
        "    losses[t] = loss;",
        f"    {c} finite = 0;",
        f"    {beside} reduction(+:finite)",
        f"    for (long i = 0; i < {size}; i++) finite += g[i] - g[i];",
        "    if (!isfinite(loss) || finite != 0) return t;",
        ADAM.format(n=size, c=c, f="f" if dtype is torch.float32 else "", parallel=by_segment),
        "  }",
        "  return count;",
        "}",
        "",
    ]
    return "\n".join(lines), room
