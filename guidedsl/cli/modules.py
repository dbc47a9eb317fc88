"""A generated module, run without a file of its own."""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from types import ModuleType

from guidedsl.cli.files import module_name
from guidedsl.pipeline import Compiled


def load_module(compiled: Compiled) -> ModuleType:
    """The module that `build` would write, imported from memory; tracebacks show its lines."""
    name = module_name(Path(compiled.source.name))
    filename = f"<{name}>"
    module = ModuleType(name)
    module.__file__ = filename
    linecache.cache[filename] = (len(compiled.python), None, compiled.python.splitlines(keepends=True), filename)
    sys.modules[name] = module  # dataclasses look their module up
    exec(compile(compiled.python, filename, "exec"), vars(module))
    return module
