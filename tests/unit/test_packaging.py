"""What is built and installed works away from the checkout: the wheel, and the wheel made from the sdist. Offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from guidedsl import assets

READ_ASSETS = """
import json, sys
import guidedsl
from guidedsl.assets import asset_text
print(json.dumps({
    "home": guidedsl.__file__,
    "version": guidedsl.__version__,
    "torch": "torch" in sys.modules,
    "texts": {name: asset_text(name) for name in sys.argv[1:]},
}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    # Neither a path that leads back to the checkout nor the warnings of the build tools may reach the child.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def asset_names(root: Path) -> list[str]:
    files = (path for folder in ("grammar", "templates") for path in (root / folder).rglob("*") if path.is_file())
    return sorted(path.relative_to(root).as_posix() for path in files)


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, root, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment's `bin`, with the wheel in it; dependencies come from the running environment."""
    home = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(home, with_pip=False)
    bin = home / ("Scripts" if os.name == "nt" else "bin")
    pip = (sys.executable, "-m", "pip", "--python", bin / "python", "--disable-pip-version-check")
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=home)
    # Appended after the environment's own packages. The editable install's .pth file there is not followed.
    (packages,) = home.glob("**/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return bin


def test_the_wheel_carries_every_asset(root: Path, wheel: Path) -> None:
    packed = contents(wheel)
    for name in asset_names(root):
        assert packed[f"guidedsl/{name}"] == (root / name).read_bytes()
    assert "guidedsl/py.typed" in packed
    outside = {name.split("/")[0] for name in packed} - {"guidedsl"}
    assert all(name.endswith(".dist-info") for name in outside), outside


def test_the_wheel_of_the_sdist_is_the_same(root: Path, wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, root, cwd=tmp_path)  # sdist, then wheel
    (again,) = tmp_path.glob("*.whl")
    assert contents(again) == contents(wheel)


def test_the_installed_wheel_finds_grammar_and_templates(root: Path, installed: Path, tmp_path: Path) -> None:
    names = asset_names(root)
    assert {name.split("/")[0] for name in names} == {"grammar", "templates"}
    found = json.loads(run(installed / "python", "-c", READ_ASSETS, *names, cwd=tmp_path))
    assert Path(found["home"]).is_relative_to(installed.parent)
    assert not found["torch"]
    assert found["texts"] == {name: (root / name).read_text(encoding="utf-8") for name in names}


def test_the_installed_command_builds(root: Path, installed: Path, tmp_path: Path) -> None:
    source = tmp_path / "eight_schools.guide"
    source.write_bytes((root / "examples/eight_schools/eight_schools.guide").read_bytes())
    run(installed / "guidedsl", "build", source, cwd=tmp_path)
    assert (tmp_path / "eight_schools_guide.py").is_file()


def test_no_python_stands_among_the_assets(root: Path) -> None:
    """It would break the editable install: see pyproject.toml."""
    assert not [name for name in asset_names(root) if name.endswith(".py")]


def test_a_missing_asset_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"grammar/none\.lark is neither in .* nor beside it"):
        assets.asset_path("grammar/none.lark")
