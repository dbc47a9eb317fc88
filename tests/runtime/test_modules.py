"""Modules compiled in memory."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import torch

import guidedsl
from guidedsl.diagnostics import CompileError
from guidedsl.modules import load_source
from guidedsl.source import Source

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


def test_a_sum_of_two_thousand_terms() -> None:
    """More than Python nests calls, in the compiler and in what it writes."""
    terms = " ".join(f"{'-' if n % 3 == 0 else '+'} {'a' if n % 2 else 'b * 2'}" for n in range(2000))
    latents = "latent a : real ~ Normal(0, 1) latent b : real ~ Normal(0, 1)"
    module = load_source(Source("long.guide", f"model M {{ {latents} observed y : real ~ Normal(1 {terms}, 9) }}"))
    data = module.M.data(y=3.0)
    a, b = torch.tensor(0.25, dtype=data.dtype), torch.tensor(-0.5, dtype=data.dtype)
    total = 1.0 + sum((-1 if n % 3 == 0 else 1) * (0.25 if n % 2 else -1.0) for n in range(2000))
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    expected = torch.distributions.Normal(zero, one).log_prob(torch.stack((a, b))).sum()
    expected = expected + torch.distributions.Normal(zero + total, 9 * one).log_prob(data.y)
    torch.testing.assert_close(module.M(data, module.M.latents_type(a=a, b=b)), expected, rtol=1e-10, atol=0)


def test_two_hundred_sites() -> None:
    sites = "\n".join(f"latent z{n} : positive ~ LogNormal(0, 1)" for n in range(200))
    text = f"model M {{ {sites} }} guide G for M {{ auto mean_field for rest }}"
    module = load_source(Source("wide.guide", text))
    data = module.M.data()
    latents = {f"z{n}": torch.tensor(0.5 + n / 100, dtype=data.dtype) for n in range(200)}
    expected = sum(torch.distributions.LogNormal(0.0, 1.0).log_prob(value) for value in latents.values())
    torch.testing.assert_close(module.M(data, module.M.latents_type(**latents)), expected, rtol=1e-12, atol=0)
    store = guidedsl.ParamStore()
    draw = module.G(data, store=store)
    assert len(store) == 400
    assert bool(draw.log_q.isfinite())
