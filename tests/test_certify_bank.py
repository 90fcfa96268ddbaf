"""A bank of random networks of all kinds: the certified bound against LipSDP's optimum from its definition."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from lmi import Array, Form, centred, coefficients, exactly_feasible, live, normalised, optimum

from certnet.certification import certify
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork
from certnet.proofs.shallow import BoundChecker
from certnet.searches.shallow import search_multipliers

Rng = np.random.Generator
Make = Callable[[Rng], FeedForward]


def network(rng: Rng, *widths: int, phi: Any = "relu", units: str = "as given") -> FeedForward:
    Ws = [rng.standard_normal((n, k)) / math.sqrt(k) for k, n in pairwise(widths)]
    return FeedForward(Ws, [0.3 * rng.standard_normal(len(W)) for W in Ws], phi, units=units)


def like(net: FeedForward, *weights: Array) -> FeedForward:
    return FeedForward(weights, net.biases, net.activations, units=net.units)


# ------------------------------------------------------------------------------------------------ kinds of networks


def one_output(rng: Rng) -> FeedForward:
    return network(rng, int(rng.integers(1, 9)), int(rng.integers(1, 16)), 1)


def several_outputs(rng: Rng) -> FeedForward:
    return network(rng, int(rng.integers(1, 8)), int(rng.integers(1, 13)), int(rng.integers(2, 6)))


def wide_input(rng: Rng) -> FeedForward:
    h = int(rng.integers(1, 7))
    return network(rng, int(rng.integers(h + 1, 16)), h, int(rng.integers(1, 4)))


def wide_layer(rng: Rng) -> FeedForward:
    return network(rng, int(rng.integers(1, 5)), int(rng.integers(25, 41)), int(rng.integers(1, 3)))


def rank_deficient(rng: Rng) -> FeedForward:
    net = network(rng, 6, 9, int(rng.integers(1, 4)))
    rank = int(rng.integers(1, 4))
    return like(net, rng.standard_normal((9, rank)) @ rng.standard_normal((rank, 6)), net.weights[1])


def repeated_units(rng: Rng) -> FeedForward:
    """Duplicate, parallel and opposite units."""
    net = network(rng, 4, 8, int(rng.integers(1, 3)))
    W, V = (np.array(A) for A in net.weights)
    W[1], V[:, 1], W[3], W[5], V[:, 5] = W[0], V[:, 0], 2.5 * W[2], -W[4], -V[:, 4]
    return like(net, W, V)


def zeros(rng: Rng) -> FeedForward:
    """An input without effect, constant units, units that nothing listens to, an output that is constant."""
    net = network(rng, 5, 9, 3)
    W, V = (np.array(A) for A in net.weights)
    W[:, 1], W[[2, 6]], V[:, 4], V[1] = 0.0, 0.0, 0.0, 0.0
    return like(net, W, V)


def sparse(rng: Rng) -> FeedForward:
    net = network(rng, 5, 10, int(rng.integers(1, 4)))
    return like(net, *(W * (rng.random(W.shape) < 0.4) + (rng.random(W.shape) < 0.02) for W in net.weights))


def scaled(rng: Rng) -> FeedForward:
    net = network(rng, 4, 8, int(rng.integers(1, 3)))
    return like(net, *(W * 10.0 ** rng.uniform(-6, 6) for W in net.weights))


def scaled_units(rng: Rng) -> FeedForward:
    """Every unit, ``w_j / κ`` and ``κ V_:j``, and its size on their own scales."""
    net = network(rng, 4, 8, int(rng.integers(1, 3)))
    W, V = net.weights
    kappa, size = 10.0 ** rng.uniform(-6, 6, 8), 10.0 ** rng.uniform(-3, 0, 8)
    return like(net, W / kappa[:, None], V * (kappa * size))


def with_activation(phi: Any) -> Make:
    return lambda rng: network(
        rng, int(rng.integers(1, 6)), int(rng.integers(2, 11)), int(rng.integers(1, 4)), phi=[phi]
    )


def raw_units(rng: Rng) -> FeedForward:
    """A standardised network with its scaling folded in."""
    net = network(rng, 4, 8, 2, phi=["relu", "tanh"][int(rng.integers(2))], units="standardised")
    return net.rescaled(
        x_shift=rng.standard_normal(4),
        x_scale=10.0 ** rng.uniform(-2, 2, 4),
        y_shift=rng.standard_normal(2),
        y_scale=10.0 ** rng.uniform(-2, 2, 2),
    )


def deep(*phis: Any) -> Make:
    def make(rng: Rng) -> FeedForward:
        hidden = [int(n) for n in rng.integers(1, 6, len(phis))]
        return network(rng, int(rng.integers(1, 5)), *hidden, int(rng.integers(1, 4)), phi=phis)

    return make


def deep_with_zeros(rng: Rng) -> FeedForward:
    net = network(rng, 4, 5, 5, 2)
    Ws = [np.array(W) for W in net.weights]
    Ws[0][1], Ws[1][:, 2], Ws[1][3], Ws[2][:, 4] = 0.0, 0.0, 0.0, 0.0
    return like(net, *Ws)


def deep_scaled(rng: Rng) -> FeedForward:
    net = network(rng, 3, 5, 4, 2)
    return like(net, *(W * 10.0 ** rng.uniform(-4, 4) for W in net.weights))


LEAKY, BENT, STEEP = (Activation("leaky_relu", (a,)) for a in (0.1, -0.5, 3.0))
HARD, ELU = Activation("hard_sigmoid", (0.4, 0.5)), Activation("elu", (1.7,))
SHALLOW: dict[str, Make] = {
    "one output": one_output,
    "several outputs": several_outputs,
    "wide input": wide_input,
    "wide layer": wide_layer,
    "rank deficient": rank_deficient,
    "repeated units": repeated_units,
    "zeros": zeros,
    "sparse": sparse,
    "scaled": scaled,
    "scaled units": scaled_units,
    "raw units": raw_units,
    "leaky": with_activation(LEAKY),
    "leaky, negative slope": with_activation(BENT),
    "leaky, steep": with_activation(STEEP),
    "tanh": with_activation("tanh"),
    "sigmoid": with_activation("sigmoid"),
    "softplus": with_activation("softplus"),
    "elu": with_activation(ELU),
    "hard sigmoid": with_activation(HARD),
    "user (-0.5, 2)": with_activation((-0.5, 2.0)),
    "user (-1, 1)": with_activation((-1.0, 1.0)),
    "user (0.3, 0.31)": with_activation((0.3, 0.31)),
    "identity": with_activation("identity"),
    "user (-2, -1)": with_activation((-2.0, -1.0)),
}
DEEP: dict[str, Make] = {
    "2 relu": deep("relu", "relu"),
    "3 relu": deep("relu", "relu", "relu"),
    "4 relu": deep("relu", "relu", "relu", "relu"),
    "2 mixed": deep("tanh", LEAKY),
    "3 mixed": deep("sigmoid", "relu", STEEP),
    "3 with identity": deep("relu", "identity", "tanh"),
    "2 user": deep((-0.5, 2.0), BENT),
    "4 mixed": deep(ELU, "softplus", HARD, "relu"),
    "zeros": deep_with_zeros,
    "scaled": deep_scaled,
}
NARROW = ("user (0.3, 0.31)", "identity", "3 with identity")  # their multipliers are huge or infinite
BANK = [
    *(("shallow", name, seed) for name in SHALLOW for seed in range(7)),
    *(("neuron", name, seed) for name in DEEP for seed in range(4)),
    *(("layer", name, seed) for name in DEEP if "zeros" not in name for seed in range(3)),
    *((method, "several outputs", seed) for method in ("neuron", "layer") for seed in range(4)),
]


# ------------------------------------------------------------------------------------------------------- what holds


@dataclass(frozen=True)
class Reference:
    """ρ* of a network and the relative uncertainty of the generic solver."""

    rho: Fraction
    error: float

    def excess(self, upper: float) -> float:
        """``upper² / ρ* − 1``."""
        return float(Fraction(upper) ** 2 / self.rho - 1)


def reference(
    weights: Sequence[Array], slopes: Sequence[tuple[Array, Array]], *, per: str = "neuron", form: Form = coefficients
) -> Reference:
    near, exponent = normalised(weights, units=per == "neuron")
    found = optimum(near, slopes, per=per, form=form)
    assert found.error < 1e-7, f"the generic solver is off by {found.error:.1e}"
    # its own gap and residuals, and what residuals cost where multipliers are large
    return Reference(Fraction(found.rho) * Fraction(4) ** exponent, 3.0 * found.error + 1e-8)


def spread(net: FeedForward, weights: Sequence[Array]) -> list[tuple[Array, Array]]:
    """The activations' slopes, one pair per unit."""
    pairs = [phi.slopes for phi in net.activations]
    return [(np.full(len(W), low), np.full(len(W), high)) for W, (low, high) in zip(weights, pairs)]


