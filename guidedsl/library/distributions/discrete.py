"""Families on whole numbers, and on vectors of them."""

from __future__ import annotations

from guidedsl.library.distributions.rows import Distribution, form, means

ROWS: tuple[Distribution, ...] = (
    Distribution(
        name="Bernoulli",
        forms=(
            form("Bernoulli", probs="unit"),
            form("BernoulliLogits", logits="real").in_pyro("Bernoulli(logits={logits})"),
        ),
        support="bool",
        reparameterised=False,
        has_mass=False,
        doc="True with probability probs, or inv_logit(logits).",
        pyro="Bernoulli",
        knows=means("entropy mean"),
        asks=means("entropy mean"),
    ),
    Distribution(
        name="Binomial",
        forms=(
            form("Binomial", total="count", probs="unit"),
            form("BinomialLogits", total="count", logits="real").in_pyro("Binomial({total}, logits={logits})"),
        ),
        support="int(0, total)",
        reparameterised=False,
        has_mass=True,
        doc="Successes in total trials of probability probs, or inv_logit(logits).",
        pyro="Binomial",
    ),
    Distribution(
        name="BetaBinomial",
        forms=(form("BetaBinomial", concentration1="positive", concentration0="positive", total="count"),),
        support="int(0, total)",
        reparameterised=False,
        has_mass=False,
        doc="Successes in total trials whose common probability is Beta(concentration1, concentration0).",
        pyro="BetaBinomial",
    ),
    Distribution(
        name="Geometric",
        forms=(
            form("Geometric", probs="unit"),
            form("GeometricLogits", logits="real").in_pyro("Geometric(logits={logits})"),
        ),
        support="count",
        reparameterised=False,
        has_mass=True,
        doc="Failures (0, 1, …) before the first success of probability probs, or inv_logit(logits).",
        pyro="Geometric",
        knows=means("entropy mean"),
        asks=means("entropy mean"),
    ),
    Distribution(
        name="Poisson",
        forms=(
            form("Poisson", rate="positive"),
            form("PoissonLog", log_rate="real").in_pyro("Poisson({log_rate_}.exp())"),
        ),
        support="count",
        reparameterised=False,
        has_mass=True,
        doc="Poisson with mean rate, or exp(log_rate).",
        pyro="Poisson",
        knows=means("count_entropy rate"),
        asks=means("count_entropy rate"),
    ),
    Distribution(
        name="NegativeBinomial",
        forms=(
            form("NegativeBinomial", total="positive", probs="unit"),
            form("NegativeBinomialLogits", total="positive", logits="real").in_pyro(
                "NegativeBinomial({total}, logits={logits})"
            ),
            form("NegativeBinomialMean", mean="positive", dispersion="positive").in_pyro(
                "NegativeBinomial({dispersion}, {mean_} / ({mean_} + {dispersion_}))"
            ),
            form("NegativeBinomialLogMean", log_mean="real", dispersion="positive").in_pyro(
                "NegativeBinomial({dispersion}, logits={log_mean_} - {dispersion_}.log())"
            ),
        ),
        support="count",
        reparameterised=False,
        has_mass=True,
        doc="Successes of probability probs before total failures; or by mean, variance mean + mean² / dispersion.",
        pyro="NegativeBinomial",
    ),
    Distribution(
        name="ZeroInflatedPoisson",
        forms=(
            form("ZeroInflatedPoisson", gate="unit", rate="positive").in_pyro(
                "ZeroInflatedPoisson({rate}, gate=torch.as_tensor({gate}))"
            ),
        ),
        support="count",
        reparameterised=False,
        has_mass=False,
        doc="0 with probability gate, else Poisson(rate).",
        pyro="ZeroInflatedPoisson",
    ),
    Distribution(
        name="ZeroInflatedNegativeBinomial",
        forms=(
            form("ZeroInflatedNegativeBinomial", gate="unit", total="positive", probs="unit").in_pyro(
                "ZeroInflatedNegativeBinomial({total}, probs={probs}, gate=torch.as_tensor({gate}))"
            ),
            form("ZeroInflatedNegativeBinomialLogits", gate="unit", total="positive", logits="real").in_pyro(
                "ZeroInflatedNegativeBinomial({total}, logits={logits}, gate=torch.as_tensor({gate}))"
            ),
        ),
        support="count",
        reparameterised=False,
        has_mass=False,
        doc="0 with probability gate, else NegativeBinomial(total, probs).",
        pyro="ZeroInflatedNegativeBinomial",
    ),
    Distribution(
        name="DiscreteUniform",
        forms=(form("DiscreteUniform", low="int", high="int"),),
        support="int(low, high)",
        reparameterised=False,
        has_mass=True,
        doc="Each whole number from low to high, both included.",
        pyro="",
    ),
    Distribution(
        name="Categorical",
        forms=(
            form("Categorical", probs="simplex[K]"),
            form("CategoricalLogits", logits="real[K]").in_pyro("Categorical(logits={logits})"),
        ),
        support="int(0, K - 1)",
        reparameterised=False,
        has_mass=False,
        doc="Index k with probability probs[k], or softmax(logits)[k].",
        pyro="Categorical",
        tabulated=True,
        knows=means("entropy probs"),
        asks=means("entropy probs"),
    ),
    Distribution(
        name="OrderedLogistic",
        forms=(
            form("OrderedLogistic", predictor="real", cutpoints="ordered[K]").in_pyro(
                "OrderedLogistic(torch.as_tensor({predictor}), {cutpoints})"
            ),
        ),
        support="int(0, K)",
        reparameterised=False,
        has_mass=False,
        doc="Index of the interval between the cutpoints that a Logistic(predictor, 1) falls into.",
        pyro="OrderedLogistic",
        tabulated=True,
    ),
    Distribution(
        name="OneHotCategorical",
        forms=(
            form("OneHotCategorical", probs="simplex[K]"),
            form("OneHotCategoricalLogits", logits="real[K]").in_pyro("OneHotCategorical(logits={logits})"),
        ),
        support="one_hot[K]",
        reparameterised=False,
        has_mass=False,
        doc="One 1 among zeros, at k with probability probs[k], or softmax(logits)[k].",
        pyro="OneHotCategorical",
        knows=means("entropy probs"),
        asks=means("entropy probs"),
    ),
    Distribution(
        name="Multinomial",
        forms=(
            form("Multinomial", total="count", probs="simplex[K]").in_pyro("Multinomial({total_int}, {probs})"),
            form("MultinomialLogits", total="count", logits="real[K]").in_pyro(
                "Multinomial({total_int}, logits={logits})"
            ),
        ),
        support="count[K]",
        reparameterised=False,
        has_mass=False,
        doc="Counts of total independent Categorical draws.",
        pyro="Multinomial",
        pyro_single="total",
        sums_to="total",
    ),
    Distribution(
        name="GammaPoisson",
        forms=(form("GammaPoisson", concentration="positive", rate="positive"),),
        support="count",
        reparameterised=False,
        has_mass=True,
        doc="Poisson whose rate is Gamma(concentration, rate).",
        pyro="GammaPoisson",
    ),
    Distribution(
        name="BetaNegativeBinomial",
        forms=(form("BetaNegativeBinomial", total="positive", concentration1="positive", concentration0="positive"),),
        support="count",
        reparameterised=False,
        has_mass=False,
        doc="Failures before total successes whose common probability is Beta(concentration1, concentration0).",
        pyro="",
    ),
    Distribution(
        name="Hypergeometric",
        forms=(form("Hypergeometric", draws="count", successes="count", failures="count"),),
        support="int(0, draws)",
        reparameterised=False,
        has_mass=False,
        doc="Successes among draws without replacement from successes and failures.",
        pyro="",
    ),
    Distribution(
        name="OrderedProbit",
        forms=(form("OrderedProbit", predictor="real", cutpoints="ordered[K]"),),
        support="int(0, K)",
        reparameterised=False,
        has_mass=False,
        doc="Index of the interval between the cutpoints that a Normal(predictor, 1) falls into.",
        pyro="",
    ),
    Distribution(
        name="DirichletMultinomial",
        forms=(
            form("DirichletMultinomial", total="count", concentration="positive[K]").in_pyro(
                "DirichletMultinomial({concentration}, {total})"
            ),
        ),
        support="count[K]",
        reparameterised=False,
        has_mass=False,
        doc="Counts of total draws whose common probabilities are Dirichlet(concentration).",
        pyro="DirichletMultinomial",
        sums_to="total",
    ),
)
