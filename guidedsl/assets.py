"""The grammar and the templates: beside the package in a wheel, one level up in a checkout or an editable install."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def asset_path(relative: str) -> Path:
    """The file or folder `relative`, such as "grammar/guide.lark"; FileNotFoundError if the installation lacks it."""
    for root in (PACKAGE, PACKAGE.parent):
        path = root / relative
        if path.exists():
            return path
    raise FileNotFoundError(f"{relative} is neither in {PACKAGE} nor beside it: guidedsl is not installed completely")


def asset_text(relative: str) -> str:
    return asset_path(relative).read_text(encoding="utf-8")


def error_cases() -> Path:
    """The folder of programs that are refused, one folder a case; in a checkout they stand among the tests.

    Raises:
        FileNotFoundError: the installation lacks it.
    """
    for path in (PACKAGE / "cases", PACKAGE.parent / "tests" / "cases" / "errors"):
        if path.is_dir():
            return path
    raise FileNotFoundError(f"there are no cases in {PACKAGE}: guidedsl is not installed completely")
