"""A first program for a Pyro model: its interface, and a guide that fits it as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from guidedsl.runtime.pyro_models.names import ROWS, numbered, plain
from guidedsl.runtime.pyro_models.outline import Argument, Outline
from guidedsl.runtime.pyro_models.probe import SeenPlate, SeenSite
from guidedsl.runtime.pyro_models.supports import type_text
from guidedsl.source import Source
from guidedsl.syntax.format import format_source
from guidedsl.syntax.words import RESERVED


@dataclass(frozen=True)
class _Line:
    """A declaration, in plates with the leftmost axis first."""

    plates: tuple[str, ...]
    text: str


def starter(path: str, outline: Outline) -> str:
    """The text of a `.guide` file for the model `package.module:name`, laid out."""
    return format_source(Source("starter.guide", _Starter(path, outline).text()))


class _Starter:
    def __init__(self, path: str, outline: Outline) -> None:
        self.path, self.outline = path, outline
        self.plates = {name: plate for name, plate in outline.seen.plates.items() if plate.dim is not None}
        self.order = sorted(self.plates, key=lambda name: self.plates[name].dim or 0)
        self.arguments = [(argument, self._axes(argument)) for argument in outline.arguments]
        self.dims = self._named_sizes()

    def text(self) -> str:
        """The program, not yet laid out."""
        name = _type_name(self.path)
        lines = [*(self._data(*pair) for pair in self.arguments), *self._latents()]
        declared = "\n".join(self._dim(*dim) for dim in self.dims.items())
        notes = "".join(f"# {note}\n" for note in self._notes())
        return (
            f'model {name} from pyro "{self.path}" {{\n{declared}\n{self._blocks(lines)}\n}}\n\n'
            f"{notes}guide MeanField for {name} {{\n{self._guide()}\n}}\n"
        )

    # Sizes

    def _axes(self, argument: Argument) -> tuple[str, ...]:
        """The plates that the first axes of an array are of: those of what it is observed as, or of their sizes."""
        site = argument.observed
        if site is not None:
            fits = len(argument.shape) == len(site.plates) + len(site.event)
            return tuple(name for name, _ in site.plates) if fits else ()
        found: list[str] = []
        for size in argument.shape:
            fitting = [name for name, plate in self.plates.items() if plate.size == size and name not in found]
            if len(fitting) != 1:
                break
            found += fitting
        return tuple(found)

    def _named_sizes(self) -> dict[str, int]:
        """The dims: the whole numbers that the model takes, and a name for each plate whose size an array tells."""
        dims = {_name(name): size for name, size in self.outline.sizes.items()}
        self.sizes: dict[str, str] = {}
        bound = {plate for _, axes in self.arguments for plate in axes}
        for name in self.order:
            size = self.plates[name].size or 0
            same = [dim for dim, value in dims.items() if value == size and dim not in self.sizes.values()]
            if len(same) == 1 and same[0] in map(_name, self.outline.sizes):
                self.sizes[name] = same[0]
            elif name in bound:
                self.sizes[name] = self._free(f"n_{plain(name)}")
                dims[self.sizes[name]] = size
            else:
                self.sizes[name] = str(size)
        self.lengths = self._lengths()
        return dims | {dim: length for length, dim in self.lengths.items()}

    def _lengths(self) -> dict[int, str]:
        """By number of steps, a dim for the loops that have as many as an array has entries."""
        entries = {argument.shape[0] for argument, axes in self.arguments if argument.shape and not axes}
        series = (self._series(site) for site in self.outline.seen.latents)
        return {len(steps): self._free(f"n_{plain(name)}") for name, steps in series if len(steps) in entries}

    def _free(self, name: str) -> str:
        taken = {
            *self.outline.seen.sites,
            *self.plates,
            *self.outline.sizes,
            *(argument.name for argument in self.outline.arguments),
        }
        while name in taken:
            name += "_"
        return name

    def _dim(self, name: str, size: int) -> str:
        """A dim; where no array tells it, with the size that the data has."""
        told = any(self.sizes[plate] == name for _, axes in self.arguments for plate in axes)
        told = told or name in self.lengths.values()
        return f"dim {name}" if told else f"dim {name} = {size}"

    def _size(self, size: int) -> str:
        """An event axis: the number that the model takes for it, if there is just one such, or as it is."""
        named = [name for name, value in self.outline.sizes.items() if value == size]
        return _name(named[0]) if len(named) == 1 else str(size)

    # Declarations

    def _data(self, argument: Argument, axes: tuple[str, ...]) -> _Line:
        sizes = [self._size(size) for size in argument.shape[len(axes) :]]
        if sizes and not axes:
            sizes[0] = self.lengths.get(argument.shape[0], sizes[0])
        brackets = f"[{', '.join(sizes)}]" if sizes else ""
        name, site = _name(argument.name), argument.observed
        if argument.indexes is not None:
            return _Line(axes, f"data {name} : index({self._target(argument.indexes)}){brackets}")
        if site is not None:
            return _Line(axes, f"observed {name} : {self._type(site, sizes)}")
        return _Line(axes, f"data {name} : {'bool' if argument.dtype == torch.bool else 'real'}{brackets}")

    def _type(self, site: SeenSite, sizes: Sequence[str]) -> str:
        if site.constraint is None:
            brackets = f"[{', '.join(sizes)}]" if sizes else ""
            return f"real{brackets} # {site.support}"
        text = type_text(site.constraint, sizes)
        positions = re.match(r"index\((\d+)\)", text)
        return text if positions is None else f"index({self._target(int(positions[1]))}){text[positions.end() :]}"

    def _target(self, size: int) -> str:
        """What an index of so many positions points into: a plate of that size, if there is just one."""
        fitting = [name for name, plate in self.plates.items() if plate.size == size]
        return self._plate(fitting[0]) if len(fitting) == 1 else self._size(size)

    def _latents(self) -> list[_Line]:
        lines, done = [], set()
        for site in self.outline.seen.latents:
            if site.name in done:
                continue
            name, steps = self._series(site)
            done |= set(steps)
            sizes = [self._size(size) for size in site.whole_event]
            if steps:
                sizes.insert(0, self.lengths.get(len(steps), self._size(len(steps))))
            plates = tuple(plate for plate, _ in site.plates)
            lines.append(_Line(plates, f"latent {_name(name)} : {self._type(site, sizes)}"))
        return lines

    def _series(self, site: SeenSite) -> tuple[str, list[str]]:
        """`x` and its sites where this is the first of `x_0`, `x_1`, …, alike but for the number; else itself alone."""
        match = re.fullmatch(r"(\w+?)_?[01]", site.name)
        sites = {one.name: one for one in self.outline.seen.latents}
        if match is None or match[1] in self.outline.seen.sites:
            return site.name, []
        steps = numbered(match[1], sites)
        alike = {(sites[name].plates, sites[name].whole_event, str(sites[name].constraint)) for name in steps}
        return (match[1], steps) if len(steps) > 1 and steps[0] == site.name and len(alike) == 1 else (site.name, [])

    def _blocks(self, lines: Iterable[_Line]) -> str:
        """The declarations, those of the same plates in one block, plates with their sizes where they first stand."""
        blocks: dict[tuple[str, ...], list[str]] = {(): []}
        for line in lines:
            blocks.setdefault(line.plates, []).append(line.text)
        written: set[str] = set()
        text = "\n".join(blocks.pop(()))
        for plates, declared in sorted(blocks.items(), key=lambda block: (len(block[0]), _points(block[1]))):
            items = ", ".join(self._item(name, written) for name in plates)
            text += f"\nplate {items} {{\n" + "\n".join(declared) + "\n}"
        return text

    def _plate(self, name: str) -> str:
        """A plate's name, with more to it where it is a reserved word or that of an argument."""
        taken = name in RESERVED or name in {argument.name for argument in self.outline.arguments}
        return f"{plain(name)}{ROWS}" if taken or name in self.outline.sizes else plain(name)

    def _item(self, name: str, written: set[str]) -> str:
        if name in written:
            return self._plate(name)
        written.add(name)
        plate: SeenPlate = self.plates[name]
        batch = f" subsample({plate.subsample})" if plate.subsample is not None else ""
        return f"{self._plate(name)}[{self.sizes[name]}]{batch}"

    # The guide

    def _notes(self) -> list[str]:
        finite = [site for site in self.outline.seen.latents if site.finite]
        return ["Discrete latents are summed out by Pyro, exactly."] if finite else []

    def _guide(self) -> str:
        latents = self.outline.seen.latents
        lines = []
        summed = dict.fromkeys(_name(self._series_name(site)) for site in latents if site.finite)
        if summed:
            lines.append(f"auto enumerate for {', '.join(summed)}")
        for site in latents:
            if site.discrete and not site.finite:
                lines.append(self._by_hand(site))
        if any(not site.discrete for site in latents):
            lines.append("auto mean_field for rest")
        return "\n".join(lines)

    def _series_name(self, site: SeenSite) -> str:
        for first in self.outline.seen.latents:
            name, steps = self._series(first)
            if site.name in steps:
                return name
        return site.name

    def _by_hand(self, site: SeenSite) -> str:
        """A draw of a discrete latent that is not summed out."""
        name = _name(site.name)
        brackets = f"[{', '.join(map(self._size, site.whole_event))}]" if site.whole_event else ""
        draw = (
            f"# {name} cannot be summed out: it is sampled\n"
            f"param {name}_rate : positive{brackets} = 1\n{name} ~ Poisson({name}_rate) # allow W604"
        )
        plates = [plate for plate, _ in site.plates]
        return f"plate {', '.join(map(self._plate, plates))} {{\n{draw}\n}}" if plates else draw


def _points(declared: Iterable[str]) -> bool:
    """Whether a declaration points into a plate, which then comes first."""
    return any(": index(" in line for line in declared)


def _name(name: str) -> str:
    """A name of the Pyro model as the program writes it."""
    name = plain(name)
    return f"{name}_" if name in RESERVED else name


def _type_name(path: str) -> str:
    """A name for the program's model: that of the function, or of its module where that is just `model`."""
    module, _, function = path.partition(":")
    words = re.split(r"[\W_]+", module.rpartition(".")[2] if function == "model" else function.rpartition(".")[2])
    name = "".join(word[:1].upper() + word[1:] for word in words if word)
    return name if name.isidentifier() and name not in RESERVED else f"Model{name}"
