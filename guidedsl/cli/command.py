"""What every command shares: its options, its help on the session's stdout, and finding a command by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click

from guidedsl import __version__
from guidedsl.cli.render import FORMATS, Format
from guidedsl.cli.session import Session
from guidedsl.errors import closest

COMMANDS = (
    "build",
    "check",
    "fmt",
    "expand",
    "info",
    "graph",
    "explain",
    "diff",
    "init",
    "fit",
    "predict",
    "compare",
    "summary",
    "debug",
)
"""Each is a module of this package with a `command`, imported when it is asked for."""

SETTINGS: dict[str, Any] = {"max_content_width": 100}


if TYPE_CHECKING:  # generic since click 8.2, and for the type checker alone
    _NumberType = click.ParamType[float]
else:
    _NumberType = click.ParamType

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


class Number(_NumberType):
    """A number from `least` on, or above it where `above`; whole where `whole`."""

    name = "number"

    def __init__(self, least: float, *, above: bool = False, whole: bool = True) -> None:
        self.least, self.above, self.whole = least, above, whole

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number: float = int(value) if self.whole else float(value)
        except ValueError:
            self.fail(f"{value!r} is not a {'whole ' if self.whole else ''}number", param, ctx)
        if number < self.least or number != number or (self.above and number == self.least) or number >= 2**63:
            self.fail(f"{value} is not {'above' if self.above else 'a number from'} {self.least}", param, ctx)
        return number


def _show_help(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        session: Session = context.obj
        session.stdout.write(context.get_help() + "\n")
        context.exit()


def _set_format(context: click.Context, _: click.Parameter, value: Format | None) -> None:
    if value is not None:
        session: Session = context.obj
        session.format = value


def _show_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        session: Session = context.obj
        session.say(f"guidedsl {__version__}")
        context.exit()


def _common() -> list[click.Parameter]:
    return [
        click.Option(
            ["--format"],
            type=click.Choice(FORMATS),
            expose_value=False,
            callback=_set_format,
            help="How errors and warnings are written to stderr.",
        ),
        click.Option(
            ["-h", "--help"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_help,
            help="Show this message.",
        ),
    ]


class Command(click.Command):
    """A command with the options that all have."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"context_settings": SETTINGS, "add_help_option": False, **kwargs})
        own = {name for option in self.params for name in option.opts}
        self.params += [option for option in _common() if own.isdisjoint(option.opts)]


class Commands(click.Group):
    """`guidedsl`: finds commands by name and imports only the one that runs."""

    def __init__(self) -> None:
        version = click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_version,
            help="Show the version.",
        )
        super().__init__(
            "guidedsl",
            help="Variational guides, written down and checked.\n\nAdd --help to a command for its options.",
            params=[*_common(), version],
            add_help_option=False,
            context_settings=SETTINGS,
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"guidedsl.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = closest(name, COMMANDS)
            hint = f"did you mean `{close}`?" if close else f"the commands are {', '.join(COMMANDS)}"
            raise click.UsageError(f"there is no command `{name}`; {hint}", ctx)
        return super().resolve_command(ctx, args)


def files_argument() -> Callable[[AnyFunction], AnyFunction]:
    """The argument FILE..., at least one."""
    return click.argument("files", nargs=-1, required=True, metavar="FILE...")


def target_option() -> Callable[[AnyFunction], AnyFunction]:
    """What a module is generated for."""
    return click.option(
        "--target",
        type=click.Choice(["torch", "pyro"]),
        default="torch",
        show_default=True,
        help="torch: on guidedsl's runtime; pyro: functions for pyro.infer.SVI, without guidedsl.",
    )


def file_argument() -> Callable[[AnyFunction], AnyFunction]:
    """The argument FILE."""
    return click.argument("file", metavar="FILE")


def _site_names(_: click.Context, __: click.Parameter, written: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for text in written for name in text.split(",") if name.strip())


def sites_option() -> Callable[[AnyFunction], AnyFunction]:
    """The option --sites, with names set apart by commas."""
    return click.option(
        "--sites", metavar="NAMES", multiple=True, callback=_site_names, help="Show all rows of these: mu,theta."
    )
