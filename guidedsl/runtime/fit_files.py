"""A fit on disk: its parameters, and which program they belong to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from guidedsl.runtime.errors import InferenceError, ParamError
from guidedsl.runtime.feed import usable
from guidedsl.runtime.model import Guide
from guidedsl.runtime.nets import register
from guidedsl.runtime.params import ParamStore

if TYPE_CHECKING:
    from guidedsl.runtime.data import Data
    from guidedsl.runtime.fit import Fit

KIND = "fit"


def save(fit: Fit, path: str | Path) -> None:
    """Writes the parameters of `fit` as safetensors, with what `load` needs to refuse another program's file.

    Raises ParamError if a parameter is not finite, OSError if the file cannot be written.
    """
    finite = math.isfinite(fit.elbo) and math.isfinite(fit.elbo_error)
    metadata = {
        "kind": KIND,
        "guide": fit.guide.name,
        "model": fit.guide.model.name,
        "source": fit.guide.model.source,
        "source_sha256": fit.guide.model.source_sha256,
        "elbo": fit.elbo if finite else None,
        "elbo_error": fit.elbo_error if finite else None,
        "converged": fit.converged,
        "reason": fit.reason,
        "steps": fit.steps,
        "seconds": fit.seconds,
        "seed": fit.seed,
    }
    fit.store.save(path, metadata=metadata)


def _problem(metadata: dict[str, Any], guide: Guide) -> str | None:
    """Why a file is not a fit of this guide, or None."""
    if metadata.get("kind") != KIND:
        return "holds parameters, but not a fit; read it with ParamStore.load"
    wrote = f"{metadata.get('guide')} of {metadata.get('source')}"
    if metadata.get("guide") != guide.name:
        return f"is a fit of guide {wrote}; this is {guide.name} of {guide.model.source}: load it with the other guide"
    if metadata.get("source_sha256") != guide.model.source_sha256:
        return (
            f"is a fit of another version of {guide.model.source} (sha256 {str(metadata.get('source_sha256'))[:12]}…, "
            f"now {guide.model.source_sha256[:12]}…): fit again, or build the version that it was fitted with"
        )
    return None


def _number(metadata: dict[str, Any], key: str) -> float:
    value = metadata.get(key)
    return float(value) if isinstance(value, (int, float)) else math.nan


def _whole(metadata: dict[str, Any], key: str) -> int:
    value = metadata.get(key)
    return value if isinstance(value, int) else 0


def load(guide: Guide, path: str | Path, data: Data, nets: Mapping[str, nn.Module] | None = None) -> Fit:
    """The fit that `save` wrote, used on `data`, which must have the sizes that it was fitted with.

    `nets` are the modules of nets that are passed in.

    Raises ParamError for a damaged or foreign file, InferenceError for another program's fit or other sizes, OSError
    for a file that cannot be read.
    """
    from guidedsl.runtime.fit import Fit

    store = ParamStore()
    metadata = store.load(path, map_location=data.device)
    problem = _problem(metadata, guide)
    if problem is not None:
        raise InferenceError(f"{path} {problem}")
    names = set(store)
    try:
        register(store, nets or {}, guide.nets, data, guide.name)
        guide(usable(data), particles=(1,), store=store)
    except ParamError as error:
        raise InferenceError(f"{path} does not fit this data: {error}") from error
    new = sorted(set(store) - names)
    if new:
        raise InferenceError(f"{path} lacks the parameters {', '.join(new)} of guide {guide.name}: fit again")
    return Fit(
        guide=guide,
        data=usable(data) if data.minibatched else data,
        store=store,
        elbo=_number(metadata, "elbo"),
        elbo_error=_number(metadata, "elbo_error"),
        converged=metadata.get("converged") is True,
        reason=str(metadata.get("reason", "")),
        steps=_whole(metadata, "steps"),
        seconds=_number(metadata, "seconds"),
        seed=_whole(metadata, "seed"),
    )
