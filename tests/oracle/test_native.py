"""Steps as C loops against torch: each operation, views of views, and the programs of the corpus.

Loops add in another order, and their exp and log are those of the C library, so numbers agree to a few roundings.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import guidedsl
from guidedsl.modules import load_source
from guidedsl.runtime import Guide, ParamStore
from guidedsl.runtime.elbo import ELBO
from guidedsl.runtime.engine.block import Blocks
from guidedsl.runtime.engine.evaluate import Eager
from guidedsl.runtime.engine.native import block, build, loops, operators, source
from guidedsl.runtime.engine.native.block import native_steps
from guidedsl.runtime.engine.native.elementwise import COMPARISONS, ELEMENTWISE
from guidedsl.runtime.engine.native.index import Index, reshaped
from guidedsl.runtime.engine.native.values import NotNative
from guidedsl.runtime.optim import Adam, LeafOptions
from guidedsl.source import Source, read_source

DTYPES = [torch.float64, torch.float32]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
Function = Callable[..., Tensor]


def through_c(functions: dict[str, Function], fields: list[Tensor]) -> dict[str, Tensor]:
    """What the functions give when they are written as one C function, each flat."""
    dtype = fields[0].dtype
    sizes = [function(*fields).numel() for function in functions.values()]
    x = torch.zeros(sum(sizes), dtype=dtype)

    def step(x: Tensor, *fields: Tensor) -> tuple[Tensor, Tensor]:
        return x.sum(), torch.cat([function(*fields).to(dtype).reshape(-1) for function in functions.values()])

    steps = native_steps(step, [x], fields, [], [])
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    # With beta1 = 0 the first moment is the gradient.
    options = [LeafOptions(len(x), 0.0, 1.0, 0.0, 0.9, 1e-8)]
    losses = steps(Adam(), options, 0, x, first, second, fields, [], torch.full((1,), 0.01, dtype=torch.float64), None)
    assert len(losses) == 1
    return dict(zip(functions, first.split(sizes), strict=True))


def check(functions: dict[str, Function], fields: list[Tensor]) -> None:
    found = through_c(functions, fields)
    for name, function in functions.items():
        expected = function(*fields).to(fields[0].dtype).reshape(-1)
        # The series of torch's trigamma ends early.
        tolerance = max(TOLERANCE[fields[0].dtype], 1e-8 if name == "trigamma" else 0.0)
        torch.testing.assert_close(
            found[name], expected, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = at.detach().requires_grad_()
        (found,) = torch.autograd.grad(function(leaf), leaf)
    return found


def test_a_result_that_is_rows_by_number_is_not_the_numbers() -> None:
    """Both have one shape, and lie at the position of the loop."""
    x = torch.arange(5, dtype=torch.float64) * 10

    def step(x: Tensor, y: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
        return x.sum(), y[i + 1]

    steps = native_steps(step, [torch.zeros(3, dtype=x.dtype)], [x, torch.tensor([2, 0, 1])], [], [])
    start, first, second = (torch.zeros(3, dtype=x.dtype) for _ in range(3))
    options = [LeafOptions(3, 0.0, 1.0, 0.0, 0.9, 1e-8)]
    given = [x, torch.tensor([2, 0, 1])]
    steps(Adam(), options, 0, start, first, second, given, [], torch.full((1,), 0.01, dtype=torch.float64), None)
    assert first.tolist() == [30.0, 10.0, 20.0]


@contextmanager
def short_loops_in_parts(threads: int, noise_cost: int = 0) -> Iterator[None]:
    """All loops are done by so many threads, however short they are."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops, "LONG", 0)
        patch.setattr(source, "LONG_UPDATE", 0)
        patch.setattr(block, "NOISE_COST", noise_cost)
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def normals(dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


aten = torch.ops.aten
WITH_NUMBERS: dict[str, Function] = {
    "softplus": lambda x, y: aten.softplus(10 * x, 2, 5),
    "softplus_backward": lambda x, y: aten.softplus_backward(y, 10 * x, 2, 5),
    "threshold_backward": lambda x, y: aten.threshold_backward(y, x, 0.1),
    "logit_backward": lambda x, y: aten.logit_backward(y, torch.sigmoid(x)),
    "log_sigmoid_backward": lambda x, y: aten.log_sigmoid_backward(y, x, torch.exp(-x.abs())),
    "xlogy": lambda x, y: aten.xlogy(torch.relu(x), y.abs()),
    "special_xlog1py": lambda x, y: aten.special_xlog1py(torch.relu(x), y.abs()),
}
UNIT = {"logit"}
BOUNDED = {"asin", "acos", "atanh"}
POSITIVE = {"log", "log2", "log10", "sqrt", "rsqrt", "lgamma", "digamma", "log1p"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_elementwise(dtype: torch.dtype) -> None:
    functions: dict[str, Function] = {}
    for name, template in {**ELEMENTWISE, **COMPARISONS}.items():
        operation = getattr(torch.ops.aten, name)
        if name in WITH_NUMBERS:
            functions[name] = WITH_NUMBERS[name]
        elif name.startswith("bitwise"):
            functions[name] = lambda x, y, f=operation, two="{1}" in template: f(x > 0, y > 0) if two else f(x > 0)
        elif "{1}" in template:
            functions[name] = lambda x, y, f=operation: f(x, y)
        elif name in UNIT:
            functions[name] = lambda x, y, f=operation: f(torch.sigmoid(x))
        elif name in BOUNDED:
            functions[name] = lambda x, y, f=operation: f(torch.tanh(x))
        elif name in POSITIVE:
            functions[name] = lambda x, y, f=operation: f(x.abs() + 0.1)
        else:
            functions[name] = lambda x, y, f=operation: f(x)
    functions["logaddexp of equals"] = lambda x, y: torch.logaddexp(x, x)
    functions["logsigmoid"] = lambda x, y: torch.nn.functional.logsigmoid(20 * x)
    functions["addcmul"] = lambda x, y: torch.addcmul(x, y, x) + torch.addcmul(x, y, y, value=2)
    functions["masked_fill"] = lambda x, y: x.masked_fill(y > 0, 3.0)
    functions["acosh"] = lambda x, y: torch.acosh(x.abs() + 1.5)
    functions["trigamma"] = lambda x, y: torch.polygamma(1, x.abs() + 0.1)
    for power in (-2, -1, -0.5, 0, 0.5, 1, 2, 3, 2.7):
        functions[f"to the {power}"] = lambda x, y, p=power: (x.abs() + 0.1) ** p
    functions["clamp"] = lambda x, y: x.clamp(-0.5, 0.7) + y.clamp(min=0.1) + torch.clamp(x, max=0.3)
    functions["where"] = lambda x, y: torch.where(x > 0.5, x, torch.where(y < 0, 2.0, y))
    functions["broadcast"] = lambda x, y: x[:, None] * y[None, :3] + 2
    functions["types"] = lambda x, y: (x > 0) * y + (x > 0).sum() + torch.arange(17)
    check(functions, [normals(dtype, 17) * 1.5, normals(dtype, 1, 17)[0]])


@pytest.mark.parametrize(
    ("dtype", "largest", "threads"),
    [
        (torch.float64, operators.LARGEST_PRODUCT, 1),
        (torch.float32, operators.LARGEST_PRODUCT, 1),
        (torch.float32, 0, 1),
        (torch.float64, operators.LARGEST_PRODUCT, 3),
    ],
)
def test_what_is_not_elementwise(
    dtype: torch.dtype, largest: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "LARGEST_PRODUCT", largest)  # beyond it torch's library multiplies
    rows = torch.tensor([3, 0, 0, -1, 2])
    functions: dict[str, Function] = {
        "sum": lambda a, b, c, i: a.sum((0, 2)),
        "sum of all": lambda a, b, c, i: (a * 2 + 1).sum(),
        "sum of the last": lambda a, b, c, i: a.sum(-1, keepdim=True) + a,
        "sum of the first": lambda a, b, c, i: a.sum(0) * a[1],
        "sum of the middle": lambda a, b, c, i: a.sum(1) - a.mean(1),
        "mean": lambda a, b, c, i: a.mean(),
        "amax": lambda a, b, c, i: a.amax(1) + a.amin((0, 1)) * a.amax(),
        "any": lambda a, b, c, i: (a > 1).any(1).to(dtype),
        "prod": lambda a, b, c, i: a.prod(2),
        "var": lambda a, b, c, i: a.var(1) + a.var((0, 1), correction=0)[:4].sum(),
        "norm": lambda a, b, c, i: torch.linalg.vector_norm(a, dim=(0, 1)),
        "logsumexp": lambda a, b, c, i: a.logsumexp(1),
        "softmax": lambda a, b, c, i: a.softmax(1) + a.log_softmax(2),
        "cumsum": lambda a, b, c, i: a.cumsum(0) + a.cumsum(1) * a.cumsum(-1),
        "cumsum of one": lambda a, b, c, i: a[:, :1].cumsum(1),
        "mm": lambda a, b, c, i: b @ c,
        "mm turned": lambda a, b, c, i: c.T @ b.T,
        "mm to one column": lambda a, b, c, i: b @ c[:, :1],
        "mm of one column": lambda a, b, c, i: b.T @ (b @ c[:, :1]),
        "mm to one": lambda a, b, c, i: b[:1] @ c[:, :1],
        "mm of parts": lambda a, b, c, i: b[:, 1:3] @ c[1:3] + b[1:, ::2].sum(),
        "mm of every other row": lambda a, b, c, i: b.T[::2] @ c[:3, 1:] if b.shape[0] == 3 else b,
        "mm of an expanded row": lambda a, b, c, i: c[:1].expand(3, 3) @ c[:3],
        "mm of a row by its number": lambda a, b, c, i: c[i[:1]] @ c[:3],
        "mm of computed": lambda a, b, c, i: (b * 2).T @ (b + 1),
        "bmm": lambda a, b, c, i: a @ a.mT,
        "mv": lambda a, b, c, i: b @ c[:, 0],
        "dot": lambda a, b, c, i: b[0] @ c[:, 1],
        "outer": lambda a, b, c, i: torch.outer(b[0], c[0]),
        "index": lambda a, b, c, i: c[i],
        "index two": lambda a, b, c, i: c[i, i % 2],
        "index later": lambda a, b, c, i: a[:, i % 3],
        "index_select": lambda a, b, c, i: c.index_select(0, i % 4),
        "gather": lambda a, b, c, i: c.gather(0, (i % 4)[:, None].expand(5, 3)),
        "index_put": lambda a, b, c, i: torch.zeros_like(c).index_put((i,), c[:1].expand(5, 3), accumulate=True),
        "index_add": lambda a, b, c, i: c.index_add(0, i % 4, torch.ones(5, 3, dtype=dtype)),
        "scatter_add": lambda a, b, c, i: c.scatter_add(
            0, (i % 4)[:, None].expand(5, 3), torch.ones(5, 3, dtype=dtype)
        ),
        "cat": lambda a, b, c, i: torch.cat([c, c * 2, c[:1]], 0) + 1,
        "stack": lambda a, b, c, i: torch.stack([c, -c, c * c], 1),
        "triangles": lambda a, b, c, i: c.tril(-1) + c.triu(1) + a[0, 0, 0] * c.tril(2),
        "all": lambda a, b, c, i: (a > -1).all(2).to(dtype) + (a > -9).all(),
        "index_copy": lambda a, b, c, i: c.index_copy(0, i[:2], b.T[:2, :3]),
        "backward of views": lambda a, b, c, i: gradient(
            lambda x: (x[1:, ::2].exp() * x[0, 1] + x.diagonal(1)[:2].sum()).sum() + x.select(1, 2).square().sum(), c
        ),
        "backward of sums": lambda a, b, c, i: gradient(
            lambda x: (x.logsumexp(0) * x.softmax(1)[0]).sum() + x.log_softmax(0).square().sum(), c
        ),
        "diagonal": lambda a, b, c, i: c.diagonal() + c.diagonal(-1),
        "tril": lambda a, b, c, i: c.tril() + c.triu(1),
        "pad": lambda a, b, c, i: torch.nn.functional.pad(c, (1, -1, 2, 0), value=0.5),
        "flip": lambda a, b, c, i: a.flip(0, 2) - a,
        "strides": lambda a, b, c, i: a[:, 1::2, 2] * 3,
        "cholesky": lambda a, b, c, i: torch.linalg.cholesky_ex(a @ a.mT + 2 * torch.eye(3, dtype=dtype)).L,
        "solve_triangular": lambda a, b, c, i: torch.linalg.solve_triangular(c[:3].tril() + 3, b[:3], upper=False),
        "solve for one column": lambda a, b, c, i: torch.linalg.solve_triangular(
            c[:3].tril() + 3, b[:3, :1], upper=False
        ),
        "solve from below for one column": lambda a, b, c, i: torch.linalg.solve_triangular(
            c[:3].triu() + 3, b[:3, :1], upper=True
        ),
        "solve from the right": lambda a, b, c, i: torch.linalg.solve_triangular(
            c[:3].triu() + 3, b[:3].T, upper=True, left=False
        ),
    }
    fields = [normals(dtype, 2, 3, 5), normals(dtype, 6, 4), normals(dtype, 4, 3), rows]
    if threads == 1:
        check(functions, fields)
    else:
        with short_loops_in_parts(threads):
            check(functions, fields)


def test_a_long_sum_in_single_precision() -> None:
    """Torch adds in pairs, and one number after another would lose four digits more."""
    x = torch.full((300_000,), 0.1) + 0.01 * normals(torch.float32, 300_000)
    functions: dict[str, Function] = {"sum": lambda x: (x * 1.5).sum()}
    exact = (x.double() * 1.5).sum()
    assert through_c(functions, [x])["sum"].item() == pytest.approx(exact.item(), rel=3e-7)


def random_views(seed: int) -> Function:
    """A chain of views of a [2, 3, 4, 5] tensor, some of whose steps are computed with."""
    moves = random.Random(seed)

    def chain(x: Tensor, y: Tensor) -> Tensor:
        moves.seed(seed)
        for _ in range(moves.randint(2, 7)):
            kind, rank = moves.randrange(8), x.dim()
            axis = moves.randrange(rank) if rank else 0
            if kind == 0:
                x = x.permute(*moves.sample(range(rank), rank))
            elif kind == 1:
                sizes = [n for n in (1, 2, 3, 4, 5, 6, 8, 10, 12) if x.numel() % n == 0]
                size = moves.choice(sizes)
                x = x.reshape(size, x.numel() // size)
            elif kind == 2 and rank > 1:
                x = x.flatten(0, 1)
            elif kind == 3 and rank:
                x = x.narrow(axis, x.shape[axis] // 2, x.shape[axis] - x.shape[axis] // 2)
            elif kind == 4 and rank > 1:
                x = x.select(axis, x.shape[axis] - 1)
            elif kind == 5 and rank < 5:
                x = x.unsqueeze(axis).expand(*x.shape[:axis], 2, *x.shape[axis:])
            elif kind == 6:
                x = x * 2 + y
            elif rank > 1:
                x = x + x.sum(axis, keepdim=True)
        return x

    return chain


def test_views_of_views() -> None:
    functions = {f"seed {seed}": random_views(seed) for seed in range(60)}
    check(functions, [normals(torch.float64, 2, 3, 4, 5), normals(torch.float64, 1)])


def test_the_only_thread_does_long_loops_where_much_is_drawn_too() -> None:
    functions: dict[str, Function] = {"sum": lambda x: x.exp().sum(0) + x.square().sum()}
    with short_loops_in_parts(1, noise_cost=10**9):
        check(functions, [normals(torch.float64, 7, 5)])


def test_sums_by_several_threads_are_the_same_each_time() -> None:
    x = normals(torch.float32, 40, 5000)
    functions: dict[str, Function] = {
        "all": lambda x: (x * x).sum(),
        "rows": lambda x: x.exp().sum(1),
        "columns": lambda x: x.sin().sum(0),
        "most": lambda x: x.amax() + x.amin(0) + x.amax(1).sum(),
    }
    with short_loops_in_parts(4):
        check(functions, [x])
        first = through_c(functions, [x])
        for _ in range(20):
            again = through_c(functions, [x])
            assert all(torch.equal(first[name], again[name]) for name in functions)


class Sites:
    """A loss of many small parameters, most of which are treated alike: what is done to them follows from the seed."""

    def __init__(self, seed: int) -> None:
        moves = random.Random(seed)
        self.shape: tuple[int, ...] = moves.choice([(), (), (), (3,), (2, 2)])
        self.count = moves.choice([9, 24])
        self.ways = [moves.randrange(7) for _ in range(4)]
        self.odd = moves.sample(range(self.count), moves.choice([0, 1, 3]))
        self.backwards = moves.random() < 0.3
        leaves = [torch.full(self.shape, 0.1 * n) for n in range(2 * self.count)]
        self.leaves = [leaf.double() for leaf in (*leaves, torch.tensor(0.3))]
        self.noise = normals(torch.float64, self.count, *self.shape)
        self.table = normals(torch.float64, 5)
        self.rows = torch.arange(self.count) * 3 % 5

    def loss(self, leaves: list[Tensor], noise: Tensor, rows: Tensor, table: Tensor) -> Tensor:
        values = [leaves[2 * n] + leaves[2 * n + 1].exp() * noise[n] for n in range(self.count)]
        for way in self.ways:
            before = list(values)
            for n in range(self.count):
                if n in self.odd:
                    values[n] = values[n].sin()
                elif way == 0:
                    values[n] = before[n] - before[n - 1] * 0.5
                elif way == 1:
                    values[n] = values[n] * leaves[-1]
                elif way == 2:
                    values[n] = values[n] + table.index_select(0, rows[n : n + 1]).sum()
                elif way == 3:
                    values[n] = values[n] * (0.1 * n + 1)
                elif way == 4:
                    values[n] = values[n] - values[n].sum() * 0.1
                elif way == 5:
                    values[n] = values[n].tanh() + values[n - 1] * 0.1
                else:
                    values[n] = torch.where(values[n] > 0, values[n], values[n] * 0.2)
        total = torch.zeros(())
        for value in reversed(values) if self.backwards else values:
            total = total + (-0.5 * value.square() - leaves[0].sum()).sum()
        return total

    def step(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        leaves = [leaf.detach().requires_grad_() for leaf in inputs[: len(self.leaves)]]
        with torch.enable_grad():
            loss = self.loss(leaves, *inputs[len(self.leaves) :])
            return loss.detach(), *torch.autograd.grad(loss, leaves, materialize_grads=True)


@pytest.mark.parametrize("seed", range(12))
def test_sites_alike_become_one(seed: int) -> None:
    sites = Sites(seed)
    steps = native_steps(sites.step, sites.leaves, [sites.noise], [sites.rows], [sites.table])
    x = torch.cat([leaf.reshape(-1) for leaf in sites.leaves])
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    options = [LeafOptions(len(x), 0.0, 1.0, 0.0, 0.9, 1e-8)]
    rates = torch.full((1,), 0.01, dtype=torch.float64)
    given = [sites.noise, sites.rows]
    loss = steps(Adam(), options, 0, x, first, second, given, [sites.table], rates, None)
    expected, *gradients = sites.step(*sites.leaves, sites.noise, sites.rows, sites.table)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(first, torch.cat([g.reshape(-1) for g in gradients]), rtol=1e-11, atol=1e-11)


def test_more_sites_are_no_more_lines() -> None:
    lines = []
    for count in (20, 200):
        sites = Sites(0)
        sites.count, sites.ways, sites.odd, sites.shape = count, [0, 1, 3, 6], [], ()
        leaves = [torch.tensor(0.1 * n) for n in range(2 * count + 1)]
        sites.leaves = leaves
        noise, table, rows = normals(torch.float32, count), torch.zeros(1), torch.zeros(count, dtype=torch.int64)
        lines.append(native_steps(sites.step, leaves, [noise], [rows], [table]).text.count("\n"))
    assert lines[0] == lines[1]


@pytest.mark.parametrize(("old", "new"), [((2, 3, 4), (6, 4)), ((2, 3, 4), (2, 12)), ((2, 3, 4), (24,))])
def test_axes_that_are_joined_and_split_again_divide_nothing(old: tuple[int, ...], new: tuple[int, ...]) -> None:
    at = tuple(Index.of(f"i{n}", size) for n, size in enumerate(old))
    back = reshaped(reshaped(at, old, new), new, old)
    assert [one.text for one in back] == [one.text for one in at]


PROGRAMS = Path(__file__).parent.parent / "cases" / "programs"
FEW = {
    "autos": ("Mix",),
    "correlations": None,
    "gaussian_process": ("MeanField",),
    "minibatch": None,
    "missing": None,
    "nested_plates": ("Hand",),
    "nets_vae": None,
    "types_structured": ("Rows",),
}
"""Programs, with some of their guides, that all runs try; ALL_GUIDES=1 tries every guide of every program."""


def guides() -> list[tuple[str, str]]:
    found = []
    for folder in sorted(path.parent for path in PROGRAMS.glob("*/data.json")):
        if "ALL_GUIDES" in os.environ or folder.name in FEW:
            text = (folder / "model.guide").read_text(encoding="utf-8")
            names = [line.split()[1] for line in text.splitlines() if line.startswith("guide ")]
            some = None if "ALL_GUIDES" in os.environ else FEW[folder.name]
            found += [(folder.name, name) for name in names if some is None or name in some]
    return found


def steps_of(guide: Guide, data: Any, native: bool) -> tuple[list[float], dict[str, Tensor]]:
    """Five steps, and the parameters after them."""
    torch.manual_seed(0)
    store, adam, loss = ParamStore(), Adam(lr=0.01), ELBO(num_particles=2)
    generator = torch.Generator().manual_seed(1)
    if native:
        blocks = Blocks(Eager(guide.model, guide, loss, store), adam, native_only=True)
        noise = data.noise(generator)
        losses = blocks(data, noise, adam.rates(blocks.takes(data, 5))).tolist()
    else:
        svi = guidedsl.SVI(guide.model, guide, adam, loss, store=store, generator=generator, engine="autograd")
        losses = [svi.step(data) for _ in range(5)]
    return losses, {name: leaf.detach().clone() for name, leaf in store.named_parameters()}


@pytest.mark.parametrize(("program", "name"), guides())
def test_programs(program: str, name: str) -> None:
    """Adam divides a gradient that is nothing but rounding by 1e-8, so that parameters agree to 1e-8 alone."""
    module = load_source(read_source(PROGRAMS / program / "model.guide"))
    guide = getattr(module, name)
    fields = json.loads((PROGRAMS / program / "data.json").read_text(encoding="utf-8"))
    data = guide.model.data(fields.get(guide.model.name, fields), dtype=torch.float64)
    expected, leaves = steps_of(guide, data, native=False)
    found, own = steps_of(guide, data, native=True)
    assert found == pytest.approx(expected, rel=1e-8)
    for leaf, value in leaves.items():
        torch.testing.assert_close(own[leaf], value, rtol=1e-6, atol=1e-6)


NORMAL = """
model M { dim N  latent mu : real ~ Normal(0, 1)  plate n[N] { observed y : real ~ Normal(mu, 1) } }
guide G for M { auto mean_field for rest }
"""


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_source(Source("m.guide", NORMAL))
    data = module.M.data(y=torch.ones(3))
    build.compiler.cache_clear()
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(NotNative, match="CC=no-such-compiler is not installed"):
        steps_of(module.G, data, native=True)
    fit = module.G.fit(data, steps=2500, seed=1)
    build.compiler.cache_clear()
    assert fit.steps == 2500


def test_what_is_kept_is_used_again_and_made_anew_where_it_is_damaged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = load_source(Source("m.guide", NORMAL))
    data = module.M.data(y=torch.ones(3))
    monkeypatch.setenv("GUIDEDSL_CACHE", str(tmp_path / "kept"))
    first, _ = steps_of(module.G, data, native=True)
    (library,) = (tmp_path / "kept").glob("*.so")
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0
    made = library.stat().st_ino
    assert steps_of(module.G, data, native=True)[0] == first
    assert library.stat().st_ino == made
    (tmp_path / "other").mkdir()
    damaged = tmp_path / "other" / library.name
    damaged.write_bytes(b"\x7fELF")
    damaged.chmod(0o600)
    monkeypatch.setenv("GUIDEDSL_CACHE", str(damaged.parent))
    assert steps_of(module.G, data, native=True)[0] == first
    assert damaged.stat().st_size > 1000


def test_what_nothing_has_loaded_for_long_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GUIDEDSL_CACHE", str(tmp_path))

    def run(scale: int) -> None:
        module = load_source(Source("m.guide", NORMAL.replace("Normal(mu, 1)", f"Normal(mu, {scale})")))
        steps_of(module.G, module.M.data(y=torch.ones(3)), native=True)

    run(1)
    (first,) = tmp_path.glob("*.so")
    run(2)
    for path in tmp_path.glob("*.so"):
        os.utime(path, (0, 0))
    run(1)
    run(3)
    assert first.exists()
    assert len(list(tmp_path.glob("*.so"))) == 2
