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
