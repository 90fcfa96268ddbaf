"""The evaluation's figures against direct recomputation, at any depth, and the page's text."""

from __future__ import annotations

import html
import importlib.util
import re
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from certnet import Box, FeedForward, PGDAttack, ShallowNetwork, certify, refine
from certnet.networks.about import About
from certnet.networks.activations import Activation
from certnet.networks.layers import Dense, Layer
from certnet.networks.operators import Blocks, Identity
from certnet.programs.goal import FitAtMost, SlopeAtMost
from certnet.refinement.result import Validation
from certnet.report import (
    Evaluation,
    evaluate,
    facts,
    findings,
    html_page,
    layer_rows,
    refinement_report,
    table,
    trace_rows,
)


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


def test_the_page_answers_a_stranger(pieces):
    network, X, y, evaluation = pieces
    known = facts(network, (X[:15], y[:15]), (X[15:], y[15:]))
    page = html_page("t", [], [("a",)], evaluation.certificate, [], [], facts=known)
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert headings[:4] == ["Which model, which data", "What is proved", "What it means", "What it does not mean"]
    for text in ("3-5-1", network.digest, "15 samples of 3 inputs", "5 samples of 3 inputs, which", "as given"):
        assert text in page
    moved = float(re.search(r"off by 0.1 altogether .* by at most ([0-9.e-]+), whoever", page)[1])
    assert 0.1 * evaluation.certificate.upper <= moved <= 0.1001 * evaluation.certificate.upper
    assert "it holds for all inputs, also for those that never occur" in page
    for rule in ("prefers-color-scheme: dark", "@media print", 'name="viewport"'):
        assert rule in page
    assert "Pictures" not in page


@pytest.mark.parametrize(
    ("options", "said", "norm"),
    [
        ({"region": Box(-np.ones(3), np.ones(3))}, "as long as they stay inside the region", "₂"),
        ({"around": np.zeros(3), "radius": 0.5}, "within 0.5 of the given point", "₂"),
        ({"norm": "linf"}, "off by 0.1 each", "_∞"),
        ({"norm": "linf"}, "5 multipliers, 3 weights of the inputs and one matrix inequality of order 4", "_∞"),
    ],
    ids=["box", "ball", "linf", "linf-proof"],
)
def test_the_page_says_where_and_in_which_norm(pieces, options, said, norm):
    page = html_page("t", [], [("a",)], certify(pieces[0], **options), [], [])
    assert said in page
    assert f"‖x − y‖{norm}</p>" in page
    assert ("not one step beyond its limits" in page) == ("norm" not in options)


def test_names_and_remarks_are_told(pieces):
    network, X, y, _ = pieces
    assert "inputs" not in facts(network, (X, y), (X, y))
    about = About(read="6 → 5", inputs=("age", "bmi", "<bp>"), remarks=("softmax is left out",))
    told = facts(network.described(about), (X, y), (X, y))
    assert told["inputs"] == "age, bmi, <bp>"
    assert told["read from"] == "6 → 5"
    page = html_page("t", [], [("a",)], certify(network), [], [], facts=told)
    assert "&lt;bp&gt;" in page


needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed (certnet[plot])"
)


def deep(rng, phi="relu"):
    widths = (3, 6, 5, 4, 2)
    weights = [rng.standard_normal((n, m)) / np.sqrt(m) for m, n in pairwise(widths)]
    return FeedForward(weights, [0.1 * rng.standard_normal(n) for n in widths[1:]], phi)


@pytest.mark.parametrize("phi", ["relu", Activation("leaky_relu", (0.1,)), "tanh"], ids=str)
def test_figures_of_deep_networks_with_several_outputs(phi):
    rng = np.random.default_rng(5)
    network = deep(rng, phi)
    X, Y = rng.standard_normal((30, 3)), rng.standard_normal((30, 2))
    one = evaluate(network, (X[:20], Y[:20]), (X[20:], Y[20:]), weight=0.5, epsilons=[0.0, 0.3])
    x = X
    for W, b in zip(network.weights[:-1], network.biases[:-1]):
        a = x @ W.T + b
        x = np.tanh(a) if phi == "tanh" else np.maximum(a, (0.0 if phi == "relu" else 0.1) * a)
    squares = np.sum((x @ network.weights[-1].T + network.biases[-1] - Y) ** 2, axis=1)
    assert one.train_mse == pytest.approx(squares[:20].mean())
    assert one.test_mse == pytest.approx(squares[20:].mean())
    assert one.objective == pytest.approx(squares[:20].mean() + 0.5 * certify(network).upper ** 2, rel=1e-6)
    assert one.curve.consistent
    assert one.curve.adversarial[1] > one.test_mse
    none = evaluate(network, (X, Y), (X, Y), weight=None, epsilons=[0.0, 0.3])
    assert none.objective is None
    assert none.as_dict()["objective"] is None
    rows = table({"one": one, "none": none}, {"one": 1.0})
    assert not any("objective" in row[0] for row in rows)
    assert rows[-1] == ("seconds to train or refine", "1.0", "")
    assert "15 multipliers, one per hidden unit, and one matrix inequality of order 18" in html_page(
        "t", [], rows, one.certificate, [], []
    )


