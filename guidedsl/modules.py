"""Generated modules without a file of their own: compiled, then run in memory. Only running one imports torch."""

from __future__ import annotations

import keyword
import linecache
import sys
import unicodedata
from pathlib import Path
from types import ModuleType

from guidedsl.pipeline import Target, compile_source
from guidedsl.source import Source


def module_name(path: Path, target: Target = "torch") -> str:
    """The name of the module generated from a file: `radon.guide` becomes `radon_guide`, for Pyro `radon_pyro`."""
    stem = unicodedata.normalize("NFKC", path.name.removesuffix(".guide") or "unnamed")
    legal = "".join(char if f"_{char}".isidentifier() else "_" for char in stem)
    name = f"{legal}_{'pyro' if target == 'pyro' else 'guide'}"
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"_{name}"


def load_source(source: Source, name: str | None = None) -> ModuleType:
    """The module that `guidedsl build` would write, imported from memory, and not laid out.

    Raises:
        CompileError: the program has errors.
    """
    return run_module(compile_source(source, laid_out=False).python, name or module_name(Path(source.name)))


def run_module(python: str, name: str) -> ModuleType:
    """A module with this text, which replaces one of the same name; tracebacks show its lines."""
    filename = f"<{name}>"
    module = ModuleType(name)
    module.__file__ = filename
    linecache.cache[filename] = (len(python), None, python.splitlines(keepends=True), filename)
    sys.modules[name] = module  # dataclasses look their module up
    exec(compile(python, filename, "exec"), vars(module))
    return module
