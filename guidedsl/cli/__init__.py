"""The command line: a function of arguments and streams that gives an exit code.

0: done; 1: errors, or a file is not current; 2: usage, or a file that cannot be read or written; 70: a bug of guidedsl.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

import click

from guidedsl import __version__
from guidedsl.cli.command import Commands
from guidedsl.cli.session import BUG, FOUND, INTERRUPTED, OK, PIPE_CLOSED, USAGE, Session, Stop


def main(argv: Sequence[str] | None = None) -> int:
    """The program `guidedsl`, on the process's own streams."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code = run(sys.argv[1:] if argv is None else argv, sys.stdin, sys.stdout, sys.stderr)
    if code == PIPE_CLOSED:  # Python flushes stdout at its end, which must not fail again
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def run(args: Sequence[str], stdin: TextIO, stdout: TextIO, stderr: TextIO) -> int:
    """Runs one command. Nothing is raised but SystemExit from outside: every error becomes an exit code."""
    session = Session(stdin, stdout, stderr)
    try:
        code = _invoke(list(args), session)
        session.finish()
        stdout.flush()
    except BrokenPipeError:
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _invoke(args: list[str], session: Session) -> int:
    try:
        return _command(args, session)
    except Stop as stop:
        return session.stopped(stop)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        session.fail(f"{named}{error.strerror or error}")
        return USAGE
    except MemoryError:
        session.fail("out of memory")
        return FOUND
    except Exception as error:
        messages = _runtime_messages(error)
        if messages is None:
            return _bug(error, session)
        for message in messages:
            session.fail(message)
        return FOUND


def _command(args: list[str], session: Session) -> int:
    commands = Commands()
    if not args:
        session.stderr.write(click.Context(commands, info_name="guidedsl").get_help() + "\n")
        return USAGE
    try:
        with commands.make_context("guidedsl", args, obj=session) as context:
            result = commands.invoke(context)
        return result if isinstance(result, int) else OK
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        message = error.format_message().rstrip(".")
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else "guidedsl"
        session.fail(message[:1].lower() + message[1:], f"`{path} --help` shows how to use it")
        return USAGE


def _runtime_messages(error: Exception) -> tuple[str, ...] | None:
    """What an error of the runtime says; None for any other. Where the runtime was not imported, none was raised."""
    runtime = sys.modules.get("guidedsl.runtime.errors")
    if runtime is None or not isinstance(error, runtime.GuidedslError):
        return None
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    if isinstance(error, runtime.DataError):
        return tuple(problem + notes for problem in error.problems)
    return (f"{error}{notes}",)


def _bug(error: Exception, session: Session) -> int:
    session.fail(
        f"this is a bug in guidedsl {__version__}: please file it\n{type(error).__name__}: {error}",
        "GUIDEDSL_TRACEBACK=1 shows the traceback, which belongs in the report",
    )
    if os.environ.get("GUIDEDSL_TRACEBACK") == "1":
        session.stderr.write("".join(traceback.format_exception(error)))
    return BUG
