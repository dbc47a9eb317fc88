"""Reading `.guide` files for the commands, and writing files that are never half there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from guidedsl import errors
from guidedsl.cli.session import FOUND, USAGE, Session, Stop
from guidedsl.diagnostics import CompileError, Diagnostic
from guidedsl.modules import module_name
from guidedsl.source import MAX_BYTES, Source, UnreadableSource, decode_source, read_source

if TYPE_CHECKING:
    from guidedsl import ir
    from guidedsl.check import Checked
    from guidedsl.pipeline import Compiled, Target

STDIN = "<stdin>"


def read(name: str, session: Session) -> Source:
    """The text of a file, or of stdin for `-`. Stops with 2 where it cannot be read."""
    try:
        return _read_stdin(session) if name == "-" else read_source(Path(name), name)
    except UnreadableSource as problem:
        raise Stop(USAGE, str(problem)) from None
    except (OSError, ValueError) as problem:  # a name that the system refuses
        raise Stop(USAGE, f"{name} cannot be read: {getattr(problem, 'strerror', None) or problem}") from None


def _read_stdin(session: Session) -> Source:
    buffer = getattr(session.stdin, "buffer", None)
    raw = session.stdin.read(MAX_BYTES + 1).encode() if buffer is None else buffer.read(MAX_BYTES + 1)
    return decode_source(raw, STDIN)


def checked(name: str, session: Session, target: Target = "torch") -> Checked:
    """A file, checked for a target, its findings reported. Stops with 1 where one is an error."""
    from guidedsl.pipeline import check

    source = read(name, session)
    result = check(source, target)
    found = result.diagnostics or _nothing(result.program)
    session.report(source, found)
    if any(diagnostic.severity == "error" for diagnostic in found):
        raise Stop(FOUND)
    return result


def compiled(name: str, session: Session, target: Target = "torch") -> Compiled:
    """A file as Python text for a target, its findings reported. Stops with 1 where one is an error."""
    from guidedsl.pipeline import compile_source

    source = read(name, session)
    try:
        result = compile_source(source, target)
    except CompileError as refused:
        session.report(source, refused.diagnostics)
        raise Stop(FOUND) from None
    nothing = _nothing(result.program)
    session.report(source, result.diagnostics or nothing)
    if nothing:
        raise Stop(FOUND)
    return result


def _nothing(program: ir.Program) -> tuple[Diagnostic, ...]:
    """What is to be said of a file without a model."""
    if program.models or program.guides:
        return ()
    text = program.source.text
    code = [line.strip() for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    if code:
        found = "nothing but dims" if any(line.startswith("dim") for line in code) else "nothing but a docstring"
    else:
        found = "nothing but comments" if text.strip() else "an empty file"
    hint = "there is nothing in it: declare one, `model Name { … }`"
    place = program.source.span(0, 0)
    return (errors.unexpected(place, expected="a model", found=found, opened=None, opened_text="", hint=hint),)


def targets(names: Iterable[str], out: str | None, target: Target = "torch") -> dict[str, Path]:
    """Where the module generated from each file belongs. Stops with 2 where two belong in one place."""
    names = list(dict.fromkeys(names))
    to_file = out is not None and out.endswith(".py") and not Path(out).is_dir()
    if to_file and len(names) > 1:
        raise Stop(USAGE, f"--out {out} is one file, and {len(names)} are to be built", hint="name a folder")
    found: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for name in names:
        if name == "-":
            if not to_file:
                raise Stop(USAGE, "what comes from stdin has no file name", hint="say --out FILE.py, or --stdout")
            path = Path()
        else:
            path = Path(name)
        folder = path.parent if out is None else Path(out)
        found[name] = Path(out) if to_file and out is not None else folder / f"{module_name(path, target)}.py"
        owner = owners.setdefault(found[name], name)
        if owner != name:
            raise Stop(USAGE, f"{owner} and {name} would both be written to {found[name]}", hint="rename one")
    return found


def current(path: Path) -> bytes | None:
    """What is in a file; None where there is none. Stops with 2 where it cannot be read."""
    if path.is_dir():
        raise Stop(USAGE, f"{path} is a folder, and the generated module belongs there", hint="move it, or say --out")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise Stop(USAGE, f"{path} cannot be read: {problem.strerror or problem}") from None


def write(path: Path, content: bytes) -> None:
    """Writes a file so that a kill at any moment leaves the old content or the new. Stops with 2 where it cannot."""
    import secrets  # these two are not needed to check a file, which is to answer at once
    import shutil

    target = path.resolve()  # what a link leads to, and not the link
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except OSError as problem:
        _remove(temporary)
        raise Stop(USAGE, f"{path} cannot be written: {problem.strerror or problem}") from None
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
