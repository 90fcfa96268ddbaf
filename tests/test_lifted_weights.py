"""Weights of samples and classes, several labels to a sample, in the learning of lifted networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, make_multilabel_classification

from certnet.core.errors import InvalidInputError
from certnet.lifted import LiftedClassifier, LiftedRegressor
from certnet.lifted.learn import Objective, Training, initial_network, train
from certnet.lifted.learn.parameters import Parameters
from certnet.lifted.learn.phases import Phases
from certnet.lifted.loss_functions import CrossEntropy, HuberLoss, SquaredHinge

OBJECTIVES = [
    Objective("contrastive"),
    Objective("lifted"),
    Objective("unsupervised"),
    Objective("contrastive", "squared"),
    Objective("lifted", HuberLoss()),
]


def one_batch(objective: Objective, X: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> tuple[Any, Any]:
    net = initial_network((5, 4, 3, 2), beta=[1.0, 0.5, 0.3], gamma=0.5, random_state=0)
    params = Parameters.of(net)
    gradient = Parameters.over(np.zeros_like(params.flat), net.widths)
    free, target = np.zeros((len(X), net.n_units)), np.zeros((len(X), net.n_units))
    phases = Phases(net, params, objective, tol=1e-12, max_passes=50_000)
    return phases.run(X, y, gradient, free, target, weights=weights), gradient.flat


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{o.kind} {o.loss}")
def test_a_weighted_gradient_is_that_of_repeated_samples(objective: Objective) -> None:
    rng = np.random.default_rng(0)
    X, y, times = rng.standard_normal((4, 5)), rng.standard_normal((4, 2)), np.array([0, 1, 2, 3])
    rows = np.repeat(np.arange(4), times)
    values, gradient = one_batch(objective, X, y, times * 4.0 / 6.0)
    plain, expected = one_batch(objective, X[rows], y[rows], None)
    np.testing.assert_allclose(values[rows], plain, atol=1e-9)
    np.testing.assert_allclose(gradient, expected, atol=1e-9)


def test_equal_weights_of_any_size_change_nothing_and_a_weight_of_zero_leaves_out() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    net = initial_network((3, 4, 2), beta=[1.0, 0.0], gamma=0.5, random_state=0)
    how = Training(max_epochs=2, batch_size=20)
    plain = train(net, X, y, how, random_state=0)
    same = train(net, X, y, how, sample_weight=np.full(20, 7.0), random_state=0)
    np.testing.assert_allclose(same.state.params.flat, plain.state.params.flat, rtol=1e-9)
    assert same.loss_curve == pytest.approx(plain.loss_curve)
    # whole batches: the order of samples plays no part
    some = train(net, X, y, how, sample_weight=np.r_[np.ones(10), np.zeros(10)], random_state=0)
    half = Training(max_epochs=2, batch_size=10)
    np.testing.assert_allclose(
        some.state.params.flat, train(net, X[:10], y[:10], half, random_state=0).state.params.flat, atol=1e-3
    )


def test_a_checkpoint_knows_the_weights(tmp_path: Path) -> None:
    X, y = load_diabetes(return_X_y=True)
    model = LiftedRegressor((4,), max_epochs=1, random_state=0, checkpoint=tmp_path / "state.npz", early_stopping=False)
    model.set_params(learning_rate=0.05).fit(X, y, sample_weight=np.arange(1.0, len(y) + 1.0))
    with pytest.raises(InvalidInputError, match="other data"):
        model.fit(X, y)


def imbalanced(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping classes, one sample in ten of the second."""
    rng = np.random.default_rng(0)
    y = (np.arange(n) % 10 == 0).astype(int)
    return rng.standard_normal((n, 2)) + 1.2 * y[:, None], y


def test_class_weights_bring_the_rare_class_back() -> None:
    X, y = imbalanced()
    recall = {}
    for weight in (None, "balanced", {0: 1.0, 1: 9.0}):
        model = LiftedClassifier((8,), class_weight=weight, max_epochs=15, random_state=0).fit(X, y)
        recall[str(weight)] = float((model.predict(X)[y == 1] == 1).mean())
    assert recall["balanced"] > recall["None"] + 0.2
    assert recall[str({0: 1.0, 1: 9.0})] == pytest.approx(recall["balanced"], abs=0.1)


def test_weights_of_classes_are_weights_of_their_samples() -> None:
    X, y = imbalanced(100)
    by_class = LiftedClassifier((4,), class_weight={0: 1.0, 1: 3.0}, max_epochs=2, random_state=0)
    by_sample = LiftedClassifier((4,), max_epochs=2, random_state=0)
    first = by_class.fit(X, y).network_.weights[0]
    second = by_sample.fit(X, y, sample_weight=np.where(y == 1, 3.0, 1.0)).network_.weights[0]
    np.testing.assert_allclose(first, second, rtol=1e-9)


