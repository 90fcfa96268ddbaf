"""monotonic_cst and slope_limits of the estimators: names, units, pipelines, and the proof in raw units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from certnet import FeedForward, ShallowNetwork
from certnet.core.errors import CertificateError, InvalidInputError, UnsupportedModelError
from certnet.estimators import CertifiedRegressor, CertifiedRegressorCV
from certnet.estimators.limits import as_option, asked_limits, limits_behind, limits_in_numbers, proved_slopes
from certnet.estimators.preparation import Preparation
from certnet.estimators.standardisation import Standardisation
from certnet.proofs.slopes import SlopeIntervals

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def certified(*arguments: object, **options: object) -> CertifiedRegressor:
    """A regressor with little effort, where no program is named."""
    effort = {} if "method" in options else {"effort": "quick"}
    return CertifiedRegressor(*arguments, **(effort | options))


def certified_cv(*arguments: object, **options: object) -> CertifiedRegressorCV:
    return CertifiedRegressorCV(*arguments, **({"effort": "quick"} | options))


def mlp(*sizes: int) -> MLPRegressor:
    return MLPRegressor(hidden_layer_sizes=sizes or (5,), solver="lbfgs", max_iter=60, random_state=0)


def table(n: int = 50) -> tuple[pd.DataFrame, np.ndarray]:
    """The output rises along a, falls along c but for some noise, and does both along b."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(3.0, 100.0, n), "b": rng.normal(size=n), "c": rng.normal(0.0, 1e-2, n)})
    y = 0.5 * X["a"] + 50.0 * np.abs(X["b"]) - 3e3 * X["c"] + 20.0 * rng.normal(size=n)
    return X, y.to_numpy()


def worst_slopes(model: CertifiedRegressor, X: pd.DataFrame, column: str) -> tuple[float, float]:
    """The least and the greatest difference quotient along a column, over many pairs of points."""
    scale = float(X[column].std())
    found = []
    for step in (1e-3, 0.1, 3.0):
        for shift in np.linspace(-3.0, 3.0, 13):
            one = X.assign(**{column: X[column] + scale * shift})
            two = one.assign(**{column: one[column] + scale * step})
            found.append((model.predict(two) - model.predict(one)) / (scale * step))
    return float(np.min(found)), float(np.max(found))


@pytest.mark.parametrize("sizes", [(6,), (5, 4)])
@pytest.mark.parametrize("standardise", [True, False])
def test_a_monotone_regressor(sizes, standardise):
    X, y = table()
    if not standardise:
        X, y = (X - X.mean()) / X.std(), (y - y.mean()) / y.std()
    asked = {"a": 1, "c": -1}
    model = certified(mlp(*sizes), monotonic_cst=asked, standardise=standardise, random_state=0).fit(X, y)
    assert model.slopes_.check(model.network_)
    assert model.slopes_.lower[0, 0] >= 0.0
    assert model.slopes_.upper[0, 2] <= 0.0
    assert worst_slopes(model, X, "a")[0] >= -1e-9 * y.std()
    assert worst_slopes(model, X, "c")[1] <= 1e-9 * y.std()
    assert model.score(X, y) > 0.5
    by_place = certified(mlp(*sizes), monotonic_cst=[1, 0, -1], standardise=standardise, random_state=0)
    assert by_place.fit(X.to_numpy(), y).network_.digest == model.network_.digest


@pytest.mark.parametrize("sizes", [(6,), (5, 4)])
def test_slope_limits_are_in_raw_units(sizes):
    X, y = table()
    limits = {"a": (0.0, 0.3), "b": (-40.0, np.inf)}
    model = certified(mlp(*sizes), slope_limits=limits, random_state=0).fit(X, y)
    assert model.slopes_.lower[0, 0] >= 0.0
    assert model.slopes_.upper[0, 0] <= 0.3
    assert model.slopes_.lower[0, 1] >= -40.0
    least, most = worst_slopes(model, X, "a")
    assert -1e-9 <= least <= most <= 0.3 + 1e-9
    assert most > 0.1  # the slope of the data is 0.5
    assert model.certificate_.check(model.network_)


def test_categories_and_scaled_columns():
    X, y = table()
    X = X.assign(colour=np.where(X["b"] > 0.0, "red", "blue"), unused="x")
    columns = make_column_transformer((OneHotEncoder(), ["colour"]), (MinMaxScaler(), ["c", "a"]))
    model = certified(
        make_pipeline(columns, mlp(5)), monotonic_cst={"a": 1}, slope_limits={"c": (-5e3, 0.0)}, random_state=0
    ).fit(X, y)
    assert model.slopes_.lower[0, 0] >= 0.0
    assert -5e3 <= model.slopes_.lower[0, 1] <= model.slopes_.upper[0, 1] <= 0.0
    assert worst_slopes(model, X, "a")[0] >= -1e-9
    for colour in ("red", "blue"):
        assert model.slopes_.shape == model.network_for({"colour": colour}).widths
    with pytest.raises(InvalidInputError, match="the steps encode column 'colour'"):
        model.set_params(monotonic_cst={"colour": 1}).fit(X, y)
    with pytest.raises(InvalidInputError, match="the steps drop column 'b'"):
        model.set_params(monotonic_cst={"b": 1}).fit(X, y)
    mixed = make_column_transformer((OneHotEncoder(), ["colour"]), (PCA(2), ["a", "b"]))
    with pytest.raises(UnsupportedModelError, match="mix column 'a' with others"):
        certified(make_pipeline(mixed, mlp(5)), monotonic_cst={"a": 1}).fit(X, y)


def test_steps_that_mix_columns_are_folded_where_all_are_numbers():
    X, y = table()
    model = certified(make_pipeline(StandardScaler(), PCA(), mlp(5)), monotonic_cst={"a": 1}, random_state=0)
    assert model.fit(X, y).slopes_.lower[0, 0] >= 0.0


