"""Semi-supervised learning of lifted networks: objective and gradient, mixed batches, and the classifier's −1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from certnet.core.errors import InvalidInputError
from certnet.core.outcome import Status
from certnet.lifted import LiftedClassifier, LiftedNetwork
from certnet.lifted.learn import Objective, Training, initial_network, train
from certnet.lifted.learn.mixture import Mixture
from certnet.lifted.learn.parameters import Parameters
from certnet.lifted.learn.phases import Phases
from certnet.lifted.loss_functions import CrossEntropy
from certnet.lifted.losses import infer_with_loss

SHAPES: dict[str, dict[str, Any]] = {
    "H": {"widths": (5, 4, 3, 2), "beta": [1.0, 1.0, 0.0], "gamma": 0.125},
    "Z": {"widths": (5, 4, 3, 2), "beta": 0.0, "gamma": 0.5},
    "boxes": {
        "widths": (5, 4, 3, 2),
        "beta": [1.0, 0.5, 0.7],
        "gamma": 0.5,
        "units": ["relu", "hard_sigmoid", (-2, 2)],
    },
    "one layer": {"widths": (5, 2), "beta": 0.5, "units": ["linear"]},
}
LOSSES: dict[str, Any] = {"clamp": "clamp", "squared": "squared", "cross-entropy": CrossEntropy()}
N, LABELLED = 7, (1, 4, 5)


def instance(shape: str) -> tuple[LiftedNetwork, np.ndarray, np.ndarray]:
    """A network, samples, and targets of which most are missing."""
    rng = np.random.default_rng(0)
    net = initial_network(**SHAPES[shape], random_state=0)
    b, c = ([0.3 * rng.standard_normal(v.shape) for v in group] for group in (net.biases, net.reconstruction_biases))
    y = np.full((N, 2), np.nan)
    y[list(LABELLED)] = np.eye(2)[rng.integers(0, 2, len(LABELLED))]
    return net.with_parameters(net.weights, b, c), rng.standard_normal((N, net.n_inputs)), y


def parts(net: LiftedNetwork, X: np.ndarray, y: np.ndarray, loss: Any, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Contrasts of the labelled samples and free energies of all, by inference, not by the loop's code."""
    free, known = net.infer(X, tol=1e-11).energy, np.flatnonzero(~np.isnan(y).any(axis=1))
    if loss == "clamp" and net.depth == 1:
        clamped = net.energy(X[known], y[known])
    elif loss == "clamp":
        clamped = net.infer(X[known], clamp=y[known], tol=1e-11).energy
    else:
        clamped = infer_with_loss(net, X[known], loss, y[known], weight=weight, tol=1e-11).total
    return clamped - free[known], free


def whole(net: LiftedNetwork, X: np.ndarray, y: np.ndarray, objective: Objective, w: np.ndarray | None = None) -> float:
    """J, as it is stated."""
    differing, free = parts(net, X, y, objective.loss, objective.weight)
    w = np.ones(len(X)) if w is None else w
    known = ~np.isnan(y).any(axis=1)
    return float(np.average(differing, weights=w[known]) + objective.unsupervised_weight * np.average(free, weights=w))


def estimate(
    net: LiftedNetwork,
    X: np.ndarray,
    y: np.ndarray,
    how: Training,
    weights: np.ndarray | None,
    rate: float | None = None,
) -> tuple[list[float], np.ndarray, Parameters]:
    """Every batch's estimate of J over an epoch, and the mean of their gradients."""
    params = Parameters.of(net)
    out, total = Parameters.over(np.zeros_like(params.flat), net.widths), np.zeros_like(params.flat)
    phases = Phases(net, params, how.objective, tol=1e-11, max_passes=50_000)
    mixture = Mixture.of(y, how, weights)
    values = []
    for rows, contrast, energy in mixture.epoch(np.random.default_rng(0)):
        free = net.project(np.zeros((len(rows), net.n_units)))
        target = free[: mixture.n].copy()
        found = phases.run_mixed(
            X[rows], y[rows[: mixture.n]], out, free, target, contrast=contrast, energy=energy, rate=rate
        )
        values.append(float(contrast @ found[0] + energy @ found[1]))
        total += out.flat / mixture.batches
    return values, total, params


