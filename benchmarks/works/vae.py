"""A variational autoencoder, 784-400-20, 256 images a step; the same weights to begin with in no two tools."""

from __future__ import annotations

from typing import Any

import numpy as np

PIXELS, HIDDEN, CODES, IMAGES = 784, 400, 20, 256
SPEC = """
dim Z = 20, H = 400

model VAE {
  dim N, D
  net decoder(z: real[Z]) -> real[D] = mlp(H, activation = softplus)
  plate images[N] {
    latent   z : real[Z] ~ Normal(0, 1)
    observed x : bool[D] ~ Bernoulli(logits = decoder(z))
  }
}

guide Amortised for VAE {
  net encoder(x: bool[D]) -> (loc: real[Z], scale: positive[Z]) = mlp(H, activation = softplus)
  plate images {
    let (loc, scale) = encoder(x)
    z ~ Normal(loc, scale)
  }
}
"""
MODEL, GUIDE = "VAE", "Amortised"
RATE = 0.001
TOLERANCE = 0.05  # the weights start elsewhere in each tool


def fields() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    rates = draw.random((10, PIXELS)) ** 2
    return {"x": (draw.random((IMAGES, PIXELS)) < rates[draw.integers(10, size=IMAGES)]).astype(np.float32)}


def _nets() -> tuple[Any, Any]:
    from torch import nn

    encoder = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, 2 * CODES))
    decoder = nn.Sequential(nn.Linear(CODES, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, PIXELS))
    return encoder, decoder


def pyro_pair(data: dict[str, Any]) -> tuple[Any, Any]:
    import pyro
    import pyro.distributions as dist
    import torch

    encoder, decoder = _nets()
    x = data["x"]

    def model() -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("images", IMAGES):
            z = pyro.sample("z", dist.Normal(torch.zeros(CODES), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide() -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("images", IMAGES):
            loc, raw = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, raw.exp()).to_event(1))

    return model, guide


def numpyro_pair(data: dict[str, Any]) -> tuple[Any, Any]:
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    def layer(name: str, x: Any, rows: int, columns: int) -> Any:
        start = np.random.default_rng(len(name)).normal(size=(rows, columns)) / np.sqrt(3 * rows)
        weight = numpyro.param(f"{name}_weight", jnp.asarray(start, jnp.float32))
        return x @ weight + numpyro.param(f"{name}_bias", jnp.zeros(columns))

    def model() -> None:
        with numpyro.plate("images", IMAGES):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(CODES), 1.0).to_event(1))
            hidden = jax.nn.softplus(layer("d1", z, CODES, HIDDEN))
            logits = layer("dec2", hidden, HIDDEN, PIXELS)
            numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=data["x"])

    def guide() -> None:
        hidden = jax.nn.softplus(layer("enc1", data["x"], PIXELS, HIDDEN))
        loc, raw = jnp.split(layer("enco2", hidden, HIDDEN, 2 * CODES), 2, -1)
        with numpyro.plate("images", IMAGES):
            numpyro.sample("z", dist.Normal(loc, jnp.exp(raw)).to_event(1))

    return model, guide


def lean_loss(data: dict[str, Any]) -> tuple[list[Any], Any]:
    import torch
    import torch.nn.functional as F

    encoder, decoder = _nets()
    x = data["x"]

    def loss() -> Any:
        loc, raw = encoder(x).chunk(2, -1)
        noise = torch.randn_like(loc)
        z = loc + raw.exp() * noise
        log_q = -(raw + 0.5 * noise * noise).sum()
        log_p = -0.5 * (z * z).sum() - F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        return log_q - log_p

    return [*encoder.parameters(), *decoder.parameters()], loss