def test_layers_in_rows():
    rng = np.random.default_rng(6)
    rows = layer_rows(deep(rng, "tanh"))
    assert rows[0] == ("layer", "takes", "gives", "map", "activation")
    assert rows[1:3] == [("1", "3", "6", "matrix", "tanh"), ("2", "6", "5", "matrix", "tanh")]
    assert rows[-1] == ("4", "4", "2", "matrix", "none: the output")
    block = Layer(Blocks(((Dense(np.ones((4, 3))),), (Identity(3),))), np.ones(7), Activation("relu"), 3)
    skip = FeedForward.chain([block, Layer(Dense(np.ones((1, 7))), np.zeros(1), Activation("identity"))])
    assert layer_rows(skip)[1] == ("1", "3", "7", "structured", "relu, 3 units carried past it")


def changed(one: Evaluation, *, train: float, test: float, attacked: float, upper: float) -> Evaluation:
    """The same with figures multiplied."""
    curve = replace(one.curve, clean=0.0, adversarial=np.sort(one.curve.adversarial * attacked), certified=None)
    return replace(
        one,
        train_mse=one.train_mse * train,
        test_mse=one.test_mse * test,
        curve=curve,
        certificate=replace(one.certificate, upper=one.certificate.upper * upper),
    )


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ({"train": 0.5, "test": 0.9, "attacked": 0.9, "upper": 0.5}, []),
        ({"train": 0.5, "test": 1.0, "attacked": 1.0, "upper": 1.0}, []),
        (
            {"train": 0.5, "test": 1.2, "attacked": 0.9, "upper": 0.5},
            ["fits its training data too closely"],
        ),
        ({"train": 1.5, "test": 1.2, "attacked": 0.9, "upper": 0.5}, ["was made too flat: try a smaller weight"]),
        ({"train": 0.5, "test": 0.9, "attacked": 1.1, "upper": 0.5}, ["under attacks of radius 0.2 rose"]),
        (
            {"train": 1.5, "test": 1.2, "attacked": 1.1, "upper": 0.5},
            ["try a smaller weight", "too flat: try a smaller weight, or choose it on validation data by the error"],
        ),
        ({"train": 1.0, "test": 1.2, "attacked": 0.9, "upper": 0.5}, ["does not tell which weight is better"]),
        ({"train": 0.5, "test": 0.9, "attacked": 0.9, "upper": 2.0}, ["Lipschitz constant rose from"]),
        (
            {"train": 0.5, "test": 1.2, "attacked": 1.2, "upper": 1.2},
            ["test error rose", "or choose it on validation data by the error under attack", "target_lipschitz"],
        ),
    ],
)
def test_what_rose_is_said_with_what_to_try(pieces, factors, said):
    *_, one = pieces
    found = findings(one, changed(one, **factors))
    assert len(found) == len(said)
    assert all(part in sentence for part, sentence in zip(said, found))


@pytest.mark.parametrize(
    ("goal", "closer"),
    [(SlopeAtMost(1.0), "try a larger target_lipschitz"), (FitAtMost(1.0), "try a smaller max_mse")],
)
def test_what_rose_is_said_in_the_words_of_the_goal(pieces, goal, closer):
    *_, one = pieces
    (sentence,) = findings(one, changed(one, train=1.5, test=1.2, attacked=0.9, upper=0.5), goal)
    assert closer in sentence


@needs_matplotlib
def test_a_page_about_a_deep_refinement():
    rng = np.random.default_rng(7)
    start = deep(rng)
    X, Y = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    result = refine(start, X[:30], Y[:30], 0.1)
    page = refinement_report(start, result, (X[:30], Y[:30]), (X[30:], Y[30:]), weight=0.1, epsilons=[0.0, 0.2])
    assert page.count("data:image/png;base64,") == 3
    for text in ("3-6-5-4-2", "3 hidden layers", "<h2>Layers</h2>", "<h2>Stages</h2>", result.network.digest[:16]):
        assert text in page
    for row in result.trace:
        assert row.stage in page
    assert f"{result.objective_after:.6g}" in page
    assert "held out" not in page
    seen = replace(result, validation=Validation(0.5, 0.75))
    page = refinement_report(start, seen, (X[:30], Y[:30]), (X[30:], Y[30:]), weight=0.1, epsilons=[0.0, 0.2])
    assert "samples held out from the refinement rose from 0.5 to 0.75; the training error" in page
    assert "http" not in page  # self-contained
    body = trace_rows(result.trace)[1:]
    assert [row[0] for row in body] == [row.stage for row in result.trace]


def test_a_page_without_matplotlib_says_that_its_pictures_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    rng = np.random.default_rng(7)
    start = deep(rng)
    X, Y = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    result = refine(start, X[:30], Y[:30], 0.1, effort="quick")
    page = refinement_report(start, result, (X[:30], Y[:30]), (X[30:], Y[30:]), weight=0.1, epsilons=[0.0, 0.2])
    assert "<img" not in page
    said = page.split("<h2>Pictures</h2>")[1].split("</p>")[0]
    assert re.search(
        r'The pictures are missing: .* pip install "matplotlib>=3.*", then write this report again\.',
        html.unescape(said),
    )


@needs_matplotlib
def test_a_page_about_a_limit_whose_start_was_beyond_it():
    rng = np.random.default_rng(8)
    start = deep(rng)
    X, Y = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    result = refine(start, X[:30], Y[:30], target_lipschitz=0.3)
    assert trace_rows(result.trace)[1][1] == "beyond the limit"
    page = refinement_report(start, result, (X[:30], Y[:30]), (X[30:], Y[30:]), epsilons=[0.1])
    assert "The input was beyond the limit; the result is within it." in page
    assert "train MSE + weight" not in page
