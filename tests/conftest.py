"""Fixtures and settings for every test."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

CI = os.environ.get("CI") == "true"

# One process a core under xdist: torch must not start threads of its own. Read when torch is first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Example times say nothing on a shared machine; in CI the same examples are tried in every run.
hypothesis.settings.register_profile("guidedsl", deadline=None, derandomize=CI, print_blob=True)
hypothesis.settings.load_profile("guidedsl")


@pytest.fixture(autouse=True, scope="session")
def compiled_here(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiled steps are kept in a folder of this run."""
    os.environ["GUIDEDSL_CACHE"] = str(tmp_path_factory.getbasetemp() / "compiled")


@pytest.fixture(autouse=True)
def unformatted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that are only run need no layout, which takes black longer than anything else takes the compiler."""
    if request.path.parent.name in ("oracle", "runtime"):
        monkeypatch.setattr("guidedsl.backend.render.format_python", lambda python: python)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def cases_dir() -> Path:
    """The folder of real posteriors with references, named by GUIDEDSL_CASES: never part of this repository."""
    value = os.environ.get("GUIDEDSL_CASES", "")
    if value and Path(value).is_dir():
        return Path(value)
    problem = f"GUIDEDSL_CASES names no folder: {value!r}" if value else "GUIDEDSL_CASES is not set"
    if value or CI:
        pytest.fail(problem)
    pytest.skip(problem)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite expected outputs with what came out")


@pytest.fixture(scope="session")
def update(request: pytest.FixtureRequest) -> bool:
    """Whether expected outputs are to be rewritten."""
    return bool(request.config.getoption("--update"))
