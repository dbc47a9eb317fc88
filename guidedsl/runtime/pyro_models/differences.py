"""What a Pyro model has otherwise than the interface that was declared for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from guidedsl.runtime.constraints import Constraint
from guidedsl.runtime.metadata import Field, PlateSpec, Site, attribute_of
from guidedsl.runtime.model import Model
from guidedsl.runtime.pyro_models.importing import Signature
from guidedsl.runtime.pyro_models.names import as_written, numbered
from guidedsl.runtime.pyro_models.places import Place
from guidedsl.runtime.pyro_models.probe import Seen, SeenPlate, SeenSite
from guidedsl.runtime.pyro_models.supports import hull, positions, type_text
from guidedsl.runtime.sizes import evaluate

Kind = Literal["argument", "site", "shape", "support"]


@dataclass(frozen=True)
class Difference:
    """One difference. `name` is the declaration that it is about, the model's own name where it is about none.

    `here` and `there` are the labels of the declaration and of `place`, the line of the Python file.
    """

    kind: Kind
    name: str
    message: str
    here: str
    there: str
    place: Place | None
    hint: str


def differences(model: Model, seen: Seen, signature: Signature, data: Any) -> tuple[Difference, ...]:
    """All differences between what is declared and what a run of the Pyro model had."""
    return tuple(_Comparison(model, seen, signature, data).run())


class _Comparison:
    def __init__(self, model: Model, seen: Seen, signature: Signature, data: Any) -> None:
        self.model, self.signature, self.data = model, signature, data
        self.dims = {dim.name: getattr(data, attribute_of(dim.name)) for dim in model.dims}
        self.declared = {plate.name for plate in model.plates}
        sites = {site.name for site in model.sites} | {field.name for field in model.fields}
        self.seen = seen.renamed(sites, self.declared)
        self.misspelt: set[str] = set()

    def run(self) -> Iterable[Difference]:
        """Each difference once: where a site is missing nothing more is said of it."""
        for plate in self.model.plates:
            yield from self._plate(plate)
        matched: set[str] = set()
        for site in self.model.sites:
            found = self._sites_of(site)
            matched |= {one.name for one in found}
            yield from self._latent(site, found)
        for field in self.model.fields:
            if field.role == "observed":
                found = self._sites_of(field)
                matched |= {one.name for one in found}
                if not found and not self.signature.takes(field.name):
                    yield _no_argument(self.model, field, self.signature)
                yield from self._observed(field, found)
        for one in self.seen.latents:
            if one.name not in matched | self.misspelt:
                yield self._undeclared(one)
        for one in self.seen.sites.values():
            if one.observed:
                yield from self._stretched(one)
        for plate_seen in self.seen.plates.values():
            if plate_seen.name not in self.declared and plate_seen.subsample is not None:
                yield self._undeclared_batches(plate_seen)

    def _sites_of(self, declared: Site | Field) -> list[SeenSite]:
        """The sites that a declaration stands for: that of its name, or those of a loop."""
        if declared.name in self.seen.sites:
            return [self.seen.sites[declared.name]]
        names = numbered(declared.name, self.seen.sites) if declared.event else []
        return [self.seen.sites[name] for name in names]

    # Sites

    def _latent(self, site: Site, found: list[SeenSite]) -> Iterable[Difference]:
        if not found:
            declared = {one.name for one in self.model.sites}
            known = [one.name for one in self.seen.latents if one.name not in declared]
            close = difflib.get_close_matches(site.name, known, n=1)
            self.misspelt |= set(close)
            yield Difference(
                "site",
                site.name,
                f"`{site.name}` is a latent here, and {self.model.origin} has no such site",
                "declared here",
                f"`{close[0]}` is sampled here" if close else "",
                self.seen.sites[close[0]].place if close else None,
                f"{_did_you_mean(site.name, known, 'others there are')} Otherwise remove the declaration",
            )
            return
        if found[0].observed:
            yield Difference(
                "site",
                site.name,
                f"`{site.name}` is a latent here, and observed in {self.model.origin}",
                "a latent",
                "observed",
                found[0].place,
                f"declare `observed {site.name} : …`, or leave `obs=` out of the sample statement",
            )
            return
        yield from self._same_axes(site, found)
        if site.moving:
            return
        if found[0].constraint is None:
            yield self._unknown(site, found[0])
            return
        mine = hull(site.constraint, positions(site.classes, site.low, self.dims))
        theirs = hull(found[0].constraint)
        if mine is not None and theirs is not None and not mine.same(theirs):
            yield self._support(site, found[0], "latent")

    def _observed(self, field: Field, found: list[SeenSite]) -> Iterable[Difference]:
        yield from self._same_axes(field, found[:1] if field.name in self.seen.sites else [])
        if not found or found[0].constraint is None or not isinstance(field.constraint, Constraint):
            return
        end = None
        if field.index_of is not None:
            target = next((p.size for p in self.model.plates if p.name == field.index_of), field.index_of)
            end = 0, evaluate(target, self.dims) - 1
        mine, theirs = hull(field.constraint, end), hull(found[0].constraint)
        if mine is not None and theirs is not None and not theirs.within(mine):
            yield self._support(field, found[0], "observed")

    def _support(self, declared: Site | Field, found: SeenSite, what: str) -> Difference:
        assert found.constraint is not None
        mine, theirs = self._declared_type(declared), type_text(found.constraint, ())
        wider = "" if what == "latent" else "what is observed may be of a wider type, and not of a narrower one; "
        return Difference(
            "support",
            declared.name,
            f"`{declared.name}` is {mine} here, and {theirs} in {self.model.origin}",
            f"declared {mine}",
            f"its support is {theirs}",
            found.place,
            f"{wider}declare `{what} {declared.name} : {type_text(found.constraint, declared.event)}`, "
            "or mend the distribution",
        )

    def _unknown(self, site: Site, found: SeenSite) -> Difference:
        return Difference(
            "support",
            site.name,
            f"`{site.name}` is {self._declared_type(site)} here, and {self.model.origin} has it on {found.support}, "
            "which is no type with numbers for bounds",
            f"declared {self._declared_type(site)}",
            "its support",
            found.place,
            "make sites of it that have one support each, or declare bounds of data, `interval(low, high)`, which are "
            "not compared",
        )

    def _declared_type(self, declared: Site | Field) -> str:
        if isinstance(declared, Field) and declared.index_of is not None:
            return f"index({declared.index_of})"
        if isinstance(declared, Site) and declared.classes is not None and declared.constraint.name == "count":
            return f"index({declared.classes})"
        return str(declared.constraint)

    def _undeclared(self, found: SeenSite) -> Difference:
        sizes = [str(size) for size in found.whole_event]
        type = "…" if found.constraint is None else type_text(found.constraint, sizes)
        plates = [name for name, _ in found.plates]
        declaration = f"latent {found.name} : {type}"
        written = f"plate {', '.join(plates)} {{ {declaration} }}" if plates else declaration
        close = [site.name for site in self.model.sites if not self._sites_of(site)]
        near = difflib.get_close_matches(found.name, close, n=1)
        summed = f", and `auto enumerate for {found.name}` in the guide to have it summed out" if found.finite else ""
        return Difference(
            "site",
            near[0] if near else self.model.name,
            f"{self.model.origin} samples `{found.name}`, which {self.model.name} does not declare",
            f"is it `{found.name}`?" if near else "no declaration of it",
            "sampled here",
            found.place,
            f"declare `{written}`{summed}",
        )

    # Plates and shapes

    def _plate(self, plate: PlateSpec) -> Iterable[Difference]:
        found = self.seen.plates.get(plate.name)
        who, here = self.model.origin, f"plate {plate.name}"
        if found is None:
            hint = f'write `with pyro.plate("{plate.name}", …)` around its sites, or remove the plate here'
            known = _did_you_mean(plate.name, [*self.seen.plates], "its plates are")
            message = f"{here} is in no part of {who}"
            yield Difference("shape", plate.name, message, "declared here", "", None, f"{known} Otherwise {hint}")
            return
        if found.loop:
            yield Difference(
                "shape",
                plate.name,
                f"{here} is a loop in {who}, with a site of its own for each row",
                "rows of one site",
                "a loop over rows",
                found.place,
                f'write `with pyro.plate("{plate.name}", …) as rows:`, or declare the sites one by one',
            )
            return
        yield from self._plate_sizes(plate, found)

    def _plate_sizes(self, plate: PlateSpec, found: SeenPlate) -> Iterable[Difference]:
        who, here = self.model.origin, f"plate {plate.name}"
        rows = getattr(self.data.full, attribute_of(plate.name))
        size = rows.size
        fitting = {size, rows.length} if rows.rows is not None or plate.minibatch is not None else {size}
        if found.size is not None and found.size not in fitting:
            shown = f"{plate.size} = {size}" if not plate.size.isdecimal() else str(size)
            yield Difference(
                "shape",
                plate.name,
                f"{here} has {shown} rows here, and {found.size} in {who}",
                f"{size} rows",
                f"{found.size} rows",
                found.place,
                "one size for both: mend the data, the dim or the plate of the Pyro model",
            )
            return
        batch = None if plate.subsample is None else _count(plate.subsample, self.dims)
        mine = batch if batch is not None and batch < size else None
        if plate.minibatch is None and mine != found.subsample:
            one = f"{mine} rows a step" if mine is not None else "all rows"
            other = f"{found.subsample} rows a step" if found.subsample is not None else "all rows"
            here_edit = "no `subsample`" if found.subsample is None else f"`subsample({found.subsample})`"
            there_edit = "no `subsample_size`" if mine is None else f"`subsample_size={mine}`"
            yield Difference(
                "shape",
                plate.name,
                f"{here} takes {one} here, and {other} in {who}",
                one,
                other,
                found.place,
                f"declare {here_edit} for {plate.name} here, or give its pyro.plate {there_edit}",
            )

    def _undeclared_batches(self, found: SeenPlate) -> Difference:
        text = f"plate {found.name}[{found.size}] subsample({found.subsample}) {{ … }}"
        return Difference(
            "shape",
            self.model.name,
            f"{self.model.origin} takes {found.subsample} of {found.size} rows of plate {found.name}, which "
            f"{self.model.name} does not declare",
            "no such plate",
            "subsampled here",
            found.place,
            f"declare `{text}`, so that model and guide take the same rows",
        )

    def _same_axes(self, declared: Site | Field, found: list[SeenSite]) -> Iterable[Difference]:
        who, name = self.model.origin, declared.name
        for one in found[:1]:
            mine, theirs = set(declared.plates), {plate for plate, _ in one.plates}
            if mine != theirs:
                yield Difference(
                    "shape",
                    name,
                    f"`{name}` is in {_plates(mine)} here, and in {_plates(theirs)} in {who}",
                    f"in {_plates(mine)}",
                    f"in {_plates(theirs)}",
                    one.place,
                    f"declare it in {_plates(theirs)}, or mend the `with pyro.plate(…)` around it",
                )
                continue
            if one.unexplained:
                dim = one.unexplained[0]
                yield Difference(
                    "shape",
                    name,
                    f"`{name}` has a batch dim {dim} of size {one.batch[dim]} in {who} that is of no plate",
                    "declared here",
                    f"batch shape {list(one.batch)}",
                    one.place,
                    f"make it an event dim, `.to_event({-dim})`, or add its plate",
                )
                continue
            axes = declared.event if one.name == name else declared.event[1:]
            event = tuple(evaluate(size, self.dims) for size in axes)
            steps = len(found) if one.name != name else None
            if event != one.whole_event or (steps is not None and evaluate(declared.event[0], self.dims) != steps):
                there = (*((steps,) if steps is not None else ()), *one.whole_event)
                yield self._event(declared, there, one)

    def _stretched(self, found: SeenSite) -> Iterable[Difference]:
        """What is observed at another shape than the distribution's: torch would stretch the one or the other."""
        given, law = _less_ones(tuple(found.value.shape)), _less_ones((*found.batch, *found.event))
        if given != law:
            fields = {field.name for field in self.model.fields if field.role == "observed"}
            yield Difference(
                "shape",
                found.name if found.name in fields else self.model.name,
                f"{self.model.origin} observes `{found.name}` of shape {list(given)} under a distribution of shape "
                f"{list(law)}",
                "declared here",
                "would be stretched",
                found.place,
                "make the shapes equal: one of the two would be repeated without a word",
            )

    def _event(self, declared: Site | Field, there: tuple[int, ...], found: SeenSite) -> Difference:
        name, who = declared.name, self.model.origin
        here = tuple(evaluate(size, self.dims) for size in declared.event)
        names = f"[{', '.join(declared.event)}]"
        shown = f"{names} = {list(here)}" if any(not size.isdecimal() for size in declared.event) else str(list(here))
        sizes = [str(size) for size in there]
        type = type_text(found.constraint, sizes) if found.constraint is not None else f"…[{', '.join(sizes)}]"
        return Difference(
            "shape",
            name,
            f"`{name}` has event shape {shown} here, and {list(there)} in {who}",
            f"event shape {names}",
            f"event shape {list(there)}",
            found.place,
            f"declare `{name} : {type}`, or mend the distribution: `.expand([…]).to_event(1)`",
        )


