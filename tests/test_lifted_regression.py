"""The regressor's choice of a rate and of an epoch by samples that are held back."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from certnet.core.errors import InvalidInputError, NotConvergedWarning, SolverError
from certnet.core.outcome import Status
from certnet.lifted import LiftedRegressor
from certnet.lifted.estimators.defaults import rates_to_try, stops_early
from certnet.lifted.estimators.plans import best_of

X, Y = load_diabetes(return_X_y=True)


def test_the_defaults_take_the_better_rate_and_epoch() -> None:
    found = LiftedRegressor((8,), max_epochs=20, random_state=0).fit(X, Y)
    alone = [LiftedRegressor((8,), max_epochs=20, learning_rate=rate, random_state=0).fit(X, Y) for rate in (0.1, 0.03)]
    best = max(alone, key=lambda model: max(model.validation_scores_))
    assert found.network_ == best.network_
    assert found.validation_scores_ == best.validation_scores_


def test_they_do_not_overfit_where_a_fixed_number_of_epochs_does() -> None:
    rows = np.random.default_rng(0).permutation(len(X))
    train, test = rows[:300], rows[300:]
    chosen = LiftedRegressor((32, 32), random_state=0).fit(X[train], Y[train])
    fixed = LiftedRegressor((32, 32), early_stopping=False, max_epochs=60, random_state=0).fit(X[train], Y[train])
    assert chosen.score(X[test], Y[test]) > fixed.score(X[test], Y[test]) + 0.05
    assert chosen.n_iter_ < 100


@pytest.mark.parametrize("n", [59, 60])
def test_few_samples_are_all_trained_on(n: int) -> None:
    model = LiftedRegressor((4,), max_epochs=2, random_state=0).fit(X[:n], Y[:n])
    assert (len(model.validation_scores_) > 0) == (n >= 60)


def test_a_checkpoint_a_rate_and_adam_leave_no_choice(tmp_path: Path) -> None:
    for change in ({"checkpoint": tmp_path / "state.npz"}, {"learning_rate": 0.05}, {"optimizer": "adam"}):
        model = LiftedRegressor((4,), max_epochs=2, random_state=0, **change).fit(X[:80], Y[:80])  # type: ignore[arg-type]
        assert len(model.validation_scores_) == 2


def test_rates_are_those_of_both_scales() -> None:
    assert rates_to_try(2, 0.5, in_energy=True) == tuple(4.0 * rate for rate in rates_to_try(2, 0.5, in_energy=False))
    assert max(rates_to_try(3, 0.5, in_energy=False)) == 0.15


def test_words_are_read() -> None:
    assert stops_early(True, 5)
    assert not stops_early(False, 500)
    with pytest.raises(InvalidInputError, match="early_stopping is 'never'"):
        LiftedRegressor((4,), early_stopping="never").fit(X, Y)


# ------------------------------------------------------------------------------------------------------- best of plans


class _Learned:
    def __init__(self, *scores: float, status: Status = Status.OPTIMAL) -> None:
        self.training = self
        self.score_curve, self.status = scores, status


def test_only_what_the_best_warned_of_is_said() -> None:
    results: list[Any] = [_Learned(0.1, 0.3), _Learned(status=Status.SOLVER_FAILED), _Learned(0.9), _Learned(0.5)]

    def run(number: Any) -> Any:
        warnings.warn(f"plan {number}", NotConvergedWarning, stacklevel=2)
        return results[number]

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert best_of(range(4), run) is results[2]  # type: ignore[arg-type]
    assert [str(warning.message) for warning in heard] == ["plan 2"]


def test_a_plan_that_cannot_be_run_is_left_out_and_none_is_an_error() -> None:
    def run(number: Any) -> Any:
        if number:
            raise SolverError("the free phase")
        return done

    done = _Learned(0.1)
    assert best_of([1, 0, 1], run) is done  # type: ignore[comparison-overlap, list-item]
    with pytest.raises(SolverError, match="the free phase"):
        best_of([1, 2], run)  # type: ignore[list-item]


def test_an_interrupt_ends_the_choice() -> None:
    results: list[Any] = [_Learned(0.5), _Learned(0.1, status=Status.INTERRUPTED), _Learned(0.9)]
    assert best_of(range(3), lambda number: results[number]) is results[1]  # type: ignore[arg-type, call-overload, index]
