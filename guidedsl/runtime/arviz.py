"""A fit as a DataTree of ArviZ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.feed import fed_plates
from guidedsl.runtime.metadata import attribute_of
from guidedsl.runtime.predictive import observed_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from guidedsl.runtime.fit import Fit


def to_arviz(fit: Fit, n: int, seed: int | None) -> Any:
    """See `Fit.to_arviz`."""
    try:
        from arviz_base import from_dict
    except ImportError:
        raise InferenceError("to_arviz needs ArviZ: pip install guidedsl[stats]") from None
    groups, dims, coords = groups_of(fit, n, seed)
    return from_dict(groups, dims=dims, coords=coords)


def groups_of(
    fit: Fit, n: int, seed: int | None
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]], dict[str, list[int]]]:
    """The groups as arrays, the dims of each variable but chain and draw, and the coordinates of plates.

    Draws are one chain: [1, n, plates..., event...].
    """
    model, data = fit.guide.model, fit.data.full
    observed = [entry for entry in observed_fields(model) if not set(entry.plates).intersection(fed_plates(model))]
    draws = {"posterior": fit.sample(n, seed=seed)}
    drawn = model.simulate is not None and not any(entry.name in model.not_drawn for entry in observed)
    if observed and drawn:
        draws["posterior_predictive"] = fit.predictive(n, seed=seed)
    if observed and model.log_likelihood is not None and not fed_plates(model):
        draws["log_likelihood"] = fit.log_likelihood(n, seed=seed)
    groups: dict[str, dict[str, Any]] = {group: _arrays(values) for group, values in draws.items()}
    if observed:
        groups["observed_data"] = {entry.name: _seen(entry, data) for entry in observed}
    dims = {site.name: _dims(site) for site in (*model.sites, *model.quantity_sites)}
    dims |= {entry.name: _dims(entry) for entry in observed}
    plates = {spec.name: getattr(data, attribute_of(spec.name)).length for spec in model.plates}
    return groups, dims, {name: list(range(length)) for name, length in plates.items()}


def _arrays(draws: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: value.cpu().numpy()[None] for name, value in draws.items()}


def _seen(entry: Any, data: Any) -> Any:
    """The values of a field as written."""
    from guidedsl.runtime.metadata import Site

    value = Site(entry.name, entry.plates, entry.event, entry.constraint, entry.order).to_written(
        getattr(data, entry.attribute)
    )
    return (value + entry.index_base if entry.index_of is not None else value).cpu().numpy()


def _dims(site: Any) -> list[str]:
    """Plates by their names, event dims by the site's and their place, for two axes of one size are not one dim."""
    return [*site.plates, *(f"{site.name}_dim_{place}" for place in range(len(site.event)))]
