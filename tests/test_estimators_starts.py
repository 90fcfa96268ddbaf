"""Starts of the estimators: what validation chooses, networks of any depth, rounding of intervals, sample weights."""

from __future__ import annotations

import warnings
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from certnet import FeedForward, ShallowNetwork
from certnet.certification import certify
from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.estimators import CertifiedRegressor, CertifiedRegressorCV
from certnet.estimators.choice import StartChoice, choose_start
from certnet.estimators.intervals import interval_about
from certnet.estimators.samples import Observed
from certnet.estimators.standardisation import Standardisation
from certnet.estimators.starts import stand_in, trained
from certnet.networks.activations import Activation

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def certified(*arguments: object, **options: object) -> CertifiedRegressor:
    """A regressor with little effort, where no program is named."""
    effort = {} if "method" in options else {"effort": "quick"}
    return CertifiedRegressor(*arguments, **(effort | options))


def certified_cv(*arguments: object, **options: object) -> CertifiedRegressorCV:
    return CertifiedRegressorCV(*arguments, **({"effort": "quick"} | options))


def mlp(*sizes: int, **parameters: object) -> MLPRegressor:
    options = {"hidden_layer_sizes": sizes or (5,), "solver": "lbfgs", "max_iter": 60, "random_state": 0}
    return MLPRegressor(**options | parameters)


