"""Activations: values against PyTorch's, slopes against difference quotients, derivatives, curvature, kinks."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.networks.activation_families import FAMILIES
from certnet.networks.activations import ACTIVATIONS, Activation, activation

PHIS = [
    *map(Activation, ACTIVATIONS),
    Activation("leaky_relu", (-0.5,)),
    Activation("leaky_relu", (0.0,)),
    Activation("leaky_relu", (1.0,)),
    Activation("leaky_relu", (3.0,)),
    Activation("elu", (0.0,)),
    Activation("elu", (0.4,)),
    Activation("elu", (2.5,)),
    Activation("hard_sigmoid", (1 / 6, 0.5)),
    Activation("hard_sigmoid", (2.0, -1.0)),
    Activation("hard_sigmoid", (0.0, 0.5)),
    Activation("hardtanh", (-0.5, 2.0)),
    Activation("hardtanh", (1.0, 6.0)),
    Activation("selu", (1.0507010221481323, 1.6732631921768188)),  # ONNX's, in float32
    Activation("selu", (2.0, 1.0)),
    Activation("selu", (0.5, 0.25)),
    Activation("celu", (0.3,)),
    Activation("celu", (2.5,)),
    Activation("softplus_beta", (3.0,)),
    Activation("softplus_beta", (0.2,)),
]
GRID = np.unique(np.concatenate([np.linspace(-12.0, 12.0, 4001), [0.0], np.geomspace(1e-6, 40.0, 300)]))


@pytest.mark.parametrize("phi", PHIS, ids=str)
def test_values_are_those_of_torch(phi: Activation) -> None:
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    z = torch.tensor(np.concatenate([GRID, [-800.0, 800.0, -1e300, 1e300]]))
    p = phi.parameters
    expected = {
        "relu": lambda: F.relu(z),
        "leaky_relu": lambda: F.leaky_relu(z, p[0]),
        "identity": lambda: z,
        "tanh": lambda: torch.tanh(z),
        "sigmoid": lambda: torch.sigmoid(z),
        "softplus": lambda: F.softplus(z, threshold=40),
        "elu": lambda: F.elu(z, p[0]),
        "hard_sigmoid": lambda: torch.clamp(p[0] * z + p[1], 0.0, 1.0),
        "relu6": lambda: F.relu6(z),
        "hardtanh": lambda: F.hardtanh(z, *p),
        "hard_swish": lambda: F.hardswish(z),
        "gelu": lambda: F.gelu(z),
        "gelu_tanh": lambda: F.gelu(z, approximate="tanh"),
        "silu": lambda: F.silu(z),
        "mish": lambda: F.mish(z),
        "selu": lambda: F.selu(z) if phi == Activation("selu") else p[0] * F.elu(z, p[1]),
        "celu": lambda: F.celu(z, p[0]),
        "softsign": lambda: F.softsign(z),
        "log_sigmoid": lambda: F.logsigmoid(z),
        "softplus_beta": lambda: F.softplus(z, beta=p[0], threshold=40),
    }[phi.name]()
    # PyTorch's 1 + erf and 1 + tanh cancel
    lost = 1e-14 if phi.blur else 1e-300
    np.testing.assert_allclose(phi(z.numpy()), expected.numpy(), rtol=1e-14, atol=lost)
    if p == (1 / 6, 0.5):
        np.testing.assert_allclose(phi(z.numpy()), F.hardsigmoid(z).numpy(), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("phi", PHIS, ids=str)
def test_slopes_hold_every_difference_quotient_and_are_reached(phi: Activation) -> None:
    low, high = phi.slopes
    values = phi(GRID)
    for step in (1, 7, 500, len(GRID) - 1):
        distances = GRID[step:] - GRID[:-step]
        quotients = (values[step:] - values[:-step]) / distances
        rounding = 1e-15 * (1.0 + np.abs(values[step:]) + np.abs(values[:-step])) / distances
        assert np.all(quotients >= low - rounding)
        assert np.all(quotients <= high + rounding)
    beside = [np.nextafter(kink, side) for kink in phi.kinks() for side in (-np.inf, np.inf)]
    steepest = [end for turn in FAMILIES[phi.name].turns(*phi.parameters) for end in turn[:2]]
    near = phi.derivative(np.concatenate([GRID, [-1e10, -1e-300, 1e10], beside, steepest]))
    assert near.min() <= low + 1e-12  # tight
    assert near.max() >= high - 1e-12


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PHIS), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_slopes_hold_any_two_points(phi: Activation, s: float, t: float) -> None:
    low, high = phi.slopes
    change = float(phi(np.array([s]))[0] - phi(np.array([t]))[0])
    bounds = sorted((low * (s - t), high * (s - t)))
    slack = 1e-12 * (1.0 + abs(s) + abs(t)) * max(1.0, abs(low), abs(high))
    assert bounds[0] - slack <= change <= bounds[1] + slack


@pytest.mark.parametrize("phi", PHIS, ids=str)
def test_derivatives_against_differences(phi: Activation) -> None:
    z = GRID[np.abs(GRID) < 12.0]
    for kink in phi.kinks():
        z = z[np.abs(z - kink) > 1e-3]
    eps = 1e-6
    differences = (phi(z + eps) - phi(z - eps)) / (2.0 * eps)
    np.testing.assert_allclose(phi.derivative(z), differences, rtol=1e-6, atol=2e-8)


@pytest.mark.parametrize("phi", PHIS, ids=str)
def test_curvature_bounds_the_second_derivative(phi: Activation) -> None:
    z = np.linspace(-8.0, 8.0, 20001)
    change = np.abs(np.diff(phi.derivative(z))) / np.diff(z)
    smooth = np.ones(len(change), dtype=bool)
    for kink in phi.kinks():
        smooth &= (z[1:] < kink - 1e-9) | (z[:-1] > kink + 1e-9)
    assert change[smooth].max() <= phi.curvature + 1e-9
    if not phi.smooth:
        assert phi.curvature == 0.0


@pytest.mark.parametrize("phi", PHIS, ids=str)
def test_kinks_are_where_the_derivative_jumps(phi: Activation) -> None:
    for kink in phi.kinks():
        left, here, right = phi.derivative(np.array([kink - 1e-9, kink, kink + 1e-9]))
        assert here == pytest.approx(right, abs=1e-8)  # of the piece to the right
        assert abs(left - right) > 1e-3 or phi.slopes[0] == phi.slopes[1]
    if not phi.kinks():
        steps = np.abs(np.diff(phi.derivative(np.linspace(-8.0, 8.0, 100_001))))
        assert steps.max() < 1e-3


def test_large_arguments_stay_finite() -> None:
    z = np.array([-1e308, -1e154, -1e4, -800.0, -745.0, 0.0, 745.0, 800.0, 1e4, 1e154, 1e308])
    for phi in PHIS:
        assert np.isfinite(phi.derivative(z)).all(), phi
        if abs(phi.slopes[0]) <= 1.0 and phi.slopes[1] <= 1.6:
            values = phi(z)
            assert np.isfinite(values).all(), phi
            assert np.abs(values).max() <= 1e308, phi


def test_slopes_by_hand() -> None:
    assert Activation("relu").slopes == (0.0, 1.0)
    assert Activation("sigmoid").slopes == (0.0, 0.25)
    assert Activation("leaky_relu", (0.1,)).slopes == (0.1, 1.0)
    assert Activation("leaky_relu", (3.0,)).slopes == (1.0, 3.0)
    assert Activation("elu", (2.5,)).slopes == (0.0, 2.5)
    assert Activation("elu", (0.5,)).slopes == (0.0, 1.0)
    assert Activation("hard_sigmoid").slopes == (0.0, 0.2)
    assert Activation("identity").slopes == (1.0, 1.0)
    assert Activation("relu6").slopes == Activation("hardtanh", (2.0, 3.0)).slopes == (0.0, 1.0)
    assert Activation("hard_swish").slopes == (-0.5, 1.5)
    assert Activation("selu", (2.0, 0.5)).slopes == (0.0, 2.0)
    assert Activation("selu").slopes == pytest.approx((0.0, 1.7580993408473766), rel=1e-14)
    assert Activation("gelu").slopes == pytest.approx((-0.1289041451851548, 1.1289041451851548), rel=1e-14)


def test_defaults_equality_hash_pickle_and_text() -> None:
    assert Activation("leaky_relu") == Activation("leaky_relu", (0.01,))
    assert Activation("elu") != Activation("elu", (2.0,))
    assert len({Activation("relu"), Activation("relu"), Activation("tanh")}) == 2
    phi = Activation("hard_sigmoid", (1 / 6, 0.5))
    assert pickle.loads(pickle.dumps(phi)) == phi
    assert str(phi) == "hard_sigmoid(0.166667, 0.5)"
    with pytest.raises(AttributeError):
        phi.name = "relu"  # type: ignore[misc]


def test_functions_given_by_their_slopes() -> None:
    phi = activation((-0.5, 2))
    assert phi.slopes == (-0.5, 2.0)
    assert not phi.has_values
    assert not phi.smooth
    for call in (lambda: phi(np.zeros(2)), lambda: phi.derivative(np.zeros(2)), phi.kinks, lambda: phi.curvature):
        with pytest.raises(UnsupportedModelError, match="has no values"):
            call()
    assert activation(phi) is phi
    assert activation("tanh") == Activation("tanh")


@pytest.mark.parametrize(
    ("spec", "error", "match"),
    [
        ("hard_shrink", UnsupportedModelError, "use one of relu"),
        ("swish", UnsupportedModelError, "'swish' is not known: use one of relu, leaky_relu"),
        ((1.0, 0.0), InvalidInputError, "low, high"),
        ((0.0, np.inf), InvalidInputError, "finite"),
        ((np.nan, 1.0), InvalidInputError, "finite"),
        ((0.0,), InvalidInputError, "pair of slopes"),
        ((0.0, 1.0, 2.0), InvalidInputError, "pair of slopes"),
        (("a", "b"), InvalidInputError, "pair of slopes"),
        (3, InvalidInputError, "pair of slopes"),
        (None, InvalidInputError, "pair of slopes"),
    ],
)
def test_bad_specifications(spec: object, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        activation(spec)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("relu", (1.0,)),
        ("leaky_relu", (0.1, 0.2)),
        ("leaky_relu", (np.nan,)),
        ("elu", (np.inf,)),
        ("elu", (-1.0,)),
        ("hard_sigmoid", (0.2,)),
        ("hard_sigmoid", (-0.2, 0.5)),
        ("relu6", (0.0, 6.0)),
        ("hardtanh", (1.0,)),
        ("hardtanh", (1.0, 1.0)),
        ("hardtanh", (0.0, np.inf)),
        ("gelu", (1.0,)),
        ("selu", (1.0,)),
        ("selu", (-1.0, 1.0)),
        ("selu", (1.0, 0.0)),
        ("celu", (0.0,)),
        ("celu", (-1.0,)),
        ("celu", (1e-200,)),
        ("softplus", (1.0,)),
        ("softplus_beta", (0.0,)),
        ("softplus_beta", (1e200,)),
    ],
)
def test_bad_parameters(name: str, parameters: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInputError, match=name):
        Activation(name, parameters)