def semi(loss: str = "clamp", alpha: float = 0.3, **options: Any) -> Training:
    return Training(Objective("semi_supervised", LOSSES[loss], 0.7, alpha), **options)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_objective_and_gradient_against_reinference(shape: str, loss: str, weighted: bool) -> None:
    """Three labelled samples and four others in one batch: its estimate is J, and its gradient that of J by Danskin."""
    net, X, y = instance(shape)
    w = np.linspace(0.2, 1.8, N) if weighted else None
    how = semi(loss, batch_size=N, labelled_share=len(LABELLED) / N)
    values, gradient, params = estimate(net, X, y, how, w)
    assert values == [pytest.approx(whole(net, X, y, how.objective, w), rel=1e-8, abs=1e-9)]
    for direction in np.random.default_rng(1).standard_normal((3, gradient.size)):
        high, low = (
            whole(params.network(net, params.flat + step * direction), X, y, how.objective, w) for step in (1e-5, -1e-5)
        )
        assert gradient @ direction == pytest.approx((high - low) / 2e-5, rel=1e-5, abs=1e-6)


def test_gradient_is_that_of_the_energies_at_their_minimisers() -> None:
    net, X, y = instance("boxes")
    how, known = semi(batch_size=N, labelled_share=len(LABELLED) / N), list(LABELLED)
    _, gradient, _ = estimate(net, X, y, how, None)
    free = net.infer(X, tol=1e-11).stacked
    clamped = net.infer(X[known], clamp=y[known], tol=1e-11).stacked
    expected = sum(
        sign * np.concatenate([a.ravel() for group in net.gradients(*at).groups for a in group])
        for sign, at in ((1.0, (X[known], clamped)), (-1.0, (X[known], free[known])), (0.3, (X, free)))
    )
    np.testing.assert_allclose(gradient, expected, atol=1e-9)


@pytest.mark.parametrize(("size", "share", "n"), [(2, 0.2, 1), (2, 1.0, 1), (4, 0.2, 1), (4, 0.5, 2), (4, 1.0, 3)])
def test_batches_estimate_the_objective_without_bias(size: int, share: float, n: int) -> None:
    """Over an epoch in which the orders of both groups are complete, the mean of the batches is J."""
    net, X, y = instance("H")
    X, y = np.concatenate([X, X + 0.5])[:12], np.concatenate([y, y])[:12]  # 6 with targets, 6 without
    y[11] = np.nan
    y[[0, 3]] = np.eye(2)
    how = semi(batch_size=size, labelled_share=share)
    mixture = Mixture.of(y, how, None)
    assert (mixture.n, mixture.m, len(mixture.labelled), len(mixture.unlabelled)) == (n, size - n, 6, 6)
    assert mixture.batches * n % 6 == mixture.batches * (size - n) % 6 == 0
    values, _, _ = estimate(net, X, y, how, None)
    assert np.mean(values) == pytest.approx(whole(net, X, y, how.objective), rel=1e-9)


def test_few_labels_are_in_every_batch_and_the_larger_group_is_passed_over_once() -> None:
    y = np.full((103, 1), np.nan)
    y[[5, 50]] = 1.0
    mixture = Mixture.of(y, semi(batch_size=10, labelled_share=0.3), None)
    assert (mixture.n, mixture.m, mixture.batches) == (2, 8, 13)
    batches = [rows for rows, _, _ in mixture.epoch(np.random.default_rng(0))]
    assert all(set(rows[:2]) == {5, 50} and len(set(rows)) == 10 for rows in batches[:12])
    assert set(np.concatenate([rows[2:] for rows in batches])) == set(range(103)) - {5, 50}
    everything = Mixture.of(np.ones((20, 1)), semi(batch_size=6), None)
    assert (everything.n, everything.m, everything.batches) == (6, 0, 4)


@pytest.mark.parametrize("shape", SHAPES)
def test_first_layer_moved_in_place_is_moved_by_its_gradient(shape: str) -> None:
    net, X, y = instance(shape)
    how = semi(batch_size=N, labelled_share=len(LABELLED) / N)
    _, gradient, _ = estimate(net, X, y, how, None)
    _, rest, moved = estimate(net, X, y, how, None, rate=0.3)
    first = net.weights[0].size
    np.testing.assert_array_equal(rest[first:], gradient[first:])
    step = 0.3 * gradient[:first].reshape(net.weights[0].shape)
    np.testing.assert_allclose(moved.weights[0], net.weights[0] - step, atol=1e-13)


# -------------------------------------------------------------------------------------------------------- the training


