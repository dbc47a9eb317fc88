"""Laplace approximation: a normal at the mode, in unconstrained coordinates, with the inverse Hessian as covariance.

Everything is computed in double precision with all rows of the data. The mode is searched by a quasi-Newton method from
a few starts and polished by Newton's, which ends by a criterion that no change of scale moves: the Newton step measured
in posterior sds (the Newton decrement; Boyd and Vandenberghe 2004, section 9.5).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from guidedsl.runtime.deterministic import Outcome
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.fixed_noise import FixedNoiseLoss, FlatParameters, noise_shape
from guidedsl.runtime.lbfgs import Descent, Minimum, minimise
from guidedsl.runtime.model import Guide
from guidedsl.runtime.params import ParamStore

STARTS = 3
SEARCH = 400
"""Iterations of one search for the mode."""
NEWTON = 50
MODE_FOUND = "the mode is found, and the curvature there is that of a peak; whether a normal fits there, k-hat says"
SETTLED = 1e-6
"""The mode is found where Newton's next step is shorter than this many posterior sds."""


class LaplaceFit:
    """Fits the guide's location to the mode and its factor to the curvature there; the store holds the result.

    Parameters of the model are set to their values at the joint mode; the curvature is that of the latents alone.
    """

    def __init__(
        self,
        guide: Guide,
        data: Any,
        store: ParamStore,
        generator: torch.Generator,
        report: Callable[[int, float], None],
    ) -> None:
        assert guide.laplace is not None
        self.guide, self.store, self.generator, self.report = guide, store, generator, report
        self.loc, self.scale_tril = guide.laplace
        self.data = data.full.to(dtype=torch.float64)
        self.double = self._in_double()
        leaves = self.double.trainable()
        self.names = list(leaves)
        self.flat = FlatParameters(list(leaves.values()))
        shape = noise_shape(guide, self.data, self.double, generator)
        assert not isinstance(shape, str), f"a Laplace guide draws normals: {shape}"
        # At zero noise the guide draws its location, and the loss is -log density of the unconstrained coordinates.
        zeros = self.data.new_zeros((1, shape.coordinates))
        self.loss = FixedNoiseLoss(guide, self.data, self.double, self.flat, shape, zeros, 1)
        self.evaluations = 0
        self.history: list[tuple[int, float]] = []

    def _in_double(self) -> ParamStore:
        double = ParamStore()
        draw = self.guide(self.data, store=double)
        self.guide.model(self.data, draw.latents, store=double)
        with torch.no_grad():
            for name, leaf in double.leaves().items():
                leaf.copy_(self.store.entry(name).leaf)
        return double

    def run(self) -> Outcome:
        """Raises `InferenceError` where the density has no peak that a normal could stand on."""
        found = self._search()
        x, step = self._polish(found.x)
        self.flat.write(x)
        hessian = self.hessian(x)
        hessian = hessian[self._own()][:, self._own()]
        factor, failed = torch.linalg.cholesky_ex(hessian)
        if int(failed) or not bool(factor.isfinite().all()):
            raise InferenceError(self._no_peak(hessian))
        self._keep(torch.linalg.cholesky(torch.cholesky_inverse(factor)))
        if step >= SETTLED:
            return Outcome(False, f"the mode is still {step:.2g} sd away: {found.reason}", self.evaluations)
        return Outcome(True, MODE_FOUND, self.evaluations)

    def _own(self) -> Tensor:
        """Which of the flat parameters [n] are the location, as opposed to the model's own parameters."""
        sizes = [leaf.numel() for leaf in self.flat.leaves]
        flags = [torch.full((size,), name == self.loc) for name, size in zip(self.names, sizes, strict=True)]
        return torch.cat(flags).to(self.data.device)

    def _search(self) -> Minimum:
        """The best of searches from the declared start and from jittered ones."""
        start = self.flat.read()
        found = []
        for attempt in range(STARTS):
            jitter = torch.randn(start.shape, generator=self.generator, dtype=start.dtype, device=start.device)
            x = start + 0.5 * jitter if attempt else start
            found.append(self._minimise(x))
        finite = [minimum for minimum in found if math.isfinite(minimum.value)]
        if not finite:
            raise InferenceError(
                f"{self.guide.model.name}: no start of the search for the mode has a finite density and gradient; "
                "check data and priors, or give a start that has"
            )
        return min(finite, key=lambda minimum: minimum.value)

    def _minimise(self, x: Tensor) -> Minimum:
        base = self.evaluations

        def each(at: Descent) -> None:
            self.history.append((base + at.iteration, at.value))
            self.report(base + at.iteration, at.value)

        found = minimise(
            self.loss, x, max_iterations=SEARCH, max_evaluations=3 * SEARCH, value_tolerance=1e-11, on_iteration=each
        )
        self.evaluations += found.evaluations
        return found

    def _polish(self, x: Tensor) -> tuple[Tensor, float]:
        """Newton's method from near the mode: where it ends, and the length of its next step in sds."""
        value, gradient = self.loss(x)
        for _ in range(NEWTON):
            factor, failed = torch.linalg.cholesky_ex(self.hessian(x))
            if int(failed) or not bool(factor.isfinite().all()):
                return x, math.inf
            direction = -torch.cholesky_solve(gradient[:, None], factor)[:, 0]
            length = math.sqrt(max(0.0, -float(gradient.dot(direction))))
            if length < SETTLED:
                return x, length
            step = 1.0
            while step > 1e-6:
                lower, at = self.loss(x + step * direction)
                self.evaluations += 1
                if lower < value:
                    break
                step /= 2.0
            else:
                return x, length
            x, value, gradient = x + step * direction, lower, at
        return x, length

    def hessian(self, x: Tensor) -> Tensor:
        """Second derivatives of -log density at x [n]: [n, n], symmetric."""
        try:
            rows = self._second_derivatives(x)
        except RuntimeError:
            # Some special functions have a first derivative only.
            rows = self._differences(x)
        return (rows + rows.mT) / 2.0

    def _second_derivatives(self, x: Tensor) -> Tensor:
        self.flat.write(x)
        log_p, draw = self.loss.draw_first()
        leaves = self.flat.leaves
        gradient = self.flat.flatten(
            torch.autograd.grad((draw.log_q - log_p).sum(), leaves, create_graph=True, allow_unused=True)
        )
        if not gradient.requires_grad:
            return torch.zeros_like(x).diag()
        return torch.stack(
            [
                self.flat.flatten(torch.autograd.grad(entry, leaves, retain_graph=True, allow_unused=True))
                for entry in gradient.unbind()
            ]
        )

    def _differences(self, x: Tensor) -> Tensor:
        """Central differences of the gradient, by steps of the cube root of the precision."""
        rows = []
        for i in range(x.numel()):
            step = torch.zeros_like(x)
            step[i] = 6e-6 * (1.0 + float(x[i].abs()))
            rows.append((self.loss(x + step)[1] - self.loss(x - step)[1]) / (2.0 * step[i]))
        return torch.stack(rows)

    @torch.no_grad()
    def _keep(self, scale_tril: Tensor) -> None:
        """Writes what was found into the caller's store, in its precision."""
        self.double[self.scale_tril] = scale_tril
        for name, leaf in self.double.leaves().items():
            self.store.entry(name).leaf.copy_(leaf)

    def _no_peak(self, hessian: Tensor) -> str:
        """What to say where the curvature is not that of a peak: along which latents."""
        name = self.guide.name
        if not bool(hessian.isfinite().all()):
            return f"{name}: the curvature of the log density is not finite where the search for its mode ended"
        values, vectors = torch.linalg.eigh(hessian)
        direction = vectors[:, 0]
        latents = ", ".join(f"`{latent}`" for latent in self._moved(direction))
        return (
            f"{name}: the log density has no peak to put a normal on. Where the search for its mode ended, it does not "
            f"curve down along {latents} (smallest eigenvalue of the Hessian {float(values[0]):.2g}, largest "
            f"{float(values[-1]):.2g}). The density may rise without end there, as in a centred hierarchy whose scale "
            "goes to 0: write the model non-centred, give the scale a prior that keeps it off 0, or take full_rank or "
            "mean_field, which need no mode"
        )

    @torch.no_grad()
    def _moved(self, direction: Tensor) -> list[str]:
        """The latents that move most along a direction of the location."""
        entry = self.double.entry(self.loc)
        large = direction * (direction.abs() > 0.5 * direction.abs().max())
        before = self.loss.draw_first()[1].latents
        entry.leaf.add_(1e-3 * large.view(entry.leaf.shape))
        after = self.loss.draw_first()[1].latents
        sites = zip(self.guide.model.sites, before, after, strict=True)
        return [site.name for site, old, new in sites if not torch.equal(old, new)]
