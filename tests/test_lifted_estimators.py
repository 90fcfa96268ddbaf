"""Lifted networks as scikit-learn estimators."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from certnet.core.errors import (
    FileFormatError,
    InvalidInputError,
    NotConvergedWarning,
    OutputError,
    UnsupportedModelError,
)
from certnet.lifted import LiftedClassifier, LiftedDensity, LiftedRegressor
from certnet.lifted.loss_functions import CrossEntropy, HuberLoss, SquaredHinge, SquaredLoss

CHECKED = [
    LiftedClassifier((6,), standardise=True, max_epochs=20, random_state=0),
    LiftedRegressor((6,), max_epochs=10, random_state=0),
    LiftedDensity((4, 2), standardise=True, max_epochs=5, random_state=0),
]


REPEATED = "the order of the samples is drawn: a weight of two is not the sample twice, and zero not its absence"
APART = {
    "check_sample_weight_equivalence_on_dense_data": REPEATED,
    "check_sample_weight_equivalence_on_sparse_data": REPEATED,
}


@parametrize_with_checks(
    CHECKED, expected_failed_checks=lambda model: {} if isinstance(model, LiftedDensity) else APART
)
def test_scikit_learn_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def iris() -> tuple[np.ndarray, np.ndarray]:
    data = load_iris()
    return data.data, data.target_names[data.target]


@pytest.fixture(scope="module")
def fitted(iris: Any) -> LiftedClassifier:
    return LiftedClassifier((8,), standardise=True, max_epochs=30, random_state=0).fit(*iris)


def digits(n: int = 600) -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return data.data[:n] / 16.0, data.target[:n]


# ---------------------------------------------------------------------------------------------------------- classifier


def test_labels_of_any_kind(iris: Any, fitted: LiftedClassifier) -> None:
    X, y = iris
    assert fitted.score(X, y) > 0.9
    assert list(fitted.classes_) == ["setosa", "versicolor", "virginica"]
    assert len(fitted.loss_curve_) == fitted.n_iter_ == 30
    for labels in (np.where(y == "setosa", -7, 12), np.where(y == "setosa", 0.5, 1.5).astype(str), y == "setosa"):
        model = clone(fitted).set_params(max_epochs=5).fit(X, labels)
        assert set(model.predict(X)) == set(labels)
        assert model.decision_function(X).shape == (len(X),)
        assert ((model.decision_function(X) > 0) == (model.predict(X) == model.classes_[1])).all()


def test_no_probabilities_are_offered(fitted: LiftedClassifier) -> None:
    assert not hasattr(fitted, "predict_proba")


def test_outputs_are_those_of_the_network(iris: Any, fitted: LiftedClassifier) -> None:
    X = iris[0]
    scaled = (X - X.mean(axis=0)) / np.sqrt(np.mean((X - X.mean(axis=0)) ** 2))
    np.testing.assert_allclose(fitted.decision_function(X), fitted.network_.infer(scaled).output, atol=1e-5)
    np.testing.assert_allclose(fitted.energies(X), fitted.network_.infer(scaled).energy, atol=1e-8)


def test_within_the_certified_radius_no_prediction_changes(iris: Any, fitted: LiftedClassifier) -> None:
    X = iris[0]
    radius = fitted.certified_radius(X)
    assert (radius > 0.0).mean() > 0.9
    rng, predicted = np.random.default_rng(0), fitted.predict(X)
    mean_of = {c: X[predicted == c].mean(axis=0) for c in fitted.classes_}
    for _ in range(20):
        other = np.array([mean_of[rng.choice(fitted.classes_[fitted.classes_ != c])] for c in predicted])
        direction = other - X + 0.1 * rng.standard_normal(X.shape)
        moved = X + 0.999 * (radius / np.linalg.norm(direction, axis=1))[:, None] * direction
        assert (fitted.predict(moved)[radius > 0.0] == predicted[radius > 0.0]).all()
    theorem = fitted.certified_radius(X, method="theorem")
    assert (theorem <= radius * (1.0 + 1e-9)).all()


def test_radii_are_in_the_units_of_the_inputs(iris: Any, fitted: LiftedClassifier) -> None:
    X, y = iris
    larger = clone(fitted).fit(1024.0 * X, y)
    np.testing.assert_allclose(larger.certified_radius(1024.0 * X), 1024.0 * fitted.certified_radius(X), rtol=1e-6)


def test_radii_are_those_of_the_network_times_the_scale(iris: Any, fitted: LiftedClassifier) -> None:
    X = iris[0]
    scale = np.sqrt(np.mean((X - X.mean(axis=0)) ** 2))
    net, inputs = fitted.network_, (X - X.mean(axis=0)) / scale
    common = scale * net.certified_radius(inputs, fitted.certificate()).radius
    paired = scale * net.certified_radius(inputs, pairs=True).radius
    np.testing.assert_allclose(fitted.certified_radius(X), common, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fitted.certified_radius(X, pairs=True), paired, rtol=1e-5, atol=1e-12)
    assert (fitted.certified_radius(X, pairs=True) >= fitted.certified_radius(X) * (1.0 - 1e-5)).all()
    assert sorted(fitted.certificates()) == [(0, 1), (0, 2), (1, 2)]
    assert all(claim.check(net) for claim in fitted.certificates().values())
    assert fitted.certificates() is fitted.certificates()
    theorem = fitted.certified_radius(X, "theorem", pairs=True)
    assert (theorem <= fitted.certified_radius(X, pairs=True) * (1.0 + 1e-9)).all()


def test_class_conditional_energies(iris: Any) -> None:
    X, y = digits(400)
    model = LiftedClassifier(
        (16,), objective="class_conditional", gamma=1.0, learning_rate=0.02, max_epochs=15, random_state=0
    ).fit(X, y)
    assert model.score(X, y) > 0.85
    energies = model.class_energies(X[:20])
    target = np.repeat(np.eye(10)[[3]], 20, axis=0)
    np.testing.assert_allclose(energies[:, 3], model.network_.infer(X[:20], clamp=target).energy, atol=1e-8)
    np.testing.assert_array_equal(model.decision_function(X[:20]), -energies)
    assert (energies >= model.energies(X[:20])[:, None] - 1e-9).all()
    with pytest.raises(UnsupportedModelError, match="predicts by class energies"):
        model.certified_radius(X)
    linear = LiftedClassifier((), objective="class_conditional", max_epochs=2, standardise=True, random_state=0)
    assert linear.fit(*iris).class_energies(iris[0]).shape == (150, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam", "learning_rate": 2e-3},
        {"loss": "squared"},
        {"loss": CrossEntropy(), "learning_rate": 0.3, "rate_scale": "energy"},
        {"loss": SquaredHinge(), "learning_rate": 0.3, "rate_scale": "energy"},
        {"units": ["hard_sigmoid", "linear"]},
        {"pretrain_epochs": 2},
        {"momentum": 0.9, "learning_rate": 0.005, "schedule": "cosine"},
        {"passes": 20},
        {"objective": "lifted", "learning_rate": 0.2, "beta": 0.0, "gamma": 1.0},
    ],
    ids=str,
)
def test_options_learn(options: dict[str, Any]) -> None:
    X, y = digits(400)
    model = LiftedClassifier((24,), max_epochs=6, random_state=0).set_params(**options).fit(X, y)
    assert model.score(X, y) > 0.8
    assert ("pretrain_epochs" in options) == hasattr(model, "pretrain_loss_curve_")


def test_early_stopping_returns_the_best(iris: Any) -> None:
    X, y = digits()
    options = {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 3, "random_state": 0}
    model = LiftedClassifier((16,), max_epochs=60, **options).fit(X, y)
    scores = model.validation_scores_
    assert model.n_iter_ == len(scores) < 60
    assert scores.index(max(scores)) == len(scores) - 4
    for estimator in (LiftedRegressor((4,), max_epochs=8, **options), LiftedDensity((4,), max_epochs=8, **options)):
        assert estimator.fit(iris[0], iris[0][:, 0]).validation_scores_


def test_partial_fit_is_fit_in_pieces(iris: Any) -> None:
    X, y = digits(300)
    pieces = LiftedClassifier((16,), random_state=0)
    for _ in range(3):
        pieces.partial_fit(X, y, classes=range(10))
    whole = LiftedClassifier((16,), max_epochs=3, random_state=0).fit(X, y)
    assert pieces.network_ == whole.network_
    assert pieces.loss_curve_ == whole.loss_curve_
    pieces.partial_fit(X[:4], y[:4])  # fewer samples than a batch: one batch
    for model in (LiftedRegressor((4,), random_state=0), LiftedDensity((4,), standardise=True, random_state=0)):
        first = clone(model).set_params(max_epochs=2, early_stopping=False).fit(iris[0], iris[0][:, 0])
        for _ in range(2):
            model.partial_fit(iris[0], iris[0][:, 0])
        assert model.network_ == first.network_


def test_partial_fit_after_fit_and_after_load(tmp_path: Path) -> None:
    X, y = digits(200)
    model = LiftedClassifier((8,), max_epochs=2, random_state=0).fit(X, y)
    before = model.network_
    model.save(tmp_path / "model.npz")
    assert LiftedClassifier.load(tmp_path / "model.npz").partial_fit(X, y).network_ != before
    assert len(model.partial_fit(X, y).loss_curve_) == 3


def test_warm_start_goes_on() -> None:
    X, y = digits(300)
    model = LiftedClassifier((16,), max_epochs=2, warm_start=True, random_state=0).fit(X, y)
    first = model.loss_curve_[0]
    assert model.fit(X, y).loss_curve_[0] < first
    with pytest.raises(InvalidInputError, match=r"warm_start: the network that is there has layers \(64, 16, 10\)"):
        model.fit(X[:, :60], y)


def test_in_a_pipeline_and_a_search(iris: Any) -> None:
    model = make_pipeline(StandardScaler(), LiftedClassifier((6,), max_epochs=10, random_state=0))
    found = GridSearchCV(model, {"liftedclassifier__learning_rate": [0.02, 0.1]}, cv=3).fit(*iris)
    assert found.best_score_ > 0.85


def test_checkpoints_of_estimators(iris: Any, tmp_path: Path) -> None:
    X, y = iris
    path = tmp_path / "run.npz"
    options = {"standardise": True, "pretrain_epochs": 2}
    first = LiftedClassifier((8,), max_epochs=2, checkpoint=path, **options).fit(X, y)  # no seed: that of the file
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run.npz", "run.pretrain.npz"]
    longer = LiftedClassifier((8,), max_epochs=4, checkpoint=path, **options).fit(X, y)
    assert longer.loss_curve_[:2] == first.loss_curve_
    assert longer.n_iter_ == 4
    with pytest.raises(InvalidInputError, match="other data"):
        LiftedClassifier((8,), max_epochs=4, checkpoint=path, **options).fit(X[:-1], y[:-1])


def test_an_interrupted_pretraining_is_the_end_of_the_fit(iris: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Any, *given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    model = LiftedClassifier((4,), pretrain_epochs=2, standardise=True, random_state=0)
    monkeypatch.setattr("certnet.lifted.learn.phases.Phases.run", interrupt)
    with pytest.warns(NotConvergedWarning, match="training was interrupted: the network after epoch 0"):
        model.fit(*iris)
    assert model.loss_curve_ == []
    assert model.predict(iris[0]).shape == (150,)


def test_divergence_keeps_the_best_and_advises(iris: Any) -> None:
    model = LiftedClassifier((8,), learning_rate=50.0, random_state=0)
    with pytest.warns(NotConvergedWarning, match=r"scale the inputs to about \[0, 1\] \(standardise=True\)"):
        model.fit(*iris)
    assert np.isfinite(model.decision_function(iris[0])).all()


# ----------------------------------------------------------------------------------------------- regressor and density


def test_regressor_with_one_and_several_outputs() -> None:
    X, y = load_diabetes(return_X_y=True)
    model = LiftedRegressor((16,), max_epochs=20, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.45
    assert model.predict(X).shape == y.shape
    both = LiftedRegressor((16,), max_epochs=20, random_state=0).fit(X, np.column_stack([y, -1000.0 * y]))
    assert both.predict(X).shape == (len(X), 2)
    assert both.score(X, np.column_stack([y, -1000.0 * y])) > 0.45
    robust = LiftedRegressor((16,), loss=HuberLoss(1.0), learning_rate=0.1, rate_scale="energy", max_epochs=10)
    assert robust.set_params(random_state=0).fit(X, y).score(X, y) > 0.3


def test_the_bracket_of_a_regressor_is_in_the_units_of_the_data() -> None:
    X, y = load_diabetes(return_X_y=True)
    model = LiftedRegressor((16,), max_epochs=20, early_stopping=False, random_state=0).fit(X, y)
    claim, (lower, upper) = model.certificate(), model.lipschitz_bracket()
    factor = y.std() / np.sqrt(np.mean((X - X.mean(axis=0)) ** 2))
    assert claim.check(model.network_)
    assert factor > 100.0
    np.testing.assert_allclose([lower, upper], [factor * claim.lower, factor * claim.upper], rtol=1e-12)
    assert (model.lipschitz_lower_, model.lipschitz_upper_) == (lower, upper)
    assert model.lipschitz_bracket("theorem")[1] >= upper
    # slopes between predictions of the model itself, near the witness and among the samples
    at = claim.witness * model._scaling.scale + model._scaling.shift
    near = at + 1e-6 * np.random.default_rng(0).standard_normal((300, X.shape[1]))
    points = np.vstack([at[None], near, X])
    values = model.set_params(tol=1e-10).predict(points)
    moved = np.linalg.norm(points[1:] - points[0], axis=1)
    slopes = np.abs(values[1:] - values[0]) / moved
    assert claim.upper < slopes.max() <= upper
    gradient = np.linalg.lstsq(near - at, values[1:301] - values[0], rcond=None)[0]
    assert np.linalg.norm(gradient) == pytest.approx(lower, rel=1e-3)
    plain = LiftedRegressor((4,), max_epochs=2, standardise=False, random_state=0).fit(X, y / 100.0)
    np.testing.assert_allclose(plain.lipschitz_upper_, plain.certificate().upper, rtol=1e-12)
    with pytest.raises(NotFittedError):
        LiftedRegressor().lipschitz_bracket()


def test_the_bracket_of_several_outputs_holds_for_all_scales() -> None:
    X, y = load_diabetes(return_X_y=True)
    both = LiftedRegressor((8,), max_epochs=5, early_stopping=False, random_state=0)
    both.fit(X, np.column_stack([y, 1000.0 * y]))
    s_x = np.sqrt(np.mean((X - X.mean(axis=0)) ** 2))
    claim, (lower, upper) = both.certificate(), both.lipschitz_bracket()
    np.testing.assert_allclose(upper, 1000.0 * y.std() * claim.upper / s_x, rtol=1e-12)
    np.testing.assert_allclose(lower, y.std() * claim.lower / s_x, rtol=1e-12)


def test_output_box_is_in_the_units_of_y() -> None:
    X, y = load_diabetes(return_X_y=True)
    model = LiftedRegressor((8,), output_box=(25.0, 346.0), max_epochs=5, random_state=0).fit(X, y)
    far = model.predict(100.0 * X)
    assert far.min() >= 25.0 - 1e-9
    assert far.max() <= 346.0 + 1e-9
    with pytest.raises(InvalidInputError, match="outside of the output_box"):
        LiftedRegressor((8,), output_box=(100.0, 346.0)).fit(X, y)
    with pytest.raises(InvalidInputError, match="output_box is no pair"):
        LiftedRegressor((8,), output_box="none").fit(X, y)


def test_density_scores_and_activations(iris: Any) -> None:
    X = iris[0]
    model = LiftedDensity((3, 2), standardise=True, max_epochs=20, random_state=0).fit(X)
    np.testing.assert_array_equal(model.score_samples(X), -model.energies(X))
    assert model.score(X) == pytest.approx(model.score_samples(X).mean())
    assert model.score(X) > model.score(X[:, ::-1]) + 1.0
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert model.transform(X).shape == (150, 5)
    assert list(model.get_feature_names_out())[:2] == ["lifteddensity0", "lifteddensity1"]
    plain = LiftedDensity((2,), units="linear", biases=False, standardise=True, max_epochs=2, random_state=0).fit(X)
    assert not plain.network_.biases[0].any()


# --------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("model", CHECKED, ids=lambda model: type(model).__name__)
def test_save_and_load(model: Any, iris: Any, tmp_path: Path) -> None:
    X, y = iris[0], iris[1] if isinstance(model, LiftedClassifier) else iris[0][:, 0]
    model = clone(model).set_params(max_epochs=2).fit(X, y)
    path = model.save(tmp_path / "model.npz")
    other = type(model).load(path)
    assert other.network_ == model.network_
    assert other.get_params() == model.get_params()
    assert other.loss_curve_ == model.loss_curve_
    call = "score_samples" if isinstance(model, LiftedDensity) else "predict"
    np.testing.assert_array_equal(getattr(other, call)(X), getattr(model, call)(X))
    np.testing.assert_array_equal(getattr(pickle.loads(pickle.dumps(model)), call)(X), getattr(model, call)(X))
    with pytest.raises(OutputError, match="exists"):
        model.save(path)
    wrong = LiftedDensity if not isinstance(model, LiftedDensity) else LiftedRegressor
    with pytest.raises(FileFormatError, match=f"holds a {type(model).__name__}, not a"):
        wrong.load(path)


def test_losses_and_boxes_are_saved(iris: Any, tmp_path: Path) -> None:
    model = LiftedClassifier(
        (3,), units=[(0.0, np.array([1.0, 2.0, 3.0])), "linear"], loss=CrossEntropy(), max_epochs=1
    )
    model.set_params(standardise=True, random_state=np.random.RandomState(0)).fit(*iris)
    other = LiftedClassifier.load(model.save(tmp_path / "model.npz"))
    assert other.loss == CrossEntropy()
    assert other.network_ == model.network_
    other.fit(*iris)

    class Own(CrossEntropy):
        pass

    with pytest.raises(InvalidInputError, match="loss is Own, which a file of an estimator cannot hold: use pickle"):
        model.set_params(loss=Own()).save(tmp_path / "own.npz")


def test_files_of_other_kinds(fitted: LiftedClassifier, tmp_path: Path) -> None:
    fitted.network_.save(tmp_path / "net.npz")
    with pytest.raises(FileFormatError, match="holds no estimator of lifted networks"):
        LiftedClassifier.load(tmp_path / "net.npz")
    with pytest.raises(FileFormatError, match="does not exist"):
        LiftedClassifier.load(tmp_path / "none.npz")
    with pytest.raises(NotFittedError):
        LiftedClassifier().save(tmp_path / "unfitted.npz")


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objective": "unsupervised"}, "objective is 'unsupervised': one of contrastive, lifted, class_conditional"),
        ({"objective": "class_conditional", "loss": "squared"}, "loss must be 'clamp'"),
        ({"weight_decay": -1.0}, "weight_decay must be a finite non-negative number"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite positive number"),
        ({"gamma": 0.0}, "gamma must be a finite positive number"),
        ({"gamma": 1e-7}, r"gamma is 1e-07 and gamma\^2, the scale of the contrastive loss, is 1.0e-14"),
        ({"beta": [1.0]}, r"beta has 1 entries: one number, or one per layer \(3\)"),
        ({"units": "tanh"}, "is 'tanh': one of linear, relu, hard_sigmoid"),
        ({"hidden_layer_sizes": (4, 0)}, r"hidden_layer_sizes\[1\] must be at least 1"),
        ({"batch_size": 1000}, "batch_size is 1000 and there are 150 samples"),
        ({"early_stopping": True, "validation_fraction": 1.5}, "validation_fraction is 1.5"),
        ({"early_stopping": True, "n_iter_no_change": 0}, "n_iter_no_change must be at least 1"),
        ({"pretrain_epochs": -1}, "pretrain_epochs must be at least 0"),
        ({"n_threads": 0}, "n_threads must be at least 1"),
        ({"units": None}, "units is None"),
        ({"hidden_layer_sizes": None}, "hidden_layer_sizes is None"),
        ({"beta": "a"}, "beta must be a number"),
        ({"checkpoint": 5}, "checkpoint is 5: a path, or None"),
        ({"random_state": "a"}, "random_state is 'a'"),
        ({"random_state": -1}, "random_state is -1"),
    ],
    ids=str,
)
def test_parameters_out_of_range(options: dict[str, Any], said: str, iris: Any) -> None:
    with pytest.raises(InvalidInputError, match=said):
        LiftedClassifier(max_epochs=1).set_params(**options).fit(*iris)


def test_data_that_cannot_be_learned(iris: Any) -> None:
    X, y = iris
    with pytest.raises(InvalidInputError, match="y holds one class, 'setosa': a classifier needs two or more classes"):
        LiftedClassifier().fit(X[:50], y[:50])
    with pytest.raises(ValueError, match="contains NaN"):
        LiftedClassifier().fit(np.where(X > 7.0, np.nan, X), y)
    with pytest.raises(InvalidInputError, match="classes must be given at the first call"):
        LiftedClassifier().partial_fit(X, y)
    model = LiftedClassifier((2,), standardise=True).partial_fit(X, y, classes=np.unique(y))
    with pytest.raises(InvalidInputError, match="y holds 'rose', which is not among the classes"):
        model.partial_fit(X, np.where(y == "setosa", "rose", y))
    with pytest.raises(InvalidInputError, match="classes differ from those of the first call"):
        model.partial_fit(X, y, classes=["a", "b"])
    with pytest.raises(InvalidInputError, match="objective is 'class_conditional': one of contrastive, lifted"):
        LiftedRegressor(objective="class_conditional").fit(X, X[:, 0])


def test_losses_of_numbers_serve_a_classifier(iris: Any) -> None:
    for loss in (HuberLoss(0.5), SquaredLoss(), SquaredHinge()):
        model = LiftedClassifier((8,), loss=loss, standardise=True, max_epochs=20, random_state=0).fit(*iris)
        assert model.score(*iris) > 0.8


def test_units_of_a_regressor_are_those_of_its_hidden_layers() -> None:
    X, y = load_diabetes(return_X_y=True)
    model = LiftedRegressor((4, 3), units=["relu", "hard_sigmoid", "linear"], max_epochs=1, random_state=0).fit(X, y)
    assert model.network_.unit_names == ("relu", "hard_sigmoid", "linear")
    assert LiftedRegressor((4, 3), units=(0, 1), max_epochs=1).fit(X, y).network_.unit_names[:2] == (
        "hard_sigmoid",
        "hard_sigmoid",
    )
    for units in (["relu"], ["relu", "relu", "hard_sigmoid"], ["relu"] * 4):
        with pytest.raises(InvalidInputError, match=r"one for each of the 2 hidden layers.*output_box"):
            LiftedRegressor((4, 3), units=units, max_epochs=1).fit(X, y)
    with pytest.raises(InvalidInputError, match="units is None"):
        LiftedRegressor((4, 3), units=None, max_epochs=1).fit(X, y)
    with pytest.raises(InvalidInputError, match="y has 2 columns, that of the first call had 1"):
        model.partial_fit(X, np.column_stack([y, y]))


def test_a_pair_of_numbers_serves_all_layers_of_a_density(iris: Any) -> None:
    model = LiftedDensity((4, 2), units=(0, 1), max_epochs=1, random_state=0).fit(iris[0])
    assert model.network_.unit_names == ("hard_sigmoid", "hard_sigmoid")


def test_a_first_call_that_failed_leaves_nothing(iris: Any) -> None:
    X, y = iris
    model = LiftedClassifier((4,), standardise=True, random_state=0)
    with pytest.raises(InvalidInputError, match="not among the classes"):
        model.partial_fit(X, y, classes=np.unique(y)[:2])
    with pytest.raises(InvalidInputError, match="gamma must be"):
        model.set_params(gamma=-1.0).partial_fit(X, y, classes=np.unique(y))
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert model.set_params(gamma=0.125).partial_fit(X, y, classes=np.unique(y)).classes_.size == 3
    for other in (LiftedRegressor((4,), gamma=-1.0), LiftedDensity((4,), gamma=-1.0, standardise=True)):
        with pytest.raises(InvalidInputError, match="gamma must be"):
            other.partial_fit(X, X[:, 0])
        assert not hasattr(other, "_scaling")


def test_a_checkpoint_of_more_epochs_is_not_taken_for_less(iris: Any, tmp_path: Path) -> None:
    model = LiftedClassifier((4,), standardise=True, max_epochs=4, random_state=0, checkpoint=tmp_path / "c.npz")
    model.fit(*iris)
    with pytest.raises(InvalidInputError, match="the checkpoint after epoch 4, and max_epochs is 2"):
        model.set_params(max_epochs=2).fit(*iris)


def test_data_without_a_usable_scale_is_refused(iris: Any) -> None:
    X, y = iris
    for factor in (1e200, 1e-200):
        with pytest.raises(InvalidInputError, match=r"the largest entry of X is .* take other units"):
            LiftedClassifier((4,), standardise=True).fit(X * factor, y)
        with pytest.raises(InvalidInputError, match=r"the largest entry of y is .* take other units"):
            LiftedRegressor((4,)).fit(X, X[:, 0] * factor)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("scaling_scale", lambda a: -a, "must be positive and finite"),
        ("scaling_scale", lambda a: 0.0 * a, "must be positive and finite"),
        ("scaling_scale", lambda a: np.array([1.0, 2.0]), "the scaling does not fit"),
        ("scaling_shift", lambda a: a[:1], "the scaling does not fit"),
        ("scaling_shift", lambda a: a[None], "the scaling does not fit"),
        ("scaling_shift", lambda a: a * np.nan, "finite numbers"),
        ("scaling_target_scale", lambda a: np.ones(2), "the scaling does not fit"),
        ("low0", lambda a: a[:1], "one limit per row of W0"),
        ("gamma", lambda a: np.array([0.5, 0.5]), r"gamma has shape \(2,\)"),
        ("beta", lambda a: a[:1], r"beta has shape \(1,\)"),
        ("extra_classes_", lambda a: a[:2], "extra_classes_ has shape"),
        ("extra_classes_", None, "lacks extra_classes_"),
        ("extra_loss_curve_", None, "lacks extra_loss_curve_"),
        ("extra_predict", lambda a: np.zeros(3), "nothing that an estimator writes"),
        ("estimator", lambda a: np.array(str(a).replace('"tol"', '"foo"')), "no parameter 'foo'"),
        ("estimator", lambda a: np.array(str(a).replace('"clamp"', '{"loss": "Loss"}')), "names the loss 'Loss'"),
        ("estimator", lambda a: np.array(str(a).replace('"clamp"', '{"loss": "HuberLoss", "x": 1}')), "parameters"),
        ("estimator", lambda a: np.array('{"format": "certnet-lifted-estimator-1", "kind": 5}'), "no kind"),
    ],
)
def test_altered_files_of_estimators(
    fitted: LiftedClassifier, tmp_path: Path, name: str, change: Any, said: str
) -> None:
    with np.load(fitted.save(tmp_path / "model.npz")) as stored:
        arrays = dict(stored)
    if change is None:
        del arrays[name]
    else:
        arrays[name] = change(arrays.get(name))
    np.savez(tmp_path / "altered.npz", **arrays)
    with pytest.raises(FileFormatError, match=said):
        LiftedClassifier.load(tmp_path / "altered.npz")