def test_the_weight_is_chosen_under_limits():
    X, y = table()
    model = certified_cv(mlp(4), weights=[0.01, 0.1], cv=2, monotonic_cst={"a": 1}, random_state=0).fit(X, y)
    assert model.slopes_.lower[0, 0] >= 0.0


def test_nothing_asked_proves_nothing():
    X, y = table()
    assert certified(mlp(4), monotonic_cst=[0, 0, 0], random_state=0).fit(X, y).slopes_ is None


@pytest.mark.parametrize("kind", [CertifiedRegressor, CertifiedRegressorCV])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"monotonic_cst": {"aa": 1}}, "did you mean 'a'"),
        ({"monotonic_cst": [1, 0]}, "monotonic_cst has 2 entries"),
        ({"monotonic_cst": [2, 0, 0]}, "monotonic_cst of input 0"),
        ({"monotonic_cst": {"d": 1}}, "one value in all samples"),
        ({"slope_limits": {"a": (1.0, -1.0)}}, "the first is the lower one"),
        ({"slope_limits": {"a": (-2.0, -1.0)}, "monotonic_cst": {"a": 1}}, "never to fall"),
        ({"slope_limits": {9: (0.0, 1.0)}}, "slope_limits"),
        ({"slope_limits": [(0.0, 1.0)]}, "must map names or indices"),
    ],
)
def test_what_cannot_be_is_refused_before_training(kind, change, match, monkeypatch):
    monkeypatch.setattr(MLPRegressor, "fit", lambda self, X, y, sample_weight=None: pytest.fail("trained"))
    X, y = table()
    X = X.assign(d=7.0) if "'d'" in str(change) else X
    with pytest.raises(InvalidInputError, match=match):
        kind(mlp(), **change).fit(X, y)


def test_several_outputs_and_names_without_a_frame():
    X, y = table()
    with pytest.raises(InvalidInputError, match="one output"):
        certified(mlp(), monotonic_cst={"a": 1}).fit(X, np.column_stack([y, y]))
    with pytest.raises(InvalidInputError, match="have no names"):
        certified(mlp(), monotonic_cst={"a": 1}).fit(X.to_numpy(), y)
    net = ShallowNetwork(np.ones((2, 3)), np.zeros(2), np.ones(2), 0.0)
    with pytest.raises(InvalidInputError, match="did you mean"):
        certified(net, monotonic_cst={"aa": 1}).fit(X, y)


class TestUnits:
    @settings(max_examples=50, deadline=None)
    @given(seed=st.integers(0, 10_000), depth=st.integers(1, 3))
    def test_limits_kept_in_standardised_units_are_kept_in_raw_ones(self, seed, depth):
        rng = np.random.default_rng(seed)
        widths = [2, *rng.integers(1, 5, size=depth), 1]
        weights = [rng.normal(size=(n, m)) for n, m in zip(widths[1:], widths)]
        weights[0][:, 0] = np.abs(weights[0][:, 0])
        weights[1:] = [np.abs(W) for W in weights[1:]]  # monotone in the first input
        net = FeedForward(weights, [rng.normal(size=n) for n in widths[1:]], units="standardised")
        X = rng.normal(size=(20, 2)) * 10.0 ** rng.uniform(-6, 6, size=2) + rng.normal(size=2)
        y = rng.normal(size=20) * 10.0 ** rng.uniform(-6, 6)
        units = Standardisation.of(X, y)
        raw = units.outward(net, "raw")
        # what is proved of the inner network, as limits in raw units, and back
        ends = SlopeIntervals.of(net)
        low, high = float(ends.lower[0, 1]), float(ends.upper[0, 1])
        by = units.slope_scale[1]
        pair = tuple(end / by * (1.0 + 3e-9) for end in (min(low, -1e-3), max(high, 1e-3)))
        asked = asked_limits(net, X, None, [1, 0], {1: pair})
        option = as_option(asked.scaled(units.slope_scale))
        assert option[0] == (0.0, np.inf)
        assert option[1][0] <= low
        assert high <= option[1][1]
        assert proved_slopes(asked, raw).check(raw)

    def test_what_is_not_kept_is_told(self):
        X, _ = table()
        net = FeedForward([[[1.0, 0.0, 0.0]], [[-1.0]]], [[0.0], [0.0]])
        asked = asked_limits(net, X, ["a", "b", "c"], {"a": 1}, None)
        with pytest.raises(CertificateError, match="does not keep"):
            proved_slopes(asked, net)

    def test_steps_that_scale_by_negative_numbers_turn_limits(self):
        X, y = table()
        X = X.assign(colour=np.where(X["b"] > 0.0, "red", "blue"))
        scaler = StandardScaler()
        steps = make_pipeline(make_column_transformer((OneHotEncoder(), ["colour"]), (scaler, ["c", "a"]))).fit(X, y)
        steps[-1].transformers_[1][1].scale_[1] *= -1.0
        prepared = Preparation.of(steps)
        net = FeedForward([np.ones((1, 4)), [[1.0]]], [[0.0], [0.0]])
        asked = asked_limits(net, X, list(X), {"a": 1}, {"c": (-2.0, 4.0)})
        numbers = limits_in_numbers(asked, prepared)
        assert_allclose(numbers.lower, [0.0, -2.0])
        inner = limits_behind(numbers, prepared, X)
        scale = X["c"].std(ddof=0)
        assert_allclose(inner.lower, [-np.inf, -np.inf, -2.0 * scale, -np.inf])
        assert_allclose(inner.upper, [np.inf, np.inf, 4.0 * scale, 0.0], atol=1e-12)
