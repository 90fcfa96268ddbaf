"""Altered multipliers, bounds and input weights of proofs layer by layer: what is accepted is decided in rationals."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from alter import WILD, change, change_list
from exact import definite
from test_proofs_storage import BENT, LINEAR, RELU, dense, exact_form, residual

from certnet import FeedForward
from certnet.core.errors import InvalidInputError
from certnet.networks.activations import Activation
from certnet.networks.layers import Dense, Layer
from certnet.networks.operators import Blocks, Convolution, Diagonal, Gather, Identity, Sparse
from certnet.proofs.selection import live_units
from certnet.proofs.storage import StorageChecker, _shares
from certnet.searches.vectors import search_vectors

Array = Any
Rng = np.random.Generator
DOWN = Activation("user", (-0.7, 0.0))
STEEP = Activation("user", (0.2, 0.9))
FLAT = Activation("user", (0.6, 0.6))


def chain(seed: int, *sizes: int, phi: Any = RELU) -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((n, m)) for m, n in itertools.pairwise(sizes)]
    phis = phi if isinstance(phi, list) else [phi] * (len(sizes) - 2)
    return FeedForward(weights, [np.zeros(n) for n in sizes[1:]], phis)


def image(phi: Activation, seed: int = 0) -> FeedForward:
    """A convolution that sees its padding, one in groups, a selection with copies, and a sparse matrix."""
    rng = np.random.default_rng(seed)
    first = Convolution(rng.standard_normal((2, 1, 2, 2)), (1, 2, 2), padding=((1, 0), (0, 0)))
    second = Convolution(rng.standard_normal((2, 1, 2, 1)), (2, 2, 1), groups=2)
    pick = Gather(np.array([1, 0, 1, -1]), 2)
    last = Sparse(np.array([0, 0, 1]), np.array([0, 2, 1]), rng.standard_normal(3), 2, 4)
    return FeedForward.chain(
        [
            Layer(first, np.zeros(4), phi),
            Layer(second, np.zeros(2), phi),
            Layer(pick, np.zeros(4), LINEAR),
            Layer(last, np.zeros(2), LINEAR),
        ]
    )


def carried(phi: Activation, seed: int = 0) -> FeedForward:
    """Units that bend beside such that are carried, layer after layer, some of them scaled."""
    rng = np.random.default_rng(seed)
    first = Blocks(((dense(rng, 2, 2),), (Diagonal(rng.standard_normal(2)),)))
    second = Blocks(((dense(rng, 2, 4),), (dense(rng, 1, 4),)))
    return FeedForward.chain(
        [
            Layer(first, np.zeros(4), phi, 2),
            Layer(second, np.zeros(3), phi, 1),
            Layer(dense(rng, 2, 3), np.zeros(2), LINEAR),
        ]
    )


def dead() -> FeedForward:
    """Units and an input without weights, two units alike."""
    W = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 0.0], [-1.0, 0.5, 0.0]])
    V = np.array([[1.0, 3.0, 1.0, 0.0], [0.5, 1.0, 0.5, 1.0]])
    return FeedForward([W, V, np.array([[1.0, -2.0]])], [np.zeros(4), np.zeros(2), np.zeros(1)], "relu")


SUBJECTS: dict[str, Callable[[], FeedForward]] = {
    "residual": lambda: residual(2, 3, blocks=1),
    "leaky residual": lambda: residual(2, 2, blocks=1, phi=Activation("leaky_relu", (0.1,)), seed=1),
    "bent residual": lambda: residual(2, 2, blocks=1, phi=BENT, seed=2),
    "falling residual": lambda: residual(2, 2, blocks=1, phi=DOWN, seed=3),
    "images": lambda: image(RELU),
    "steep images": lambda: image(STEEP, 1),
    "falling images": lambda: image(DOWN, 2),
    "carried": lambda: carried(RELU),
    "bent, carried": lambda: carried(BENT, 1),
    "falling, carried": lambda: carried(DOWN, 2),
    "more inputs than units": lambda: chain(0, 4, 2, 2, 1),
    "two layers at once": lambda: chain(1, 2, 5, 2, 1),
    "two layers at once, falling": lambda: chain(2, 1, 4, 1, 2, phi=DOWN),
    "known slopes between": lambda: chain(3, 2, 3, 2, 2, 1, phi=[RELU, FLAT, BENT]),
    "of all slopes": lambda: chain(4, 2, 2, 3, 2, 1, phi=[DOWN, RELU, STEEP]),
    "dead units": dead,
}


def is_proved(net: FeedForward, T: list[Array], upper: float, weights: Array | None) -> bool:
    """In rationals; the shares of the inputs are those that the checker makes of their weights."""
    alive = live_units(net.layers)
    if not all(map(np.all, alive)):  # others do not matter
        T = [np.where(live[: len(t)], t, 1.0) for t, live in zip(T, alive[1:])]
        ends = zip(net.layers, alive[1:], alive)
        masked = [(layer, layer.operator.matrix * np.outer(here, below)) for layer, here, below in ends]
        net = FeedForward.chain([replace(layer, operator=Dense(matrix)) for layer, matrix in masked])
    rho = Fraction(upper) ** 2
    if weights is None:
        return definite(exact_form(net, T, [rho] * net.n_inputs))
    shares = _shares(weights, net.n_inputs, alive[0])
    assert not isinstance(shares, str)
    exact = [Fraction(0)] * net.n_inputs
    for i, share in zip(np.flatnonzero(alive[0]), shares.tolist()):
        exact[i] = Fraction(share)
    assert sum(exact) <= 1
    return definite(exact_form(net, T, [rho * share for share in exact]))


def edge(net: FeedForward, T: list[Array], weights: Array | None, high: float) -> float:
    """The least bound that the numbers prove, from below, by bisection in rationals; infinite where none near."""
    low, high = 0.0, 2.0 * high
    if not is_proved(net, T, high, weights):
        return float("inf")
    for _ in range(34):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if is_proved(net, T, middle, weights) else (middle, high)
    return low


def altered(rng: Rng, T: list[Array], upper: float, mu: Array | None) -> tuple[list[Array], float, Array | None]:
    """Some of them changed a little or wildly: by factors, signs, order, of one layer or of all."""
    T, way = list(T), int(rng.integers(8))
    k = int(rng.integers(len(T)))
    with np.errstate(all="ignore"):
        if way < 3 and len(T[k]):
            T[k] = change_list(rng, T[k])
        elif way == 3:
            size = 10.0 ** rng.uniform(-15, 0)
            T = [t * np.exp(size * rng.standard_normal(t.shape)) for t in T]
        elif way == 4:
            T = [t * 2.0 ** float(rng.integers(-900, 900)) for t in T]
        elif way == 5:
            j = int(rng.integers(len(T)))
            T[j], T[k] = T[k], T[j]
        elif way == 6 and mu is not None:
            mu = change_list(rng, mu)
        if rng.random() < 0.6:
            upper *= 1.0 + change(rng)
        elif rng.random() < 0.1:
            upper = float(rng.choice(WILD))
    return T, upper, mu


def judged(name: str, norm: str, count: int, seed: int = 0) -> tuple[int, int]:
    """How many of ``count`` altered proofs were accepted and refused; none accepted is false."""
    net = SUBJECTS[name]()
    found = search_vectors(net, norm=norm)
    mu = found.input_weights
    rng = np.random.default_rng([seed, list(SUBJECTS).index(name), norm == "linf"])
    start = [t * 1.001 ** (net.depth - k) for k, t in enumerate(found.multipliers)]
    least = StorageChecker(net, start, mu).smallest(edge(net, start, mu, found.upper))
    assert least is not None
    accepted = 0
    for _ in range(count):
        T, upper, weights = altered(rng, start, least * (1.0 + 10.0 ** rng.uniform(-16, -1)), mu)
        if StorageChecker(net, T, weights).holds(upper):
            accepted += 1
            assert is_proved(net, T, upper, weights), (T, upper, weights)
    return accepted, count - accepted


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", SUBJECTS)
def test_whatever_is_accepted_is_true(name: str, norm: str) -> None:
    accepted, refused = judged(name, norm, 60)
    assert min(accepted, refused) >= 8


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", SUBJECTS)
def test_below_the_edge_nothing_and_above_it_everything_is_accepted(name: str, norm: str) -> None:
    net = SUBJECTS[name]()
    found = search_vectors(net, norm=norm)
    T = [t * 1.3 ** (net.depth - k) for k, t in enumerate(found.multipliers)]
    least = edge(net, T, found.input_weights, 4.0 * found.upper)
    checker = StorageChecker(net, T, found.input_weights)
    assert checker.holds(least * (1.0 + 1e-9))
    for step in (1e-9, 1e-10, 1e-12, 1e-14):
        assert not checker.holds(least * (1.0 - step))


# ------------------------------------------------------------------------------------------- numbers at the far ends


def one_by_one(alpha: tuple[float, float], w: list[float], v: float) -> FeedForward:
    first = Layer(Dense(np.array([w])), np.zeros(1), Activation("user", alpha))
    return FeedForward.chain([first, Layer(Dense(np.array([[v]])), np.zeros(1), LINEAR)])


@pytest.mark.parametrize("exponent", [-1069, -530, -300, -190, 0, 190, 300, 530])
@pytest.mark.parametrize("kind", ["known", "one side", "both sides"])
def test_slopes_of_any_size_prove_nothing_false(kind: str, exponent: int) -> None:
    """Where squares of slopes underflow, units of another size must not hide that."""
    rng = np.random.default_rng(abs(exponent))
    for _ in range(20):
        b, v = float(np.ldexp(rng.uniform(1.0, 2.0), exponent)), rng.uniform(0.5, 1.0)
        alpha = {"known": (b, b), "one side": (0.0, b), "both sides": (-0.4 * b, b)}[kind]
        w = np.ldexp(rng.uniform(0.5, 1.0, 2), int(np.clip(-exponent - 70, -900, 900))).tolist()
        net = one_by_one(alpha, w, v)
        T = [np.array([] if kind == "known" else [rng.uniform(0.6, 2.0) * v**2])]
        checker = StorageChecker(net, T)
        for upper in np.ldexp(1.1 ** np.arange(-8, 40), -70).tolist():
            assert not checker.holds(upper) or is_proved(net, T, upper, None)


def test_weights_and_multipliers_of_any_size_prove_nothing_false() -> None:
    rng, accepted = np.random.default_rng(0), 0
    for _ in range(150):
        sizes = (int(rng.integers(1, 4)), int(rng.integers(1, 4)), int(rng.integers(1, 4)), 1)
        weights = [
            np.ldexp(rng.standard_normal((n, m)), rng.integers(-160, 160, (n, 1)) + rng.integers(-160, 160, (1, m)))
            for m, n in itertools.pairwise(sizes)
        ]
        net = FeedForward(weights, [np.zeros(n) for n in sizes[1:]], [RELU, [RELU, DOWN, BENT][int(rng.integers(3))]])
        with np.errstate(all="ignore"):
            found = search_vectors(net, max_iterations=20)
        T = [t * 1.1 ** (2 - k) for k, t in enumerate(found.multipliers)]
        checker = StorageChecker(net, T)
        least = checker.smallest(found.upper) if np.isfinite(found.upper) else None
        for upper in [] if least is None else [least, least * (1.0 - 1e-9), least * (1.0 - 1e-6), least * 0.9]:
            if checker.holds(upper):
                accepted += 1
                assert is_proved(net, T, upper, None)
    assert accepted > 50


# ------------------------------------------------------------------------------------ operators that nobody changes


def test_matrices_of_single_precision_or_of_others_are_copied_and_locked() -> None:
    """A product in single precision would be charged for a rounding of double precision."""
    rng = np.random.default_rng(3)
    W, V = rng.standard_normal((3, 3)).astype(np.float32), rng.standard_normal((2, 3))
    d = np.array([1, 2, 3])
    layers = [Layer(Dense(W), np.zeros(3), RELU), Layer(Diagonal(d), np.zeros(3), LINEAR)]  # type: ignore[arg-type]
    net = FeedForward.chain([*layers, Layer(Blocks(((Dense(V),),)), np.zeros(2), LINEAR)])
    digest, matrices = net.digest, [np.array(layer.operator.matrix) for layer in net.layers]
    for array in (W, V, d):
        array *= 2
    for layer, matrix in zip(net.layers, matrices):
        assert layer.operator.matrix.dtype == np.float64
        assert not layer.operator.matrix.flags.writeable
        np.testing.assert_array_equal(layer.operator.matrix, matrix)
    assert FeedForward.chain(net.layers).digest == digest


@pytest.mark.parametrize(
    "bad", [np.zeros((0, 2)), np.zeros(2), np.array([["a", "b"]]), np.array([[1.0, np.nan]]), np.array([[1j, 0.0]])]
)
def test_matrices_that_are_none_are_refused(bad: Array) -> None:
    last = Layer(Dense(np.ones((1, 1))), np.zeros(1), LINEAR)
    for operator in (Dense(bad), Blocks(((Dense(bad),),)) if bad.ndim == 2 else Diagonal(bad[None])):
        with pytest.raises(InvalidInputError):
            FeedForward.chain([Layer(operator, np.zeros(1), RELU), last])


def test_a_selection_of_nothing_moves_nothing() -> None:
    none = Layer(Gather(np.array([-1, -1]), 2), np.zeros(2), RELU)
    net = FeedForward.chain([none, Layer(Blocks(((Identity(2),),)), np.zeros(2), LINEAR)])
    assert StorageChecker(net, [np.zeros(2)]).holds(1e-300)
