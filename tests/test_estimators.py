"""CertifiedRegressor: scikit-learn's own checks, units, prefit models, and the certificate behind every figure."""

from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from certnet.certification import certify
from certnet.core.errors import (
    InvalidInputError,
    NotConvergedWarning,
    SolverError,
    SolverUnavailableError,
    UnsupportedModelError,
)
from certnet.estimators import CertifiedRegressor
from certnet.io import from_sklearn, to_sklearn, to_torch
from certnet.networks.shallow import ShallowNetwork
from certnet.refinement import objective

quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


PROGRAMS = {"method", "solver", "tol", "cells", "penalty"}


def certified(*arguments: object, **options: object) -> CertifiedRegressor:
    """A regressor with little effort, where no program is named."""
    effort = {} if PROGRAMS & set(options) else {"effort": "quick"}
    return CertifiedRegressor(*arguments, **(effort | options))


def mlp(units: int = 6, **parameters: object) -> MLPRegressor:
    options = {"hidden_layer_sizes": (units,), "solver": "lbfgs", "max_iter": 100, "random_state": 0}
    return MLPRegressor(**options | parameters)


def diabetes(n: int = 150) -> tuple[np.ndarray, np.ndarray]:
    X, y = load_diabetes(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))[:n]
    return X[rows], y[rows]