def argument_problems(model: Model, signature: Signature) -> tuple[Difference, ...]:
    """The fields that the function does not take, and the arguments that nothing gives."""
    return tuple(_arguments(model, signature))


def _arguments(model: Model, signature: Signature) -> Iterable[Difference]:
    fields = [field for field in model.fields if field.role != "derived"]
    for field in fields:
        if field.role == "data" and not signature.takes(field.name):
            yield _no_argument(model, field, signature)
    given = {field.name for field in fields} | {dim.name for dim in model.dims}
    for name in signature.required:
        if as_written(name, given) not in given:
            yield Difference(
                "argument",
                model.name,
                f"{model.origin}{signature} needs an argument `{name}`, which no data, observed or dim is called",
                "nothing of that name",
                "",
                None,
                f"declare `data {name} : …`, `observed {name} : …` or `dim {name}`, or give it a default in Python",
            )


def _no_argument(model: Model, field: Field, signature: Signature) -> Difference:
    site = "" if field.role == "data" else ", nor a site"
    return Difference(
        "argument",
        field.name,
        f"`{field.name}` is {field.role} here, and {model.origin}{signature} has no such argument{site}",
        "passed by its name",
        "",
        None,
        f"{_did_you_mean(field.name, signature.accepted, 'its arguments are')} Otherwise remove the declaration",
    )


def _count(size: int | str, dims: Mapping[str, int]) -> int:
    return size if isinstance(size, int) else evaluate(size, dims)


def _less_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the ones in front, which say nothing."""
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def _plates(names: Iterable[str]) -> str:
    names = sorted(names)
    if not names:
        return "no plate"
    return f"plate {names[0]}" if len(names) == 1 else f"plates {', '.join(names)}"


def _did_you_mean(name: str, known: Iterable[str], listed: str) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"{listed} {', '.join(f'`{one}`' for one in known)}." if known else "there is none."