@pytest.mark.parametrize("weight", [{"no": 2.0}, "even", {0: -1.0, 1: 1.0}])
def test_weights_of_no_class_are_refused(weight: Any) -> None:
    with pytest.raises(InvalidInputError, match="weight"):
        LiftedClassifier((4,), class_weight=weight, max_epochs=1).fit(*imbalanced(50))


@pytest.mark.parametrize("weights", [-np.ones(50), np.zeros(50), np.ones(49), np.full(50, np.nan)])
def test_bad_weights_are_refused(weights: np.ndarray) -> None:
    X, y = imbalanced(50)
    for model in (LiftedClassifier((4,)), LiftedRegressor((4,))):
        with pytest.raises(InvalidInputError, match="sample_weight"):
            model.fit(X, y, sample_weight=weights)


def test_held_back_samples_are_weighed_too() -> None:
    X, y = imbalanced(100)
    weights = np.where(y == 1, 1.0, 0.0)
    model = LiftedClassifier((4,), early_stopping=True, max_epochs=8, random_state=0).fit(X, y, sample_weight=weights)
    assert max(model.validation_scores_) == 1.0  # of the second class alone
    assert (model.predict(X) == 1).all()


def test_a_regression_follows_the_heavy_samples() -> None:
    X = np.linspace(-1.0, 1.0, 100)[:, None]
    y = np.where(np.arange(100) % 2 == 0, 1.0, -1.0) + 0.01 * X[:, 0]
    heavy = np.where(np.arange(100) % 2 == 0, 20.0, 1.0)
    model = LiftedRegressor((4,), max_epochs=20, learning_rate=0.01, random_state=0).fit(X, y, sample_weight=heavy)
    assert model.predict(X).mean() > 0.7


# ------------------------------------------------------------------------------------------------------ several labels


def several(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_multilabel_classification(n, n_features=6, n_classes=3, random_state=0)
    return (X - X.mean(axis=0)) / X.std(), y


@pytest.mark.parametrize("loss", ["clamp", "squared", HuberLoss(0.5), SquaredHinge()])
def test_several_labels_to_a_sample(loss: Any, tmp_path: Path) -> None:
    X, y = several()
    model = LiftedClassifier((12,), loss=loss, max_epochs=20, random_state=0).fit(X[:200], y[:200])
    predicted = model.predict(X[200:])
    assert predicted.shape == (100, 3)
    assert set(np.unique(predicted)) <= {0, 1}
    assert (predicted == y[200:]).mean() > 0.75
    np.testing.assert_array_equal(predicted, (model.decision_function(X[200:]) > 0.0).astype(int))
    model.save(tmp_path / "model.npz")
    again = LiftedClassifier.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.predict(X[200:]), predicted)
    assert again.multilabel_


@pytest.mark.parametrize("pairs", [False, True])
def test_no_label_changes_within_the_radius(pairs: bool) -> None:
    X, y = several(120)
    model = LiftedClassifier((8,), standardise=True, max_epochs=20, random_state=0).fit(X, y)
    radius = model.certified_radius(X, pairs=pairs)
    assert (radius > 0.0).mean() > 0.5
    predicted = model.predict(X)
    # steepest directions by differences, and random ones
    rng = np.random.default_rng(0)
    for _ in range(20):
        step = rng.standard_normal(X.shape)
        step *= (0.999 * radius / np.linalg.norm(step, axis=1))[:, None]
        np.testing.assert_array_equal(model.predict(X + step), predicted)
    if pairs:
        assert (radius >= model.certified_radius(X) * (1.0 - 1e-9)).all()


def test_several_labels_go_on_and_stop_early() -> None:
    X, y = several()
    model = LiftedClassifier((8,), early_stopping=True, max_epochs=3, random_state=0)
    whole = model.fit(X, y, sample_weight=np.ones(len(X)))
    assert len(whole.validation_scores_) == 3
    parts = LiftedClassifier((8,), random_state=0).partial_fit(X, y).partial_fit(X, y)
    assert parts.predict(X).shape == y.shape
    with pytest.raises(InvalidInputError, match="other labels than at the first call"):
        parts.partial_fit(X, y[:, :2])


def test_what_takes_one_class_is_refused_for_several_labels() -> None:
    X, y = several(60)
    with pytest.raises(InvalidInputError, match="CrossEntropy takes one class to a sample"):
        LiftedClassifier((4,), loss=CrossEntropy()).fit(X, y)
    with pytest.raises(InvalidInputError, match="class_weight is of classes"):
        LiftedClassifier((4,), class_weight="balanced").fit(X, y)
    with pytest.raises(InvalidInputError, match="y has several labels"):
        LiftedClassifier((4,), objective="class_conditional").fit(X, y)