def data(outputs: int = 1, n: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets far from standardised, each in its own units."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) * [1.0, 50.0, 1e-2] + [3.0, -200.0, 0.5]
    Y = np.column_stack([X[:, 0] + np.abs(X[:, 1]), 1e4 * X[:, 2]])[:, :outputs] + rng.normal(size=(n, outputs))
    return X, Y[:, 0] if outputs == 1 else Y


def small_network(units: str = "as given") -> ShallowNetwork:
    """A network of three inputs that is far from fitting :func:`data`."""
    rng = np.random.default_rng(3)
    return ShallowNetwork(rng.normal(size=(5, 3)), rng.normal(size=5), rng.normal(size=5), 0.0, units=units)


def scikit_learn_checks(*arguments: object, **options: object) -> pytest.MarkDecorator:
    """``parametrize_with_checks`` with a list: the generator of scikit-learn 1.6 is one that pytest 9 warns of."""
    mark = parametrize_with_checks(*arguments, **options)
    names, checks = mark.args
    return pytest.mark.parametrize(names, list(checks), **mark.kwargs)


@pytest.fixture(scope="module")
def fitted() -> CertifiedRegressor:
    with pytest.warns(ConvergenceWarning):
        return certified(mlp(10), random_state=0).fit(*diabetes())


APART = {
    "check_sample_weight_equivalence_on_dense_data": "repeated and weighted rows give networks that agree as far as "
    "L-BFGS and the refinement, which stop at tolerances, do: see TestSampleWeights"
}


@quiet
@scikit_learn_checks([certified(mlp(5, max_iter=50), random_state=0)], expected_failed_checks=lambda _: APART)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


class TestFit:
    def test_the_objective_falls_and_the_certificate_holds(self, fitted):
        assert fitted.improved_
        assert fitted.objective_after_ < 0.95 * fitted.objective_before_
        assert fitted.certificate_.check(fitted.network_)
        assert fitted.network_.units == fitted.certificate_.units == "raw"
        assert fitted.lipschitz_lower_ <= fitted.lipschitz_upper_ == fitted.certificate_.upper
        assert fitted.trace_[0].stage == "input"
        assert fitted.n_features_in_ == 10

    def test_the_objective_is_stated_in_standardised_units(self, fitted):
        X, y = diabetes()
        Z, t = StandardScaler().fit_transform(X), StandardScaler().fit_transform(y[:, None])
        pipeline = fitted.estimator_
        inner = from_sklearn(pipeline[-1].regressor_)  # trained on Z and t
        assert objective(inner, Z, t, weight=0.01) == pytest.approx(fitted.objective_before_, rel=1e-6)
        refined = fitted.refinement_.network
        assert objective(refined, Z, t, weight=0.01) == pytest.approx(fitted.objective_after_, rel=1e-6)
        assert_allclose(refined.predict(Z) * y.std() + y.mean(), fitted.predict(X), rtol=1e-9)

    def test_the_bound_is_that_of_raw_units(self, fitted):
        X, y = diabetes()
        scales = X.std(axis=0)
        inner = fitted.refinement_.certificate.upper * y.std()
        assert inner / scales.max() <= fitted.lipschitz_upper_ * (1 + 1e-5)
        assert fitted.lipschitz_upper_ <= inner / scales.min() * (1 + 1e-5)

    def test_the_start_predicts_in_raw_units(self, fitted):
        X, y = diabetes()
        assert fitted.estimator_.score(X, y) > 0.5
        assert fitted.score(X, y) > 0.4

    def test_predictions_are_those_of_the_network(self, fitted):
        X, _ = diabetes(30)
        assert_array_equal(fitted.predict(X), fitted.network_.predict(X))
        assert_allclose(fitted.predict(X), to_sklearn(fitted.network_).predict(X), rtol=1e-12)

    @quiet
    def test_a_larger_weight_never_raises_the_bound(self):
        X, y = diabetes(80)
        weights = [0.0, 0.001, 0.01, 0.1, 1.0]
        models = [certified(mlp(4), weight=weight, method="joint", random_state=0).fit(X, y) for weight in weights]
        standard = [model.refinement_.certificate.upper for model in models]
        assert np.all(np.diff(standard) <= 1e-4 * np.array(standard[:-1]))
        assert standard[-1] < 0.5 * standard[0]
        raw = [model.lipschitz_upper_ for model in models]  # all ten columns have one standard deviation, nearly
        assert np.all(np.diff(raw) <= 1e-2 * np.array(raw[:-1]))
        errors = [model.trace_[-1].mse for model in models]
        assert np.all(np.diff(errors) >= -1e-5)

    @quiet
    def test_without_standardisation_the_raw_bound_follows_the_weight(self):
        X, y = data()
        X = (X - X.mean(axis=0)) / X.std(axis=0) * [1.0, 2.0, 4.0]
        weights = [0.01, 1.0, 100.0]
        models = [certified(mlp(4), weight=weight, method="joint", standardise=False).fit(X, y) for weight in weights]
        raw = [model.lipschitz_upper_ for model in models]
        assert np.all(np.diff(raw) <= 1e-4 * np.array(raw[:-1]))
        assert isinstance(models[0].estimator_, MLPRegressor)
        for model, weight in zip(models, weights):
            assert model.network_ == model.refinement_.network
            assert objective(model.network_, X, y, weight=weight) == pytest.approx(model.objective_after_, rel=1e-6)

    @quiet
    def test_units_of_measurement_change_nothing_but_the_units(self):
        X, y = data()
        in_x, in_y = 2.0 ** np.array([7, -9, 3]), 2.0**-5  # powers of two: no rounding
        one = certified(mlp(), method="joint", random_state=0).fit(X, y)
        other = certified(mlp(), method="joint", random_state=0).fit(X * in_x, y * in_y)
        assert other.objective_after_ == pytest.approx(one.objective_after_, rel=1e-9)
        assert_allclose(other.predict(X * in_x), one.predict(X) * in_y, rtol=1e-9)
        folded = one.network_.rescaled(x_shift=0.0, x_scale=in_x, y_shift=0.0, y_scale=in_y)
        assert other.lipschitz_upper_ == pytest.approx(certify(folded).upper, rel=1e-6)

    @quiet
    def test_several_outputs(self):
        X, Y = data(outputs=2)
        model = certified(mlp(), random_state=0).fit(X, Y)
        assert model.improved_
        assert model.certificate_.check(model.network_)
        assert model.predict(X).shape == Y.shape
        assert model.score(X, Y) > 0.9
        lower, upper = model.certified_interval(X, 0.1)
        assert lower.shape == upper.shape == Y.shape

    @quiet
    @pytest.mark.parametrize(
        ("parameters", "stage"),
        [
            ({"method": "alternating"}, "alternating round 1"),
            ({"penalty": "l2"}, "l2 restriction"),
            ({"solver": "scs", "tol": 1e-5}, "joint restriction"),
        ],
    )
    def test_parameters_reach_the_refinement(self, parameters, stage):
        model = certified(mlp(), random_state=0, **parameters).fit(*data())
        assert model.trace_[1].stage == stage
        assert model.objective_after_ < model.objective_before_

    @quiet
    def test_the_random_state_decides(self):
        X, y = data()
        first, second = (certified(mlp(), random_state=5).fit(X, y).network_ for _ in range(2))
        assert first == second

    def test_warnings_pass(self):
        X, y = data()
        with pytest.warns(ConvergenceWarning):
            certified(mlp(max_iter=2)).fit(X, y)
        with pytest.warns(NotConvergedWarning, match="SCS"):
            certified(small_network(), solver="SCS", tol=1e-30, time_limit=0.2).fit(X, y)


class TestPrefit:
    def check_start(self, model: CertifiedRegressor, X: np.ndarray, start: np.ndarray) -> None:
        """The refinement began at the network that predicts ``start``."""
        y_std = data()[1].std()
        t = (data()[1] - data()[1].mean()) / y_std
        mse = np.mean(((start - data()[1].mean()) / y_std - t) ** 2)
        assert model.trace_[0].mse == pytest.approx(mse, rel=1e-8)
        assert model.objective_after_ <= model.objective_before_
        assert model.certificate_.check(model.network_)

    @quiet
    @pytest.mark.parametrize(
        "build",
        [
            lambda: mlp(),
            lambda: make_pipeline(StandardScaler(), mlp()),
            lambda: TransformedTargetRegressor(make_pipeline(StandardScaler(), mlp()), transformer=StandardScaler()),
        ],
        ids=["alone", "pipeline", "target"],
    )
    def test_fitted_models_are_used_as_they_stand(self, build):
        X, y = data()
        start = build().fit(X, y)
        before = pickle.dumps(start)
        model = certified(start, prefit=True, random_state=0).fit(X, y)
        self.check_start(model, X, start.predict(X))
        assert model.estimator_ is start
        assert pickle.dumps(start) == before
        frozen = certified(FrozenEstimator(start), random_state=0).fit(X, y)
        assert frozen.network_ == model.network_

    @pytest.mark.parametrize("prefit", [True, False])
    def test_networks(self, prefit):
        X, y = data()
        net = small_network(units="standardised")
        model = certified(net, prefit=prefit, random_state=0).fit(X, y)
        self.check_start(model, X, net.predict(X))
        assert model.network_.units == "standardised"

    def test_torch_modules(self):
        torch = pytest.importorskip("torch")
        X, y = data()
        net = small_network()
        model = certified(to_torch(net), prefit=True, random_state=0).fit(X, y)
        self.check_start(model, X, net.predict(X))
        with pytest.raises(UnsupportedModelError, match=r"Tanh|no weights"):
            certified(torch.nn.Sequential(torch.nn.Tanh()), prefit=True).fit(X, y)
        with pytest.raises(InvalidInputError, match=r"Sequential.*prefit=True"):
            certified(to_torch(net)).fit(X, y)

    def test_without_improvement_the_very_start_is_returned(self):
        X, y = data()
        first = certified(small_network(), weight=0.1, random_state=0).fit(X, y)
        starved = certified(first.network_, weight=0.1, solver="SCS", tol=0.5, random_state=0).fit(X, y)
        assert not starved.improved_
        assert starved.network_ is starved.estimator_
        assert starved.certificate_.check(starved.network_)

    def test_one_unit_by_hand(self):
        # f(x) = relu(x), y = 2x on x >= 0: a line through the data, whatever its slope, is the cell's model
        X, y = np.arange(5.0)[:, None], 2.0 * np.arange(5.0)
        net = ShallowNetwork([[1.0]], [0.5], [1.0], 0.0)
        model = certified(net, weight=0.25, method="joint").fit(X, y)
        # standardised: min (1 - s)² + 0.25 s² has s = 0.8; raw slope 0.8 · 2
        assert model.lipschitz_upper_ == pytest.approx(1.6, rel=1e-5)
        assert model.lipschitz_lower_ == pytest.approx(1.6, rel=1e-5)
        assert model.objective_after_ == pytest.approx(0.2, rel=1e-6)
        assert_allclose(model.predict(X), 4.0 + 1.6 * (X[:, 0] - 2.0), rtol=1e-4)


class TestInterval:
    def test_perturbed_predictions_lie_in_it(self, fitted):
        X, _ = diabetes(20)
        rng = np.random.default_rng(1)
        gradients = fitted.network_.gradients(X)[:, 0]
        for epsilon in (0.0, 1e-3, 0.05):
            lower, upper = fitted.certified_interval(X, epsilon)
            directions = [*rng.normal(size=(20, *X.shape)), gradients, -gradients]
            for direction in directions:
                moved = X + epsilon * direction / np.linalg.norm(direction, axis=1, keepdims=True)
                assert np.all(lower <= fitted.predict(moved))
                assert np.all(fitted.predict(moved) <= upper)
            lower, upper = fitted.certified_interval(X, epsilon, relaxed=False)
            assert_allclose((upper - lower) / 2, fitted.lipschitz_upper_ * epsilon, rtol=1e-9, atol=1e-9)
            assert_allclose((upper + lower) / 2, fitted.predict(X), rtol=1e-12)

    def test_it_is_tight_and_it_holds_exact_values(self):
        X, y = np.arange(5.0)[:, None] / 3.0, np.arange(5.0) / 7.0
        model = certified(ShallowNetwork([[1.0]], [10.0], [1.0], 0.0)).fit(X, y)
        net = model.network_
        w, b, v, c = (Fraction(float(array.flat[0])) for array in (net.W, net.b, net.V, net.c))
        epsilon = 0.1
        lower, upper = model.certified_interval(X, epsilon)
        for x, low, high in zip(X[:, 0], lower, upper):
            ends = [v * max(w * (Fraction(x) + s * Fraction(epsilon)) + b, Fraction(0)) + c for s in (-1, 1)]
            assert Fraction(low) <= min(ends)
            assert max(ends) <= Fraction(high)
            assert float(max(ends)) == pytest.approx(high, rel=1e-6)

    @pytest.mark.filterwarnings("ignore::certnet.errors.ScaleWarning")
    def test_the_rounding_of_predictions_is_charged(self):
        X, y = data()
        model = certified(small_network(), standardise=False).fit(X + 1e6, y)
        lower, upper = model.certified_interval(X + 1e6, 0.0)
        net = model.network_
        W, b, v = ([[Fraction(float(e)) for e in row] for row in rows] for rows in (net.W, [net.b], net.V))
        computed_exactly = 0
        for x, low, high in zip(X + 1e6, lower, upper):
            x = [Fraction(float(e)) for e in x]
            z = [sum(a * e for a, e in zip(row, x)) + shift for row, shift in zip(W, b[0])]
            exact = sum(a * max(e, Fraction(0)) for a, e in zip(v[0], z)) + Fraction(float(net.c[0]))
            assert Fraction(low) <= exact <= Fraction(high)
            computed_exactly += abs(exact - (Fraction(low) + Fraction(high)) / 2) < Fraction(1, 10**15)
        assert computed_exactly < len(X)  # there was rounding to charge

    @pytest.mark.parametrize("epsilon", [-1.0, np.nan, np.inf, "wide", None])
    def test_bad_radius(self, fitted, epsilon):
        with pytest.raises(InvalidInputError, match="epsilon"):
            fitted.certified_interval(diabetes(3)[0], epsilon)

    def test_before_fit(self):
        with pytest.raises(NotFittedError):
            certified().certified_interval([[1.0]], 0.1)


class TestEcosystem:
    def test_pickle(self, fitted):
        X, _ = diabetes(10)
        again = pickle.loads(pickle.dumps(fitted))
        assert_array_equal(again.predict(X), fitted.predict(X))
        assert again.certificate_.check(again.network_)

    def test_clone(self, fitted):
        copy = clone(fitted)
        assert not hasattr(copy, "network_")
        assert copy.get_params()["estimator__hidden_layer_sizes"] == (10,)
        assert clone(certified(small_network())).estimator == small_network()

    @quiet
    def test_grid_search_in_a_pipeline(self):
        X, y = data(n=60)
        steps = Pipeline([("scale", StandardScaler()), ("model", certified(mlp(3), random_state=0))])
        search = GridSearchCV(steps, {"model__weight": [0.01, 10.0]}, cv=2).fit(X, y)
        assert search.best_params_ == {"model__weight": 0.01}
        assert search.best_estimator_["model"].certificate_.check(search.best_estimator_["model"].network_)

    @quiet
    def test_grid_search_over_a_frozen_model(self):
        X, y = diabetes(60)
        model = certified(FrozenEstimator(mlp(3, max_iter=400).fit(X, y)), random_state=0)
        search = GridSearchCV(model, {"weight": [0.01, 0.1]}, cv=2, error_score="raise").fit(X, y)
        assert search.best_estimator_.improved_

    def test_column_names(self):
        X, y = data()
        frame = pd.DataFrame(X, columns=["a", "b", "c"])
        model = certified(small_network()).fit(frame, pd.Series(y))
        assert list(model.feature_names_in_) == ["a", "b", "c"]
        assert model.predict(frame).shape == (40,)
        with pytest.raises(ValueError, match="feature names"):
            model.predict(frame[["b", "a", "c"]])


class TestSampleWeights:
    """Whole weights are repetitions, and weight 0 is absence, in the objective and in the units."""

    def test_whole_weights_repeat_rows(self):
        X, y = data()
        weight = np.random.default_rng(0).integers(1, 4, size=40)
        one = certified(small_network(), random_state=0).fit(X, y, sample_weight=weight)
        two = certified(small_network(), random_state=0).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
        assert one.objective_before_ == pytest.approx(two.objective_before_, rel=1e-9)
        assert one.objective_after_ == pytest.approx(two.objective_after_, rel=1e-3)
        assert one.refinement_.mse == pytest.approx(
            np.average((one.predict(X) - y) ** 2, weights=weight) / np.repeat(y, weight).var(), rel=1e-6
        )

    @quiet
    def test_weight_zero_is_absence_and_only_ratios_count(self):
        X, y = data()
        weight = np.where(np.arange(40) < 30, 8.0, 0.0)
        few = certified(mlp(4), random_state=0).fit(X[:30], y[:30], sample_weight=weight[:30] / 32.0)
        all_rows = certified(mlp(4), random_state=0).fit(X, y, sample_weight=weight)
        assert all_rows.network_ == few.network_

    @quiet
    def test_heavy_rows_are_fitted(self):
        X, y = data()
        weight = np.where(np.arange(40) < 20, 1.0, 1e-4)
        model = certified(random_state=0, hidden_layer_sizes=4).fit(X, np.where(weight == 1.0, y, -y), weight)
        assert model.score(X[:20], y[:20]) > 0.8


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "error", "match"),
        [
            ({"weight": -1.0}, InvalidInputError, "weight"),
            ({"weight": np.nan}, InvalidInputError, "weight"),
            ({"weight": "big"}, InvalidInputError, "weight"),
            ({"tol": 0.0}, InvalidInputError, "tol"),
            ({"time_limit": -1.0}, InvalidInputError, "time_limit"),
            ({"penalty": "l1"}, InvalidInputError, "penalty must be one of 'lipschitz', 'l2'"),
            ({"method": "newton"}, InvalidInputError, "method must be one of"),
            ({"solver": "GUROBI"}, SolverUnavailableError, "GUROBI"),
            ({"estimator": "mlp"}, InvalidInputError, "of type str, which cannot be trained"),
            ({"estimator": MLPRegressor}, InvalidInputError, "cannot be trained"),
            ({"estimator": None, "prefit": True}, UnsupportedModelError, "the prefit estimator is None"),
            ({"estimator": [1.0], "prefit": True}, UnsupportedModelError, "of type list"),
            ({"estimator": LinearRegression()}, UnsupportedModelError, "LinearRegression"),
            ({"estimator": mlp(hidden_layer_sizes=())}, UnsupportedModelError, "no hidden layer"),
            ({"prefit": True}, UnsupportedModelError, r"MLPRegressor is not fitted.*FrozenEstimator"),
            ({"estimator": FrozenEstimator(mlp())}, UnsupportedModelError, "not fitted"),
            ({"random_state": "lucky"}, ValueError, "lucky"),
        ],
    )
    @quiet
    def test_parameters(self, change, error, match):
        X, y = data()
        with pytest.raises(error, match=match):
            certified(**{"estimator": mlp(), **change}).fit(X, y)

    @pytest.mark.parametrize("change", [{"weight": -1.0}, {"solver": "GUROBI"}, {"method": "newton"}])
    def test_parameters_are_refused_before_training(self, change):
        class Untouchable(MLPRegressor):
            def fit(self, X, y):
                raise AssertionError("trained")

        with pytest.raises((InvalidInputError, SolverError)):
            certified(Untouchable(), **change).fit(*data())

    @pytest.mark.parametrize(
        ("X", "y", "match"),
        [
            (data()[0][:1], data()[1][:1], "minimum of 2 is required"),
            (data()[0][:0], data()[1][:0], "0 sample"),
            (data()[0][:, :0], data()[1], "0 feature"),
            (data()[0][:, 0], data()[1], "Expected 2D array"),
            (data()[0], data()[1][:-1], "inconsistent numbers of samples"),
            (np.where(data()[0] > 4.0, np.nan, data()[0]), data()[1], "NaN"),
            (data()[0], np.full(40, np.inf), "infinity"),
            (scipy.sparse.csr_matrix(data()[0]), data()[1], "[Ss]parse"),
            (data()[0], ["high"] * 40, "y has dtype .*encode"),
            (np.full((40, 3), "high"), data()[1], "could not convert string"),
            (data()[0], np.zeros((40, 0)), "0 feature"),
            (data()[0], np.zeros((40, 1, 1)), "dim 3"),
            (data()[0] * 1e200, data()[1], "column 0 of X is too large"),
            (data()[0], data()[1] * 1e200, "column 0 of y is too large"),
        ],
    )
    def test_data(self, X, y, match):
        with pytest.raises((ValueError, TypeError), match=match):  # sparse X is a TypeError of scikit-learn's
            certified(mlp()).fit(X, y)

    def test_data_of_another_shape_than_the_prefit_model(self):
        X, y = data(outputs=2)
        with pytest.raises(InvalidInputError, match="X has 2 columns, the prefit estimator has 3 inputs"):
            certified(small_network()).fit(X[:, :2], y[:, 0])
        with pytest.raises(InvalidInputError, match="y has 2 columns, the prefit estimator has 1 output"):
            certified(small_network()).fit(X, y)

    @quiet
    def test_columns_in_another_order_than_the_prefit_model(self):
        X, y = data()
        frame = pd.DataFrame(X, columns=["a", "b", "c"])
        model = certified(mlp().fit(frame, y), prefit=True)
        with pytest.raises(InvalidInputError, match=r"X has the columns b, a, c, .* fitted on a, b, c"):
            model.fit(frame[["b", "a", "c"]], y)
        assert model.fit(frame, y).improved_

    def test_one_column_of_targets(self):
        X, y = data()
        with pytest.warns(DataConversionWarning, match="column-vector"):
            model = certified(small_network()).fit(X, y[:, None])
        assert model.predict(X).shape == (40,)

    @quiet
    def test_constant_columns(self):
        X, y = data()
        model = certified(mlp(), random_state=0).fit(np.column_stack([X, np.full(40, 7.0)]), y)
        assert model.improved_
        constant = certified(mlp(), random_state=0).fit(X, np.full(40, 7.0))
        assert_allclose(constant.predict(X), 7.0, atol=1e-3)
        assert constant.certificate_.check(constant.network_)

    @quiet
    def test_two_samples(self):
        X, y = data(n=2)
        model = certified(mlp(), random_state=0).fit(X, y)
        assert model.certificate_.check(model.network_)
