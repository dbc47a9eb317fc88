"""Modules compiled in memory."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import torch

import guidedsl
from guidedsl.diagnostics import CompileError

TEXT = "model M { latent a : real ~ Normal(0, 1) } guide G for M { auto mean_field for rest }"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "small.guide"
    file.write_text(TEXT)
    return file


def test_a_compiled_module_has_the_models_and_guides_by_name(path: Path) -> None:
    module = guidedsl.compile(str(path))
    assert module.__name__ == "small_guide"
    data = module.M.data()
    value = module.M(data, module.M.latents_type(a=torch.tensor(0.5, dtype=data.dtype)))
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(torch.tensor(0.5, dtype=data.dtype))
    torch.testing.assert_close(value, expected)


def test_tracebacks_show_the_lines_of_a_compiled_module(path: Path) -> None:
    module = guidedsl.compile(path)
    with pytest.raises(TypeError, match="unpack") as caught:
        module.m(None, None)
    assert "= latents" in "".join(traceback.format_tb(caught.tb))


def test_a_program_with_errors_is_refused_with_its_place(path: Path) -> None:
    path.write_text(TEXT.replace("Normal", "Normall"))
    with pytest.raises(CompileError, match=r"small\.guide:1: E104"):
        guidedsl.compile(path)
