"""Where a loss stopped being finite: the parameter, or the `.guide` line and the site."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.model import Guide, Model

if TYPE_CHECKING:
    from guidedsl.runtime.params import ParamStore


@dataclass(frozen=True)
class _Culprit:
    """An operation whose result is not finite though its inputs are, with the generated line that it serves."""

    line: int
    operation: str
    result: str


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    if isinstance(value, dict):
        return _tensors(list(value.values()))
    return []


def _floating(value: object) -> list[Tensor]:
    return [tensor for tensor in _tensors(value) if tensor.is_floating_point()]


class _Watch(TorchFunctionMode):
    """Notes the first operation under a generated frame that makes NaN, and the first that makes an infinity."""

    def __init__(self, filename: str) -> None:
        super().__init__()
        self.filename = filename
        self.nan: _Culprit | None = None
        self.infinity: _Culprit | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        outputs = _floating(result)
        if func is torch.linalg.cholesky_ex and bool(result.info.any()):
            self._note_no_factor(_floating(args))
        elif outputs and not all(bool(tensor.isfinite().all()) for tensor in outputs):
            self._note(func, outputs, _floating(args) + _floating(kwargs))
        return result

    def _note(self, func: Callable[..., Any], outputs: list[Tensor], inputs: list[Tensor]) -> None:
        line = self._generated_line()
        if line is None:
            return
        name = getattr(func, "__name__", str(func)).strip("_")
        if any(bool(tensor.isnan().any()) for tensor in outputs):
            if self.nan is None and not any(bool(tensor.isnan().any()) for tensor in inputs):
                self.nan = _Culprit(line, name, "NaN")
        elif self.infinity is None and all(bool(tensor.isfinite().all()) for tensor in inputs):
            negative = any(bool((tensor == -torch.inf).any()) for tensor in outputs)
            self.infinity = _Culprit(line, name, "-inf" if negative else "inf")

    def _note_no_factor(self, inputs: list[Tensor]) -> None:
        """`cholesky` fills in NaN next."""
        line = self._generated_line()
        finite = all(bool(tensor.isfinite().all()) for tensor in inputs)
        if line is not None and self.nan is None and finite:
            self.nan = _Culprit(line, "cholesky", "no factor")

    def _generated_line(self) -> int | None:
        frame = sys._getframe(2)
        current: Any = frame
        while current is not None:
            if current.f_code.co_filename == self.filename:
                line: int = current.f_lineno
                return line
            current = current.f_back
        return None


def _site_of(filename: str, line: int, known: frozenset[str]) -> str | None:
    """The site that a generated statement computes: the first argument of its `log_prob`, or what it assigns."""
    try:
        tree = ast.parse("".join(linecache.getlines(filename)))
    except SyntaxError:
        return None
    statements = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.Return, ast.Expr))
        and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    if not statements:
        return None
    statement = min(statements, key=lambda node: (node.end_lineno or node.lineno) - node.lineno)
    names: list[str] = []
    for node in ast.walk(statement):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        if node.func.attr.startswith("log_"):
            first = node.args[0]
            names += [first.attr] if isinstance(first, ast.Attribute) else []
            names += [first.id] if isinstance(first, ast.Name) else []
    if isinstance(statement, ast.Assign):
        names += [node.id for target in statement.targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return next((name for name in names if name in known), None)


def _describe(culprit: _Culprit, model: Model) -> str:
    known = frozenset(site.name for site in (*model.sites, *model.quantity_sites))
    known |= frozenset(entry.name for entry in model.fields)
    site = _site_of(model.filename, culprit.line, known)
    place = model.place(culprit.line) or f"{model.filename}:{culprit.line}"
    at = f"at site `{site}`, " if site else ""
    if culprit.result == "no factor":
        return f"{place}: {at}a matrix is not positive definite in this precision, so it has no Cholesky factor"
    return f"{place}: {at}`{culprit.operation}` gives {culprit.result} from finite inputs"


def explain_nonfinite(
    again: Callable[[], object],
    model: Model | Callable[..., Tensor],
    guide: Guide | Callable[..., Any],
    store: ParamStore,
    loss: float,
) -> str:
    """Why a loss is not finite, for a person.

    `again` evaluates the same loss on the same noise. First the parameters are looked at; then the evaluation is
    repeated with every operation watched. An operation that makes NaN comes before one that makes an infinity, which
    may be meant (log 0 under a `where`).
    """
    for name, leaf in store.named_parameters():
        bad = ~leaf.detach().isfinite()
        if bool(bad.any()):
            at = bad.nonzero()[0].tolist()
            where = f"{name}{at if at else ''}"
            value = float(leaf.detach()[tuple(at)])
            return (
                f"the loss is {loss}: parameter {where} is {value} in unconstrained space, so an earlier gradient was "
                "not finite; lower the learning rate, or clip gradients with clip_norm"
            )
    owner = guide.model if isinstance(guide, Guide) else model
    if not isinstance(owner, Model):
        return f"the loss is {loss}; the parameters are finite (no generated module, so no line to name)"
    watch = _Watch(owner.filename)
    try:
        with torch.enable_grad(), watch:
            again()
    except InferenceError as error:
        return f"the loss is {loss}: {error}"
    culprit = watch.nan or watch.infinity
    if culprit is None:
        return f"the loss is {loss}, but no single operation of {owner.name} makes it so; the parameters are finite"
    if culprit.result == "no factor":
        return (
            f"{_describe(culprit, owner)}, and the loss is {loss}; add something to its diagonal (`add_diag`), take "
            "float64, or keep the values there apart by a better initial value or a smaller learning rate"
        )
    zero = "where a value is none that its distribution gives, such as a count above a latent total, the density is 0; "
    return (
        f"{_describe(culprit, owner)}, so the loss is {loss}; {zero if culprit is watch.infinity else ''}"
        "restrict the values there by a narrower type, a better initial value or a smaller learning rate"
    )
