"""What training says to those who go wrong: unscaled inputs, losses that cannot be, networks that no signal passes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from certnet.core.errors import CertnetWarning, NotConvergedWarning, SolverError
from certnet.core.outcome import Status
from certnet.lifted import LiftedClassifier
from certnet.lifted.learn import Training, initial_network, train
from certnet.lifted.learn.judge import Diverged, Judge, unscaled

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
