"""Lifted regressors beside others at equal certified L: rows are complete, limits are kept, no slope is above its L."""

import dataclasses
import math
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import r2_score

from certnet import FeedForward, certify
from certnet.lifted import LiftedRegressor
from certnet.robust import PGDAttack, adversarial_mse

pytest.importorskip("torch")
FOLDER = Path(__file__).parents[1] / "benchmarks"
if not (FOLDER / "lifted_regression.py").exists():
    pytest.skip("the benchmarks are not part of an installed certnet", allow_module_level=True)
sys.path.insert(0, str(FOLDER))
try:
    import lifted_regression as study
finally:
    sys.path.remove(str(FOLDER))

TINY = study.Size(
    hidden=(6, 5), rows=70, test_rows=12, epochs=2, default_epochs=2, mlp_epochs=5, looks=(1, 2), refine_seconds=0.2
)
NETWORKS = {"certnet.refine": len(study.LEVELS), "MLPRegressor, stopped": len(study.ALPHAS), "twin": 4}


@pytest.fixture(scope="module")
def case():
    return study.Case.of("diabetes", 0, TINY)


@pytest.fixture(scope="module")
def rows(case):
    return {method: study.measured(case, method) for method in study.METHODS}


@pytest.mark.parametrize("method", study.METHODS)
def test_rows_are_complete_and_within_their_limits(rows, method):
    single = method in study.AS_THEY_COME
    made = [row for row in rows[method] if not row.rule]
    assert len(made) == (1 if single else NETWORKS.get(method, len(study.DECAYS)))
    limits = (math.inf,) if single else (*study.LEVELS, math.inf)
    taken = [row for row in rows[method] if row.rule]
    assert [(row.rule, row.limit) for row in taken] == list(product(study.RULES, limits))
    for row in taken:
        assert row.slope <= row.lipschitz * (1.0 + 1e-9)
        assert row.lipschitz <= row.limit
        assert row.test <= row.test_near <= row.test_far
        assert row.knob in {network.knob for network in made}
        assert row.seconds == pytest.approx(sum(network.seconds for network in made))


@pytest.mark.parametrize("method", [name for name in study.METHODS if name not in study.AS_THEY_COME])
def test_rules_go_by_the_constraint_and_the_rows_that_are_held_back(rows, method):
    made = [row for row in rows[method] if not row.rule]
    taken = {(row.rule, row.limit): row for row in rows[method] if row.rule}
    validation = [taken["validation", limit].validation for limit in (*study.LEVELS, math.inf)]
    assert validation[-1] == min(row.validation for row in made)
    for limit in study.LEVELS:
        inside = [row for row in made if row.lipschitz <= limit]
        largest = taken["largest", limit]
        if inside:
            assert largest.lipschitz == max(row.lipschitz for row in inside)
            assert largest.test in [row.test for row in inside]
        else:
            assert largest.knob == min(made, key=lambda row: row.lipschitz).knob
            assert largest.lipschitz == pytest.approx(limit, rel=1e-9)
        assert taken["validation", limit].validation <= largest.validation


def test_all_hold_the_same_rows_back(case):
    X, _, X_held, y_held = case.parts
    model = LiftedRegressor((4,), max_epochs=3, learning_rate=0.1, standardise=False, random_state=case.split)
    model.fit(case.X, case.y)
    assert max(model.validation_scores_) == pytest.approx(r2_score(y_held, model.predict(X_held)), rel=1e-9)
    assert len(X) + len(X_held) == len(case.X) == TINY.rows


def test_a_scaled_network_is_the_network_with_a_scaled_last_layer(case):
    net = plain_network(case)
    candidate = study.plain("", net, 0.0)
    scaled = study.Scaled(candidate, 0.3 * candidate.upper, 0.7)
    s = scaled.factor
    *Ws, V = net.weights
    *bs, c = net.biases
    drawn = FeedForward([*Ws, s * V], [*bs, s * c + (1.0 - s) * 0.7], net.activations)
    assert scaled.error(case.X, case.y) == pytest.approx(np.mean((drawn.predict(case.X) - case.y) ** 2), rel=1e-12)
    assert scaled.upper <= 0.3 * candidate.upper
    assert certify(drawn).upper == pytest.approx(scaled.upper, rel=1e-6)


def plain_network(case):
    rng = np.random.default_rng(3)
    d = case.X.shape[1]
    weights = [rng.standard_normal(size) / 3.0 for size in ((8, d), (7, 8), (1, 7))]
    return FeedForward(weights, [rng.standard_normal(len(W)) for W in weights], ["relu", "relu"])


def test_the_attack_finds_what_the_packages_own_does(case):
    net = plain_network(case)
    found = study.Scaled(study.plain("", net, 0.0), math.inf, 0.0).worst(case)
    attack = PGDAttack(n_steps=study.STEPS, n_restarts=1)
    curve = adversarial_mse(net, case.X_test, case.y_test, study.RADII, attack)
    np.testing.assert_allclose(found, curve.adversarial, rtol=1e-9)


def test_gradients_of_lifted_networks_are_differences_of_their_outputs(case):
    net = LiftedRegressor((6, 5), beta=0.25, max_epochs=2, random_state=0).fit(case.X, case.y).network_
    values, gradients = study.lifted_slopes(net)(case.X_test)
    step = 1e-6
    for k in range(case.X.shape[1]):
        moved = case.X_test.copy()
        moved[:, k] += step
        after = study.lifted_slopes(net)(moved)[0]
        np.testing.assert_allclose((after - values) / step, gradients[:, k], atol=2e-2 * np.abs(gradients).max())


def test_rows_are_read_as_they_were_written_and_reported(rows, tmp_path, capsys):
    path = tmp_path / "rows.csv"
    written = [row for made in rows.values() for row in made]
    for made in rows.values():
        study.append_rows(path, made)
    again = study.read_rows(path)
    for row, copy in zip(written, again, strict=True):
        np.testing.assert_equal(dataclasses.asdict(copy), dataclasses.asdict(row))
    study.report(again)
    told = capsys.readouterr().out
    best = next(row for row in rows["twin"] if (row.rule, row.limit) == ("validation", 1.0))
    line = f"| 1 | twin | {best.test:.4f} | {best.test_near:.4f} | {best.test_far:.4f} | {best.lipschitz:.4f} |"
    assert line in told
    study.report([row for row in again if row.method != "twin"])
    assert "| twin |" not in capsys.readouterr().out
