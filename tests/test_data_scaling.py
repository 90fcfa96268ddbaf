"""Scaling: fitted on one part, undone exactly, and folded into networks."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import StandardScaler

from certnet.core.errors import InvalidInputError
from certnet.data import Scaling
from certnet.networks.shallow import ShallowNetwork


def _samples(seed=0, n=40, d=3):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.array([1e-3, 1.0, 1e4]) + np.array([5.0, 0.0, -2e5])
    return X, 40.0 + 7.0 * rng.normal(size=n)


def _network(seed=1, h=6, d=3, units="standardised"):
    rng = np.random.default_rng(seed)
    return ShallowNetwork(rng.normal(size=(h, d)), rng.normal(size=h), rng.normal(size=h), 0.3, units=units)


def test_fit_agrees_with_standard_scaler():
    X, y = _samples()
    scaling = Scaling.fit(X, y)
    other = StandardScaler().fit(X)
    np.testing.assert_allclose(scaling.x_shift, other.mean_, rtol=1e-12)
    np.testing.assert_allclose(scaling.x_scale, other.scale_, rtol=1e-9)
    assert scaling.y_shift == pytest.approx(y.mean(), rel=1e-14)
    assert scaling.y_scale == pytest.approx(y.std(), rel=1e-12)
    np.testing.assert_allclose(scaling.transform(X), other.transform(X), atol=1e-8)


def test_transformed_columns_have_mean_zero_and_unit_deviation():
    X, y = _samples()
    scaling = Scaling.fit(X, y)
    Z, z = scaling.transform(X), scaling.transform_target(y)
    np.testing.assert_allclose(Z.mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(Z.std(axis=0), 1.0, rtol=1e-9)
    assert z.mean() == pytest.approx(0.0, abs=1e-13)
    assert z.std() == pytest.approx(1.0)
    np.testing.assert_allclose(scaling.inverse_target(z), y, rtol=1e-14)


@pytest.mark.parametrize("value", [0.0, 7.0, -0.1, 1e300, 1e-300])
def test_constant_column_gets_scale_one_and_maps_to_zero(value):
    X = np.full((7, 1), value)
    scaling = Scaling.fit(X, np.full(7, value))
    assert scaling.x_scale[0] == scaling.y_scale == 1.0
    assert scaling.x_shift[0] == scaling.y_shift == value
    np.testing.assert_array_equal(scaling.transform(X), 0.0)


def test_constant_up_to_rounding_counts_as_constant():
    column = np.array([0.3, 0.1 + 0.2, 0.3, 0.3])
    assert np.ptp(column) > 0
    assert Scaling.fit(column[:, None], np.arange(4.0)).x_scale[0] == 1.0


@pytest.mark.parametrize(
    ("centre", "width"), [(0.0, 1e-200), (0.0, 1e200), (1.0, 1e-12), (1e6, 1e-6), (1e-250, 1e-260)]
)
def test_narrow_and_wide_columns_are_standardised(centre, width):
    column = centre + width * np.array([-1.0, 1.0, -1.0, 1.0])
    scaling = Scaling.fit(column[:, None], column)
    assert scaling.x_scale[0] == scaling.y_scale
    np.testing.assert_allclose(scaling.transform(column[:, None])[:, 0], [-1, 1, -1, 1], rtol=1e-3)


def test_one_sample_is_constant():
    scaling = Scaling.fit([[2.0, 3.0]], [5.0])
    np.testing.assert_array_equal(scaling.x_scale, 1.0)
    assert scaling.y_scale == 1.0


@settings(deadline=None)
@given(
    arrays(np.float64, (5, 2), elements=st.floats(-1e6, 1e6)),
    st.floats(0.01, 100.0),
    st.floats(-100.0, 100.0),
)
def test_standardised_values_do_not_depend_on_raw_units(X, factor, offset):
    X = np.round(X, 3)  # columns that vary do so by far more than rounding
    y = X[:, 0]
    Z = Scaling.fit(X, y).transform(X)
    W = X * factor + offset
    np.testing.assert_allclose(Scaling.fit(W, y).transform(W), Z, atol=1e-3)


@settings(deadline=None)
@given(
    arrays(
        np.float64, (4, 3), elements=st.floats(allow_nan=False, allow_infinity=False, max_value=1e307, min_value=-1e307)
    )
)
def test_fit_always_gives_positive_finite_scales(X):
    scaling = Scaling.fit(X, X[:, 0])
    assert np.all(scaling.x_scale > 0)
    assert np.all(np.isfinite(scaling.transform(X)))


def test_range_beyond_float64_is_refused():
    with pytest.raises(InvalidInputError, match="x_scale has 1 entries that are NaN or infinite"):
        Scaling.fit([[1.7e308], [1.7e308], [-1.7e308]], [0.0, 1.0, 2.0])


def test_raw_network_predicts_in_raw_units_what_the_network_predicts_in_standardised_units():
    X, y = _samples()
    scaling = Scaling.fit(X, y)
    net = _network()
    raw = scaling.raw_network(net)
    assert raw.units == "raw"
    np.testing.assert_allclose(raw.predict(X), scaling.inverse_target(net.predict(scaling.transform(X))), rtol=1e-9)


def test_raw_network_has_the_gradient_of_raw_units():
    X, y = _samples()
    scaling = Scaling.fit(X, y)
    net = _network()
    raw = scaling.raw_network(net)
    np.testing.assert_allclose(raw.V @ raw.W, scaling.y_scale * (net.V @ net.W) / scaling.x_scale, rtol=1e-12)


def test_raw_network_refuses_a_network_in_raw_units():
    X, y = _samples()
    with pytest.raises(InvalidInputError, match="raw units already"):
        Scaling.fit(X, y).raw_network(_network(units="raw"))
    same = Scaling.identity(3).raw_network(_network(units="raw"))
    assert same == _network(units="raw")


def test_raw_network_refuses_another_number_of_inputs():
    with pytest.raises(InvalidInputError, match="scaling has 2 inputs, the network has 3"):
        Scaling.identity(2).raw_network(_network())


def test_identity_changes_nothing():
    X, y = _samples()
    scaling = Scaling.identity(3)
    assert scaling.is_identity
    assert not Scaling.fit(X, y).is_identity
    np.testing.assert_array_equal(scaling.transform(X), X)
    np.testing.assert_array_equal(scaling.transform_target(y), y)


def test_values_are_frozen_also_after_a_copy():
    source = np.ones(2)
    scaling = Scaling(np.zeros(2), source, 0.0, 2.0)
    source[0] = 9.0
    for copy in (scaling, pickle.loads(pickle.dumps(scaling))):
        assert copy.x_scale[0] == 1.0
        assert copy.y_scale == 2.0
        with pytest.raises(ValueError, match="read-only"):
            copy.x_scale[0] = 3.0
    with pytest.raises(AttributeError):
        scaling.y_scale = 1.0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([0.0], [1.0, 1.0], 0.0, 1.0), "one shift and one scale per input"),
        (([], [], 0.0, 1.0), "one shift and one scale per input"),
        (([0.0], [0.0], 0.0, 1.0), "must have scale 1"),
        (([0.0], [-1.0], 0.0, 1.0), "not positive"),
        (([0.0], [1.0], 0.0, 0.0), "not positive"),
        (([np.nan], [1.0], 0.0, 1.0), "x_shift has 1 entries"),
        (([0.0], [1.0], 0.0, np.inf), "y_scale has 1 entries"),
        (([0.0], [1.0], [0.0], 1.0), "y_shift has shape"),
        ((["a"], [1.0], 0.0, 1.0), "x_shift has dtype"),
    ],
)
def test_bad_scalings_are_refused(arguments, match):
    with pytest.raises(InvalidInputError, match=match):
        Scaling(*arguments)


@pytest.mark.parametrize(
    ("X", "y", "match"),
    [
        ([[1.0], [2.0]], [1.0], "X has 2 samples and y has 1"),
        (np.empty((0, 2)), [], "at least one sample"),
        ([1.0, 2.0], [1.0, 2.0], "X has shape"),
        ([[1.0], [2.0]], [[1.0], [2.0]], "y has shape"),
        ([[np.nan], [2.0]], [1.0, 2.0], "X has 1 entries"),
        ([["red"], ["blue"]], [1.0, 2.0], "X has dtype"),
    ],
)
def test_bad_samples_are_refused(X, y, match):
    with pytest.raises(InvalidInputError, match=match):
        Scaling.fit(X, y)


def test_transform_refuses_another_number_of_columns():
    with pytest.raises(InvalidInputError, match="X has 3 columns"):
        Scaling.identity(2).transform(np.zeros((4, 3)))