def assert_optimal(upper: float, best: Reference, tol: float = 1e-6) -> None:
    assert -best.error <= best.excess(upper) <= tol + best.error


def assert_reached(net: FeedForward, lower: float, x: Array) -> None:
    """Is the lower bound the slope of f at the witness? By differences: no derivative of certnet's is used.

    A kink may be nearer than a step, so one step of several has to reach it.
    """
    best = 0.0
    for step in 10.0 ** np.arange(-9.0, -1.0) * max(1.0, float(np.abs(x).max())):
        ends = (net.forward(x + side * step * np.eye(len(x))) for side in (1.0, -1.0))
        best = max(best, float(np.linalg.norm(np.subtract(*ends), 2)) / (2.0 * step))
    assert best >= lower * (1.0 - 1e-3)


@pytest.mark.parametrize(("method", "name", "seed"), BANK, ids=str)
def test_the_bound_is_the_optimum_of_the_definition(method: str, name: str, seed: int) -> None:
    make = (SHALLOW | DEEP)[name] if method != "shallow" else SHALLOW[name]
    net = make(np.random.default_rng([seed, *name.encode()]))
    cert = certify(net, method=method)
    weights = live(net.weights)
    best = reference(
        weights,
        spread(net, weights),
        per="layer" if method == "layer" else "neuron",
        form=centred if name in NARROW else coefficients,
    )
    # a layer that is linear in a deep network is searched as if it bent by 1e-4
    if best.excess(cert.upper) < -best.error:
        # then the generic solver missed the optimum by more than its residuals tell, and rational arithmetic agrees
        T = np.concatenate([np.ravel(t) for t in cert.multipliers])
        assert exactly_feasible(net.weights, spread(net, net.weights[:-1]), T, cert.upper)
    else:
        assert_optimal(cert.upper, best, 2e-4 if name == "3 with identity" else 1e-6)
    assert cert.lower <= cert.upper
    assert cert.check(net)
    assert cert.kind == method
    if net.activations[0].has_values and net.depth == 1:
        assert cert.lower > 0.0
        assert_reached(net, cert.lower, cert.witness)


