"""Tuning: the choice is the best row, every trial is a row, and the last run is the choice's."""

import numpy as np
import pytest

from certnet.core.errors import InvalidInputError, SolverError
from certnet.train import MaxNorm, Unregularized, train_admm, train_pgd, train_regularized, train_sgd, tune

pytest.importorskip("torch")


def samples(n=60):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((n, 3))
    return X, np.tanh(X @ np.array([2.0, -1.0, 0.5])) + 0.1 * rng.standard_normal(n)


GRID = {"learning_rate": (0.05, 0.01, 1e-5)}


def quick(train=train_sgd, grid=GRID, **options):
    options = {"hidden": (8,), "device": "cpu", "epochs": (2, 10)} | options
    return tune(train, *samples(), grid, **options)


def test_the_choice_is_the_best_trial_and_is_trained_on_everything():
    found = quick(random_state=2)
    assert [trial.settings for trial in found.trials] == [
        {"learning_rate": rate, "epochs": n} for rate in GRID["learning_rate"] for n in (2, 10)
    ]
    assert found.score == min(trial.score for trial in found.trials)
    assert found.settings == next(t.settings for t in found.trials if t.score == found.score)
    assert found.settings["learning_rate"] != 1e-5
    assert found.n_runs == 4
    again = train_sgd(*samples(), (8,), device="cpu", random_state=2, **found.settings)
    assert found.result.network == again.network


def test_a_score_is_that_of_a_run_of_so_many_epochs():
    X, y = samples()
    found = tune(train_sgd, X[:40], y[:40], GRID, X_val=X[40:], y_val=y[40:], hidden=(8,), device="cpu", epochs=(3, 7))
    for trial in found.trials:
        net = train_sgd(X[:40], y[:40], (8,), device="cpu", **trial.settings).network
        assert trial.score == pytest.approx(np.mean((net.predict(X[40:]) - y[40:]) ** 2), rel=1e-12)
    assert found.result.validation_curve[-1] == pytest.approx(found.score, rel=1e-12)


def test_the_seed_decides():
    scores = [[trial.score for trial in quick(random_state=seed).trials] for seed in (0, 0, 1)]
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]


def test_a_failure_is_a_row():
    found = quick(grid={"learning_rate": (1e160, 0.01)})
    assert found.trials[0].score == np.inf
    assert "use a learning rate below" in found.trials[0].error
    assert found.settings["learning_rate"] == 0.01


def test_all_failures_are_an_error():
    with pytest.raises(SolverError, match=r"all 2 trials failed, the first with: .* use a learning rate below"):
        quick(grid={"learning_rate": (1e160,)})


def test_every_trainer_can_be_tuned():
    assert quick(train_pgd, epsilon=0.1).result.settings["epsilon"] == 0.1
    regularizers = (Unregularized(), MaxNorm(0.2))
    found = quick(train_regularized, {"regularizer": regularizers, "learning_rate": (0.01,)}, hidden=(5, 5))
    assert found.settings["regularizer"] in regularizers
    admm = tune(train_admm, *samples(), {"penalty": (0.1, 1.0)}, weight=0.1, max_iterations=3, n_hidden=5)
    assert admm.settings["penalty"] in (0.1, 1.0)
    assert len(admm.trials) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": {}}, "the grid is empty"),
        ({"grid": {"learning_rate": ()}}, "the grid is empty"),
        ({"grid": {"rate": (0.1,)}}, "train_sgd has no argument 'rate' to tune: it takes batch_size"),
        ({"colour": 1}, "train_sgd has no argument 'colour'"),
        ({"learning_rate": 0.1}, "'learning_rate' is given twice"),
        ({"epochs": ()}, "epochs must be numbers of epochs"),
        ({"epochs": 10}, "epochs must be numbers of epochs"),
        ({"epochs": (0,)}, "epochs must be at least 1"),
        ({"validation": 1.0}, "between 0 and 1"),
        ({"validation": -0.5}, "validation must be a finite positive number"),
        ({"X_val": [[1.0, 2.0, 3.0]]}, "need both X_val and y_val"),
        ({"grid": {"learning_rate": (-1.0,)}}, "learning_rate must be a finite positive number"),
    ],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        quick(**options)


def test_one_sample_cannot_be_split():
    with pytest.raises(InvalidInputError, match="one sample"):
        tune(train_sgd, [[1.0]], [1.0])
