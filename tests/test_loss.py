"""Losses: against their formulas, finite differences, and the programs that define them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from certnet.core.errors import InvalidInputError
from certnet.programs.loss import Huber, Squared, loss_named

residuals = arrays(float, (5, 2), elements=st.floats(-1e3, 1e3))
thresholds = st.floats(1e-3, 1e3)
SHARES = np.array([0.1, 0.2, 0.3, 0.15, 0.25])


def huber(r, delta):
    return r**2 if abs(r) <= delta else 2.0 * delta * abs(r) - delta**2


@given(residuals, thresholds)
def test_values_are_those_of_the_formulas(r, delta):
    expected = sum(s * huber(x, delta) for s, row in zip(SHARES, r, strict=True) for x in row)
    assert Huber(delta).value(r, SHARES) == pytest.approx(expected, rel=1e-12)
    assert Huber(1e4).value(r, SHARES) == pytest.approx(Squared().value(r, SHARES), rel=1e-12)
    assert Squared().value(r, SHARES) == pytest.approx(float(np.sum(SHARES[:, None] * r**2)), rel=1e-12)


@pytest.mark.parametrize("loss", [Squared(), Huber(0.7)])
def test_gradients_are_those_of_finite_differences(loss):
    r, step = np.random.default_rng(0).standard_normal((5, 2)), 1e-6
    numeric = np.empty_like(r)
    for i, o in np.ndindex(r.shape):
        away = np.zeros_like(r)
        away[i, o] = step
        numeric[i, o] = (loss.value(r + away, SHARES) - loss.value(r - away, SHARES)) / (2.0 * step)
    assert_allclose(loss.gradient(r, SHARES), numeric, rtol=1e-6, atol=1e-9)


@given(residuals, thresholds)
def test_huber_is_the_least_over_shifts(r, delta):
    """``φ(r) = min_s (r − s)² + 2 δ |s|``, at the excess; any other shift is above."""
    s = Huber(delta).excess(r)
    at = np.sum(SHARES[:, None] * ((r - s) ** 2 + 2.0 * delta * np.abs(s)))
    assert Huber(delta).value(r, SHARES) == pytest.approx(float(at), rel=1e-9, abs=1e-12)
    other = s + 0.1 * np.sign(r + 0.5)
    above = np.sum(SHARES[:, None] * ((r - other) ** 2 + 2.0 * delta * np.abs(other)))
    assert above >= at * (1.0 - 1e-12)


@given(residuals, residuals, thresholds, st.floats(0.0, 1.0))
def test_losses_are_convex(a, b, delta, part):
    for loss in (Squared(), Huber(delta)):
        between = loss.value(part * a + (1.0 - part) * b, SHARES)
        chord = part * loss.value(a, SHARES) + (1.0 - part) * loss.value(b, SHARES)
        assert between <= chord * (1.0 + 1e-12) + 1e-9


def test_losses_have_names():
    assert loss_named("squared") == Squared()
    assert loss_named("huber", 2) == Huber(2.0)
    for name in ("absolute", "Huber", ""):
        with pytest.raises(InvalidInputError, match="loss must be one of 'squared', 'huber'"):
            loss_named(name)
    for wrong in (0.0, -1.0, np.nan, np.inf, "wide"):
        with pytest.raises(InvalidInputError, match="huber_threshold"):
            loss_named("huber", wrong)