def data(n: int = 60, noise: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, np.abs(X[:, 0]) + 0.5 * X[:, 1] + noise * rng.normal(size=n)


class TestChoice:
    def test_the_least_error_on_the_rows_held_out_is_chosen(self):
        X, y = data(80)
        choice = choose_start(X, y, None, (8,), seed=3)
        assert choice.held_out == 16
        best = min(choice.tried, key=lambda tried: tried.error)
        assert (choice.alpha, choice.iterations, choice.error) == (best.alpha, best.iterations, best.error)
        # once more, by hand: the rows that the seed gives, and a plain training in rounds
        order = np.random.default_rng(3).permutation(80)
        out, rest = order[:16], order[16:]
        model = mlp(8, alpha=best.alpha, max_iter=25, warm_start=True, random_state=np.random.RandomState(3))
        for _ in range(best.iterations // 25):
            model.fit(X[rest], y[rest])
        assert np.mean((model.predict(X[out]) - y[out]) ** 2) == pytest.approx(best.error, rel=1e-12)

    def test_noise_asks_for_more_weight_decay(self):
        clean, noisy = (choose_start(*data(120, noise), None, (20,), seed=0) for noise in (0.0, 3.0))
        assert noisy.alpha > clean.alpha
        assert noisy.error > clean.error

    def test_the_seed_decides(self):
        X, y = data(40)
        one, two, other = (choose_start(X, y, None, (4,), seed) for seed in (5, 5, 6))
        assert one == two
        assert one.tried != other.tried

    @pytest.mark.parametrize(("n", "held_out"), [(19, 0), (20, 10), (49, 10), (50, 10), (60, 12)])
    def test_a_fifth_is_held_out_and_at_least_ten(self, n, held_out):
        choice = choose_start(*data(n), None, (3,), seed=0)
        assert choice.held_out == held_out
        if not held_out:
            assert (choice.alpha, choice.tried) == (1.0, ())
            assert np.isnan(choice.error)

    def test_many_rows_are_trained_in_batches(self, monkeypatch):
        X, y = data(5001)
        monkeypatch.setattr("certnet.estimators.choice._ROUNDS", 2)
        choice = choose_start(X, y, None, (2,), seed=0)
        assert choice.solver == "adam"
        assert choice.error < 0.5 * y.var()
        assert choice.perceptron(0).max_iter == choice.iterations

    def test_weights_weigh_the_training_and_the_errors(self):
        X, y = data(60)
        weight = np.where(np.arange(60) % 2, 1.0, 1e-9)
        heavy = choose_start(X, np.where(weight == 1.0, y, 100.0), weight, (6,), seed=0)
        assert heavy.error < 1.0

    def test_several_outputs_and_constant_targets(self):
        X, y = data(40)
        assert choose_start(X, np.column_stack([y, -y]), None, (4,), seed=0).error < 1.0
        assert choose_start(X, np.zeros(40), None, (4,), seed=0).error < 1e-3


class TestDefaultStart:
    def test_what_was_chosen_is_told_and_trained(self):
        X, y = data()
        model = certified(random_state=0, hidden_layer_sizes=6, weight=0.1).fit(X, y)
        choice = model.start_choice_
        assert isinstance(choice, StartChoice)
        assert choice.hidden_layer_sizes == (6,)
        inner = model.estimator_[-1].regressor_
        assert (inner.alpha, inner.max_iter, inner.solver) == (choice.alpha, choice.iterations, "lbfgs")
        again = clone(model.estimator_).fit(X, y)
        assert_array_equal(again.predict(X), model.estimator_.predict(X))
        assert model.improved_
        assert model.certificate_.check(model.network_)

    def test_no_warning_where_stopping_is_chosen_and_a_hundred_units(self):
        X, y = data(40)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            start = trained(None, Observed(X, y), standardise=True, sizes=(100,), seed=0)
        assert start.network.widths == (3, 100, 1)

    def test_an_estimator_of_the_user_is_trained_as_it_says(self):
        X, y = data()
        model = certified(mlp(4, alpha=0.7, max_iter=11), random_state=0).fit(X, y)
        assert model.start_choice_ is None
        inner = model.estimator_[-1].regressor_
        assert (inner.alpha, inner.max_iter) == (0.7, 11)

    @pytest.mark.parametrize("sizes", [(), 0, (3, 0), "many", 2.5, (True,), None])
    def test_bad_sizes(self, sizes):
        with pytest.raises(InvalidInputError, match="hidden_layer_sizes"):
            certified(hidden_layer_sizes=sizes).fit(*data())

    def test_sizes_beside_an_estimator(self):
        with pytest.raises(InvalidInputError, match="hidden_layer_sizes is for the start"):
            certified(mlp(), hidden_layer_sizes=(4,)).fit(*data())


@pytest.fixture(scope="module")
def fitted() -> CertifiedRegressor:
    X, y = data()
    return certified(mlp(6, 5), random_state=0).fit(X * [1.0, 50.0, 0.01] + 3.0, 1e3 * y - 7.0)


class TestDepth:
    def test_the_result_is_refined_and_certified_in_raw_units(self, fitted):
        X, y = data()
        X, y = X * [1.0, 50.0, 0.01] + 3.0, 1e3 * y - 7.0
        assert isinstance(fitted.network_, FeedForward)
        assert fitted.network_.widths == (3, 6, 5, 1)
        assert fitted.network_.units == fitted.certificate_.units == "raw"
        assert fitted.improved_
        assert fitted.certificate_.check(fitted.network_)
        Z, t = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
        inner = fitted.refinement_.network
        assert_allclose(inner.predict(Z) * y.std() + y.mean(), fitted.predict(X), rtol=1e-9)
        J = np.mean((inner.predict(Z) - t) ** 2) + 0.01 * fitted.refinement_.certificate.rho
        assert pytest.approx(fitted.objective_after_, rel=1e-6) == J
        assert fitted.score(X, y) > 0.8

    def test_perturbed_predictions_lie_in_the_interval(self, fitted):
        X = data(20, seed=1)[0] * [1.0, 50.0, 0.01] + 3.0
        rng = np.random.default_rng(2)
        for epsilon in (0.0, 1e-3, 0.1):
            lower, upper = fitted.certified_interval(X, epsilon)
            for _ in range(20):
                step = rng.normal(size=X.shape)
                moved = X + epsilon * step / np.linalg.norm(step, axis=1, keepdims=True)
                assert np.all((lower <= fitted.predict(moved)) & (fitted.predict(moved) <= upper))
            lower, upper = fitted.certified_interval(X, epsilon, relaxed=False)
            assert_allclose((upper - lower) / 2, fitted.lipschitz_upper_ * epsilon, rtol=1e-8, atol=1e-8)

    def test_networks_and_fitted_models(self):
        X, y = data()
        rng = np.random.default_rng(0)
        net = FeedForward(
            [rng.normal(size=(4, 3)), rng.normal(size=(4, 4)), rng.normal(size=(1, 4))],
            [np.zeros(4), np.zeros(4), np.zeros(1)],
            ["relu", "leaky_relu"],
            units="standardised",
        )
        model = certified(net, random_state=0).fit(X, y)
        assert model.improved_
        assert model.network_.units == "standardised"
        assert model.network_.activations == net.activations
        assert model.trace_[0].mse == pytest.approx(np.mean((net.predict(X) - y) ** 2) / y.var(), rel=1e-9)
        start = make_pipeline(StandardScaler(), mlp(4, 4)).fit(X, y)
        done = certified(start, prefit=True, random_state=0).fit(X, y)
        assert done.network_.widths == (3, 4, 4, 1)
        assert done.certificate_.check(done.network_)

    def test_one_hidden_layer_of_relu_is_a_shallow_network(self):
        X, y = data()
        rng = np.random.default_rng(0)
        net = FeedForward([rng.normal(size=(4, 3)), rng.normal(size=(1, 4))], [np.zeros(4), np.zeros(1)])
        assert isinstance(certified(net).fit(X, y).network_, ShallowNetwork)
        assert isinstance(certified(mlp(4), random_state=0).fit(X, y).network_, ShallowNetwork)

    def test_torch(self):
        torch = pytest.importorskip("torch")
        torch.manual_seed(0)
        layers = [torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)]
        model = certified(torch.nn.Sequential(*layers).double(), prefit=True).fit(*data())
        assert model.network_.widths == (3, 5, 4, 1)
        assert model.certificate_.check(model.network_)

    def test_categorical_columns(self):
        X, y = data()
        table = pd.DataFrame(X, columns=["a", "b", "c"]).assign(colour=np.where(X[:, 2] > 0, "red", "blue"))
        columns = make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(), ["colour"]))
        model = certified(make_pipeline(columns, mlp(5, 4)), random_state=0).fit(table, y)
        assert model.improved_
        assert model.certificate_.check(model.network_)
        net = model.network_for({"colour": "red"})
        rows = table.assign(colour="red")
        assert_allclose(net.predict(rows[["a", "b"]]), model.predict(rows), rtol=1e-9, atol=1e-9)
        lower, upper = model.certified_interval(table, 0.1, relaxed=False)
        assert_allclose((upper - lower) / 2, 0.1 * certify(net).upper, rtol=1e-4)
        lower, upper = model.certified_interval(table, 0.1)
        moved = table.assign(a=table["a"] + 0.06, b=table["b"] - 0.08)
        assert np.all((lower <= model.predict(moved)) & (model.predict(moved) <= upper))

    def test_a_search_around_a_deep_network(self):
        X, y = data()
        search = GridSearchCV(mlp(4, 4), {"alpha": [0.1, 1.0]}, cv=2)
        model = certified(TransformedTargetRegressor(search, transformer=MinMaxScaler()), random_state=0)
        assert model.fit(X, y).network_.depth == 2

    def test_the_weight_is_chosen_at_any_depth(self):
        X, y = data(40)
        model = certified_cv(mlp(4, 3), weights=[0.01, 10.0], cv=2, random_state=0).fit(X, y)
        assert model.weight_ == 0.01
        assert model.network_.depth == 2

    def test_a_stand_in_has_depth_and_activation(self):
        like = stand_in(make_pipeline(StandardScaler(), mlp(4, 4, 4, activation="logistic")), 7, 2)
        assert like.widths == (7, 1, 1, 1, 2)
        assert {phi.name for phi in like.activations} == {"sigmoid"}

    @pytest.mark.parametrize("activation", ["tanh", "logistic"])
    def test_other_activations(self, activation):
        X, y = data()
        model = certified(mlp(4, 3, activation=activation), random_state=0).fit(X, y)
        assert model.improved_
        assert model.certificate_.check(model.network_)
        lower, upper = model.certified_interval(X, 0.01)
        assert np.all((lower < model.predict(X + 0.005)) & (model.predict(X + 0.005) < upper))

    def test_linear_layers_are_refused(self):
        with pytest.raises(UnsupportedModelError, match="linear"):
            certified(mlp(4, 3, activation="identity"), random_state=0).fit(*data())


