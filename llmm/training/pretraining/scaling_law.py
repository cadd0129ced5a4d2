"""How the loss falls with parameters and tokens: L(N, D) = E + A / N^α + B / D^β, its fit and its optimum.

Sources: Hoffmann et al. 2022 (2203.15556), section 3.3 (approach 3); Besiroglu et al. 2024 (2404.10102), who show that
a fit is only as good as its stopping rule: the sum of the Huber losses is minimised here, not their mean, to a
tolerance far below the noise. With D = r N the same law in one variable, L(N) = E + A / N^α, is all that can be told.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import logsumexp

Floats = npt.NDArray[np.float64]

HUBER = 1e-3  # residuals of the log loss above this count linearly: an outlier pulls no harder than its neighbours
STARTS = {
    "irreducible": (-1.0, -0.5, 0.0, 0.5, 1.0),
    "coefficient": (0.0, 5.0, 10.0, 15.0),
    "exponent": (0.2, 0.5, 1.0),
}
REFINED = 8  # starts, the best of the grid, that L-BFGS goes on from


@dataclass(frozen=True)
class ScalingLaw:
    """L = E + Σ_j A_j / x_j^α_j. One variable is N at a fixed ratio of tokens to parameters; two are N and D."""

    irreducible: float  # E, nats
    coefficients: tuple[float, ...]  # A, B
    exponents: tuple[float, ...]  # α, β

    def loss(self, *sizes: float) -> float:
        """Predicted loss in nats at sizes (N,) or (N, D)."""
        terms = zip(self.coefficients, self.exponents, sizes, strict=True)
        return self.irreducible + sum(a / x**alpha for a, alpha, x in terms)

    def optimum(self, flops: float) -> tuple[float, float]:
        """Parameters N and tokens D that make the loss smallest for 6 N D = `flops`: README (2.5). Needs both terms."""
        (A, B), (alpha, beta) = self.coefficients, self.exponents
        G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
        return G * (flops / 6) ** (beta / (alpha + beta)), (flops / 6) ** (alpha / (alpha + beta)) / G


def fit(sizes: Floats, losses: Floats, delta: float = HUBER) -> ScalingLaw:
    """The law that fits `losses` (n,) at `sizes` (n, k), k = 1 or 2 variables: README (2.7).

    Minimises Σ_i Huber_δ(log L̂_i - log L_i) over e = log E, a_j = log A_j and α_j, by L-BFGS from the best of a grid
    of starts. Raises ValueError where there are fewer losses than parameters.
    """
    logs, log_losses = np.log(np.asarray(sizes, float)), np.log(np.asarray(losses, float))
    variables = logs.shape[1]
    if len(log_losses) < 1 + 2 * variables:
        raise ValueError(f"{len(log_losses)} losses for {1 + 2 * variables} parameters: more runs are needed")
    best = None
    for start in _starts(logs, log_losses, delta):
        found = minimize(
            _objective, start, (logs, log_losses, delta), "L-BFGS-B", jac=True,
            options={"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-12},
        )  # fmt: skip
        if best is None or found.fun < best.fun:
            best = found
    assert best is not None
    e, rest = best.x[0], best.x[1:]
    return ScalingLaw(float(np.exp(e)), tuple(map(float, np.exp(rest[0::2]))), tuple(map(float, rest[1::2])))


def sensitivities(law: ScalingLaw, sizes: Floats) -> Floats:
    """∂ log L̂_i / ∂(e, a_1, α_1, …), (n, 1 + 2 k): README (2.8). Directions that it does not see are not identified."""
    theta = [np.log(law.irreducible)]
    for coefficient, exponent in zip(law.coefficients, law.exponents, strict=True):
        theta += [np.log(coefficient), exponent]
    return _predict(np.array(theta), np.log(np.asarray(sizes, float)))[1]


def weakest_direction(law: ScalingLaw, sizes: Floats) -> float:
    """Smallest over largest singular value of `sensitivities`: near 0, some change of the parameters moves no loss."""
    values = np.linalg.svd(sensitivities(law, sizes), compute_uv=False)
    return float(values[-1] / values[0])


def bootstrap(sizes: Floats, losses: Floats, samples: int, seed: int) -> list[ScalingLaw]:
    """Laws fitted to `samples` resamples of the residuals: how far the parameters can be trusted.

    Residuals, and not runs, are drawn, since without one of five sizes there may be too few left to fit.
    """
    law = fit(sizes, losses)
    predicted = np.array([law.loss(*row) for row in sizes])
    residuals = np.log(losses) - np.log(predicted)
    rng = np.random.default_rng(seed)
    return [fit(sizes, predicted * np.exp(rng.choice(residuals, len(residuals)))) for _ in range(samples)]


def _starts(logs: Floats, log_losses: Floats, delta: float) -> list[tuple[float, ...]]:
    """The most promising points of the grid."""
    pairs = list(itertools.product(STARTS["coefficient"], STARTS["exponent"]))
    grid = [
        (e, *itertools.chain.from_iterable(chosen))
        for e in STARTS["irreducible"]
        for chosen in itertools.product(pairs, repeat=logs.shape[1])
    ]
    return sorted(grid, key=lambda start: _objective(np.array(start), logs, log_losses, delta)[0])[:REFINED]


def _objective(theta: Floats, logs: Floats, log_losses: Floats, delta: float) -> tuple[float, Floats]:
    """Sum of Huber losses and its gradient: the derivative of Huber's loss is its residual, cut at ±δ."""
    predicted, jacobian = _predict(theta, logs)
    residuals = predicted - log_losses
    cut = np.clip(residuals, -delta, delta)
    return float((cut * (residuals - cut / 2)).sum()), cut @ jacobian


def _predict(theta: Floats, logs: Floats) -> tuple[Floats, Floats]:
    """log L̂ (n,) and its Jacobian (n, parameters): a soft maximum of log E and a_j - α_j log x_j."""
    exponents = theta[2::2]
    terms = np.column_stack([np.full(len(logs), theta[0]), theta[1::2] - exponents * logs])
    predicted: Floats = logsumexp(terms, axis=1)
    shares = np.exp(terms - predicted[:, None])
    jacobian = np.empty((len(logs), len(theta)))
    jacobian[:, 0], jacobian[:, 1::2] = shares[:, 0], shares[:, 1:]
    jacobian[:, 2::2] = -shares[:, 1:] * logs
    return predicted, jacobian
