"""Fit vae.guide to 1797 handwritten digits, and beside it the same autoencoder written by hand in PyTorch."""

import importlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
BATCH = 128
GREYS = 16


def build() -> Any:
    """The generated module, as any program would import it."""
    guidedsl = Path(sys.executable).with_name("guidedsl")
    subprocess.run([guidedsl, "build", HERE / "vae.guide"], check=True)
    sys.path.insert(0, str(HERE))
    return importlib.import_module("vae_guide")


class ByHand(nn.Module):
    """The same autoencoder: 64 greys of 0 to 16, 200 hidden units, 10 latents."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, 20))
        self.decoder = nn.Sequential(nn.Linear(10, 200), nn.ReLU(), nn.Linear(200, 64))

    def elbo(self, x: Tensor) -> Tensor:
        """One estimate for each image."""
        loc, raw = self.encoder(x).chunk(2, -1)
        posterior = torch.distributions.Normal(loc, nn.functional.softplus(raw))
        z = posterior.rsample()
        likelihood = torch.distributions.Binomial(GREYS, logits=self.decoder(z), validate_args=False)
        prior = torch.distributions.Normal(0.0, 1.0)
        return likelihood.log_prob(x).sum(-1) + (prior.log_prob(z) - posterior.log_prob(z)).sum(-1)


def train_by_hand(x: Tensor, steps: int) -> float:
    """The ELBO of all images after so many steps of Adam, their size falling to a hundredth in the second half."""
    torch.manual_seed(1)
    vae = ByHand()
    optimiser = torch.optim.Adam(vae.parameters(), lr=0.003)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.003 * 0.01 ** max(0.0, 2 * step / steps - 1)
        loss = -vae.elbo(x[torch.randperm(len(x))[:BATCH]]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return float(torch.stack([vae.elbo(x).sum() for _ in range(100)]).mean())


def main() -> None:
    vae = build()
    digits = load_digits()
    data = vae.VAE.data(x=digits.data)
    fit = vae.Amortised.fit(data, seed=1)
    print(fit)
    print(f"per image {fit.elbo / len(digits.data):.2f} nats")
    codes = fit.mean()["z"]
    nearest = torch.cdist(codes, codes).fill_diagonal_(torch.inf).argmin(1)
    kinds = torch.tensor(digits.target)
    print(
        f"the nearest other image by its code is of the same digit for {(kinds[nearest] == kinds).float().mean():.1%}"
    )
    start = time.perf_counter()
    by_hand = train_by_hand(torch.tensor(digits.data, dtype=torch.float32), fit.steps)
    print(f"by hand, as many steps: ELBO {by_hand:.0f}, {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