class TestRounding:
    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10_000), depth=st.integers(1, 3), offset=st.sampled_from([0.0, 1e3, 1e8]))
    def test_exact_values_lie_in_the_interval(self, seed, depth, offset):
        rng = np.random.default_rng(seed)
        widths = [2, *rng.integers(1, 4, size=depth), 1]
        weights = [rng.normal(size=(n, m)) * 10.0 ** rng.integers(-3, 4) for m, n in pairwise(widths)]
        biases = [rng.normal(size=n) for n in widths[1:]]
        leak = float(rng.random())
        kinds = [("relu", "identity", "leaky")[k] for k in rng.integers(0, 3, size=depth)]
        phis = [Activation("leaky_relu", (leak,)) if kind == "leaky" else Activation(kind) for kind in kinds]
        net = FeedForward(weights, biases, phis)
        X = rng.normal(size=(3, 2)) + offset
        lower, upper = interval_about(net, 0.0, X, 0.0)
        for x, low, high in zip(X, lower, upper):
            value = [Fraction(float(e)) for e in x]
            for k, (W, b) in enumerate(zip(net.weights, net.biases)):
                value = [
                    sum(Fraction(float(w)) * e for w, e in zip(row, value)) + Fraction(float(c)) for row, c in zip(W, b)
                ]
                if k < depth:
                    left = {"relu": Fraction(0), "identity": Fraction(1), "leaky": Fraction(leak)}[kinds[k]]
                    value = [max(e, Fraction(0)) + left * min(e, Fraction(0)) for e in value]
            assert Fraction(low) <= value[0] <= Fraction(high)

    def test_smooth_units_are_charged(self):
        net = FeedForward([[[2.0]], [[3.0]], [[1.0]]], [[0.1], [0.2], [0.3]], "tanh")
        X = np.linspace(-2.0, 2.0, 50)[:, None]
        lower, upper = interval_about(net, 6.0, X, 0.01)
        for step in (-0.01, 0.0, 0.01):
            assert np.all((lower < net.predict(X + step)) & (net.predict(X + step) < upper))


