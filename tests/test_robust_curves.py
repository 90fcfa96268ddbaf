"""Attacked and certified error curves: exact cases, the order of the two, and what is refused."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certnet import ShallowNetwork
from certnet.core.errors import InvalidInputError
from certnet.robust.attacks import PGDAttack
from certnet.robust.curves import AdversarialCurve, adversarial_mse, certified_mse
from certnet.robust.residuals import squared_residuals

NORMS = ("l2", "linf")


def random_problem(rng, h=10, d=3, m=1, n=12):
    net = ShallowNetwork(
        rng.standard_normal((h, d)), rng.standard_normal(h), rng.standard_normal((m, h)), rng.standard_normal(m)
    )
    return net, rng.standard_normal((n, d)), rng.standard_normal((n, m))


def sum_bound(net):
    """``Σ_j ‖V_j‖ ‖w_j‖``, an upper bound of the Lipschitz constant."""
    return float(np.linalg.norm(net.V, axis=0) @ np.linalg.norm(net.W, axis=1))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), norm=st.sampled_from(NORMS), d=st.integers(1, 6), m=st.integers(1, 3))
def test_the_certified_curve_lies_above_every_attack(seed, norm, d, m):
    net, X, Y = random_problem(np.random.default_rng(seed), d=d, m=m)
    attack = PGDAttack(norm, n_steps=5, n_restarts=2)
    curve = adversarial_mse(net, X, Y, [0.0, 0.01, 0.3, 5.0], attack, lipschitz=sum_bound(net))
    assert curve.consistent
    assert np.all(curve.certified >= curve.adversarial * (1 - 1e-12))
    assert np.all(np.diff(curve.adversarial) >= 0)
    assert curve.adversarial[0] == curve.clean == pytest.approx(np.mean(squared_residuals(net, X, Y)))


@pytest.mark.parametrize(("norm", "gradient"), [("l2", [3.0, -4.0, 12.0]), ("linf", [2.0, -2.0, 2.0])])
def test_attack_and_certificate_meet_where_the_bound_is_tight(norm, gradient):
    # an affine network; for l∞ the bound √d ‖g‖_2 equals ‖g‖_1 where all |g_k| are equal
    net = ShallowNetwork([gradient], [1e3], [1.0], -1e3)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((25, 3)), 10 * rng.standard_normal(25)
    L = float(np.linalg.norm(gradient))
    curve = adversarial_mse(net, X, y, [0.1, 1.0, 3.0], PGDAttack(norm), lipschitz=L)
    np.testing.assert_allclose(curve.adversarial, curve.certified, rtol=1e-9)
    assert curve.consistent


def test_a_bound_below_the_slope_is_exposed():
    net = ShallowNetwork([[3.0, 4.0]], [1e3], [1.0], -1e3)
    curve = adversarial_mse(net, [[0.0, 0.0]], [0.0], [0.5], lipschitz=4.99)
    assert curve.consistent is False


@pytest.mark.parametrize("norm", NORMS)
def test_certified_error_by_its_formula(norm):
    net, X, Y = random_problem(np.random.default_rng(1), d=4, m=2)
    factor = 1.0 if norm == "l2" else 2.0  # √4
    expected = [
        np.mean([(np.linalg.norm(net.forward(x[None])[0] - t) + 1.5 * e * factor) ** 2 for x, t in zip(X, Y)])
        for e in (0.0, 0.2, 1.0)
    ]
    np.testing.assert_allclose(certified_mse(net, X, Y, [0.0, 0.2, 1.0], 1.5, norm=norm), expected)


def test_each_sample_keeps_the_worst_of_the_smaller_radii():
    # one long constant step jumps over the peak at t = 0.5 into the valley beyond it
    net = ShallowNetwork([[1.0], [1.0], [1.0]], [0.0, -0.5, -1.0], [2.0, -4.0, 2.0], 0.0)
    attack = PGDAttack(n_steps=1, n_restarts=1, step_size=1.0)
    X, y = np.array([[0.0]]), np.array([0.0])
    assert squared_residuals(net, attack.perturb(net, X, y, 1.0), y) == pytest.approx(0.0)
    curve = adversarial_mse(net, X, y, [0.25, 0.5, 1.0], attack)
    np.testing.assert_allclose(curve.adversarial, [0.25, 1.0, 1.0])
    assert curve.certified is None
    assert curve.consistent is None


def test_the_norm_is_the_attacks_and_l2_by_default():
    net, X, Y = random_problem(np.random.default_rng(2))
    assert adversarial_mse(net, X, Y, [0.1]).norm == "l2"
    linf = adversarial_mse(net, X, Y, [0.1], PGDAttack("linf"), lipschitz=2.0)
    assert linf.norm == "linf"
    np.testing.assert_array_equal(linf.certified, certified_mse(net, X, Y, [0.1], 2.0, norm="linf"))


def test_a_curve_is_frozen():
    curve = AdversarialCurve(np.array([0.1]), np.array([1.0]), 0.5)
    with pytest.raises(FrozenInstanceError):
        curve.clean = 0.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        curve.adversarial[0] = 0.0


@pytest.mark.parametrize("epsilons", [[], [0.2, 0.1], [0.1, 0.1], [-0.1, 0.1]])
def test_radii_that_are_no_increasing_list(epsilons):
    net, X, Y = random_problem(np.random.default_rng(3))
    with pytest.raises(InvalidInputError, match="epsilons must be non-negative and strictly increasing"):
        adversarial_mse(net, X, Y, epsilons)
    with pytest.raises(InvalidInputError, match="epsilons must be non-negative and strictly increasing"):
        certified_mse(net, X, Y, epsilons, 1.0)


@pytest.mark.parametrize(
    ("epsilons", "message"),
    [(0.1, "epsilons has shape"), ([0.1, float("nan")], "NaN or infinite"), (["a"], "epsilons has dtype")],
)
def test_radii_of_another_kind(epsilons, message):
    net, X, Y = random_problem(np.random.default_rng(3))
    with pytest.raises(InvalidInputError, match=message):
        adversarial_mse(net, X, Y, epsilons)


@pytest.mark.parametrize("lipschitz", [-1.0, float("nan"), float("inf")])
def test_bounds_that_are_no_bounds(lipschitz):
    net, X, Y = random_problem(np.random.default_rng(4))
    with pytest.raises(InvalidInputError, match="lipschitz must be a finite non-negative number"):
        adversarial_mse(net, X, Y, [0.1], lipschitz=lipschitz)


def test_an_unknown_norm():
    net, X, Y = random_problem(np.random.default_rng(5))
    with pytest.raises(InvalidInputError, match="norm must be one of"):
        certified_mse(net, X, Y, [0.1], 1.0, norm="l1")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"adversarial": [1.0]}, "adversarial has 1 values, epsilons has 2"),
        ({"adversarial": [2.0, 1.0]}, "adversarial falls with the radius"),
        ({"adversarial": [0.1, 1.0]}, "below the clean error 0.5"),
        ({"certified": [1.0, 2.0, 3.0]}, "certified has 3 values"),
        ({"certified": [0.2, 2.0]}, "certified falls with the radius or below"),
        ({"clean": -1.0}, "clean must be"),
        ({"norm": "l3"}, "norm must be one of"),
    ],
)
def test_curves_that_contradict_themselves(fields, message):
    valid = {"epsilons": [0.1, 0.2], "adversarial": [1.0, 2.0], "clean": 0.5, "certified": [1.5, 3.0]}
    AdversarialCurve(**valid)
    with pytest.raises(InvalidInputError, match=message):
        AdversarialCurve(**(valid | fields))
