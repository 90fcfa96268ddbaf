"""What is advised where an error on data that were not trained on rose, for every goal."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from certnet import refine
from certnet.errors import RoseWarning
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.goal import FitAtMost, SlopeAtMost, Weighted
from certnet.programs.objectives import mean_squared_error
from certnet.refinement.result import Validation
from certnet.refinement.rises import Change, Knob

GOALS = [Weighted(0.1), SlopeAtMost(1.0), FitAtMost(1.0)]
FLATTER = ["a larger weight", "a smaller target_lipschitz", "a larger max_mse"]
CLOSER = ["a smaller weight", "a larger target_lipschitz", "a smaller max_mse"]


@pytest.mark.parametrize(("goal", "flatter", "closer"), list(zip(GOALS, FLATTER, CLOSER)))
def test_the_training_error_tells_the_direction(goal, flatter, closer):
    knob, rise = Knob.of(goal), Change(462.0, 1569.0)
    fell, rose, same = (knob.advice(Change(300.0, after), rise) for after in (3.0, 1657.0, 300.1))
    assert f"try {flatter}, or" in fell
    assert "too closely" in fell
    assert f"try {closer}, or" in rose
    assert "too flat" in rose
    assert not any(word in same for word in (flatter, closer, "too flat", "too closely"))
    assert knob.choice in same


def test_slight_rises_are_no_reason_for_another_weight():
    said = Knob().advice(Change(1.0, 1.0002), Change(1.0, 1.0005))
    assert "less than a thousandth" in said
    assert "try" not in said
    assert not Change(1.0, 1.0 + 1e-9).rose
    assert Change(1.0, 1.0001).rose
    assert not Change(1.0, 0.5).rose
    assert Change(0.0, 1e-20).rose


@pytest.mark.parametrize(
    ("goal", "flatter"), list(zip(GOALS, ["a larger --weight", "a smaller --target-", "a larger --max-"]))
)
def test_in_the_shell_options_are_named(goal, flatter):
    said = Knob.of(goal, shell=True).advice(Change(1.0, 0.5), Change(1.0, 2.0))
    assert f"try {flatter}" in said
    assert "CertifiedRegressor" not in said


def test_numbers_are_told_apart():
    assert str(Change(462.0, 1569.0)) == "from 462 to 1569"
    assert str(Change(0.33351, 0.33352)) == "from 0.33351 to 0.33352"
    assert str(Change(1.0, 1.0)) == "from 1 to 1"


# ------------------------------------------------------------------------------------------------------ of refinements


def line(n: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Samples of a steep line."""
    X = np.random.default_rng(seed).standard_normal((n, 1))
    return X, 3.0 * X[:, 0]


def slope(factor: float) -> ShallowNetwork:
    """``factor · x`` of two units."""
    return ShallowNetwork(np.array([[1.0], [-1.0]]), np.zeros(2), np.array([factor, -factor]), 0.0)


@pytest.mark.parametrize(
    ("goal", "closer"),
    [
        ({"weight": 100.0}, "a smaller weight"),
        ({"target_lipschitz": 0.2}, "a larger target_lipschitz"),
        ({"max_mse": 6.0}, "a smaller max_mse"),
    ],
)
def test_where_both_errors_rose_the_network_is_too_flat(goal, closer):
    X, y = line()
    X_val, y_val = line(seed=1)
    with pytest.warns(RoseWarning, match=rf"held-out samples rose .* too flat: try {closer}"):
        done = refine(slope(3.0), X, y, effort="quick", X_val=X_val, y_val=y_val, **goal)
    assert done.mse > done.mse_before
    assert done.certificate.upper < done.certificate_before.upper
    (note,) = done.notes  # L fell
    assert "too flat" in note


@pytest.mark.parametrize(
    ("goal", "flatter"),
    [
        ({"weight": 1e-6}, "a larger weight"),
        ({"target_lipschitz": 50.0}, "a smaller target_lipschitz"),
        ({"max_mse": 0.01}, "a larger max_mse"),
    ],
)
def test_where_the_training_error_fell_it_fits_too_closely(goal, flatter):
    X, y = line()
    X_val, y_val = line(seed=1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", RoseWarning)
        done = refine(slope(0.1), X, y, effort="quick", X_val=X_val, y_val=-y_val, **goal)
    assert done.mse < done.mse_before
    steep, fitted = done.notes
    assert [str(one.message) for one in told] == [steep, fitted]
    assert f"too closely: try {flatter}, or" in fitted
    assert steep.startswith("the certified L rose from")
    assert flatter in steep


def test_only_l_rose():
    X, y = line()
    done = refine(slope(0.1), X, y, target_lipschitz=2.0, effort="quick")
    assert done.validation is None
    (note,) = done.notes
    assert "the limit allows it, and the fit gained; a smaller target_lipschitz keeps it down" in note
    seen = replace(done, validation=Validation(2.0, 1.0))
    assert seen.notes == done.notes


def test_an_equal_training_error_tells_no_direction():
    X, y = line()
    done = refine(slope(0.1), X, y, target_lipschitz=2.0, effort="quick")
    equal = replace(done, mse=done.mse_before, validation=Validation(1.0, 2.0))
    assert "about the same" in equal.notes[-1]
    assert "try" not in equal.notes[-1]
    assert equal.goal == SlopeAtMost(2.0)


def test_a_result_that_takes_the_network_of_another_takes_its_held_out_error():
    X, y = line()
    X_val, y_val = line(seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RoseWarning)
        own, other = (
            refine(slope(0.1), X, y, effort="quick", target_lipschitz=limit, X_val=X_val, y_val=y_val)
            for limit in (0.5, 1.5)
        )
    taken = own.replaced_by(other, other.mse)
    assert taken.validation.mse == pytest.approx(mean_squared_error(taken.network, X_val, y_val), rel=1e-12)
    assert taken.validation.mse < own.validation.mse
    assert taken.goal == own.goal
