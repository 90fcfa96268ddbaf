"""CertifiedRegressorCV: the weight with the least cross-validated adversarial error, and scikit-learn's own checks."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from test_estimators import data, mlp, quiet, scikit_learn_checks, small_network

from certnet import ShallowNetwork
from certnet.core.errors import InvalidInputError, SolverUnavailableError
from certnet.estimators import CertifiedRegressor, CertifiedRegressorCV
from certnet.refinement import mean_squared_error, refine
from certnet.robust.curves import adversarial_mse

GRID = (0.001, 0.1, 100.0)
pytestmark = quiet


def model(estimator: object = None, **options: object) -> CertifiedRegressorCV:
    start = small_network() if estimator is None else estimator
    return CertifiedRegressorCV(start, **{"weights": GRID, "cv": 2, "effort": "quick", "random_state": 0} | options)


@scikit_learn_checks(
    [CertifiedRegressorCV(mlp(3, max_iter=20), weights=[0.01, 0.1], cv=2, effort="quick", random_state=0)],
    expected_failed_checks=lambda _: {
        "check_sample_weight_equivalence_on_dense_data": "repeated rows are split otherwise than weighted ones"
    },
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def fitted() -> CertifiedRegressorCV:
    return model().fit(*data())


def test_the_weight_of_the_least_mean_error_is_chosen(fitted):
    assert fitted.cv_errors_.shape == fitted.cv_upper_.shape == (3, 2)
    assert np.all(np.isfinite(fitted.cv_errors_))
    assert fitted.weight_ == fitted.weights_[np.argmin(fitted.cv_errors_.mean(axis=1))] != 100.0
    assert np.all(np.diff(fitted.cv_upper_, axis=0) <= 0.1)


def test_the_fit_is_that_of_the_chosen_weight(fitted):
    plain = CertifiedRegressor(small_network(), weight=fitted.weight_, random_state=0, effort="quick").fit(*data())
    assert plain.network_ == fitted.network_
    assert plain.lipschitz_upper_ == fitted.lipschitz_upper_
    assert fitted.certificate_.check(fitted.network_)


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_the_errors_are_those_of_refinements_of_the_parts(epsilon):
    X, y = data()
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), y / y.std()
    fitted = model(standardise=False, epsilon=epsilon).fit(X, y)
    seed = int(check_random_state(0).randint(2**31 - 1))
    for column, (train, test) in enumerate(KFold(2).split(X)):
        for row, weight in enumerate(GRID):
            part = refine(small_network(), X[train], y[train], weight, effort="quick", random_state=seed)
            error = mean_squared_error(part.network, X[test], y[test])
            if epsilon:
                error = float(adversarial_mse(part.network, X[test], y[test], [epsilon]).adversarial[0])
            assert fitted.cv_errors_[row, column] == pytest.approx(error, rel=1e-4)
            assert fitted.cv_upper_[row, column] == pytest.approx(part.certificate.upper, rel=1e-3)


def test_standardisation_makes_units_irrelevant():
    X, y = data()
    scale = np.array([1e3, 1e-3, 7.0])
    # by the convex program: descents enlarge what rounding makes of other units
    program = {"method": "joint", "cv_effort": None, "effort": None}
    plain = model(small_network(), **program).fit(X, y)
    moved = model(small_network().rescaled(x_shift=1.0, x_scale=scale, y_shift=2.0, y_scale=50.0), **program)
    moved.fit(X * scale + 1.0, 50.0 * y + 2.0)
    assert moved.weight_ == plain.weight_
    assert_allclose(moved.cv_errors_, plain.cv_errors_, rtol=1e-3)


def test_larger_perturbations_ask_for_larger_weights():
    weights = [model(epsilon=epsilon, weights=[1e-4, 1e-2, 1.0]).fit(*data()).weight_ for epsilon in (0.0, 5.0)]
    assert weights[0] <= weights[1]
    errors = [model(epsilon=epsilon).fit(*data()).cv_errors_ for epsilon in (0.0, 0.1, 1.0)]
    assert np.all(errors[0] <= errors[1] * (1 + 1e-9))
    assert np.all(errors[1] <= errors[2] * (1 + 1e-9))


def test_the_random_state_decides():
    X, y = data()
    one, two = (model(mlp(3)).fit(X, y) for _ in range(2))
    assert one.network_ == two.network_
    assert_array_equal(one.cv_errors_, two.cv_errors_)


def test_weights_may_be_unsorted_and_repeated(fitted):
    again = model(weights=[100.0, 0.1, 0.001, 0.1]).fit(*data())
    assert_array_equal(again.weights_, GRID)
    assert_array_equal(again.cv_errors_, fitted.cv_errors_)


def test_parameters_are_kept_as_they_are(fitted):
    assert fitted.get_params()["weights"] is GRID
    assert "weight" not in fitted.get_params()
    assert not hasattr(fitted, "weight")
    copy = clone(fitted).set_params(epsilon=0.2, cv=3, cells=2)
    assert (copy.epsilon, copy.cv, copy.cells) == (0.2, 3, 2)
    assert not hasattr(copy, "weight_")
    with pytest.raises(ValueError, match="weight"):
        copy.set_params(weight=0.1)
    own, plain = CertifiedRegressorCV().get_params(), CertifiedRegressor().get_params()
    assert set(own) - set(plain) == {"weights", "targets", "rule", "epsilon", "cv", "cv_effort"}
    assert set(plain) - set(own) == {"weight", "target_lipschitz", "max_mse"}
    assert all(own[name] == plain[name] for name in set(own) & set(plain))


def test_pickle_and_prediction(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    X, _ = data()
    assert_array_equal(again.predict(X), fitted.predict(X))
    lower, upper = again.certified_interval(X, 0.1)
    assert np.all(lower < upper)
    with pytest.raises(NotFittedError):
        model().predict(X)


def test_several_outputs():
    X, y = data(outputs=2)
    rng = np.random.default_rng(0)
    net = ShallowNetwork(rng.normal(size=(5, 3)), rng.normal(size=5), rng.normal(size=(2, 5)), np.zeros(2))
    fitted = model(net).fit(X, y)
    assert fitted.predict(X).shape == (40, 2)
    assert fitted.certificate_.check(fitted.network_)


@pytest.mark.parametrize("kind", ["prefit", "frozen"])
def test_fitted_starts(kind):
    X, y = data()
    start = make_pipeline(StandardScaler(), mlp(3)).fit(X, y)
    given = {"prefit": model(start, prefit=True), "frozen": model(FrozenEstimator(start))}[kind]
    before = start.predict(X)
    assert given.fit(X, y).improved_
    assert_array_equal(start.predict(X), before)
    assert given.estimator_ is start


def test_tables_and_nested_validation():
    X, y = data()
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    fitted = model().fit(frame, pd.Series(y))
    assert list(fitted.feature_names_in_) == ["a", "b", "c"]
    assert fitted.predict(frame).shape == (40,)
    assert np.all(np.isfinite(cross_val_score(model(weights=[0.1]), X, y, cv=2)))


def test_splits_may_be_given(fitted):
    X, y = data()
    for cv in (KFold(2), list(KFold(2).split(X))):
        assert_array_equal(model(cv=cv).fit(X, y).cv_errors_, fitted.cv_errors_)
    assert model(cv=None, weights=[0.1]).fit(X, y).cv_errors_.shape == (1, 5)


def test_a_limit_is_chosen_likewise():
    fitted = model(weights=None, targets=[2.0, 0.05, 0.5]).fit(*data())
    assert fitted.weight_ is fitted.weights_ is None
    assert_array_equal(fitted.targets_, [0.05, 0.5, 2.0])
    assert fitted.target_lipschitz_ == fitted.targets_[np.argmin(fitted.cv_errors_.mean(axis=1))] != 0.05
    assert np.all(fitted.cv_upper_ <= fitted.targets_[:, None])
    assert fitted.refinement_.certificate.upper <= fitted.target_lipschitz_
    plain = CertifiedRegressor(
        small_network(), target_lipschitz=fitted.target_lipschitz_, random_state=0, effort="quick"
    ).fit(*data())
    assert plain.network_ == fitted.network_


@pytest.mark.parametrize("grid", ["weights", "targets"])
def test_the_flattest_within_one_standard_error(grid):
    X, y = data(n=60)
    options = (
        {"weights": [0.001, 0.01, 0.02, 10.0]} if grid == "weights" else {"weights": None, "targets": [0.1, 0.9, 1]}
    )
    best, flat = (model(**options, rule=rule, cv=3).fit(X, y) for rule in ("best", "one_se"))
    assert_array_equal(best.cv_errors_, flat.cv_errors_)
    means = best.cv_errors_.mean(axis=1)
    least = int(np.argmin(means))
    limit = means[least] + best.cv_errors_[least].std(ddof=1) / np.sqrt(3)
    chosen = flat.weight_ if grid == "weights" else flat.target_lipschitz_
    near = (best.weights_ if grid == "weights" else best.targets_)[means <= limit]
    assert chosen == (near.max() if grid == "weights" else near.min())


@pytest.mark.filterwarnings("ignore::certnet.errors.ScaleWarning")
def test_weights_of_samples_weigh_the_errors():
    X, y = data()
    weight = np.where(np.arange(40) % 4 == 0, 0.0, 1.0 + np.arange(40) % 3)
    fitted = model(epsilon=0.0, standardise=False, weights=[0.1]).fit(X, y, sample_weight=weight)
    seed = int(check_random_state(0).randint(2**31 - 1))
    for column, (train, test) in enumerate(KFold(2).split(X)):
        kept = train[weight[train] > 0]
        part = refine(
            small_network(), X[kept], y[kept], 0.1, effort="quick", sample_weight=weight[kept], random_state=seed
        )
        error = np.average((part.network.predict(X[test]) - y[test]) ** 2, weights=weight[test])
        assert fitted.cv_errors_[0, column] == pytest.approx(error, rel=1e-3)
    with pytest.raises(InvalidInputError, match="the test part of split 0"):
        model().fit(X, y, sample_weight=np.arange(40) >= 20)


def test_starts_are_chosen_within_every_split():
    X, y = data()
    fitted = CertifiedRegressorCV(hidden_layer_sizes=3, weights=[0.1], cv=2, effort="quick", random_state=0).fit(X, y)
    plain = CertifiedRegressor(hidden_layer_sizes=3, weight=0.1, effort="quick", random_state=0).fit(X, y)
    assert fitted.start_choice_ == plain.start_choice_
    assert fitted.network_ == plain.network_


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"weights": []}, InvalidInputError, "at least one number"),
        ({"weights": [0.0]}, InvalidInputError, "positive"),
        ({"weights": [-1.0, 1.0]}, InvalidInputError, "positive"),
        ({"weights": [np.nan]}, InvalidInputError, "weights"),
        ({"weights": 0.1}, InvalidInputError, "weights"),
        ({"weights": "many"}, InvalidInputError, "weights"),
        ({"epsilon": -0.1}, InvalidInputError, "epsilon"),
        ({"epsilon": np.nan}, InvalidInputError, "epsilon"),
        ({"epsilon": None}, InvalidInputError, "epsilon"),
        ({"targets": [0.0]}, InvalidInputError, "targets"),
        ({"targets": [1.0]}, InvalidInputError, "weights and targets are two grids"),
        ({"weights": None, "targets": []}, InvalidInputError, "targets must hold at least one"),
        ({"rule": "middle"}, InvalidInputError, "rule must be one of 'best', 'one_se'"),
        ({"cv_effort": "lazy"}, InvalidInputError, "effort must be one of"),
        ({"effort": "lazy"}, InvalidInputError, "effort must be one of"),
        ({"cells": 0}, InvalidInputError, "cells"),
        ({"method": "newton", "effort": None}, InvalidInputError, "method"),
        ({"solver": "GUROBI", "effort": None}, SolverUnavailableError, "GUROBI"),
        ({"cv": 1}, ValueError, "n_splits"),
        ({"cv": 41}, ValueError, "n_splits=41"),
        ({"cv": "five"}, ValueError, "cv"),
    ],
)
def test_bad_parameters(change, error, match):
    with pytest.raises(error, match=match):
        model(**change).fit(*data())


def test_an_interrupt_chooses_nothing(monkeypatch):
    def interrupted(*args, **options):
        return refine(*args, **{**options, "should_stop": lambda: True})

    monkeypatch.setattr("certnet.estimators.fitting.refine", interrupted)
    unfitted = model()
    with pytest.warns(match="interrupted"), pytest.raises(KeyboardInterrupt):
        unfitted.fit(*data())
    assert not hasattr(unfitted, "weight_")
