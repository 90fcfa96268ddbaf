"""The evaluation's figures against direct recomputation, and the page's text."""

from __future__ import annotations

import numpy as np
import pytest

from certnet import PGDAttack, ShallowNetwork, certify
from certnet.report import evaluate, html_page, table


@pytest.fixture
def pieces():
    rng = np.random.default_rng(3)
    network = ShallowNetwork(rng.standard_normal((5, 3)), rng.standard_normal(5), rng.standard_normal(5), 0.0)
    X, y = rng.standard_normal((20, 3)), rng.standard_normal(20)
    evaluation = evaluate(
        network, (X[:15], y[:15]), (X[15:], y[15:]), weight=0.5, epsilons=[0.0, 0.2], attack=PGDAttack(n_steps=5)
    )
    return network, X, y, evaluation


def test_figures(pieces):
    network, X, y, evaluation = pieces
    hidden = np.maximum(X @ network.W.T + network.b, 0.0)
    squares = (hidden @ network.V[0] + network.c[0] - y) ** 2
    assert evaluation.train_mse == pytest.approx(squares[:15].mean())
    assert evaluation.test_mse == pytest.approx(squares[15:].mean())
    upper = certify(network).upper
    assert evaluation.objective == pytest.approx(squares[:15].mean() + 0.5 * upper**2, rel=1e-6)
    assert evaluation.curve.consistent
    assert evaluation.curve.adversarial[0] == pytest.approx(evaluation.test_mse)


def test_table_and_page(pieces):
    *_, evaluation = pieces
    rows = table({"before": evaluation, "after": evaluation}, {"before": 1.0, "after": 2.0})
    assert {len(row) for row in rows} == {3}
    assert rows[0] == ("", "before", "after")
    page = html_page("a <title>", ["x & y"], rows, evaluation.certificate, [(b"png", "cap")], ["certnet check"])
    assert "a &lt;title&gt;" in page
    assert "x &amp; y" in page
    assert evaluation.certificate.digest[:16] in page