def test_the_bank_is_large() -> None:
    assert len(set(BANK)) >= 200


# ------------------------------------------------------------------------------------- slopes that differ by unit


def slopes_by_unit(rng: Rng, h: int) -> tuple[Array, Array]:
    """As a ball leaves them: whole, fixed at one end, or anything between."""
    low, high = np.zeros(h), np.ones(h)
    kind = rng.integers(5, size=h)
    high[kind == 1], low[kind == 2] = 0.0, 1.0
    low[kind == 3] = rng.uniform(-1.0, 1.0, h)[kind == 3]
    high[kind == 3] = low[kind == 3] + rng.uniform(0.05, 2.0, h)[kind == 3]
    low[kind == 4] = high[kind == 4] = 0.7
    return low, high


@pytest.mark.parametrize("seed", range(20))
def test_slopes_of_each_unit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    W, V = network(rng, int(rng.integers(1, 6)), 8, int(rng.integers(1, 4))).weights
    net = ShallowNetwork(W, np.zeros(8), V, np.zeros(len(V)))
    low, high = slopes_by_unit(rng, 8)
    found = search_multipliers(net, low=low, high=high)
    upper = BoundChecker(net, found.multipliers, low=low, high=high).smallest(found.upper)
    assert upper is not None
    assert_optimal(upper, reference([W, V], [(low, high)], form=centred))


