"""The reference page is the registries' own words."""

from __future__ import annotations

from pathlib import Path

from guidedsl.library.reference import page


def test_the_page_is_current(root: Path) -> None:
    written = (root / "docs" / "reference.md").read_text()
    assert written == page(), "run `python -m guidedsl.library.reference > docs/reference.md`"
