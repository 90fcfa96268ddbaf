"""What training says to those who go wrong: unscaled inputs, losses that cannot be, networks that no signal passes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris

from certnet.core.errors import CertnetWarning, InvalidInputError, NotConvergedWarning, SolverError
from certnet.core.outcome import Status
from certnet.lifted import LiftedClassifier
from certnet.lifted.learn import Objective, Training, initial_network, train
from certnet.lifted.learn.judge import Diverged, Judge, unscaled
from certnet.lifted.learn.parameters import Parameters
from certnet.lifted.learn.phases import Phases
from certnet.lifted.learn.signal import lowest_signal

# --------------------------------------------------------------------------------------------------------------- scale


def pixels(n: int = 60, d: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes of grey images, from 0 to 255."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    X = rng.integers(0, 120, size=(n, d))
    X[:, : d // 2] += 120 * y[:, None]
    return X.astype(np.uint8), y


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_pixels_are_recognised_by_their_values(kind: type) -> None:
    X = pixels()[0]
    assert "divide X by 255, or set standardise=True" in unscaled(X.astype(kind))
    assert unscaled(X.astype(np.float64) / 255.0) == ""


@pytest.mark.parametrize(
    ("scale", "said"), [(1.0, ""), (4.0, ""), (0.05, ""), (7.3, "mean square"), (1e-3, "mean square"), (1e200, "inf")]
)
def test_other_inputs_are_judged_by_their_mean_square(scale: float, said: str) -> None:
    X = scale * np.random.default_rng(0).standard_normal((3000, 5))
    X[0] = scale
    assert said in unscaled(X)
    assert bool(said) == bool(unscaled(X))


def test_constant_zeros_small_counts_and_no_rows_are_nothing_to_mend() -> None:
    for X in (np.zeros((4, 3)), np.zeros((0, 3)), np.random.default_rng(0).integers(0, 5, size=(50, 3)).astype(float)):
        assert unscaled(X) == ""


def test_a_fit_on_pixels_says_so_before_anything_else() -> None:
    X, y = pixels()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        LiftedClassifier((8,), max_epochs=1, passes=20, random_state=0).fit(X, y)
    assert "whole numbers from 0 to" in str(heard[0].message)
    assert heard[0].category is CertnetWarning


@pytest.mark.parametrize("change", [{"standardise": True}, {}])
def test_scaled_fits_are_silent(change: dict[str, bool]) -> None:
    X, y = pixels()
    model = LiftedClassifier((8,), max_epochs=40, random_state=0, **change)
    assert model.fit(X if change else X / 255.0, y).score(X if change else X / 255.0, y) > 0.9


def test_going_on_is_not_told_twice() -> None:
    X, y = pixels()
    model = LiftedClassifier((8,), learning_rate=1e-9, random_state=0)
    with pytest.warns(CertnetWarning, match="pixels"):
        model.partial_fit(X, y, classes=[0, 1])
    model.partial_fit(X, y)


# ---------------------------------------------------------------------------------------------------------- divergence


def judged(scale: float = 1.0) -> tuple[Judge, float]:
    """A judge of a contrastive training, and the size of its loss."""
    rng = np.random.default_rng(0)
    net = initial_network((4, 3, 2), beta=[1.0, 0.0], gamma=0.25, random_state=0)
    X, y = scale * rng.standard_normal((20, 4)), np.eye(2)[rng.integers(2, size=20)]
    return Judge.of(net, X, y, Training()), 0.25 * 2.0


def test_a_loss_far_below_zero_is_divergence_and_one_near_it_an_unsolved_phase() -> None:
    judge, unit = judged()
    judge.heed(0.1 * unit)
    judge.heed(-0.5e-4 * unit)
    with pytest.raises(SolverError, match=r"^the contrastive loss .* the free phase is not solved"):
        judge.heed(-0.5 * unit)
    for mean in (-1.5 * unit, -1e6, -np.inf, np.inf, np.nan):
        with pytest.raises(Diverged):
            judge.heed(mean)


def test_the_scale_of_the_inputs_is_named_before_the_free_phase() -> None:
    judge, unit = judged(100.0)
    with pytest.raises(SolverError, match=r"^the mean square of the inputs is .* standardise=True.* free phase"):
        judge.heed(-0.5 * unit)


def test_divergence_on_unscaled_inputs_names_them() -> None:
    X, y = pixels()
    net = initial_network((16, 8, 2), beta=[1.0, 0.0], gamma=0.125, random_state=0)
    with pytest.warns(CertnetWarning) as heard:
        done = train(net, X.astype(float), np.eye(2)[y], Training(learning_rate=1e9, max_epochs=2), random_state=0)
    said = [str(warning.message) for warning in heard if warning.category is NotConvergedWarning]
    assert done.status is Status.SOLVER_FAILED
    assert "diverged in epoch 1" in said[0]
    assert "Most likely the inputs are whole numbers" in said[0]


# --------------------------------------------------------------------------------------------------------------- depth


def digits(n: int = 900) -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return X[:n] / 16.0, y[:n]


@pytest.mark.parametrize("hidden", [3, 6])
def test_deep_defaults_train(hidden: int) -> None:
    X, y = digits()
    model = LiftedClassifier((24,) * hidden, max_epochs=8, random_state=0).fit(X[:700], y[:700])
    assert model.network_.gamma == 0.5
    assert model.score(X[700:], y[700:]) > 0.7


def test_a_deep_network_that_stays_constant_says_so() -> None:
    X, y = digits()
    model = LiftedClassifier((24,) * 6, gamma=0.125, learning_rate=0.05, max_epochs=3, random_state=0)
    with pytest.warns(NotConvergedWarning, match=r"hardly reach the lowest of 7 layers after epoch 3.*gamma=0\.5"):
        model.fit(X, y)
    assert model.score(X, y) < 0.3


def test_units_that_are_all_at_their_limits_are_named() -> None:
    X, y = load_iris(return_X_y=True)
    with pytest.warns(NotConvergedWarning, match="its units are at their limits: centre the inputs"):
        model = LiftedClassifier((4,), max_epochs=3, random_state=0).fit(X, y)
    assert not model.network_.infer(X).activations[0].any()


@pytest.mark.parametrize("gamma", [0.5, 0.01])
def test_the_signal_is_that_of_both_phases_solved_apart(gamma: float) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 5)), rng.standard_normal((30, 2))
    net = initial_network((5, 4, 3, 2), beta=[1.0, 1.0, 0.0], gamma=gamma, random_state=1)
    params = Parameters.of(net)
    found = lowest_signal(net, Phases(net, params, Objective("contrastive"), tol=1e-13), params, X, y)
    free, held = net.infer(X, tol=1e-13).activations, net.infer(X, clamp=y, tol=1e-13).activations
    expected = np.linalg.norm(held[0] - free[0]) / (gamma * np.linalg.norm(held[-1] - free[-1]))
    assert found == pytest.approx(expected, rel=1e-6)


def test_without_an_error_or_a_hidden_layer_there_is_no_signal_to_miss() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 5))
    for widths, beta in (((5, 4, 2), [1.0, 0.0]), ((5, 2), [0.0])):
        net = initial_network(widths, beta=beta, gamma=0.5, random_state=1)
        params = Parameters.of(net)
        phases = Phases(net, params, Objective("contrastive"), tol=1e-13)
        assert lowest_signal(net, phases, params, X, net.infer(X, tol=1e-13).output) == np.inf


def test_orthogonal_weights_have_equal_singular_values() -> None:
    for beta, spread in ((1.0, 1.0), (0.0, 2.0)):
        net = initial_network((20, 12, 16, 3), beta=beta, gamma=0.5, orthogonal=True, random_state=0)
        for W, square in zip(net.weights, (spread, spread, 1.0)):  # the output is linear
            np.testing.assert_allclose(np.linalg.svd(W, compute_uv=False), np.sqrt(square), rtol=1e-12)


def test_the_chosen_rate_gives_the_same_steps_in_both_scales() -> None:
    X, y = digits(200)
    by = [
        LiftedClassifier((8, 8), rate_scale=scale, max_epochs=2, random_state=0).fit(X, y).network_.weights[0]
        for scale in ("backpropagation", "energy")
    ]
    np.testing.assert_allclose(*by, rtol=1e-9)


@pytest.mark.parametrize("change", [{"gamma": "deep"}, {"learning_rate": "fast"}, {"gamma": -1.0}])
def test_other_words_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(change))):
        LiftedClassifier((8,), **change).fit(*digits(100))