def blobs(labelled: int = 6, n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Digits 0 and 1, and targets of the first few."""
    X, labels = load_digits(n_class=2, return_X_y=True)
    y = np.full((n, 2), np.nan)
    y[:labelled] = np.eye(2)[labels[:labelled]]
    return X[:n] / 16.0, y


def test_a_training_lowers_the_whole_objective() -> None:
    X, y = blobs()
    start = initial_network((64, 6, 5, 2), beta=[1.0, 1.0, 0.0], gamma=0.5, random_state=0)
    how = semi(alpha=0.2, learning_rate=0.05, max_epochs=6)
    done = train(start, X, y, how, random_state=0)
    assert done.status is Status.OPTIMAL
    assert whole(done.network, X, y, how.objective) < 0.7 * whole(start, X, y, how.objective)
    # what it lowers is both
    before, after = (parts(net, X, y, "clamp", 1.0) for net in (start, done.network))
    assert after[0].mean() < before[0].mean()
    assert after[1].mean() < before[1].mean()


def test_the_loss_curve_is_of_the_objective() -> None:
    X, y = blobs(40)
    start = initial_network((64, 5, 2), beta=[1.0, 0.0], gamma=0.5, random_state=0)
    how = semi(alpha=0.2, learning_rate=1e-9, max_epochs=1, tol=1e-9)
    done = train(start, X, y, how, random_state=0)
    assert done.loss_curve[0] == pytest.approx(whole(start, X, y, how.objective), rel=1e-6)


def test_without_its_weight_and_with_all_targets_it_is_the_contrastive_one() -> None:
    """Steps are the same up to rounding, of the same samples in the same order."""
    X, y = blobs(80)
    start = initial_network((64, 5, 2), beta=[1.0, 0.0], gamma=0.5, random_state=0)
    mixed = train(start, X, y, semi(alpha=0.0, max_epochs=2, batch_size=10), random_state=0)
    plain = train(start, X, y, Training(max_epochs=2, batch_size=10), random_state=0)
    assert mixed.loss_curve == pytest.approx(plain.loss_curve, rel=1e-9)
    np.testing.assert_allclose(mixed.network.weights[0], plain.network.weights[0], atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5}, {"warm_activations": True}])
def test_a_training_goes_on_from_its_checkpoint_to_the_same_bits(options: dict[str, Any], tmp_path: Path) -> None:
    X, y = blobs()
    start = initial_network((64, 5, 4, 2), beta=[1.0, 1.0, 0.0], gamma=0.5, random_state=0)
    ends = []
    for file, lengths in (("whole.npz", (4,)), ("parts.npz", (1, 3, 4))):
        for epochs in lengths:
            how = semi(max_epochs=epochs, learning_rate=0.1, **options)
            done = train(start, X, y, how, random_state=3, checkpoint=tmp_path / file)
        ends.append(done)
    assert ends[0].network == ends[1].network
    assert ends[0].loss_curve == ends[1].loss_curve


@pytest.mark.parametrize("change", [{"alpha": 0.4}, {"labelled_share": 0.2}])
def test_a_checkpoint_knows_weight_and_share(change: dict[str, Any], tmp_path: Path) -> None:
    X, y = blobs()
    start = initial_network((64, 4, 2), gamma=0.5, random_state=0)
    train(start, X, y, semi(max_epochs=1), random_state=0, checkpoint=tmp_path / "c.npz")
    with pytest.raises(InvalidInputError, match="other settings"):
        train(start, X, y, semi(max_epochs=1, **change), random_state=0, checkpoint=tmp_path / "c.npz")
    y[0] = np.nan
    with pytest.raises(InvalidInputError, match="other data"):
        train(start, X, y, semi(max_epochs=1), random_state=0, checkpoint=tmp_path / "c.npz")


def test_labels_serve_a_loss_that_takes_them() -> None:
    X, y = blobs()
    labels = np.where(np.isnan(y[:, 0]), np.nan, y[:, 1])
    start = initial_network((64, 4, 2), beta=[1.0, 0.0], gamma=0.5, random_state=0)
    how = semi("cross-entropy", max_epochs=2, learning_rate=0.05)
    assert train(start, X, labels, how, random_state=0).network.weights[0].any()


@pytest.mark.parametrize(
    ("y", "how", "said"),
    [
        (np.full((20, 2), np.nan), semi(), "no sample has a target"),
        (np.tile([1.0, np.nan], (20, 1)), semi(), "partly NaN"),
        (np.concatenate([np.ones((1, 2)), np.full((19, 2), np.nan)]), semi(batch_size=1), "batch_size is 1"),
        (np.concatenate([np.ones((1, 2)), np.full((19, 2), np.nan)]), Training(), "NaN"),
        (np.concatenate([np.ones((1, 3)), np.full((19, 3), np.nan)]), semi(), "3"),
        (np.full((20, 2), "a"), semi(), "real numbers are needed"),
        (np.ones((19, 2)), semi(), "20 samples"),
        (np.concatenate([np.full((1, 2), np.inf), np.full((19, 2), np.nan)]), semi(), "infinite"),
        (None, semi(), "needs targets"),
    ],
)
def test_targets_that_do_not_fit(y: Any, how: Training, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        train(initial_network((4, 3, 2), gamma=0.5), np.zeros((20, 4)), y, how, random_state=0)


def test_weights_of_nothing_and_settings_out_of_range() -> None:
    X, y = blobs()
    weights = np.where(np.isnan(y[:, 0]), 1.0, 0.0)
    with pytest.raises(InvalidInputError, match="sample_weight is zero for all samples that have a target"):
        train(initial_network((64, 3, 2), gamma=0.5), X, y, semi(), sample_weight=weights, random_state=0)
    with pytest.raises(InvalidInputError, match="unsupervised_weight"):
        Objective("semi_supervised", unsupervised_weight=-0.1)
    for share in (0.0, 1.5):
        with pytest.raises(InvalidInputError, match="labelled_share"):
            Training(labelled_share=share)


# ------------------------------------------------------------------------------------------------------ the classifier


def few_labels(n: int = 200, labelled: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    data = load_digits(n_class=4)
    X, y = data.data[:n] / 16.0, data.target[:n] + 3
    some = y.copy()
    some[np.random.default_rng(0).permutation(n)[labelled:]] = -1
    return X, some, y


def test_a_classifier_takes_minus_one_for_no_label() -> None:
    X, some, y = few_labels()
    options: dict[str, Any] = {"gamma": 0.5, "max_epochs": 15, "random_state": 0}
    model = LiftedClassifier((16,), objective="semi_supervised", unsupervised_weight=0.05, **options).fit(X, some)
    assert model.classes_.tolist() == [3, 4, 5, 6]
    assert (model.predict(X) == y).mean() > 0.9
    assert model.certified_radius(X[:5]).min() >= 0.0
    # with another objective it is a class
    plain = LiftedClassifier((4,), max_epochs=1, random_state=0).fit(X, some)
    assert plain.classes_.tolist() == [-1, 3, 4, 5, 6]


def test_the_classifier_is_the_training_of_its_targets(tmp_path: Path) -> None:
    """And what is stored predicts the same."""
    X, some, _ = few_labels()
    model = LiftedClassifier(
        (6,),
        objective="semi_supervised",
        gamma=0.5,
        rate_scale="energy",
        learning_rate=0.1,
        max_epochs=2,
        random_state=0,
    ).fit(X, some)
    y = np.full((len(X), 4), np.nan)
    known = some != -1
    y[known] = np.eye(4)[some[known] - 3]
    again = LiftedClassifier.load(model.save(tmp_path / "model.npz"))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.get_params() == model.get_params()
    assert model.loss_curve_[0] > whole(model.network_, X, y, Objective("semi_supervised"))


def test_early_stopping_holds_labelled_samples_back() -> None:
    X, some, _ = few_labels()
    options: dict[str, Any] = {"objective": "semi_supervised", "max_epochs": 3, "random_state": 0}
    model = LiftedClassifier((6,), early_stopping=True, validation_fraction=0.5, **options).fit(X, some)
    assert len(model.validation_scores_) == 3
    assert all((score * 20) % 1 == pytest.approx(0.0, abs=1e-9) for score in model.validation_scores_)


def test_fitting_in_parts_and_weights_of_classes() -> None:
    X, some, _ = few_labels()
    model = LiftedClassifier((6,), objective="semi_supervised", class_weight="balanced", random_state=0)
    model.partial_fit(X[:100], some[:100], classes=[-1, 3, 4, 5, 6]).partial_fit(X[100:], some[100:])
    assert model.classes_.tolist() == [3, 4, 5, 6]
    assert len(model.loss_curve_) == 2
    with pytest.raises(InvalidInputError, match="all labels are -1"):
        model.partial_fit(X, np.full(len(X), -1))


def test_labels_that_say_too_little() -> None:
    X, some, _ = few_labels()
    model = LiftedClassifier((4,), objective="semi_supervised", max_epochs=1)
    with pytest.raises(InvalidInputError, match="all labels are -1"):
        model.fit(X, np.full(len(X), -1))
    with pytest.raises(InvalidInputError, match="one class"):
        model.fit(X, np.where(some == 3, 3, -1))
    with pytest.raises(InvalidInputError, match="labels are text"):
        model.fit(X, some.astype(str))
