"""Families made of other distributions."""

from __future__ import annotations

import math

from guidedsl.library.distributions.rows import Distribution, form

ROWS: tuple[Distribution, ...] = (
    Distribution(
        name="mixture",
        forms=(
            form("Mixture", weights="simplex[K]", components="distribution[K]"),
            form("MixtureLogits", logits="real[K]", components="distribution[K]"),
        ),
        support="",
        reparameterised=False,
        has_mass=True,
        doc="One of K distributions, by weights or softmax(logits): one law with a last dim K, or a list of K.",
        pyro="MixtureSameFamily",
        rule="mixture",
    ),
    Distribution(
        name="ZeroInflated",
        forms=(form("ZeroInflated", gate="unit", base="distribution"),),
        support="",
        reparameterised=False,
        has_mass=True,
        doc="0 with probability gate, else a draw of base, which is on counts.",
        pyro="ZeroInflatedDistribution",
        rule="zero_inflated",
    ),
    Distribution(
        name="Truncated",
        forms=(form("Truncated", base="distribution", low=("real", -math.inf), high=("real", math.inf)),),
        support="",
        reparameterised=False,
        has_mass=True,
        doc="base given that it lies between low and high, which a base on whole numbers may reach. Either may be left "
        "out.",
        pyro="",
        model_only=True,
        rule="truncated",
    ),
)