class TestWeightedStandardisation:
    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 1000))
    def test_whole_weights_repeat_rows(self, seed):
        rng = np.random.default_rng(seed)
        X, y, weight = rng.normal(size=(9, 2)) * [1.0, 1e4], rng.normal(size=9), rng.integers(1, 4, size=9)
        one = Standardisation.of(X, y, weight.astype(float))
        two = Standardisation.of(np.repeat(X, weight, axis=0), np.repeat(y, weight))
        for name in ("x_shift", "x_scale", "y_shift", "y_scale"):
            assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-12, atol=1e-12)

    def test_rows_of_weight_zero_are_left_out_and_ratios_count(self):
        X, y = data(5)
        rows = Observed(X, y, np.array([0.0, 2.0, 0.0, 4.0, 6.0])).counted("them")
        assert_array_equal(rows.X, X[[1, 3, 4]])
        assert_allclose(rows.weight, [0.5, 1.0, 1.5])
        assert_allclose(
            Observed(X, y, np.array([0.0, 2e-310, 0.0, 4e-310, 6e-310])).counted("").weight, [0.5, 1.0, 1.5]
        )
        with pytest.raises(InvalidInputError, match="above zero for 1 of them"):
            Observed(X, y, np.array([0.0, 2.0, 0.0, 0.0, 0.0])).counted("them")

    @pytest.mark.parametrize(
        "build",
        [
            lambda: mlp(4, alpha=0.1),
            lambda: make_pipeline(StandardScaler(), mlp(4, alpha=0.1)),
            lambda: TransformedTargetRegressor(make_pipeline(mlp(4, alpha=0.1)), transformer=MinMaxScaler()),
        ],
    )
    def test_the_training_sees_the_weights(self, build):
        X, y = data(30)
        weight = np.where(np.arange(30) < 15, 1.0, 1e-6)
        start = trained(build(), Observed(X, y, weight), standardise=True, sizes=(4,), seed=0)
        half = np.mean((start.network.predict(X[:15]) - y[:15]) ** 2)
        assert half < 0.1 * np.mean((start.network.predict(X[15:]) - y[15:]) ** 2)
        assert_allclose(start.model.predict(X), start.network.predict(X), rtol=1e-8, atol=1e-10)
        inner = start.model
        while not isinstance(inner, MLPRegressor):
            inner = inner[-1] if hasattr(inner, "steps") else inner.regressor_
        assert inner.n_features_in_ == 3


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (-np.ones(60), "sample_weight of sample 0 is negative"),
        (np.ones(59), "has 59 numbers"),
        (np.ones((60, 1)), "shape"),
        (np.full(60, np.nan), "NaN"),
        (np.zeros(60), "above zero for 0 of all rows"),
        (2.0, "shape"),
        (["heavy"] * 60, "sample_weight"),
    ],
)
@pytest.mark.parametrize("kind", [CertifiedRegressor, CertifiedRegressorCV])
def test_bad_sample_weights(kind, weight, match):
    with pytest.raises(InvalidInputError, match=match):
        kind(mlp()).fit(*data(), sample_weight=weight)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"target_lipschitz": -1.0}, "target_lipschitz"),
        ({"target_lipschitz": 1.0, "max_mse": 0.1}, "two goals"),
        ({"max_mse": np.nan}, "max_mse"),
        ({"effort": "lazy"}, "effort must be one of 'quick'"),
        ({"effort": -1.0}, "effort"),
        ({"effort": "quick", "method": "joint"}, "effort chooses the work itself: leave it out, or method"),
        ({"effort": 3, "penalty": "l2", "cells": 2}, "leave it out, or cells, penalty"),
        ({"loss": "absolute"}, "loss"),
        ({"loss": "huber", "huber_threshold": 0.0}, "threshold"),
    ],
)
def test_bad_goals_are_refused_before_training(change, match, monkeypatch):
    monkeypatch.setattr(MLPRegressor, "fit", lambda self, X, y, sample_weight=None: pytest.fail("trained"))
    with pytest.raises(InvalidInputError, match=match):
        certified(**change).fit(*data())


@pytest.mark.parametrize("sizes", [(6,), (5, 4)])
def test_a_limit_speaks_of_standardised_units(sizes):
    X, y = data()
    model = certified(mlp(*sizes), target_lipschitz=0.7, random_state=0).fit(10.0 * X, y)
    assert 0.6 < model.refinement_.certificate.upper <= 0.7
    assert model.objective_after_ == pytest.approx(model.refinement_.mse)
    scales = 10.0 * X.std(axis=0) / y.std()
    assert 0.6 / scales.max() <= model.lipschitz_upper_ <= 0.7 / scales.min()
    raw = certified(mlp(*sizes), target_lipschitz=0.5, standardise=False, random_state=0).fit(X, y)
    assert raw.lipschitz_upper_ <= 0.5
