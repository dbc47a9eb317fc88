"""C text to a function: the machine's compiler, and what it made before."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from guidedsl.runtime.engine.native.values import NotNative

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-shared", "-fPIC")
WIDE = ("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()
LONG = 2000
"""Lines from which more optimisation takes longer than it saves."""
KEPT = 90 * 24 * 3600
"""Seconds without use after which a library is removed."""
SLOW = 600
"""Lines from which the compiler takes a second or more."""


@functools.cache
def compiler() -> str:
    """The C compiler: CC, or what is found. Raises NotNative where there is none."""
    wanted = os.environ.get("CC")
    found = shutil.which(wanted) if wanted else next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if found is None:
        raise NotNative("no C compiler is installed" if not wanted else f"CC={wanted} is not installed")
    return found


@functools.cache
def _machine() -> str:
    """What code made for this machine depends on: the compiler's version and the processor."""
    version = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=False).stdout
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = platform.processor()
    return f"{version}{platform.machine()}{flags}"


def folder() -> Path:
    """Where compiled programs are kept: $GUIDEDSL_CACHE, or the user's cache folder."""
    chosen = os.environ.get("GUIDEDSL_CACHE")
    if chosen:
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "guidedsl"
    except RuntimeError:
        raise NotNative("there is no home folder to keep what is compiled; set GUIDEDSL_CACHE") from None


def built(source: str) -> ctypes.CDLL:
    """The library of a C text. Raises NotNative where it cannot be made.

    It is kept under the hash of the text, the compiler and the processor, in a folder of the user's own.
    """
    *first, last = _variants(source)
    for flags in first:
        try:
            return _loaded(source, flags)
        except NotNative:  # no OpenMP here: one thread does all
            pass
    return _loaded(source, last)


def at_hand(source: str) -> bool:
    """Whether its library is there, or made in no time. Raises NotNative where there is no compiler."""
    return source.count("\n") < SLOW or any(_own(_path(source, flags)) for flags in _variants(source))


def _variants(source: str) -> list[tuple[str, ...]]:
    """The flags to try, the best first."""
    flags = (*FLAGS, *WIDE) if source.count("\n") < LONG else ("-O1", *FLAGS[1:])
    return [(*flags, "-fopenmp"), flags] if "omp parallel" in source else [flags]


def _path(source: str, flags: tuple[str, ...]) -> Path:
    key = hashlib.sha256("\0".join([source, *flags, _machine()]).encode()).hexdigest()
    return folder() / f"{key[:40]}.so"


def _loaded(source: str, flags: tuple[str, ...]) -> ctypes.CDLL:
    path = _path(source, flags)
    if _own(path):
        with suppress(OSError):
            os.utime(path)
    else:
        _make(source, flags, path)
        _forget(path.parent)
    try:
        return ctypes.CDLL(str(path))
    except OSError:  # made for another system, or cut off
        _make(source, flags, path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NotNative(f"what {compiler()} made cannot be loaded: {error}") from None


def _forget(kept: Path) -> None:
    """Removes what no process has loaded for long."""
    for path in kept.glob("*.so"):
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - KEPT:
                path.unlink()


def _own(path: Path) -> bool:
    """Whether the file is there and nobody else can have written it."""
    try:
        found = path.stat()
    except OSError:
        return False
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)


def _make(source: str, flags: tuple[str, ...], path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as made:
            text, library = Path(made) / "steps.c", Path(made) / "steps.so"
            text.write_text(source, encoding="utf-8")
            for extra in (("-DVECTOR_MATH", "-lmvec"), ()):  # glibc has vectors of exp and log, others do not
                command = [compiler(), *flags, str(text), "-o", str(library), *extra, "-lm"]
                run = subprocess.run(command, capture_output=True, text=True, check=False)
                if run.returncode == 0:
                    break
            else:
                raise NotNative(f"{compiler()} failed: {run.stderr.strip().splitlines()[-1:]}")
            library.chmod(0o700)
            os.replace(library, path)
    except OSError as error:
        raise NotNative(f"nothing can be written to {path.parent} ({error.strerror})") from None
