"""Typed expressions as Python in Pyro's layout.

A plate's axis has a fixed place left of the event (`layout`), and a value has an axis of size 1 for each plate between
its own and the event; to the left it has no more than it needs. Batch axes therefore broadcast as they are, and only
event axes are ever added. The steps of a scan stand between the plates and the event, as an event axis would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from guidedsl import ir
from guidedsl.backend.code import ATOM, SUM, Code, axes
from guidedsl.backend.emit import Emitter
from guidedsl.backend.pyro.distributions import pyro_distribution
from guidedsl.backend.pyro.refusal import Inexpressible
from guidedsl.backend.pyro.rows import pyro_picked
from guidedsl.backend.pyro.supports import pyro_constraint, pyro_free
from guidedsl.ir import Bounds
from guidedsl.library.supports import Support
from guidedsl.sizes import Size

_MADE = {
    "zeros": "torch.zeros({sizes})",
    "ones": "torch.ones({sizes})",
    "eye": "torch.eye({sizes})",
    "range": "torch.arange({sizes}, dtype=torch.get_default_dtype())",
}


class PyroEmitter(Emitter):
    """Emits expressions for a Pyro model or guide.

    `slots` says where the plates' axes stand, and `batches` by plate which variable holds this step's rows.
    """

    def __init__(
        self, plates: Mapping[str, ir.Plate], local: Callable[[str], str], *, full: bool = False, whole: bool = False
    ) -> None:
        super().__init__(plates, local, full=full, whole=whole)
        self.slots: Mapping[str, int] = {}
        self.batches: Mapping[str, str] = {}
        self.batched: Mapping[str, str] = {}
        self.uneven = True

    def _like(self, other: Emitter) -> PyroEmitter:
        assert isinstance(other, PyroEmitter)
        other.slots, other.batches, other.batched = self.slots, self.batches, self.batched
        return other

    def inside(self, spelled: Mapping[str, str], axis: ir.Plate | None = None) -> PyroEmitter:
        return self._like(super().inside(spelled, axis))

    def of_all_rows(self) -> PyroEmitter:
        return self._like(super().of_all_rows())

    # Sizes

    def length(self, plate: str) -> str:
        if self.plates[plate].batching is not None and not self.full:
            return f"len({self.batches[plate]})"
        return self.size(self.plates[plate].size)

    def depth(self, plates: Sequence[str]) -> int:
        """How many batch axes a value in `plates` has."""
        return max((self.slots[plate] for plate in plates if plate in self.slots), default=0)

    def steps_of(self, plates: Sequence[str]) -> list[str]:
        """The axes of scans among `plates`."""
        return [plate for plate in plates if plate not in self.slots]

    def _laid_out(self, plates: Sequence[str], length: Callable[[str], str]) -> list[str]:
        at = {self.slots[plate]: length(plate) for plate in plates if plate in self.slots}
        batch = [at.get(slot, "1") for slot in range(self.depth(plates), 0, -1)]
        return batch + [length(plate) for plate in self.steps_of(plates)]

    def shape(self, plates: Sequence[str], event: Sequence[Size], *, particles: bool = False) -> str:
        parts = [*self._laid_out(plates, self.length), *(self.size(size) for size in event)]
        return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"

    def stored_shape(self, plates: Sequence[str], event: Sequence[Size]) -> str:
        parts = self._laid_out(plates, lambda plate: self.size(self.plates[plate].size))
        parts += [self.size(size) for size in event]
        return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"

    # Tensors that are made here

    def filled(self, shape: str, value: str) -> str:
        if shape == "()":
            return self.constant(value)
        if value in ("0.0", "1.0"):
            return f"torch.{'zeros' if value == '0.0' else 'ones'}({shape[1:-1].rstrip(',')})"
        return f"torch.full({shape}, {value})"

    def repeated(self, shape: str, value: str) -> str:
        return f"{Code(value, SUM if ' ' in value else ATOM).at(ATOM)}.expand({shape}).clone()"

    def constant(self, values: str) -> str:
        plain = "." in values or "(" in values
        return f"torch.tensor({values if plain else f'float({values})'})"

    def indicator(self, condition: str) -> str:
        return f"fn.indicator({condition})"

    def step_numbers(self, count: Size) -> str:
        return f"torch.arange({self.size(count)}, dtype=torch.get_default_dtype())"

    def field(self, name: str) -> str:
        return self.local(name) if self.full else self.batched.get(name, self.local(name))

    # Alignment

    def present(self, own: Sequence[str], plates: Sequence[str]) -> list[bool]:
        rows = [True] if any(plate in self.slots for plate in own) else []
        return [*rows, *(plate in own for plate in self.steps_of(plates))]

    def materialised(self, expr: ir.Expr, plates: Sequence[str], event: Sequence[Size]) -> Code:
        code = self.aligned(expr, plates, len(event))
        if expr.type.number and (plates or event):
            return Code(self.filled(self.shape(plates, event), code.text))
        if set(expr.type.plates) == set(plates) and expr.type.event == tuple(event):
            return code
        return Code(f"fn.expand({code.text}, {self.shape(plates, event)})") if plates or event else code

    # Expressions

    def _picked(self, expr: ir.Gather | ir.AllRows | ir.RowOf | ir.Subscript) -> Code:
        return pyro_picked(self, expr)

    def _computed(self, expr: ir.Expr, code: Code) -> Code:
        if expr.type.support.target is None or expr.type.number:
            return code
        return Code(f"{code.at(ATOM)}.to(torch.get_default_dtype())")

    def _dot(self, left: ir.Expr, right: ir.Expr, plates: Sequence[str]) -> Code:
        x, y = self.aligned(left, plates, 1), self.aligned(right, plates, 1)
        return Code(f"fn.dot({x.text}, {y.text})")

    def _call(self, expr: ir.Call) -> Code:
        if expr.callee.kind != "generated":
            raise Inexpressible(
                f"the {expr.callee.what} `{expr.callee.name}` from outside",
                "write it out, generate it with `= mlp(…)`, or use the torch target",
            )
        return super()._call(expr)

    def _construct(self, expr: ir.Apply) -> Code:
        name = expr.function.name
        if name == "normal":
            a, b = (self.emit(argument).text for argument in expr.arguments)
            return Code(f"torch.normal({a}, {b}, {self.init_shape})")
        if name in _MADE:
            return Code(_MADE[name].format(sizes=", ".join(self.size(size) for size in expr.sizes)))
        return super()._construct(expr)

    def _log_prob(self, expr: ir.LogProb) -> Code:
        dist, plates = expr.dist, expr.type.plates
        batch = len(expr.type.event)
        value = self.as_tensor(self.aligned(expr.value, plates, batch + dist.own).text, expr.value)
        return Code(f"{pyro_distribution(self, dist, plates, batch).at(ATOM)}.log_prob({value})")

    def _free(self, expr: ir.Free) -> Code:
        latent = expr.latent
        return pyro_free(self, latent, self.emit(expr.base).text)

    def constraint(
        self, support: Support, bounds: Bounds, transform: str | None, plates: Sequence[str] = (), rank: int = 0
    ) -> str:
        return pyro_constraint(self, support, bounds, transform, plates, rank)


def over(code: Code, count: int) -> Code:
    """`code` summed over its last `count` axes."""
    return code if count == 0 else Code(f"{code.at(ATOM)}.sum({axes(count)})")
