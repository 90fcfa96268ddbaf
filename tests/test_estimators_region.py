"""Estimators whose bound speaks of a region: what it is of, in which units, and what does not go with it."""

from __future__ import annotations

import numpy as np
import pytest

from certnet import Ball, Box, CertifiedRegressor, CertifiedRegressorCV, certify
from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.networks.feedforward import FeedForward


def table(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 2)) * [3.0, 0.1] + [10.0, -1.0]
    return X, 5.0 * np.sin(X[:, 0]) + 20.0 * X[:, 1]


def start() -> FeedForward:
    rng = np.random.default_rng(1)
    return FeedForward(
        [rng.standard_normal((10, 2)), rng.standard_normal((1, 10))], [np.zeros(10), np.zeros(1)], "relu"
    )


@pytest.mark.parametrize("standardise", [True, False])
def test_the_certificate_is_of_the_box_around_the_data(standardise: bool) -> None:
    X, y = table()
    model = CertifiedRegressor(start(), region="data", effort="quick", standardise=standardise, prefit=True).fit(X, y)
    box = Box.around(X, 0.1)
    lower, upper = model.certificate_.box
    np.testing.assert_array_equal(lower, box.lower)
    np.testing.assert_array_equal(upper, box.upper)
    assert model.certificate_.check(model.network_)
    assert model.lipschitz_upper_ == model.certificate_.upper
    everywhere = model.certificate_everywhere_
    assert everywhere.box is None
    assert everywhere.check(model.network_)
    assert model.lipschitz_upper_ <= everywhere.upper * (1.0 + 1e-6)
    inner = model.refinement_.certificate
    if standardise:  # the same box in the units of the objective
        np.testing.assert_allclose(inner.box[0] * X.std(axis=0) + X.mean(axis=0), box.lower)


def test_intervals_go_by_the_bound_of_all_inputs() -> None:
    X, y = table()
    near = Box(X[0] - 0.01, X[0] + 0.01)
    model = CertifiedRegressor(start(), region=near, effort="quick", prefit=True).fit(X, y)
    low, high = model.certified_interval(X, 1.0)
    rng = np.random.default_rng(2)
    for _ in range(50):
        step = rng.standard_normal(X.shape)
        moved = model.predict(X + step / np.linalg.norm(step, axis=1, keepdims=True))
        assert (low <= moved).all()
        assert (moved <= high).all()


def test_a_limit_on_the_slope_in_a_box_of_raw_units() -> None:
    X, y = table()
    box = Box([8.0, -1.1], [12.0, -0.9])
    model = CertifiedRegressor(
        start(), target_lipschitz=2.0, region=box, effort="quick", standardise=False, prefit=True
    ).fit(X, y)
    assert model.lipschitz_upper_ <= 2.0
    assert certify(model.network_, region=box).upper <= 2.0 * (1.0 + 1e-5)


def test_validation_goes_by_the_region_too() -> None:
    X, y = table(40)
    model = CertifiedRegressorCV(
        start(), weights=[0.01, 0.3], region="data", cv=2, effort="quick", prefit=True, random_state=0
    ).fit(X, y)
    assert model.certificate_.box is not None
    assert model.cv_upper_.shape == (2, 2)


def test_a_ball_of_raw_inputs() -> None:
    X, y = table()
    ball = Ball(X.mean(axis=0), 0.5)
    model = CertifiedRegressor(start(), region=ball, standardise=False, effort="quick", prefit=True).fit(X, y)
    assert model.certificate_.radius == 0.5
    with pytest.raises(InvalidInputError, match="standardise=False"):
        CertifiedRegressor(start(), region=ball, prefit=True).fit(X, y)


def test_what_is_no_region_is_refused_before_training() -> None:
    X, y = table()
    for region, error, words in (
        ("box", InvalidInputError, "must be a certnet.Box or Ball"),
        (Box([0.0], [1.0]), InvalidInputError, "the box has 1 inputs"),
    ):
        with pytest.raises(error, match=words):
            CertifiedRegressor(region=region).fit(X, y)
    with pytest.raises(InvalidInputError, match="region is for descents"):
        CertifiedRegressor(region="data", method="joint").fit(X, y)
    from sklearn.compose import ColumnTransformer
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps = ColumnTransformer([("numbers", StandardScaler(), [0, 1])])
    with pytest.raises(UnsupportedModelError, match="treat columns differently"):
        CertifiedRegressor(make_pipeline(steps, MLPRegressor()), region="data").fit(X, y)