@pytest.mark.parametrize("phi", ["relu", LEAKY, BENT])
@pytest.mark.parametrize("seed", range(8))
def test_balls(phi: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = network(rng, 3, 10, int(rng.integers(1, 4)), phi=phi)
    centre, radius = rng.standard_normal(3), float(rng.choice([0.0, 0.1, 0.5, 2.0]))
    cert = certify(net, around=centre, radius=radius)
    low, high = (np.array(side) for side in zip(*(slopes_near(net, centre, radius, j) for j in range(10))))
    assert_optimal(cert.upper, reference(net.weights, [(low, high)], form=centred))
    assert cert.lower <= cert.upper <= certify(net).upper * (1.0 + 1e-6)
    assert cert.check(net)


def slopes_near(net: FeedForward, centre: Array, radius: float, j: int) -> tuple[float, float]:
    """Slopes of unit j in the ball, for one kink at zero; decided in rationals."""
    w, point = ([Fraction(a) for a in row] for row in (net.weights[0][j].tolist(), centre.tolist()))
    z = sum((a * b for a, b in zip(w, point)), Fraction(float(net.biases[0][j])))
    if z * z < Fraction(radius) ** 2 * sum(a * a for a in w):
        return net.activations[0].slopes
    (slope,) = net.activations[0].derivative(np.array([math.copysign(1.0, z)]))
    return float(slope), float(slope)


# --------------------------------------------------------------------------------------------- known optimal values


@pytest.mark.parametrize("method", ["shallow", "neuron"])
@pytest.mark.parametrize("seed", range(10))
def test_weights_without_signs_have_the_norm_of_their_product(seed: int, method: str) -> None:
    """All units active is then the steepest pattern, and no relaxation is lost: ``L = ‖V W‖₂``."""
    rng = np.random.default_rng(seed)
    d, h, m = (int(n) for n in rng.integers(1, (9, 31, 6)))
    net = network(rng, d, h, m)
    W, V = (np.abs(A) * (rng.random(A.shape) < 0.9) + 1e-3 for A in net.weights)
    exact = float(np.linalg.norm(V @ W, 2))
    cert = certify(like(net, W, V), method=method, tol=1e-10)
    assert cert.upper == pytest.approx(exact, rel=1e-9)
    assert cert.upper >= exact * (1.0 - 1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_a_bound_in_raw_units_is_that_in_standardised_ones_times_the_scale(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = network(rng, 4, 8, 2, units="standardised")
    x_scale, y_scale = 10.0 ** rng.uniform(-3, 3, 2)
    raw = net.rescaled(x_shift=rng.standard_normal(4), x_scale=x_scale, y_shift=1.0, y_scale=y_scale)
    both = certify(net), certify(raw)
    assert both[1].upper == pytest.approx(both[0].upper * y_scale / x_scale, rel=1e-6)
    assert [cert.units for cert in both] == ["standardised", "raw"]


# ------------------------------------------------------------------------------------------- the second implementation


@pytest.mark.parametrize("seed", range(5))
def test_both_forms_of_the_definition_have_one_optimum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = network(rng, 3, 5, 4, 2).weights
    slopes = [(np.full(n, low), np.full(n, low + 0.6)) for n, low in zip((5, 4), rng.uniform(-1.0, 1.0, 2))]
    for per in ("neuron", "layer"):
        first, second = (optimum(weights, slopes, per=per, form=form) for form in (coefficients, centred))
        assert first.rho == pytest.approx(second.rho, rel=1e-7)


def test_one_unit_in_rationals() -> None:
    """``|v| β |w|`` with α = 0 and ``T = v²`` is tight; nothing below is feasible with any T."""
    weights, slopes = [np.array([[3.0]]), np.array([[2.0]])], [(np.zeros(1), np.ones(1))]
    assert optimum(weights, slopes).rho == pytest.approx(36.0, rel=1e-8)
    assert exactly_feasible(weights, slopes, [4.0], 6.0)
    for T in (0.0, 2.0, 3.9999, 4.0, 4.0001, 100.0):
        assert not exactly_feasible(weights, slopes, [T], math.nextafter(6.0, 0.0))
