"""Data files: JSON and NPZ, and what is wrong with those that cannot be read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy
import pytest

from guidedsl.runtime.errors import DataError
from guidedsl.runtime.load import load_fields


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_fields(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"y": [1, 2.5, null], "J": 3, "z": NaN, "big": 1e400}', encoding="utf-8")
    fields = load_fields(path)
    assert fields["y"] == [1, 2.5, None]
    assert fields["J"] == 3
    assert isinstance(fields["z"], float)
    assert math.isnan(fields["z"])
    assert fields["big"] == math.inf


def test_json_with_a_byte_order_mark_and_huge_integers(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"y": ' + b"9" * 5000 + b"}")
    assert load_fields(str(path)) == {"y": math.inf}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"y": [1, 2,\n 3,, 4]}', "line 2, column 4"),
        ("", "line 1, column 1"),
        ("[1, 2]", "holds an array; expected an object"),
        ("null", "holds null"),
        ('{"y": 1, "y": 2}', '"y" occurs twice'),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_bad_json(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    assert said in refused(path)


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes('{"y": "é"}'.encode("latin-1"))
    assert "byte 7 is not UTF-8" in refused(path)


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    numpy.savez(path, y=numpy.arange(3), x=numpy.ones((2, 2)))
    fields = load_fields(path)
    assert sorted(fields) == ["x", "y"]
    assert isinstance(fields["y"], numpy.ndarray)
    assert fields["y"].tolist() == [0, 1, 2]


def test_npz_never_runs_code(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    numpy.savez(path, y=numpy.array([{"a": 1}], dtype=object))
    assert "never loaded" in refused(path)


def test_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    numpy.savez(path, y=numpy.arange(1000))
    content = path.read_bytes()
    for broken in (b"", b"nothing", content[: len(content) // 2], content[:100] + b"\0" * 50 + content[150:]):
        path.write_bytes(broken)
        assert "not a readable NPZ archive" in refused(path)
    with path.open("wb") as file:
        numpy.save(file, numpy.arange(3))
    assert "is one array" in refused(path)


def test_other_files(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "missing.json")
    assert "is a folder" in refused(tmp_path)
    (tmp_path / "a.csv").write_text("y\n1\n", encoding="utf-8")
    assert "unknown kind of data file `.csv`" in refused(tmp_path / "a.csv")
